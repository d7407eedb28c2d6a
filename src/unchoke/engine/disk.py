"""Disk: the memory and the threads between all conversations and the files.

Two budgets: pieces being received (``reserve``; what does not fit goes through ``spill``) and data read for peers
(``read_buffer``). Both are pools: the pool, not the call, is the gain (seeding took 0.77 of libtorrent's CPU with joined
strings, 0.43 with pooled vectors). And two crews of threads, so that peers waiting for the platter do not hold up pieces.

One ``Disk`` serves a session; each torrent has its ``TorrentDisk``, which says what is done with all this. Time is not known
here; the loop is, to come back to.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from unchoke.engine.pieces import READ_SIZE as READ_SIZE
from unchoke.engine.pieces import TorrentDisk as TorrentDisk
from unchoke.engine.settings import DiskSettings
from unchoke.engine.spill import Spill
from unchoke.engine.tasks import Executor
from unchoke.layout import TorrentLayout
from unchoke.storage.base import Storage
from unchoke.types import BLOCK_SIZE

log = logging.getLogger(__name__)

#: Blocks of spilled pieces that a torrent may have asked for and not written yet, however many torrents there are.
LEAST_SHARE = 16


class Disk:
    """The session's budget, pools and threads. A given ``executor`` stays its giver's to end.

    ``reserved``: bytes of pieces in memory; ``peak``: the most that ``held`` has been.
    """

    def __init__(self, settings: DiskSettings, *, executor: Executor | None = None) -> None:
        self.settings = settings
        self.reserved = 0
        self.peak = 0
        self.finishing = 0  # pieces on their way, of all torrents
        self._threads = settings.threads or max(2, min(4, (os.cpu_count() or 1) - 1))
        self._owns_threads = executor is None
        self._writers: Executor = executor or ThreadPoolExecutor(self._threads, "unchoke-disk")
        self._readers: Executor = executor or ThreadPoolExecutor(self._threads, "unchoke-read")
        self._jobs: deque[Callable[[], None]] = deque()
        self._working = 0
        self._piece_buffers: dict[int, list[bytearray]] = {}
        self._pooled = 0  # bytes in them
        self._waiting_for_room: dict[TorrentDisk, None] = {}
        self._spilling: dict[TorrentDisk, None] = {}
        self._read_buffers: list[bytearray] = []
        self._lent = 0  # read buffers that are out
        self._waiting_to_read: dict[Callable[[], None], None] = {}
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.spill = Spill(
            settings.write_buffer // 4,
            self._threads,
            run=self.run,
            post=self.post,
            soon=self._loop.call_soon,
            room_came=self.room_came,
        )

    def torrent(self, storage: Storage, layout: TorrentLayout, piece_hashes: bytes) -> TorrentDisk:
        """The disk of one torrent. ``piece_hashes``: 20 bytes of SHA-1 for each piece (BEP 3)."""
        return TorrentDisk(self, storage, layout, piece_hashes)

    # ------------------------------------------------------------------ buffers

    def reserve(self, size: int) -> bytearray | None:
        """A piece buffer of ``size`` bytes, or None when the budget is spent."""
        budget = self.settings.write_buffer
        if self.reserved + size > budget:
            return None
        self.reserved += size
        pool = self._piece_buffers.get(size)
        if pool:
            self._pooled -= size
            buffer = pool.pop()
        else:
            if self.reserved + self._pooled > budget:  # pieces of another length were there before
                self._piece_buffers.clear()
                self._pooled = 0
            buffer = bytearray(size)
        self.note_peak()
        return buffer

    def give_back(self, buffer: bytearray) -> None:
        size = len(buffer)
        self.reserved -= size
        if self.reserved + self._pooled + size <= self.settings.write_buffer:
            self._pooled += size
            self._piece_buffers.setdefault(size, []).append(buffer)
        self.room_came()

    @property
    def held(self) -> int:
        """Bytes of memory that pieces cost now: those open, those on their way, and the pools."""
        return self.reserved + self._pooled + self.spill.memory

    def note_peak(self) -> None:
        self.peak = max(self.peak, self.held)

    def wait_for_room(self, torrent: TorrentDisk) -> None:
        """It was refused; it hears ``room_came`` in its turn."""
        self._waiting_for_room[torrent] = None

    def stop_waiting(self, torrent: TorrentDisk) -> None:
        self._waiting_for_room.pop(torrent, None)

    def room_came(self) -> None:
        """Somebody who waits for memory may try again: one at a time, the longest waiting first."""
        while self._waiting_for_room:
            torrent = next(iter(self._waiting_for_room))
            del self._waiting_for_room[torrent]
            if torrent.refused:
                self._loop.call_soon(torrent.room_came)
                return

    def spills(self, torrent: TorrentDisk) -> None:
        """Whether it has spilled pieces open has changed."""
        if torrent.spilled:
            self._spilling[torrent] = None
        else:
            self._spilling.pop(torrent, None)
        self.spill.keep_slabs(bool(self._spilling))

    def spill_share(self, torrent: TorrentDisk) -> int:
        """Blocks of spilled pieces that this torrent may have asked for and not written; 0 while the disk is behind.

        A quarter is left for slabs that are not quite full.
        """
        if self.spill.is_behind:
            return 0
        sharers = len(self._spilling) + (torrent not in self._spilling)
        return max(LEAST_SHARE, self.spill.capacity * 3 // 4 // BLOCK_SIZE // sharers)

    def may_read(self, again: Callable[[], None]) -> bool:
        """Is there memory for one more read? If not, ``again`` is called when there is."""
        if self._lent * READ_SIZE < self.settings.read_buffer:
            return True
        self._waiting_to_read[again] = None
        return False

    @property
    def reads_wait(self) -> bool:
        """Somebody waits for ``may_read``."""
        return bool(self._waiting_to_read)

    def read_buffer(self) -> bytearray:
        """One of READ_SIZE bytes. Give it back with ``free_read_buffer`` when the transport has sent it."""
        self._lent += 1
        return self._read_buffers.pop() if self._read_buffers else bytearray(READ_SIZE)

    def free_read_buffer(self, buffer: bytearray | None) -> None:
        """Sent. None: somebody may still look into it, so it is not used again."""
        self._lent -= 1
        if buffer is not None:
            self._read_buffers.append(buffer)
        if self._waiting_to_read:
            again = next(iter(self._waiting_to_read))
            del self._waiting_to_read[again]
            self._loop.call_soon(again)

    # ------------------------------------------------------------------ threads

    def run(self, job: Callable[[], None]) -> None:
        """Run ``job`` on a writer thread. Jobs are drained in runs: one hand-over serves many small pieces."""
        self._jobs.append(job)
        if self._working < self._threads:
            self._hand_over()

    def _hand_over(self) -> None:
        self._working += 1
        try:
            self._writers.submit(self._drain)
        except RuntimeError as error:  # the system gives us no thread: slow is better than never
            log.warning("! no thread for the disk: %s", error)
            self._drain()

    def run_read(self, job: Callable[[], None]) -> None:
        """Run ``job`` on a reader thread, so that a peer waiting for the platter does not hold up pieces coming in."""
        try:
            self._readers.submit(job)
        except RuntimeError as error:
            log.warning("! no thread for the disk: %s", error)
            job()

    def post(self, call: Callable[[], None]) -> None:
        """From a thread: call back on the loop. After the end of the loop it is dropped."""
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            log.debug("! a disk job ended after its loop")

    def _drain(self) -> None:
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:
                break
            try:
                job()
            except Exception:  # the others must not suffer
                log.exception("! a disk job failed")
        self.post(self._drained)

    def _drained(self) -> None:
        self._working = max(0, self._working - 1)
        if self._jobs and self._working < self._threads:
            self._hand_over()

    async def aclose(self) -> None:
        """Finish what is under way and end the threads."""
        if self._closed:
            return
        self._closed = True
        if self._owns_threads:
            await asyncio.to_thread(self._readers.shutdown, True)
            await asyncio.to_thread(self._writers.shutdown, True)
        self._piece_buffers.clear()
        self._pooled = 0
        self._read_buffers.clear()

    def __repr__(self) -> str:
        return (
            f"<Disk [{self.reserved >> 10} KiB of pieces open | {self._working} threads at work"
            f" | {len(self._jobs)} waiting | {len(self._spilling)} torrents spill]>"
        )
