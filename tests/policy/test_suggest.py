"""Suggester: everybody a piece of its own, first what nobody has, then what hardly anybody shows."""

from __future__ import annotations

from random import Random

from bitarray import bitarray
from bitarray.util import ones
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.layout import FileEntry, TorrentLayout
from unchoke.policy.suggest import IGNORED, MOST_UNDER_WAY, Suggester
from unchoke.types import BLOCK_SIZE

BIG = 8 * BLOCK_SIZE  # two of them ahead
AHEAD = 2


class Seed:
    """A suggester, and what its peers show."""

    def __init__(self, pieces: int = 20, *, fresh: str = "", size: int = BIG, total: int | None = None) -> None:
        self.pieces = pieces
        self.shows: dict[str, bitarray] = {}
        layout = TorrentLayout(size, [FileEntry(("f",), pieces * size if total is None else total)])
        unseen = bitarray(fresh) if fresh else ones(pieces, "big")
        self.policy = Suggester(Random(1), unseen, layout, rarest=self.rarest, copies=self.copies)

    def rarest(self, candidates: bitarray) -> bitarray:
        least = min((self.copies(piece) for piece in candidates.search(1)), default=0)
        return bitarray([bool(candidates[piece]) and self.copies(piece) == least for piece in range(self.pieces)])

    def copies(self, piece: int) -> int:
        return sum(shown[piece] for shown in self.shows.values())

    def begins(self, key: str, *, advised: bool = True) -> list[int]:
        self.policy.begin(key, advised=advised)
        return self.suggests(key)

    def suggests(self, key: str) -> list[int]:
        return self.policy.suggest(key, ~self.shows.get(key, bitarray(self.pieces)))

    def asked(self, key: str, piece: int) -> list[int]:
        return self.suggests(key) if self.policy.asked(key, piece) else []

    def shown(self, key: str, *pieces: int) -> None:
        has = self.shows.setdefault(key, bitarray(self.pieces))
        for piece in pieces:
            has[piece] = 1
            self.policy.seen(piece)


def test_each_is_told_of_pieces_of_its_own() -> None:
    seed = Seed()
    told = [piece for key in "abcdefgh" for piece in seed.begins(key)]
    assert len(told) == len(set(told)) == 8 * AHEAD


def test_the_next_comes_when_one_was_asked_for() -> None:
    seed = Seed()
    first, second = seed.begins("a")
    assert seed.suggests("a") == [], "enough are ahead"
    (third,) = seed.asked("a", first)
    assert third not in (first, second)
    assert seed.asked("a", first) == [], "another block of the same piece"


def test_of_small_pieces_as_many_are_ahead_as_a_first_question_takes() -> None:
    assert len(Seed(size=BLOCK_SIZE).begins("a")) == 8
    assert len(Seed(size=4 * BLOCK_SIZE).begins("a")) == 3
    assert len(Seed(size=64 * BLOCK_SIZE).begins("a")) == 1


def test_nothing_is_suggested_that_it_has() -> None:
    seed = Seed(4, fresh="1111")
    seed.shown("a", 0, 1, 2)
    assert seed.begins("a") == [3]
    assert seed.begins("b", advised=False) == [], "it does not understand suggestions"
    assert seed.suggests("c") == [], "it is not its turn"


def test_what_was_given_whole_is_not_given_again_and_what_was_not_is() -> None:
    seed = Seed(2, total=BIG + BLOCK_SIZE)  # the last piece is short
    told = seed.begins("a")
    assert sorted(told) == [0, 1]
    for piece in told:
        seed.policy.asked("a", piece)
    seed.policy.gave("a", 0, BIG - 1)
    seed.policy.gave("a", 1, BLOCK_SIZE)
    assert seed.begins("b") == [], "one was given, the other is under way"
    seed.policy.end("a")
    assert seed.suggests("b") == [0]


def test_what_one_alone_shows_is_suggested_when_nothing_else_is_left() -> None:
    """It may keep it to itself."""
    seed = Seed(4, fresh="1000")
    seed.shown("keeps", 1)
    for key in "xyz":
        seed.shown(key, 2, 3)
    told = seed.begins("a")
    assert told == [0, 1]
    assert seed.begins("b") == [], "the others are at enough peers"


def test_a_healthy_swarm_hears_nothing() -> None:
    seed = Seed(6, fresh="000000")
    for key in "xyz":
        seed.shown(key, *range(6))
    assert seed.begins("a") == []


def test_a_torrent_of_nothing_has_nothing_to_suggest() -> None:
    assert Seed(0).begins("a") == []


def test_what_its_last_owner_took_away_is_suggested_again() -> None:
    seed = Seed(1)
    seed.shown("x", 0)
    del seed.shows["x"]
    assert seed.begins("a") == [0]


def test_many_shown_at_once() -> None:
    seed = Seed(3)
    seed.shows["x"] = seed.shows["y"] = seed.shows["z"] = bitarray("110")
    seed.policy.seen(bitarray("110"))
    assert seed.begins("a") == [2]


def test_one_that_goes_its_own_way_is_left_alone() -> None:
    seed = Seed(40)
    told = seed.begins("a")
    others = [piece for piece in range(40) if piece not in told]
    for piece in others[: IGNORED - 1]:
        assert seed.asked("a", piece) == []
    assert seed.asked("a", told[0]), "it follows after all"
    heard = [seed.asked("a", piece) for piece in others[IGNORED:]]
    assert not any(heard)
    assert seed.begins("b"), "there is plenty for others"
    assert seed.begins("a"), "a new turn is a new chance"


def test_one_that_begins_everything_and_takes_nothing_is_bounded() -> None:
    seed = Seed(1000)
    waiting, told = seed.begins("a"), 0
    while waiting:
        told += 1
        waiting += seed.asked("a", waiting.pop())
    assert told <= MOST_UNDER_WAY + AHEAD
    assert len(seed.begins("b")) == AHEAD


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("bega!"), st.sampled_from("xyz"), st.integers(0, 9)), max_size=60))
def test_no_piece_is_ahead_of_two_whatever_they_do(acts: list[tuple[str, str, int]]) -> None:
    seed = Seed(10, size=2 * BLOCK_SIZE)
    ahead: dict[str, set[int]] = {}
    for act, key, piece in acts:
        new: list[int] = []
        if act == "b":
            ahead[key] = set()
            new = seed.begins(key)
        elif act == "e":
            seed.policy.end(key)
            ahead.pop(key, None)
        elif act == "g":
            seed.policy.gave(key, piece, BLOCK_SIZE)
        elif act == "a":
            ahead.get(key, set()).discard(piece)
            new = seed.asked(key, piece)
        else:
            seed.shown(key, piece)
        others = set().union(*(told for other, told in ahead.items() if other != key))
        assert not others & set(new)
        assert len(set(new)) == len(new)
        assert not any(seed.shows[key][each] for each in new if key in seed.shows)
        ahead.setdefault(key, set()).update(new)
        if act == "e":
            del ahead[key]
