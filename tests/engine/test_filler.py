"""The filler alone: bytes in crumbs of any size become whole blocks, and nobody's block is written over by half of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.engine.webseed.filler import Filler
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.policy.bandwidth import Limit, TokenBucket
from unchoke.policy.picker import Key, PiecePicker, Run
from unchoke.types import BLOCK_SIZE

PIECE = 2 * BLOCK_SIZE
DATA = bytes(Random(1).randbytes(4 * PIECE + 100))


class Taker:
    """A ``FetchOwner`` in memory. ``spilled``: its pieces have no memory of their own."""

    def __init__(self, *, spilled: bool = False) -> None:
        self.layout = TorrentLayout(PIECE, [FileEntry((), len(DATA))])
        self.picker = PiecePicker(self.layout, Random(1))
        self.down = Limit()
        self.memory: dict[int, bytearray] = {}
        self.taken: list[tuple[int, int, int]] = []
        self.wasted = 0
        self.has_room = True
        self.spilled = spilled

    def may_open(self, piece: int) -> bool:
        if self.has_room:
            self.memory[piece] = bytearray(self.layout.piece_size(piece))
        return self.has_room

    def may_take(self, piece: int) -> bool:
        return self.has_room

    def view(self, piece: int) -> memoryview | None:
        return None if self.spilled or piece not in self.memory else memoryview(self.memory[piece])

    def take(self, seed: Key, piece: int, begin: int, length: int, data: memoryview | None) -> None:
        if data is not None:
            self.put(piece, begin, data)
        for at in range(begin, begin + length, BLOCK_SIZE):
            if self.picker.received(seed, piece, at) is None:
                self.wasted += 1
            else:
                self.taken.append((piece, at, min(BLOCK_SIZE, begin + length - at)))

    def put(self, piece: int, begin: int, data: bytes | memoryview) -> None:
        self.memory[piece][begin : begin + len(data)] = data

    def free(self, pieces: Collection[int]) -> None:
        for piece in (*pieces, *self.picker.close_untouched()):
            del self.memory[piece]

    def waste(self, seed: Key, length: int) -> None:
        self.wasted += length

    def peer_gives(self, piece: int, begin: int, data: bytes) -> None:
        assert self.picker.received("peer", piece, begin) is not None
        self.put(piece, begin, data)


def begun(taker: Taker, most: int = 9) -> tuple[Filler, Run]:
    filler = Filler("web", taker)
    run = taker.picker.take_run("web", None, most)
    assert run is not None
    filler.begin(run)
    filler.stop_at = len(DATA)
    return filler, run


def pour(filler: Filler, count: int, data: bytes = DATA) -> int:
    """Let up to ``count`` bytes come in one go; how many did?"""
    view = filler.room()
    if view is None:
        return 0
    count = min(count, len(view))
    view[:count] = data[filler.at : filler.at + count]
    filler.came(count)
    return count


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=20), st.booleans())
@settings(max_examples=40, deadline=None)
def test_crumbs_of_any_size_become_blocks_in_their_place(crumbs: list[int], spilled: bool) -> None:
    async def scenario() -> None:
        taker = Taker(spilled=spilled)
        filler, _ = begun(taker)
        number = 0
        while not filler.is_done:
            assert pour(filler, crumbs[number % len(crumbs)])
            number += 1
        filler.close()
        assert b"".join(bytes(taker.memory[piece]) for piece in sorted(taker.memory)) == DATA
        assert sum(length for _, _, length in taker.taken) == len(DATA)
        assert not taker.wasted

    asyncio.run(scenario())


async def test_a_block_that_a_peer_gave_meanwhile_stays_the_peers() -> None:
    taker = Taker()
    filler, run = begun(taker)
    pour(filler, 10_000, bytes(len(DATA)))  # half of a block, and wrong
    (again,) = taker.picker.again(None, 1, ())
    assert (again.piece, again.begin) == (0, 0)
    taker.peer_gives(0, 0, DATA[:BLOCK_SIZE])
    while run.first == 0:
        pour(filler, 10_000, bytes(len(DATA)))
    assert bytes(taker.memory[0][:BLOCK_SIZE]) == DATA[:BLOCK_SIZE]
    assert taker.wasted == BLOCK_SIZE
    assert taker.picker.open[0].givers == ["peer", None]
    while not filler.is_done:
        pour(filler, 10_000)
    assert b"".join(bytes(taker.memory[piece]) for piece in sorted(taker.memory)) == DATA


async def test_a_block_that_was_asked_of_somebody_else_too_is_written_whole_or_not_at_all() -> None:
    taker = Taker()
    filler, run = begun(taker)
    pour(filler, 5)  # in place
    taker.picker.again(None, 8, ())
    pour(filler, 5)
    while run.first == 0:
        pour(filler, 10_000)
    assert taker.taken == []  # half of it lies where a peer's may come
    taker.picker.released([(0, 0)])  # the peer does not give it after all
    assert taker.picker.open[0].free == [0]  # so it is asked for again
    pour(filler, 10_000)
    assert bytes(taker.memory[0][BLOCK_SIZE:]) == bytes(BLOCK_SIZE)
    while run.first == 1:
        pour(filler, 10_000)
    assert bytes(taker.memory[0][BLOCK_SIZE:]) == DATA[BLOCK_SIZE:PIECE]


async def test_bytes_of_a_piece_that_was_given_up_go_nowhere() -> None:
    taker = Taker()
    filler, run = begun(taker)
    pour(filler, 5)
    taker.picker.close(0)
    old = taker.memory.pop(0)
    before = bytes(old)
    while run.piece is not None and run.piece.index == 0:
        pour(filler, 10_000)
    assert bytes(old) == before
    assert taker.wasted == PIECE
    assert taker.picker.may_be_opened(0)


async def test_without_memory_there_is_no_room_and_it_comes_by_itself() -> None:
    taker = Taker()
    taker.has_room = False
    filler, _ = begun(taker)
    assert filler.room() is None
    assert filler.is_stalled
    taker.has_room = True
    assert filler.room() is not None
    assert not filler.is_stalled


async def test_a_limit_is_taken_before_and_what_is_left_is_given_back() -> None:
    taker = Taker()
    limit = taker.down = Limit(TokenBucket(4, burst=12_500, now=asyncio.get_running_loop().time()))
    filler, _ = begun(taker)
    came = 0
    while got := pour(filler, 7000):
        came += got
        if came > 20_000:
            filler.close()
    assert came == pytest.approx(limit.passed)
    assert filler.room() is None
    taker = Taker()
    taker.down = limit
    filler, _ = begun(taker)
    while got := pour(filler, 7000):
        came += got
    assert came == pytest.approx(50_000, abs=100)
    assert filler.waits_for_limit


async def test_the_end_of_a_run_may_come_nearer_while_it_is_read() -> None:
    taker = Taker()
    filler, run = begun(taker)
    pour(filler, 5)
    assert filler.stop == len(DATA)
    run.end = 2
    assert filler.stop == 2 * PIECE
    run.end = 1
    assert filler.stop == PIECE
    while not filler.is_done:
        pour(filler, 50_000)
    assert filler.at == PIECE


async def test_after_a_break_it_goes_on_with_the_block_that_was_not_complete() -> None:
    taker = Taker()
    filler, _ = begun(taker)
    pour(filler, BLOCK_SIZE + 5)
    assert filler.at == BLOCK_SIZE + 5
    filler.begin_again()
    assert filler.at == BLOCK_SIZE
    while not filler.is_done:
        pour(filler, 50_000)
    assert b"".join(bytes(taker.memory[piece]) for piece in sorted(taker.memory)) == DATA


async def test_what_comes_before_a_run_is_thrown_away() -> None:
    taker = Taker()
    filler, _ = begun(taker)
    filler.skip = 40_000
    before = filler.at
    while filler.skip:
        pour(filler, 30_000)
    assert (filler.at, taker.wasted) == (before, 40_000)
