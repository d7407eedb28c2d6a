"""SuperSeed: one piece to each, the next when the first was given on."""

from __future__ import annotations

from random import Random

from bitarray import bitarray
from bitarray.util import zeros
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.policy.superseed import SuperSeed, SuperSeedSettings

PATIENCE = SuperSeedSettings().patience
IDLE = SuperSeedSettings().idle_reveal


class Seed:
    """A super-seed and what its peers have; ``copies`` counts what they show."""

    def __init__(self, pieces: int = 10, seed: int = 1) -> None:
        self.has: dict[str, bitarray] = {}
        self.now = 0.0
        self.pieces = pieces
        self.policy = SuperSeed(pieces, Random(seed), 0.0, rarest=self.rarest, copies=self.copies)

    def rarest(self, candidates: bitarray) -> bitarray:
        least = min(self.copies(piece) for piece in candidates.search(1))
        return bitarray([bool(candidates[piece]) and self.copies(piece) == least for piece in range(self.pieces)])

    def copies(self, piece: int) -> int:
        return sum(has[piece] for has in self.has.values())

    def join(self, key: str) -> int | None:
        self.has[key] = zeros(self.pieces, "big")
        self.policy.joined(key, 0.0)
        return self.reveal(key)

    def reveal(self, key: str) -> int | None:
        return self.policy.reveal(key, self.has[key], 0.0)

    def gets(self, key: str, piece: int) -> list[object]:
        self.has[key][piece] = 1
        return list(self.policy.seen(key, piece, self.now))

    def tick(self, now: float, seeds: int = 0) -> None:
        self.now = now
        self.policy.tick({key: has for key, has in self.has.items() if not has.all()}, seeds, now)


def told(piece: int | None) -> int:
    assert piece is not None
    return piece


def test_each_is_told_of_another_piece_and_given_only_that() -> None:
    seed = Seed()
    pieces = {key: told(seed.join(key)) for key in "abcdefghij"}
    assert sorted(pieces.values()) == list(range(10))
    assert seed.reveal("a") is None, "one at a time"
    assert seed.policy.may_have("a", pieces["a"])
    assert not seed.policy.may_have("a", pieces["b"])
    assert not seed.policy.may_have("nobody", 0)


def test_the_next_comes_when_the_first_is_seen_at_another() -> None:
    seed = Seed()
    first = told(seed.join("a"))
    seed.join("b")
    assert seed.gets("a", first) == [], "its own word is not enough"
    assert seed.reveal("a") is None
    assert seed.gets("b", first) == ["a"]
    second = told(seed.reveal("a"))
    assert second != first
    assert seed.policy.may_have("a", first)
    assert seed.policy.may_have("a", second)


def test_a_whole_bitfield_shows_many_at_once() -> None:
    seed = Seed()
    first = told(seed.join("a"))
    seed.join("b")
    seed.has["b"] |= bitarray("1" * 10)
    assert "a" in seed.policy.seen("b", seed.has["b"], 1.0)
    seed.has["a"][first] = 1
    assert seed.reveal("a") not in (None, first)


def test_alone_its_own_word_is_enough() -> None:
    seed = Seed(pieces=5)
    piece = seed.join("a")
    for _ in range(4):
        assert seed.gets("a", told(piece)) == ["a"]
        piece = seed.reveal("a")
    seed.gets("a", told(piece))
    assert seed.reveal("a") is None
    assert seed.has["a"].all()


def test_pieces_on_their_way_are_not_told_twice() -> None:
    seed = Seed(pieces=3)
    assert {seed.join(key) for key in "abc"} == {0, 1, 2}
    assert seed.join("d") is None
    first = seed.policy.told("a").find(1)
    seed.gets("a", first)
    assert seed.reveal("d") is None, "that one is to give it on"


def test_what_left_with_its_only_taker_is_told_again() -> None:
    seed = Seed(pieces=1)
    assert seed.join("a") == 0
    assert seed.join("b") is None
    seed.policy.gone("a")
    del seed.has["a"]
    assert seed.reveal("b") == 0


def test_what_only_one_has_that_need_not_give_it_on_is_told_again() -> None:
    seed = Seed(pieces=4)
    for key in "abcd":
        seed.join(key)
    for key in "abcd":
        for piece in range(4):
            if piece != 3 or key == "c":
                seed.gets(key, piece)
    owner = next(key for key in "abcd" if seed.policy.told(key)[3])
    assert seed.join("new") == (None if owner == "c" else 3), "c is not the one that was told"
    for key in "abd":
        seed.gets(key, 3)
    assert seed.join("newer") is None, "all can be had from the others"


