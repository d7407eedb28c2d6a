"""Resume: what is recorded of every torrent, and when. One writer thread; all that gathered while it was busy goes into its next
transaction, at the latest a second after it was said.

The record may lag behind the data and never runs ahead: only what the caller says was written is recorded, as it was at the call.
A *safe* transaction (an open mark, a clean close, a piece that is lost) has reached the disk before anybody goes on; others survive
``kill -9`` at once and a power cut a little later. A database that fails stops nothing: what it refused waits, ``problem`` says
why, and it is tried again. ``verdict`` says what a record is worth at the next start.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from typing import ParamSpec, TypeVar

from bitarray import bitarray

from unchoke.engine.changes import Batch, Change, Settled
from unchoke.engine.sqlite_store import SqliteStore
from unchoke.engine.stores import MemoryStore, StateStore
from unchoke.engine.tasks import Executor, finish, on_thread
from unchoke.engine.verdict import Verdict, boot_id, judge
from unchoke.errors import StorageError
from unchoke.storage.base import FileStatus
from unchoke.storage.records import Key, RecordError, ResumeRow, TorrentRow, Totals
from unchoke.storage.tables import check_fields

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: New pieces of one torrent that are recorded at once instead of at the next second.
MANY_PIECES = 64
#: Seconds between two tries of a database that refuses. A try may take as long (its busy time-out).
RETRY = 5.0


class Resume:
    """``executor``: whose threads to use (None: one of its own). Its methods are for the loop's thread.

    ``problem``: why the store refuses, in words; empty: it does not. ``boot``: this boot (None: the system's).
    """

    def __init__(self, store: StateStore, executor: Executor | None = None, *, boot: str | None = None) -> None:
        self.problem = ""
        self.boot_id = boot_id() if boot is None else boot
        self._store = store
        self._own = ThreadPoolExecutor(1, "unchoke-resume") if executor is None else None
        self._executor: Executor | None = executor if executor is not None else self._own
        self._turn = Lock()
        self._batch, self._writing = Batch(), Batch()
        self._queued = self._tried = self._done = 0  # changes: said, tried to write, written
        self._have: dict[Key, bitarray] = {}
        self._new_pieces: dict[Key, int] = {}
        self._unsynced = self._sync = self._closed = False
        self._now = self._retry_at = 0.0
        self._writer: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def notice(self) -> str:
        """What the store had to do to open at all: a database set aside, torrents rebuilt. Empty: nothing."""
        return self._store.notice

    # asking

    async def open(self) -> list[TorrentRow]:
        """Every torrent that is recorded. Raises StorageError if there can be no records here (and says why)."""
        return await self._call(self._store.open)

    async def load(self, key: Key) -> ResumeRow | None:
        """What is recorded of a torrent's data; None if nothing is, or it cannot be read (logged): then check all of it."""
        if key in self._batch.changes:
            await self._written()
        try:
            row = await self._call(self._store.load, key)
        except StorageError as error:
            log.warning("! no record of %s: %s", key[0].hex(), error)
            if not isinstance(error, RecordError):
                self._failed(error)
            return None
        waiting = self._batch.changes.get(key)  # what the store refuses so far
        if waiting is not None:
            row = None if waiting.forget else row
            row = waiting.applied(row, self.boot_id) if waiting.resumes else row
        if row is not None:
            self._have[key] = row.have.copy()
        return row

    async def metainfo(self, key: Key) -> bytes | None:
        """The .torrent file as it was added. Raises StorageError."""
        waiting = self._waiting_metainfo(key)
        return waiting if waiting is not None else await self._call(self._store.metainfo, key[0])

    def metainfo_now(self, key: Key) -> bytes | None:
        """The same, read here and now, behind a transaction under way: for callers that cannot wait. Raises StorageError."""
        waiting = self._waiting_metainfo(key)
        if waiting is not None:
            return waiting
        if self._closed:
            raise StorageError("the records are closed")
        with self._turn:
            return self._store.metainfo(key[0])

    def _waiting_metainfo(self, key: Key) -> bytes | None:
        """The .torrent file of a torrent whose adding is not written yet."""
        for batch in (self._batch, self._writing):
            change = batch.changes.get(key)
            if change is not None and change.add is not None:
                return change.add[1] or None
        return None

    async def totals(self) -> Totals:
        """Bytes over all time, without what is not written yet. Raises StorageError."""
        return await self._call(self._store.totals)

    # telling: returns when it is written, or (False) the store refuses and it waits

    async def add(self, row: TorrentRow, metainfo: bytes) -> bool:
        """A torrent and its .torrent file (empty: not known yet). Adding it again replaces its row."""
        check_fields({name: getattr(row, name) for name in ("trackers", "options")})
        return await self._tell(
            row.key, Change(add=(replace(row, options=copy.deepcopy(row.options)), bytes(metainfo)))
        )

    async def forget(self, key: Key) -> bool:
        """Remove every record of it."""
        self._drop(key)
        return await self._tell(key, Change(forget=True))

    async def mark_open(self, key: Key, files: bitarray, *, device: int = 0) -> bool:
        """These files (a bit each, the part file last) are about to be written: say so before the first byte.

        More are added to those marked already. Safe: it outlives a power cut. ``note`` must have said what is there before,
        or what an earlier boot had recorded and not made durable is forgotten.
        """
        return await self._tell(key, Change(open=_copy(files), device=device))

    async def settle(
        self,
        key: Key,
        have: bitarray,
        files: list[FileStatus | None],
        partial: dict[int, bytes] | None = None,
        *,
        device: int = 0,
    ) -> bool:
        """A clean close: nothing is open any more. ``files``: how each lies on disk now, the part file last.

        The caller has written and *flushed* everything in ``have`` and ``partial`` (piece → bits of its blocks); all of it counts as
        durable from now on. After a flush that failed it must not be called. Safe.
        """
        self._drop(key)
        settled = Settled(_copy(have), list(files), dict(partial or {}))
        return await self._tell(key, Change(settled=settled, device=device))

    # telling: written within a second

    def update(self, key: Key, **changed: object) -> None:
        """Fields of ``TorrentRow``, of which the last value counts. ValueError or TypeError for what cannot be one."""
        check_fields(changed)
        self._queue(key, Change(fields=copy.deepcopy(changed)))

    def note(self, key: Key, have: bitarray) -> None:
        """These are all the pieces that verified and were written: a copy is taken now, and that is what will be recorded."""
        if self._closing is not None:
            return
        have = _copy(have)
        before = self._have.get(key)
        if before is None or len(before) != len(have):
            lost, new = ~have, have
        else:
            lost, new = before & ~have, have & ~before
        self._have[key] = have
        self._new_pieces[key] = self._new_pieces.get(key, 0) + new.count(1)
        self._queue(key, Change(have=have, revoked=lost if lost.any() else None))
        if self._new_pieces.get(key, 0) >= MANY_PIECES and self._may_try:
            self._write()

    def durable(self, key: Key, pieces: bitarray) -> None:
        """The bytes of these pieces, all of them noted before, have reached the disk. They add to those that did already."""
        self._queue(key, Change(durable=_copy(pieces)))

    def count(self, uploaded: int, downloaded: int) -> None:
        """Bytes more, for the totals of all time."""
        self._batch = self._batch.then(Batch(totals=Totals(uploaded, downloaded)))

    def heartbeat(self, now: float) -> None:
        """Once a second: begin to write what was said since. ``now``: seconds of a clock that only goes forward."""
        self._now = now
        if (self._batch or self._unsynced) and self._may_try and self._closing is None:
            self._sync = self._sync or self._unsynced
            self._write()

    async def flush(self) -> bool:
        """Write everything that was said, and bring it to the disk. False: the store refuses, see ``problem``."""
        if self._closing is not None:
            return False
        self._sync = True
        self._retry_at = self._now
        self._queued += 1
        return await self._written()

    async def aclose(self) -> None:
        """Write what is left, once, and close the store. Safe to call twice and to be cancelled in; it ends in any case."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="resume: close")
        await finish(_wait(self._closing))

    async def _close(self) -> None:
        if self._writer is not None and not self._writer.done():
            await _wait(self._writer)
        if self._batch or self._unsynced:
            self._sync = True
            await self._attempt()
        if self._batch:
            log.error("! records of %d torrents are lost: %s", len(self._batch.changes), self.problem)
        try:
            await self._call(self._store.close)
        finally:
            self._closed = True
            if self._own is not None:
                self._own.shutdown()

    # writing

    @property
    def _may_try(self) -> bool:
        return not self.problem or self._now >= self._retry_at

    def _queue(self, key: Key, change: Change) -> bool:
        if self._closing is not None:
            log.debug("! said too late of %s", key[0].hex())
            return False
        self._batch.put(key, change)
        self._queued += 1
        return True

    async def _tell(self, key: Key, change: Change) -> bool:
        return self._queue(key, change) and await self._written()

    async def _written(self) -> bool:
        """Until all that was said so far is written, or was refused."""
        mine = self._queued
        while self._tried < mine and self._may_try and self._closing is None:
            await _wait(self._write())
        if self._closing is not None:
            await _wait(self._closing)
        return self._done >= mine

    def _write(self) -> asyncio.Task[None]:
        """The attempt under way, or a new one."""
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._attempt(), name="resume: write")
        return self._writer

    async def _attempt(self) -> None:
        """One transaction of everything that waits. What is refused waits on, before what was said meanwhile."""
        batch, self._batch, self._new_pieces = self._batch, Batch(), {}
        self._writing = batch
        taken, sync, self._sync = self._queued, self._sync, False
        try:
            await self._call(self._store.apply, batch, self.boot_id, sync)
        except BaseException as error:
            self._batch = batch.then(self._batch)
            self._failed(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._succeeded(batch, taken, sync)
        finally:
            self._writing = Batch()
            self._tried = taken

    def _succeeded(self, batch: Batch, taken: int, sync: bool) -> None:
        self._done = taken
        # Whoever adds thousands must not wait for the disk each time; a second later they are there.
        light = any(change.add or change.forget for change in batch.changes.values())
        self._unsynced = not (sync or batch.safe) and (light or self._unsynced)
        if self.problem:
            log.warning("= records are kept again")
            self.problem = ""

    def _failed(self, error: BaseException) -> None:
        self._retry_at = self._now + RETRY
        self._unsynced = True  # even an empty transaction tells whether it works again
        words = str(error) or type(error).__name__
        if words != self.problem:
            self.problem = words
            log.error(
                "! records cannot be kept, it is tried again: %s", words, exc_info=not isinstance(error, StorageError)
            )

    def _drop(self, key: Key) -> None:
        self._have.pop(key, None)
        self._new_pieces.pop(key, None)

    async def _call(self, what: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._closed:
            raise StorageError("the records are closed")

        def alone() -> R:
            with self._turn:  # the executor may have many threads
                return what(*args, **kwargs)

        return await on_thread(self._executor, alone)

    def __repr__(self) -> str:
        state = "closed" if self._closing is not None else self.problem or "well"
        return f"<Resume in {self._store!r} [{len(self._batch.changes)} torrents wait, {state}]>"


def _copy(bits: bitarray) -> bitarray:
    return bitarray(bits, "big")


async def _wait(task: asyncio.Task[None]) -> None:
    """Until it ends, without being its end."""
    await asyncio.wait([task])


__all__ = [
    "Key",
    "MemoryStore",
    "Resume",
    "ResumeRow",
    "SqliteStore",
    "StateStore",
    "Totals",
    "TorrentRow",
    "Verdict",
    "boot_id",
    "judge",
]
