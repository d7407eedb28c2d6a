"""TorrentDisk: the pieces of one torrent on their way to its storage, and its data on the way to peers.

Receiving: a piece's buffer is reserved before its first block is asked for (``may_open``), blocks are copied into it on the
loop (``put``), and one hop to a thread hashes and writes the whole (``finish``). Memory is bounded by construction: when
the budget is spent nothing new is opened, and the network waits for the disk by itself. Only a torrent that would have next
to nothing open gets a piece without a buffer, *spilled*: its blocks go to the file as they come, and the whole is read back
to be hashed (docs/decisions/0011).

Serving: ``try_read`` reads in place what the page cache holds; else ``read`` hops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from unchoke.engine.spill import SpilledPiece
from unchoke.engine.verify import Outcome, Result, Work, hash_and_write, never_raises, read_and_hash, write_blocks
from unchoke.errors import StorageError
from unchoke.layout import TorrentLayout
from unchoke.storage.base import Storage
from unchoke.types import BLOCK_SIZE

if TYPE_CHECKING:
    from bitarray import bitarray

    from unchoke.engine.disk import Disk

log = logging.getLogger(__name__)

#: Bytes of one read for peers: 16 blocks. Also what one peer may hold unsent.
READ_SIZE = 256 * 1024


#: Pieces a torrent may have open or on their way to the disk before it must wait for memory like all others.
LEAST_OPEN = 4
#: Spilled pieces a torrent may have open at one time, when peers have nothing that the open ones lack.
MOST_SPILLED = 32
#: Blocks of spilled pieces that a peer with nothing else to do may be asked for in any case, so that those who are slow to
#: answer do not idle the others.
IDLE_SHARE = 8

#: Hears, on the loop, what became of a piece.
Finished = Callable[[int, Result], None]
#: Hears, on the loop, that a read is done: the filled view, or the reason.
Read = Callable[[memoryview | None, StorageError | None], None]


class DiskOwner(Protocol):
    """What a torrent's disk tells whoever fetches its pieces."""

    def room_came(self) -> None:
        """There is memory again; it was refused before."""

    def write_failed(self, piece: int, error: StorageError) -> None:
        """A block of an open piece could not be written. The piece is given up here already."""


