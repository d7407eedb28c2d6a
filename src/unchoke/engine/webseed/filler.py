"""Filler: puts the bytes of a run where they belong, and tells of each block that is complete.

It knows the run as the picker gave it: pieces are opened one after the other as their bytes come, and there is no room while
there is no memory for the next, or a limit is reached. Bytes go straight into the piece's memory, but never where
somebody else's block is, or may be soon. It is the sink of whatever receives them (``net.web``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from enum import Enum
from typing import Protocol

from unchoke.layout import TorrentLayout
from unchoke.policy.bandwidth import Limit
from unchoke.policy.picker import Key, OpenPiece, PiecePicker, Run
from unchoke.types import BLOCK_SIZE

#: Bytes received at one time at most, and bytes of a limit that are taken ahead.
CHUNK = 256 * 1024
GRANT = 1024 * 1024


class FetchOwner(Protocol):
    """What is asked of whoever takes the blocks in, and told. ``seed`` is the giver, as the picker knows it."""

    picker: PiecePicker
    layout: TorrentLayout
    down: Limit

    def may_open(self, piece: int) -> bool:
        """Reserve memory for a piece, or say no: then ``Fetcher.wake`` is called when there is some."""

    def may_take(self, piece: int) -> bool:
        """Is there room for blocks of this open piece? (Of one that has no memory of its own.)"""

    def view(self, piece: int) -> memoryview | None:
        """The memory of an open piece; None if it has none."""

    def take(self, seed: Key, piece: int, begin: int, length: int, data: memoryview | None) -> None:
        """Whole blocks of an open piece are in its memory already, or in ``data``, which is borrowed."""

    def free(self, pieces: Collection[int]) -> None:
        """These were given up, and others may be free again: nothing of a run's rest is asked for now."""

    def waste(self, seed: Key, length: int) -> None:
        """Bytes came that are of no use."""


class _Place(Enum):
    """Where the bytes go that come next."""

    NOWHERE = "nowhere"  # before the run
    PIECE = "the piece's memory"
    BLOCK = "a block's own memory"
    LOST = "nowhere: somebody else gave the block meanwhile"


