"""Runs of the picker: which pieces somebody takes who fetches many in one go, and what becomes of them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from bitarray import bitarray
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from unchoke.layout import FileEntry, TorrentLayout
from unchoke.policy.picker import PickerSettings, PiecePicker, Run
from unchoke.types import BLOCK_SIZE

PIECE = 2 * BLOCK_SIZE


def bits(drawing: str) -> bitarray:
    """``x`` for a one."""
    return bitarray("".join("1" if sign == "x" else "0" for sign in drawing), endian="big")


def picker(have: str, **how: Any) -> PiecePicker:
    layout = TorrentLayout(PIECE, [FileEntry((), len(have) * PIECE)])
    return PiecePicker(layout, Random(1), have=bits(have), **how)


def anything(piece: int) -> bool:
    return True


def taken(run: Run | None) -> tuple[int, int]:
    assert run is not None
    return run.next, run.end


@pytest.mark.parametrize(
    ("have", "most", "expected"),
    [
        ("........", 99, (0, 8)),
        ("........", 3, (0, 3)),
        ("..x...x.", 99, (3, 6)),
        ("..x...x.", 2, (0, 2)),
        ("xxxxxxx.", 5, (7, 8)),
        (".x..x...x...", 3, (5, 8)),
    ],
)
def test_the_longest_row_is_taken_the_first_of_equals(have: str, most: int, expected: tuple[int, int]) -> None:
    assert taken(picker(have).take_run("web", None, most)) == expected


@given(st.text("x.", min_size=1, max_size=70), st.integers(1, 80))
@settings(max_examples=200)
def test_the_row_is_the_longest_there_is(have: str, most: int) -> None:
    longest = max((min(len(row), most) for row in have.split("x")), default=0)
    run = picker(have).take_run("web", None, most)
    if not longest:
        assert run is None
    else:
        start, end = taken(run)
        assert end - start == longest
        assert have[start:end] == "." * longest
        assert "." * longest not in have[: end - 1]


def test_what_no_peer_has_is_taken_first() -> None:
    chosen = picker("........")
    chosen.add_peer(bits("xxxxxx.."))
    chosen.add_peer(bits("xxxxx..."))
    assert taken(chosen.take_run("web", None, 99)) == (6, 8)
    assert taken(chosen.take_run("web", None, 99)) == (0, 6)


def test_sequential_takes_the_first_and_high_comes_before_the_rest() -> None:
    assert taken(picker(".x...", settings=PickerSettings(sequential=True)).take_run("web", None, 9)) == (0, 1)
    assert taken(picker("......", high=bits("...xx.")).take_run("web", None, 9)) == (3, 5)


def test_only_pieces_that_it_has_and_none_that_it_spoilt() -> None:
    chosen = picker("......")
    assert taken(chosen.take_run("web", bits("..xx.."), 9)) == (2, 4)
    chosen = picker("....")
    run = chosen.take_run("web", bits("x..."), 9)
    assert run is not None
    assert chosen.next_of(run, anything)
    for begin in (0, BLOCK_SIZE):
        chosen.received("web", 0, begin)
    run.first = run.stop
    chosen.piece_bad(0, suspects=["web"])
    assert taken(chosen.take_run("web", None, 9)) == (1, 4)
    assert taken(chosen.take_run("other", None, 9)) == (0, 1)


def test_claimed_pieces_are_no_peers_until_there_is_nothing_else_and_then_from_behind() -> None:
    chosen = picker("........")
    run = chosen.take_run("web", None, 6)
    assert run is not None
    first = chosen.next("peer", None, 4, anything)
    assert {block.piece for block in first} == {6, 7}
    assert not chosen.in_endgame
    assert {block.piece for block in chosen.next("peer", None, 4, anything)} == {4, 5}
    assert taken(run) == (0, 4)


def test_a_peer_that_lacks_the_last_claimed_piece_takes_the_last_that_it_has_and_the_rest_is_free() -> None:
    chosen = picker("........")
    run = chosen.take_run("web", None, 8)
    assert {block.piece for block in chosen.next("peer", bits("xxx....."), 2, anything)} == {2}
    assert taken(run) == (0, 2)
    assert taken(chosen.take_run("other", None, 9)) == (3, 8)


def test_pieces_are_opened_one_by_one_with_all_blocks_asked() -> None:
    chosen = picker("....")
    run = chosen.take_run("web", None, 2)
    assert run is not None
    assert not chosen.next_of(run, lambda piece: False)
    assert chosen.next_of(run, anything)
    assert run.piece is not None
    assert (run.piece.index, run.first, run.stop, run.claimed) == (0, 0, 2, 1)
    assert run.piece.asked == 2
    assert chosen.next_of(run, anything)
    assert not chosen.next_of(run, anything)


def test_what_a_run_did_not_bring_is_anybodys_again_and_comes_first() -> None:
    chosen = picker("....")
    run = chosen.take_run("web", None, 4)
    assert run is not None
    chosen.next_of(run, anything)
    chosen.received("web", 0, 0)
    run.first = 1
    assert chosen.end_run(run) == []
    assert chosen.end_run(run) == []  # twice is once
    again = chosen.take_run("other", None, 4)
    assert again is not None
    assert again.piece is not None
    assert (again.piece.index, again.first, again.stop, again.claimed) == (0, 1, 2, 0)
    assert taken(chosen.take_run("third", None, 4)) == (1, 4)


def test_an_idle_one_takes_the_far_half_of_anothers_run() -> None:
    chosen = picker("........")
    run = chosen.take_run("slow", None, 8)
    assert chosen.take_run("fast", None, 8, least=9) is None
    assert taken(chosen.take_run("fast", None, 8, least=2)) == (4, 8)
    assert taken(run) == (0, 4)
    assert chosen.take_run("fast", bits("........"), 8) is None


def test_a_selection_ends_runs_and_what_is_still_wanted_can_be_taken_again() -> None:
    chosen = picker("........")
    run = chosen.take_run("web", None, 8)
    assert run is not None
    chosen.next_of(run, anything)
    chosen.select(bits("xx....xx"))
    assert run.claimed == 0
    assert taken(chosen.take_run("web", None, 8)) == (6, 8)


def test_a_run_can_be_made_longer_as_far_as_nobody_has_begun() -> None:
    chosen = picker("......x.")
    run = chosen.take_run("web", None, 2)
    assert run is not None
    chosen.extend(run, bits("xxxx...."))
    assert taken(run) == (0, 4)
    chosen.extend(run, None)
    assert taken(run) == (0, 6)
    chosen.extend(run, None)
    assert taken(run) == (0, 6)


def test_as_in_the_endgame_a_few_blocks_are_asked_once_more_and_only_once() -> None:
    chosen = picker("..", settings=PickerSettings(endgame_requests=3))
    blocks = chosen.next("peer", None, 4, anything)
    assert len(blocks) == 4
    assert chosen.take_run("web", None, 9) is None
    run = chosen.again_run("web", None, [])
    assert run is not None
    assert run.piece is not None
    assert (run.first, run.stop) == (0, 2)
    assert run.piece.asked_twice
    other = chosen.again_run("web", None, [run.piece.index])
    assert other is not None
    assert chosen.again_run("web", None, []) is None
    chosen.end_run(run)
    assert run.piece.states == bytearray([1, 1])


def test_the_piece_that_a_peer_works_through_is_left_to_it_until_there_is_nothing_else() -> None:
    chosen = picker("...")
    (block,) = chosen.next("peer", bits("x.."), 1, anything)
    assert block.piece == 0
    assert taken(chosen.take_run("web", None, 9)) == (1, 3)
    rest = chosen.take_run("other", None, 9, least=9)
    assert rest is not None
    assert rest.piece is not None
    assert (rest.piece.index, rest.first, rest.stop) == (0, 1, 2)


def test_a_piece_that_must_come_from_one_alone_begins_again_when_its_run_ends() -> None:
    chosen = picker("....")
    chosen.next("a", bits("x..."), 2, anything)
    chosen.received("a", 0, 0)
    chosen.received("a", 0, BLOCK_SIZE)
    chosen.piece_bad(0, single=True)
    run = chosen.take_run("web", bits("x..."), 1)
    assert run is not None
    chosen.next_of(run, anything)
    assert chosen.received("peer", 0, 0) is None
    assert chosen.received("web", 0, 0) is not None
    run.first = 1
    assert chosen.end_run(run) == [0]
    assert chosen.may_be_opened(0)


class Runs(RuleBasedStateMachine):
    """Whatever happens in whatever order, every missing piece is to be had in exactly one way."""

    @initialize(have=st.text("x.", min_size=3, max_size=24), partial=st.text("x.", min_size=24, max_size=24))
    def begin(self, have: str, partial: str) -> None:
        self.count = len(have)
        self.picker = picker(have)
        self.partial = bits(partial[: self.count])
        self.picker.add_peer(self.partial)
        self.runs: list[Run] = []
        self.asked: list[tuple[int, int]] = []

    @rule(most=st.integers(1, 30), least=st.integers(1, 4))
    def take(self, most: int, least: int) -> None:
        run = self.picker.take_run(f"web{len(self.runs)}", None, most, least=least)
        if run is not None:
            self.runs.append(run)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), blocks=st.integers(0, 3))
    def fetch(self, data: st.DataObject, blocks: int) -> None:
        run = data.draw(st.sampled_from(self.runs))
        if (run.piece is None or run.first >= run.stop) and not self.picker.next_of(run, anything):
            return
        piece = run.piece
        assert piece is not None
        for _ in range(blocks):
            if run.first < run.stop:
                done = self.picker.received(run.key, piece.index, run.first * BLOCK_SIZE)
                run.first += 1
                if done is not None and not done.left:
                    self.picker.piece_good(piece.index)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.runs))
        self.runs.remove(run)
        self.picker.end_run(run)
        self.picker.close_untouched()

    @rule(all_of_it=st.booleans(), count=st.integers(1, 4))
    def peer_asks(self, all_of_it: bool, count: int) -> None:
        found = self.picker.next("peer", None if all_of_it else self.partial, count, anything)
        self.asked += [(block.piece, block.begin) for block in found]

    @rule(gives=st.booleans())
    def peer_answers(self, gives: bool) -> None:
        asked, self.asked = self.asked, []
        if not gives:
            self.picker.released(asked)
            self.picker.peer_gone("peer")
            self.picker.close_untouched()
            return
        for piece, begin in asked:
            done = self.picker.received("peer", piece, begin)
            if done is not None and not done.left:
                self.picker.piece_good(piece)

    @rule(wanted=st.text("x.", min_size=24, max_size=24))
    def select(self, wanted: str) -> None:
        self.picker.select(bits(wanted[: self.count]))

    @invariant()
    def every_piece_is_in_one_place(self) -> None:
        if not hasattr(self, "picker"):
            return
        claims = [index for run in self.runs for index in range(run.next, run.end)]
        assert len(claims) == len(set(claims))
        for index in range(self.count):
            places = [self.picker.may_be_opened(index), index in self.picker.open, index in claims]
            assert sum(places) == (1 if self.picker.wants_piece(index) else sum(places[1:2])), (index, places)
        assert self.picker.is_done == (not any(map(self.picker.wants_piece, range(self.count))))


TestRuns = Runs.TestCase
TestRuns.settings = settings(max_examples=60, stateful_step_count=30)