class TorrentDisk:
    """The pieces of one torrent on their way to and from its storage.

    ``owner`` is set by whoever opens pieces. ``spilled``: those open without memory. ``refused``: something was refused for
    want of room since this was last cleared, so somebody waits for ``room_came``.
    """

    __slots__ = (
        "_completing",
        "_disk",
        "_draining",
        "_finishing",
        "_flushing",
        "_hashes",
        "_layout",
        "_open",
        "_unwritten",
        "_views",
        "owner",
        "refused",
        "spilled",
        "storage",
    )

    def __init__(self, disk: Disk, storage: Storage, layout: TorrentLayout, piece_hashes: bytes) -> None:
        self._disk = disk
        self.storage = storage
        self._layout = layout
        self._hashes = piece_hashes
        self.owner: DiskOwner | None = None
        self._open: dict[int, bytearray] = {}
        self._views: dict[int, memoryview] = {}
        self.spilled: dict[int, SpilledPiece] = {}
        self._completing: dict[int, Callable[[], None]] = {}  # complete, and waits for its last blocks to be written
        self._draining: dict[int, SpilledPiece] = {}  # given up, and a late write could still hit what comes next
        self._unwritten = 0  # bytes of spilled pieces
        self._finishing = 0
        self._flushing: list[asyncio.Future[None]] = []
        self.refused = False

    # ------------------------------------------------------------------ pieces begin

    def may_open(self, piece: int, *, asked: int = 0, urgent: bool = False) -> bool:
        """Reserve room for ``piece``, or say no: the budget is spent.

        ``asked``: blocks of spilled pieces that peers were asked for. ``urgent``: the peer that would give it has nothing else
        to do; then it may be spilled although others are, unless pieces on their way to the disk are about to make room.
        """
        if piece not in self._draining:
            buffer = self._disk.reserve(self._layout.piece_size(piece))
            if buffer is not None:
                self._open[piece] = buffer
                self._views[piece] = memoryview(buffer)
                return True
            if self._may_spill(urgent) and self.spill_room(asked, spare=IDLE_SHARE if urgent else 0) > 0:
                self.take_up(piece)
                return True
        self._refuse()
        return False

    def _may_spill(self, urgent: bool) -> bool:
        if len(self._open) + len(self.spilled) + self._finishing < LEAST_OPEN:
            return True
        return urgent and not self._disk.finishing and len(self.spilled) < MOST_SPILLED

    def spill_room(self, asked: int, *, spare: int = 0) -> int:
        """How many more blocks of spilled pieces may be asked for, when ``asked`` are. ``spare`` of them unless the disk is behind."""
        share = self._disk.spill_share(self)
        room = share - asked - self._unwritten // BLOCK_SIZE
        if share:
            room = max(room, spare)
        if room <= 0:
            self._refuse()
        return room

    def take_up(self, piece: int) -> None:
        """Open ``piece`` without memory; what is on disk of it counts."""
        start = piece * self._layout.piece_length
        self.spilled[piece] = SpilledPiece(self, self.storage, piece, start)
        self._disk.spills(self)

    def _refuse(self) -> None:
        self.refused = True
        self._disk.wait_for_room(self)

    def room_came(self) -> None:
        """Part of what the session's disk calls."""
        if self.refused and self.owner is not None:
            self.refused = False
            self.owner.room_came()

    # ------------------------------------------------------------------ blocks come

    def view(self, piece: int) -> memoryview | None:
        """The memory of an open piece, for who can receive straight into it; None for a spilled one."""
        return self._views.get(piece)

    def put(self, piece: int, begin: int, payload: memoryview) -> bool:
        """Copy a block into its piece's buffer: the one copy between the kernel's socket and its file.

        False: the piece is spilled, and the disk so far behind that the block cannot be kept.
        """
        view = self._views.get(piece)
        if view is None:
            return self._put_spilled(piece, begin, payload)
        view[begin : begin + len(payload)] = payload
        return True

    def _put_spilled(self, piece: int, begin: int, payload: memoryview) -> bool:
        kept = self._disk.spill.put(self.spilled[piece], begin, payload)
        if kept:
            self._unwritten += len(payload)
            self._disk.note_peak()
        return kept

    def spilled_written(self, piece: SpilledPiece, length: int) -> None:
        """Part of SpilledOwner."""
        self._unwritten -= length
        index = piece.index
        if piece.error is not None and self.spilled.get(index) is piece:
            self.drop(index)
            if self.owner is not None:
                self.owner.write_failed(index, piece.error)
        if not piece.unwritten:
            if self._draining.get(index) is piece:
                del self._draining[index]
            elif not piece.dropped and (written := self._completing.pop(index, None)) is not None:
                written()
        self.room_came()
        self._tell_flushed()

    # ------------------------------------------------------------------ pieces end

    def drop(self, piece: int) -> None:
        """Give up a piece that was opened."""
        buffer = self._open.pop(piece, None)
        if buffer is not None:
            del self._views[piece]
            self._disk.give_back(buffer)
        elif (spilled := self.spilled.pop(piece, None)) is not None:
            spilled.dropped = True
            if spilled.unwritten:
                self._draining[piece] = spilled
            self._disk.spills(self)

    def finish(self, piece: int, finished: Finished, *, examine: bool = False) -> None:
        """All blocks are in: one hop to hash and write. ``finished`` is called on the loop; the buffer is free by then.

        ``examine``: digests of the blocks are wanted even if the piece is good. (Of a bad one they always come.)
        """
        storage, start, size = self.storage, piece * self._layout.piece_length, self._layout.piece_size(piece)
        expected = self._hashes[piece * 20 : piece * 20 + 20]
        buffer = self._open.pop(piece, None)
        if buffer is not None:
            del self._views[piece]
            view = memoryview(buffer)[:size]
            self._end(piece, buffer, partial(hash_and_write, storage, start, view, expected, examine), finished)
        else:
            self._end_spilled(piece, partial(read_and_hash, storage, start, size, expected, examine), finished)

    def keep(self, piece: int, held: bitarray, finished: Finished) -> None:
        """An open piece ends unfinished: the blocks that are ``held`` are written as they are; good means they all were."""
        buffer = self._open.pop(piece, None)
        if buffer is not None:
            del self._views[piece]
            view = memoryview(buffer)[: self._layout.piece_size(piece)]
            start = piece * self._layout.piece_length
            self._end(piece, buffer, partial(write_blocks, self.storage, start, view, held), finished)
        else:
            self._end_spilled(piece, partial(Result, Outcome.GOOD), finished)

    def _end_spilled(self, piece: int, work: Work, finished: Finished) -> None:
        """``work`` begins when the last block is written."""
        spilled = self.spilled.pop(piece)
        self._disk.spills(self)
        self._finishing += 1
        self._disk.finishing += 1

        def unless_failed() -> Result:
            return work() if spilled.error is None else Result(Outcome.FAILED, spilled.error)

        def written() -> None:
            self._finishing -= 1
            self._disk.finishing -= 1
            self._end(piece, None, unless_failed, finished)

        if spilled.unwritten:
            self._completing[piece] = written
        else:
            written()

    def _end(self, piece: int, buffer: bytearray | None, work: Work, finished: Finished) -> None:
        """Run ``work`` on a thread; ``finished`` hears of it on the loop."""
        disk, guarded = self._disk, never_raises(work)
        self._finishing += 1
        disk.finishing += 1

        def job() -> None:
            result = guarded()
            disk.post(lambda: done(result))

        def done(result: Result) -> None:
            self._finishing -= 1
            disk.finishing -= 1
            try:
                if buffer is not None:
                    disk.give_back(buffer)
                finished(piece, result)
            finally:
                self._tell_flushed()

        disk.run(job)

    # ------------------------------------------------------------------ reading for peers

    @property
    def reads_wait(self) -> bool:
        """Somebody waits for the memory of a read."""
        return self._disk.reads_wait

    def try_read(self, start: int, length: int) -> tuple[bytearray, memoryview] | None:
        """Bytes of the stream, if the page cache holds them: (pooled buffer, filled view). ``length`` ≤ READ_SIZE."""
        buffer = self._disk.read_buffer()
        view = memoryview(buffer)[:length]
        if self.storage.try_read_into(start, view):
            return buffer, view
        self._disk.free_read_buffer(buffer)
        return None

    def read(self, start: int, length: int, done: Callable[[bytearray, memoryview, StorageError | None], None]) -> None:
        """The same with a hop to a thread; ``done`` is called on the loop."""
        buffer = self._disk.read_buffer()
        view = memoryview(buffer)[:length]
        disk, storage = self._disk, self.storage

        def job() -> None:
            error: StorageError | None = None
            try:
                storage.read_into(start, view)
            except StorageError as caught:
                error = caught
            except Exception as caught:  # a bug must not leave the peer waiting for ever
                log.exception("! reading failed")
                error = StorageError(f"reading failed: {caught}")
            disk.post(lambda: done(buffer, view, error))

        disk.run_read(job)

    def may_read(self, again: Callable[[], None]) -> bool:
        """Is there memory for one more read? If not, ``again`` is called when there is."""
        return self._disk.may_read(again)

    def free(self, buffer: bytearray | None) -> None:
        """A buffer of ``try_read`` or ``read`` was sent; None: it was given up."""
        self._disk.free_read_buffer(buffer)

    @property
    def is_busy(self) -> bool:
        """Pieces are being hashed, or something is being written."""
        return self._finishing > 0 or self._unwritten > 0

    async def flush(self) -> None:
        """Wait until every piece handed to ``finish`` has told its owner, and nothing is left to write."""
        while self.is_busy:
            waiter = asyncio.get_running_loop().create_future()
            self._flushing.append(waiter)
            try:
                await waiter
            finally:
                self._flushing.remove(waiter)

    def _tell_flushed(self) -> None:
        if not self.is_busy:
            for waiter in self._flushing:
                if not waiter.done():
                    waiter.set_result(None)

    def close(self) -> None:
        """Give back what is open. What is being finished still finishes."""
        self.refused = False
        self._disk.stop_waiting(self)
        for piece in [*self._open, *self.spilled]:
            self.drop(piece)

    def __repr__(self) -> str:
        return (
            f"<TorrentDisk [{len(self._open)} pieces open | {len(self.spilled)} spilled | {self._finishing} finishing"
            f" | {self._unwritten >> 10} KiB unwritten]>"
        )
