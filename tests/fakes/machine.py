"""Machine: one member of a swarm with its drive and its records, killed and started again, and watched all the while.

What it records must lie on its drive, what it calls durable must be safe there, what it begins with must be what is there, and
what it writes must be the torrent's, in files that are wanted and marked open. ``calamity`` gathers what is not so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from bitarray import bitarray
from bitarray.util import zeros

from fakes.calamity import WatchedStore, World
from fakes.drives import Drive
from unchoke.engine import resume
from unchoke.engine.events import PeerBanned, PieceFailed, StateChanged
from unchoke.engine.session import Session
from unchoke.engine.settings import Settings
from unchoke.engine.swarm import Swarm
from unchoke.engine.tasks import Executor
from unchoke.engine.torrent import Torrent
from unchoke.storage.names import Names
from unchoke.storage.paths import map_paths
from unchoke.storage.records import Key, ResumeRow
from unchoke.testing import InlineExecutor, SimHost
from unchoke.testing.clock import virtual_loop
from unchoke.types import BLOCK_SIZE


class WatchedSession(Session):
    """Tells its machine of every swarm that begins."""

    machine: Machine

    def make_swarm(self, *args: Any) -> Swarm:
        swarm = super().make_swarm(*args)
        self.machine.begins(swarm)
        return swarm


class Machine:
    """One member of the swarm: a host, a drive, records, and a session while it runs. ``boot`` counts its starts."""

    def __init__(self, world: World, name: str, host: SimHost, settings: Settings, store: WatchedStore) -> None:
        self.world = world
        self.name = name
        self.host = host
        self.settings = settings
        self.store = store
        self.rng = Random(world.rng.getrandbits(64))
        self.drive = Drive(world.folder / name, Random(self.rng.getrandbits(64)), virtual_loop().time)
        self.drive.died = self._died
        self.drive.written = self._written
        self.drive.made = self._made
        self.folder = f"{self.drive.root}/data"
        self.key: Key = (bytes(world.torrent.infohash), self.folder)
        self.executor: Executor = InlineExecutor()
        self.options: dict[str, Any] = {}
        self.wanted: list[frozenset[int] | None] = [None]  # now, and while it changes also before
        self.boot = 1
        self.down = asyncio.Event()
        self.session: WatchedSession | None = None
        self.torrent: Torrent | None = None
        self.swarms: dict[object, None] = {}
        self.fetched: set[tuple[int, int]] = set()  # blocks of this run
        #: After kill -9: blocks of the run before, and how many bytes may come again.
        self.again: tuple[set[tuple[int, int]], int] | None = None
        self.has_run = False  # since its session began
        self.meddled = False  # somebody changed its files, and it has not looked yet
        self._watch: asyncio.Task[None] | None = None
        self._files = self._file_names()
        store.machines[self.folder] = self
        world.machines.append(self)
        world.drives.drives.append(self.drive)

    def _file_names(self) -> dict[str, int]:
        """Every path that a file may have → its index; the part file's is one past the last file's."""
        info = self.world.torrent.metainfo
        paths = map_paths(info.name, info.layout, info.multi_file, portable=False)
        suffix = self.settings.disk.incomplete_suffix
        names = Names(paths, info.layout, suffix, info.infohash)
        found: dict[str, int] = {}
        for folder in dict.fromkeys((self.folder, self.settings.disk.incomplete_dir or self.folder)):
            found[f"{folder}/{names.part}"] = len(info.layout.files)
            for file in range(len(info.layout.files)):
                for parts in (names.finished(file), names.unfinished(file)):
                    found["/".join((folder, *parts))] = file
                found["/".join((folder, *names.temporary(names.finished(file))))] = -1 - file
        return found

    # ------------------------------------------------------------------ its life

    async def start(self) -> None:
        """A session, with the torrent: from its records, or added."""
        world = self.world
        self.down.clear()
        self.has_run = False
        session = WatchedSession(
            self.settings,
            state=self.store,
            network=self.host,
            rng=self.rng,
            executor=self.executor,
            secret=self.rng.getrandbits,
        )
        session.machine = self
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(resume, "boot_id", self._boot_id)
            opening = session.__aenter__()
            opening_task = asyncio.get_running_loop().create_task(opening, name=f"open {self.name}")
            await asyncio.sleep(0)  # it makes its ``Resume`` before it waits for the first time
        await opening_task
        self.session = session
        self._watch = asyncio.get_running_loop().create_task(self._listen(session), name=f"log of {self.name}")
        self.torrent = session.torrents.get(world.torrent.infohash) or await self.add()

    def _boot_id(self) -> str:
        return f"{self.name} boot {self.boot}"

    async def add(self, **more: Any) -> Torrent:
        assert self.session is not None
        options = {"trackers": [self.world.tracker.url], "files": self.wanted[-1], **self.options, **more}
        self.torrent = await self.session.add(self.world.torrent.metainfo, folder=self.folder, **options)
        return self.torrent

    async def _listen(self, session: Session) -> None:
        async for event in session.subscribe(limit=1 << 20):
            self.world.note(self.name, event)
            if self.world.honest and isinstance(event, PieceFailed | PeerBanned):
                self.world.breach(self.name, f"takes an honest peer for a liar: {event}")
            if isinstance(event, StateChanged) and "internal error" in event.reason:
                self.world.breach(self.name, event.reason)

    async def close(self) -> None:
        """The session ends, one way or another; nothing of it may be left."""
        session, self.session, self.torrent = self.session, None, None
        if session is None:
            return
        closing = asyncio.get_running_loop().create_task(session.aclose(), name=f"close {self.name}")
        if self.drive.dead:
            for transport in list(self.host.transports):
                transport.abort()
            await asyncio.sleep(0)
            closing.cancel()
        await asyncio.gather(closing, return_exceptions=self.drive.dead)
        if self._watch is not None:
            await self._watch
        if self.drive.open_files:
            self.world.breach(self.name, f"{self.drive.open_files} files are open after the close")
        self.fetched.clear()

    def _died(self) -> None:
        self.world.note(self.name, f"stands still at change {self.drive.changes}")
        self.down.set()
        if self.torrent is not None and self.torrent.swarm is not None:
            swarm = self.torrent.swarm
            opened = {*swarm.picker.open, *swarm.intake._verifying}
            second = swarm.intake.rate.rate(virtual_loop().time())
            size = sum(map(self.world.truth.layout.piece_size, opened))
            kept = {block for block in self.fetched if block[0] in opened or swarm.picker.have[block[0]]}
            self.again = kept, size + int(second)

    async def wreck(self, *, power: bool) -> None:
        """After it died, or to kill it now: ``kill -9``, or the power goes too. It is off afterwards."""
        if not self.drive.dead:
            self.drive.dead = True
            self._died()
        await self.close()
        if power:
            self.boot += 1
            self.again = None
            self.drive.power_cut()
            if self.rng.random() < 0.5:
                self.store.lose_unsynced()
            self.store.refused.discard(self.folder)
        self.drive.dead = False
        self.drive.crash_at = None
        row = self.store.resume_of(self.key)
        if row is not None and not self.meddled:
            self._compare("after a power cut there is durable", row.durable)
            if row.boot_id == self._boot_id():  # else nobody believes the rest
                self._compare("after kill -9 there is recorded", row.have)
        self.world.note(self.name, f"{'power cut' if power else 'killed'}; {self.pieces().count(1)} pieces left")

    # ------------------------------------------------------------------ what lies on its drive

    def holds(self, piece: int, *, safe: bool = False) -> bool:
        """All bytes of a piece are there, and right. ``safe``: and a power cut could not take them."""
        return all(
            self._has(span.file, span.offset, span.length, safe) for span in self.world.truth.layout.piece_spans(piece)
        )

    def _has(self, file: int, offset: int, length: int, safe: bool) -> bool:
        truth = self.world.truth
        right = truth.of_file(file)[offset : offset + length]
        part = truth.layout.files
        for path, index in self._files.items():
            if index == file and self._read(path, offset, length, safe) == right:
                return True
            if (
                index == len(part)
                and b"".join(
                    self._read(path, at, size, safe) for at, size in _part_runs(truth.runs[file], offset, length)
                )
                == right
            ):
                return True
        return False

    def _read(self, path: str, offset: int, length: int, safe: bool) -> bytes:
        try:
            if safe:
                return self.drive.safe_bytes(path)[offset : offset + length]
            with open(path, "rb") as file:
                file.seek(offset)
                return file.read(length)
        except OSError:
            return b""

    def pieces(self, *, safe: bool = False) -> bitarray:
        """Those that it holds."""
        found = zeros(self.world.truth.layout.piece_count, "big")
        for piece in range(len(found)):
            found[piece] = self.holds(piece, safe=safe)
        return found

    # ------------------------------------------------------------------ what is promised

    def _compare(self, what: str, claimed: bitarray) -> None:
        for piece in claimed.search(1):
            if not self.holds(piece):
                self.world.breach(self.name, f"{what} piece {piece}, and it is not there")

    def recorded(self, row: ResumeRow, before: ResumeRow | None) -> None:
        """A commit."""
        old = before.have if before is not None and len(before.have) == len(row.have) else zeros(len(row.have), "big")
        self._compare("recorded", row.have & ~old)
        old = (
            before.durable
            if before is not None and len(before.durable) == len(row.durable)
            else zeros(len(row.have), "big")
        )
        for piece in (row.durable & ~old).search(1):
            if not self.holds(piece, safe=True):
                self.world.breach(self.name, f"calls piece {piece} durable, and no fdatasync was")

    def _index(self, path: str) -> int | None:
        found = self._files.get(path)
        if found is None:
            self.world.breach(self.name, f"touches {path}, no file of the torrent")
        return found

    def _made(self, path: str) -> None:
        file = self._index(path)
        if file is None or file == len(self.world.truth.layout.files):
            return
        file = file if file >= 0 else -1 - file
        if not any(wanted is None or file in wanted for wanted in self.wanted):
            self.world.breach(self.name, f"makes {path}, which nobody wants")

    def _written(self, path: str, offset: int, data: memoryview) -> None:
        file = self._index(path)
        if file is None:
            return
        truth, part = self.world.truth, len(self.world.truth.layout.files)
        right = truth.part if file == part else truth.of_file(file if file >= 0 else -1 - file)
        if offset + len(data) > len(right):
            self.world.breach(self.name, f"writes past the end of {path}")
        if file < 0:
            return  # a file being put together of shares, which may have been torn; whoever uses it hashes them
        if self.world.honest and bytes(data) != right[offset : offset + len(data)]:
            self.world.breach(self.name, f"writes rubbish to {path} at {offset}")
        if self.folder in self.store.refused:
            return
        for safe in (False, True):
            row = self.store.resume_of(self.key, safe=safe)
            if row is None or len(row.open) <= file or not row.open[file]:
                self.world.breach(self.name, f"writes {path} before it is {'safely ' if safe else ''}marked open")

    def begins(self, swarm: Swarm) -> None:
        """It joins: what it says to have is what lies on its drive, no more and no less."""
        self.swarms[swarm] = None
        self.has_run = True
        self.meddled = False
        self.fetched.clear()
        have, there = swarm.picker.have, self.pieces()
        if (have & ~there).any():
            self.world.breach(self.name, f"begins with wrong pieces {list((have & ~there).search(1))}")
        if (there & ~have).any() and self.world.honest:  # else a bad copy may have been right but for one block
            self.world.breach(self.name, f"begins without {list((there & ~have).search(1))}, which are there")

    def came(self, piece: int, begin: int, payload: memoryview) -> None:
        """A block."""
        if self.drive.dead:
            return
        if self.world.honest and bytes(payload) != self.world.torrent.block(piece, begin, len(payload)):
            self.world.breach(self.name, f"is given rubbish: piece {piece}, {begin}")
        self.fetched.add((piece, begin))
        if self.again is not None:
            before, most = self.again
            if len(before & self.fetched) * BLOCK_SIZE > most + BLOCK_SIZE:
                self.world.breach(self.name, f"fetches more than {most} bytes again after kill -9")
                self.again = None


def _part_runs(runs: Any, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """Where in the part file some bytes of a file lie."""
    for at, start, size in runs:
        first, last = max(start, offset), min(start + size, offset + length)
        if first < last:
            yield at + first - start, last - first