class Filler:
    """For one giver. ``at``: where in the torrent's stream the next byte belongs; ``stop_at``: where the file ends that is read;
    ``skip``: bytes of it that come before. ``stalled_for``: seconds in all in which there was no room."""

    __slots__ = (
        "_allowance",
        "_block",
        "_heard",
        "_in_block",
        "_loop",
        "_owner",
        "_place",
        "_seed",
        "_spoilt",
        "_stalled_at",
        "at",
        "moved_at",
        "run",
        "skip",
        "stalled_for",
        "stop_at",
        "waits_for_limit",
    )

    def __init__(self, seed: Key, owner: FetchOwner) -> None:
        self._seed = seed
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.run: Run | None = None
        self.at = self.stop_at = self.skip = 0
        self._place = _Place.NOWHERE
        self._block = memoryview(bytearray(BLOCK_SIZE))
        self._in_block = 0  # bytes of block ``run.first`` that came
        self._spoilt = False  # some of them were not kept
        self._allowance = 0.0
        self.waits_for_limit = False
        self._stalled_at: float | None = None
        self.stalled_for = 0.0
        self.moved_at = self._loop.time()
        self._heard = 0

    # ------------------------------------------------------------------ runs

    def begin(self, run: Run) -> None:
        """From the first byte of a run on."""
        self.run = run
        index = run.next if run.piece is None else run.piece.index
        self.at = index * self._owner.layout.piece_length + run.first * BLOCK_SIZE

    def begin_again(self) -> None:
        """What comes next begins with the block that is not complete."""
        self.go()
        self.at -= self._in_block
        self._in_block = 0
        self._spoilt = False

    def end(self) -> None:
        """Of this run nothing more comes."""
        run, self.run = self.run, None
        self._in_block = self.skip = 0
        self._spoilt = False
        if run is not None:
            self._owner.free(self._owner.picker.end_run(run))

    def close(self) -> None:
        """For good: what was taken of the limit and not used goes back."""
        self.end()
        self.waits_for_limit = False
        self._owner.down.take(-self._allowance)
        self._allowance = 0.0

    @property
    def stop(self) -> int:
        """Where in the stream the run ends, for now: others may make it shorter."""
        run, layout = self.run, self._owner.layout
        if run is None:
            return self.at
        if run.claimed or run.piece is None:
            return min(run.end * layout.piece_length, layout.total_length)
        return run.piece.index * layout.piece_length + min(run.stop * BLOCK_SIZE, run.piece.size)

    # ------------------------------------------------------------------ bytes (Sink)

    @property
    def is_done(self) -> bool:
        """Nothing more of this file is wanted now."""
        return self.run is None or (not self.skip and self.at >= min(self.stop, self.stop_at))

    def room(self) -> memoryview | None:
        """The memory for the next bytes. None while a limit is reached, or there is no memory."""
        view = None if self.run is None or not self._allowed() else self._next_room(self.run)
        if view is not None:
            self.go()
        elif self._stalled_at is None:
            self._stalled_at = self._loop.time()
        return view

    def _next_room(self, run: Run) -> memoryview | None:
        most = min(CHUNK, int(self._allowance))
        if self.skip:
            self._place = _Place.NOWHERE
            return self._block[: min(self.skip, most)]
        if (run.piece is None or run.first >= run.stop) and not self._owner.picker.next_of(run, self._owner.may_open):
            return None
        piece = run.piece
        assert piece is not None
        begin = self.at - piece.index * self._owner.layout.piece_length
        most = min(most, self.stop_at - self.at, min(run.stop * BLOCK_SIZE, piece.size) - begin)
        return self._view_of(run, piece, begin, most)

    def _view_of(self, run: Run, piece: OpenPiece, begin: int, most: int) -> memoryview | None:
        """For bytes of the open piece from ``begin`` on."""
        held = piece.first_held(run.first, run.stop)
        memory = None if piece.asked_twice else self._owner.view(piece.index)
        if (
            held == run.first
            or self._owner.picker.open.get(piece.index) is not piece
            or (
                self._in_block and self._place is _Place.PIECE and memory is None
            )  # half of it lies where it may be overwritten
        ):
            self._spoilt = True
        rest = min(most, min(BLOCK_SIZE, piece.size - run.first * BLOCK_SIZE) - self._in_block)
        if self._spoilt:
            self._place = _Place.LOST
            return self._block[:rest]
        if memory is not None and (not self._in_block or self._place is _Place.PIECE):
            self._place = _Place.PIECE
            return memory[begin : begin + most if held < 0 else min(begin + most, held * BLOCK_SIZE)]
        if not self._owner.may_take(piece.index):
            return None
        self._place = _Place.BLOCK
        return self._block[self._in_block : self._in_block + rest]

    def came(self, count: int) -> None:
        """So many bytes came, where ``room`` said last. Only a whole block counts as a sign of life."""
        self._allowance -= count
        self._heard += count
        if self._heard >= BLOCK_SIZE:
            self.moved()
        if self._place is _Place.NOWHERE:
            self.skip -= count
            self._owner.waste(self._seed, count)
        else:
            self._advance(count)

    def fill_with_zeros(self) -> bool:
        """As if zeros came; False: there is no room."""
        view = self.room()
        if view is None:
            return False
        view[:] = bytes(len(view))
        self._advance(len(view))
        return True

    def _advance(self, count: int) -> None:
        """``count`` bytes further; blocks that are complete by it are told."""
        run = self.run
        if run is None or run.piece is None:
            return
        piece, begin = run.piece, run.first * BLOCK_SIZE
        self.at += count
        self._in_block += count
        is_end = begin + self._in_block == piece.size
        whole = self._in_block if is_end else self._in_block - self._in_block % BLOCK_SIZE
        if not whole:
            return
        self._in_block -= whole
        run.first += -(-whole // BLOCK_SIZE)
        if self._place is _Place.LOST:
            self._spoilt = False
            self._owner.waste(self._seed, whole)
            if self._owner.picker.open.get(piece.index) is piece:  # it is not to come from us any more
                self._owner.picker.released([(piece.index, begin)])
        else:
            data = self._block[:whole] if self._place is _Place.BLOCK else None
            self._owner.take(self._seed, piece.index, begin, whole, data)

    # ------------------------------------------------------------------ limits and time

    def _allowed(self) -> bool:
        """Take of the limit what there is: all that others leave between turns, a share in a turn."""
        if self._allowance >= 1:
            return True
        granted = min(self._owner.down.available(self._loop.time()), GRANT)
        if granted > 0:
            self._owner.down.take(granted)
            self._allowance += granted
        self.waits_for_limit = self._allowance < 1
        return not self.waits_for_limit

    @property
    def is_stalled(self) -> bool:
        """There was no room when last asked for."""
        return self._stalled_at is not None

    def go(self) -> None:
        """Nothing waits for us any more."""
        if self._stalled_at is not None:
            self.moved()
            self.stalled_for += self.moved_at - self._stalled_at
            self._stalled_at = None

    def moved(self) -> None:
        """A sign of life."""
        self._heard = 0
        self.moved_at = self._loop.time()

    def __repr__(self) -> str:
        state = "has no room" if self.is_stalled else self._place.value
        return f"<Filler [{self.run} | at {self.at} | {state}]>"