def test_an_idle_line_brings_one_more_to_the_one_that_waits_longest() -> None:
    seed = Seed()
    first = told(seed.join("a"))
    seed.join("b")
    seed.gets("a", first)
    seed.tick(IDLE - 1)
    assert seed.reveal("a") is None
    seed.tick(IDLE + 1)
    assert seed.reveal("a") is not None
    assert seed.reveal("b") is None, "it has not even taken its first"


def test_it_ends_when_nothing_is_given_on_and_when_others_seed() -> None:
    seed = Seed()
    seed.join("a")
    seed.tick(PATIENCE + 1)
    assert "nothing moved" in seed.policy.ended
    other = Seed()
    other.join("a")
    other.tick(1.0, seeds=1)
    assert not other.policy.ended
    other.tick(2.0, seeds=2)
    assert "2 other seeds" in other.policy.ended


def test_without_peers_it_waits_for_ever() -> None:
    seed = Seed()
    for hour in range(100):
        seed.tick(3600.0 * hour)
    seed.join("a")
    seed.tick(3600.0 * 99 + 10)
    assert not seed.policy.ended


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 1000))
def test_honest_peers_that_share_all_complete_and_the_first_copy_costs_little_more(
    peers: int, pieces: int, chance: int
) -> None:
    """A step: each peer takes what it was told of, or something it lacks from another."""
    seed = Seed(pieces, seed=chance)
    rng = Random(chance)
    keys = [f"p{number}" for number in range(peers)]
    for key in keys:
        seed.join(key)
    given_out, until_first, now = 0, 0, 0.0
    while not all(has.all() for has in seed.has.values()):
        now += 1.0
        assert now < 60 * (pieces + peers), "somebody waits for ever"
        for key in keys:
            has = seed.has[key]
            from_us = seed.policy.told(key) & ~has
            elsewhere = [piece for piece in range(pieces) if not has[piece] and seed.copies(piece)]
            if from_us.any():
                piece = from_us.find(1)
                given_out += 1
                seed.policy.uploaded_at = now
            elif elsewhere:
                piece = rng.choice(elsewhere)
            else:
                continue
            for free in seed.gets(key, piece):
                seed.reveal(str(free))
        if not any(has.all() for has in seed.has.values()):
            until_first = given_out
        seed.tick(now)
        for key in keys:
            seed.reveal(key)
    assert until_first <= 1.3 * pieces + 2 * peers
    assert not seed.policy.ended


def test_one_that_is_alone_and_says_nothing_is_told_of_the_next_when_it_was_given_one() -> None:
    """Many clients do not say ``have`` to somebody who has the piece, as we say that we do."""
    seed = Seed()
    shown = [told(seed.join("a"))]
    for _ in range(9):
        assert not seed.policy.gave("a", shown[-1], 10, 16, seed.now), "not the whole of it yet"
        assert seed.reveal("a") is None
        assert seed.policy.gave("a", shown[-1], 6, 16, seed.now)
        shown.append(told(seed.reveal("a")))
    assert sorted(shown) == list(range(10))


def test_with_others_about_its_taking_is_not_enough() -> None:
    seed = Seed()
    piece = told(seed.join("a"))
    seed.join("b")
    assert not seed.policy.gave("a", piece, 16, 16, seed.now)
    assert seed.reveal("a") is None
    assert seed.gets("b", piece) == ["a"]
    assert seed.reveal("a") is not None


def test_on_a_fast_line_several_are_on_their_way_and_each_that_arrives_makes_room_for_one() -> None:
    seed = Seed(20)
    shown = [told(seed.join("a"))]
    seed.join("b")

    def more() -> int | None:
        return seed.policy.reveal("a", seed.has["a"], 0.0, 4)

    shown += [told(more()) for _ in range(3)]
    assert more() is None
    assert len(set(shown)) == 4
    assert seed.gets("b", shown[2]) == ["a"]
    assert more() is not None
    assert more() is None
    seed.policy.gone("a")
    lost = {piece for piece in shown if piece != shown[2]}
    seed.has["c"] = zeros(20, "big")
    seed.policy.joined("c", 0.0)
    again = {told(seed.policy.reveal("c", seed.has["c"], 0.0, 20)) for _ in range(18)}
    assert lost <= again, "what only it was told of is shown to another"
