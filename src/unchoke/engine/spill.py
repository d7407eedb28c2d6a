"""Spill: blocks of pieces for which memory has no room, on their way to the files one by one.

A block is copied into a *slab*, 256 KiB that all torrents fill in the order of arrival; blocks that continue each other
become one write. A slab goes to a writer thread at the end of the wake-up that began it, while a thread is idle, else when it
is full. The number of slabs is fixed: without one left a block is refused, and its sender is asked again later. Whoever asks
for blocks looks at ``is_behind`` before, so that this is rare.

It knows stream positions and storages, not what a piece is made of. What it says, it says on the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from unchoke.errors import StorageError
from unchoke.storage.base import Storage

log = logging.getLogger(__name__)

#: Bytes of a slab: a write of this size is as fast as any (docs/decisions/0004).
SLAB_SIZE = 256 * 1024


class SpilledOwner(Protocol):
    """What a spilled piece tells its torrent's disk."""

    def spilled_written(self, piece: SpilledPiece, length: int) -> None:
        """So many bytes of it are written, or will not be: then ``piece.error`` says why."""


class SpilledPiece:
    """A piece that is written as it comes, from byte ``start`` of the stream on.

    ``unwritten``: bytes that were taken and not written yet. ``dropped``: it was given up, what is not written need not be.
    ``error``: the first write that failed.
    """

    __slots__ = ("dropped", "error", "index", "owner", "start", "storage", "unwritten")

    def __init__(self, owner: SpilledOwner, storage: Storage, index: int, start: int) -> None:
        self.owner = owner
        self.storage = storage
        self.index = index
        self.start = start
        self.unwritten = 0
        self.dropped = False
        self.error: StorageError | None = None

    def __repr__(self) -> str:
        state = "dropped" if self.dropped else "failed" if self.error else "open"
        return f"<SpilledPiece {self.index} [{state} | {self.unwritten} B unwritten]>"


class _Run:
    """``length`` bytes for byte ``start`` of a storage, at ``offset`` of their slab."""

    __slots__ = ("length", "offset", "piece", "start")

    def __init__(self, piece: SpilledPiece, start: int, offset: int, length: int) -> None:
        self.piece = piece
        self.start = start
        self.offset = offset
        self.length = length


class _Slab:
    __slots__ = ("runs", "used", "view")

    def __init__(self) -> None:
        self.view = memoryview(bytearray(SLAB_SIZE))
        self.used = 0
        self.runs: list[_Run] = []


class Spill:
    """The session's. ``size``: bytes of all slabs; ``writers``: jobs that run at one time.

    ``run`` gives a job to a writer thread, ``post`` comes back from it to the loop, ``soon`` calls at the end of the wake-up;
    ``room_came`` hears each time that there is room for more.
    """

    __slots__ = (
        "_due",
        "_filling",
        "_post",
        "_room_came",
        "_run",
        "_soon",
        "_spare",
        "_wanted",
        "_writers",
        "_writing",
        "most",
        "unwritten",
    )

    def __init__(
        self,
        size: int,
        writers: int,
        *,
        run: Callable[[Callable[[], None]], None],
        post: Callable[[Callable[[], None]], None],
        soon: Callable[[Callable[[], None]], object],
        room_came: Callable[[], None],
    ) -> None:
        self.most = max(4, size // SLAB_SIZE)
        self.unwritten = 0
        self._writers = writers
        self._run, self._post, self._soon, self._room_came = run, post, soon, room_came
        self._spare: list[_Slab] = []
        self._filling: _Slab | None = None
        self._writing = 0
        self._due = False
        self._wanted = False

    @property
    def capacity(self) -> int:
        """Bytes it can hold at most."""
        return self.most * SLAB_SIZE

    @property
    def is_behind(self) -> bool:
        """The disk does not keep up: nothing should be asked for that comes through here."""
        return self.unwritten * 2 >= self.capacity or self._writing * 4 > self.most * 3

    @property
    def memory(self) -> int:
        """Bytes of the slabs that exist."""
        return (len(self._spare) + self._writing + (self._filling is not None)) * SLAB_SIZE

    def put(self, piece: SpilledPiece, begin: int, payload: memoryview) -> bool:
        """Take a block, to be written at ``begin`` of its piece. False: there is no room."""
        length = len(payload)
        slab = self._filling
        if slab is not None and slab.used + length > SLAB_SIZE:
            self._send()
            slab = None
        if slab is None:
            if self._writing >= self.most or length > SLAB_SIZE:
                return False
            slab = self._filling = self._spare.pop() if self._spare else _Slab()
            if not self._due:
                self._due = True
                self._soon(self._wake_up_ends)
        offset, start = slab.used, piece.start + begin
        slab.view[offset : offset + length] = payload
        slab.used += length
        last = slab.runs[-1] if slab.runs else None
        if last is not None and last.piece is piece and last.start + last.length == start:
            last.length += length
        else:
            slab.runs.append(_Run(piece, start, offset, length))
        piece.unwritten += length
        self.unwritten += length
        return True

    def _wake_up_ends(self) -> None:
        self._due = False
        if self._filling is not None and self._writing < self._writers:
            self._send()

    def _send(self) -> None:
        slab, self._filling = self._filling, None
        assert slab is not None
        self._writing += 1

        def job() -> None:
            for run in slab.runs:
                _write(run, slab.view)
            self._post(lambda: self._written(slab))

        self._run(job)

    def _written(self, slab: _Slab) -> None:
        runs, slab.runs, slab.used = slab.runs, [], 0
        self._writing -= 1
        if self._wanted:
            self._spare.append(slab)
        for run in runs:
            self.unwritten -= run.length
            run.piece.unwritten -= run.length
        if self._filling is not None and not self._due and self._writing < self._writers:
            self._send()
        for run in runs:
            run.piece.owner.spilled_written(run.piece, run.length)
        if not self.is_behind:
            self._room_came()

    def keep_slabs(self, wanted: bool) -> None:
        """Not ``wanted``: nobody spills any more, and slabs go as soon as they are not in use."""
        self._wanted = wanted
        if not wanted:
            self._spare.clear()

    def __repr__(self) -> str:
        return f"<Spill [{self.unwritten >> 10} KiB unwritten | {self._writing} of {self.most} slabs being written]>"


def _write(run: _Run, view: memoryview) -> None:
    """On a thread. After the first error of a piece nothing more of it is written, nor of one that was given up."""
    piece = run.piece
    if piece.dropped or piece.error is not None:
        return
    try:
        piece.storage.write(run.start, view[run.offset : run.offset + run.length])
    except StorageError as error:
        piece.error = error
    except Exception as error:  # a bug must not leave the piece in limbo
        log.exception("! writing failed")
        piece.error = StorageError(f"writing failed: {error}")
