"""MetadataPicker: a game with peers that are letters, whose rules are few: the honest win, and only liars are banned."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.policy.metadata.copies import PART, Copy, Line
from unchoke.policy.metadata.picker import MOST_ORPHANS, MetadataPicker
from unchoke.policy.metadata.settings import MetadataSettings
from unchoke.types import Address


def at(name: str) -> Address:
    return Address(f"host-{name}", 6881)


def digest(part: bytes) -> bytes:
    return sha256(part).digest()[:16]


class Game:
    """Peers by name; ``has`` are the bytes that each gives. Time is what the test says."""

    def __init__(self, truth: bytes, **tuning: int | float) -> None:
        self.truth = truth
        self.picker = MetadataPicker(MetadataSettings(**tuning))  # type: ignore[arg-type]
        self.has: dict[str, bytes] = {}
        self.now = 0.0
        self.banned: list[str] = []
        self.asked: dict[str, list[int]] = {}
        self.most_held = 0

    def join(self, name: str, has: bytes | None = None, *, claim: int | None = -1) -> None:
        self.has[name] = self.truth if has is None else has
        self.asked.setdefault(name, [])
        assert self.picker.offered(name, at(name), len(self.has[name]) if claim == -1 else claim, self.now)

    def leave(self, name: str) -> None:
        self.picker.gone(name)
        del self.has[name]
        self.asked.pop(name)

    def ask(self, *names: str) -> None:
        """Ask each of them what is to be asked."""
        for name in names or tuple(self.has):
            self.asked[name] += self.picker.next(name, self.now)

    def answer(self, name: str) -> None:
        """It answers its oldest question."""
        part = self.asked[name].pop(0)
        has = self.has[name]
        taken = self.picker.received(name, part, len(has), has[part * PART : (part + 1) * PART], self.now)
        assert not taken.fault
        self.most_held = max(self.most_held, self.picker.held)
        if taken.whole is not None:
            self.judge(taken.whole)

    def judge(self, copy: Copy) -> None:
        parts = copy.in_order()
        good = b"".join(parts) == self.truth
        for address in self.picker.judged(copy, good=good, digests=[digest(part) for part in parts]):
            name = address.host.removeprefix("host-")
            self.banned.append(name)
            if name in self.has:
                self.leave(name)

    def play(self, rounds: int = 1000) -> bool:
        """All ask and answer in turn, a second a round, until it is there."""
        for _ in range(rounds):
            self.picker.expire(self.now)
            self.ask()
            for name in list(self.has):
                if name in self.has and self.asked[name]:
                    self.answer(name)
            if self.picker.is_done:
                return True
            self.now += 1.0
        return False


def info(size: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size)


TRUTH = info(5 * PART - 100)


def lie(part: int, truth: bytes = TRUTH) -> bytes:
    """The truth but for one byte of this part."""
    changed = bytearray(truth)
    changed[part * PART] ^= 1
    return bytes(changed)


# ------------------------------------------------------------------ asking


def test_parts_are_shared_out_and_the_last_are_asked_for_twice() -> None:
    game = Game(TRUTH)
    for name in "abc":
        game.join(name)
    game.ask("a", "b", "c")
    assert game.asked == {"a": [0, 1], "b": [2, 3], "c": [4, 0]}


def test_more_is_asked_of_those_that_answer_and_never_more_than_allowed() -> None:
    game = Game(info(40 * PART), outstanding=4)
    game.join("a")
    depths = []
    for _ in range(5):
        game.ask("a")
        depths.append(len(game.asked["a"]))
        game.answer("a")
    assert depths == [2, 3, 4, 4, 4]


def test_at_the_end_a_part_is_asked_of_few() -> None:
    game = Game(info(10), duplicates=3)
    for name in "abcde":
        game.join(name)
    game.ask()
    assert [name for name, asked in game.asked.items() if asked] == ["a", "b", "c"]


def test_silence_gives_parts_to_others_and_pauses_longer_each_time() -> None:
    game = Game(TRUTH, timeout=15.0, retry=60.0, last_retry=300.0)
    game.join("a")
    times = []
    for second in range(2000):
        game.now = float(second)
        game.picker.expire(game.now)
        before = len(game.asked["a"])
        game.ask("a")
        if len(game.asked["a"]) > before:
            times.append(second)
    assert times[0] == 0
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits[:4] == [76, 136, 256, 316]
    assert set(waits[4:]) == {316}
    game.join("b")
    assert game.play(20)


def test_a_late_answer_is_taken_and_ends_the_pause() -> None:
    game = Game(TRUTH)
    game.join("a")
    game.ask()
    game.now = 20.0
    game.picker.expire(20.0)
    assert game.picker.next("a", 20.0) == []
    game.answer("a")
    assert game.picker.held == PART
    assert len(game.picker.next("a", 20.0)) == 1


def test_several_rejects_at_once_are_one() -> None:
    game = Game(TRUTH, retry=60.0)
    game.join("a")
    game.ask()
    for part in game.asked["a"]:
        assert game.picker.rejected("a", part, 1.0)
    assert not game.picker.rejected("a", 0, 1.0)
    assert game.picker.next("a", 60.0) == []
    assert game.picker.next("a", 61.0) != []


def test_a_peer_that_seeks_too_is_asked_again_soon() -> None:
    game = Game(TRUTH, retry=60.0)
    game.join("a", claim=None)
    waits, asked_at = [], 0.0
    for second in range(100):
        if game.picker.next("a", float(second)):
            waits.append(second - asked_at)
            asked_at = float(second)
            assert game.picker.rejected("a", 0, asked_at)
    assert waits == [0, 10, 20, 40]


def test_news_of_a_size_ends_a_pause() -> None:
    game = Game(TRUTH)
    game.join("a", claim=None)
    game.ask()
    assert game.picker.rejected("a", 0, 1.0)
    assert not game.picker.has_hope("a")
    game.join("a", claim=None)
    assert game.picker.next("a", 2.0) == []
    game.join("a")
    assert game.picker.has_hope("a")
    assert game.picker.next("a", 2.0) == [0, 1]


def test_a_first_part_without_a_size_counts() -> None:
    game = Game(TRUTH)
    game.join("a", claim=None)
    game.ask()
    assert game.asked["a"] == [0]
    game.answer("a")
    game.ask()
    assert game.picker.held == PART
    assert 0 not in game.asked["a"]
    assert game.picker.offering == 1


def test_one_size_a_peer() -> None:
    game = Game(TRUTH)
    game.join("a")
    assert not game.picker.offered("a", at("a"), 5, 0.0)
    assert game.picker.offered("a", at("a"), None, 0.0)
    game.ask()
    assert "sends a part of" in game.picker.received("a", 0, 5, b"x" * 5, 0.0).fault


def test_what_nobody_asked_for_is_a_fault() -> None:
    game = Game(TRUTH)
    assert game.picker.received("x", 0, 5, b"x" * 5, 0.0).fault
    game.join("a")
    assert game.picker.received("a", 0, len(TRUTH), TRUTH[:PART], 0.0).fault
    game.ask()
    game.answer("a")
    assert game.picker.received("a", 0, len(TRUTH), TRUTH[:PART], 0.0).fault
    assert not game.picker.rejected("x", 0, 0.0)


def test_an_answer_to_the_second_question_of_two_is_none() -> None:
    """Asked again after a pause: two answers may come, and a third is one too many."""
    game = Game(info(10), timeout=15.0, retry=60.0)
    game.join("a")
    game.ask()
    game.now = 20.0
    game.picker.expire(20.0)
    assert game.picker.next("a", 80.0) == [0]
    wrong = bytes(10)
    assert game.picker.received("a", 0, 10, wrong, 80.0).whole is not None
    assert game.picker.received("a", 0, 10, wrong, 80.0) == game.picker.received("z", 1, 1, b"", 0.0).__class__()
    assert game.picker.received("a", 0, 10, wrong, 80.0).fault


# ------------------------------------------------------------------ sizes and memory


def test_too_large_is_never_asked_for() -> None:
    game = Game(TRUTH, max_size=len(TRUTH) - 1)
    game.join("a")
    assert game.picker.next("a", 0.0) == []
    assert (game.picker.too_big, game.picker.offering, game.picker.likely_size) == (len(TRUTH), 0, None)
    assert not game.picker.has_hope("a")


def test_a_claim_reserves_nothing() -> None:
    picker = MetadataPicker(MetadataSettings(max_size=1 << 60))
    picker.offered("a", at("a"), 1 << 60, 0.0)
    assert picker.next("a", 0.0) == [0, 1]
    assert picker.held == 0


def test_the_copy_in_front_survives_when_memory_is_short() -> None:
    game = Game(info(10 * PART), max_size=10 * PART)
    game.join("a")
    for number in range(9):
        game.join(f"liar{number}", info(10 * PART - 1 - number, seed=number + 1))
    assert game.play()
    assert game.most_held <= 10 * PART
    assert "a" not in game.banned


def test_what_those_who_left_began_is_kept_for_a_few_sizes_only() -> None:
    picker = MetadataPicker()
    for number in range(1, 100):
        picker.offered(number, at("x"), 3 * PART + number, 0.0)
        assert picker.next(number, 0.0) == [0, 1]
        picker.received(number, 0, 3 * PART + number, bytes(PART), 0.0)
        picker.gone(number)
    assert picker.held == MOST_ORPHANS * PART


def test_open_questions_hold_no_bytes() -> None:
    """Who never answers must not keep alive what others gave to a copy that is no more."""
    game = Game(info(10 * PART))
    for name in "ab":
        game.join(name)
    game.ask()
    game.answer("a")
    copy = game.picker.leading
    assert copy is not None
    assert copy.held == PART
    game.picker.clear()
    assert (len(copy.parts), game.picker.held, game.picker.leading) == (0, 0, None)
    assert game.picker.next("a", 1.0) == []


# ------------------------------------------------------------------ liars


def test_a_single_giver_is_to_blame() -> None:
    game = Game(TRUTH)
    game.join("a", lie(2))
    assert not game.play(20)
    assert game.banned == ["a"]


def test_in_company_the_right_copy_tells_who_lied() -> None:
    game = Game(TRUTH)
    for name, has in {"a": TRUTH, "b": lie(2), "c": TRUTH}.items():
        game.join(name, has)
    assert game.play()
    assert game.banned == ["b"]


def test_who_left_before_the_verdict_is_banned_all_the_same() -> None:
    game = Game(TRUTH)
    game.join("a", lie(0))
    game.ask()
    game.answer("a")
    game.leave("a")
    game.join("b")
    assert game.play()
    assert game.banned == ["a"]


def test_a_slow_liar_alone_with_its_copy_lets_others_try() -> None:
    """Four that give hardly anything hold all turns; an honest one stands behind them."""
    game = Game(info(64 * PART), alone=4, least_rate=16 * 1024, timeout=15.0)
    for name in "xy":
        game.join(name, lie(0, game.truth))
    game.join("z", lie(1, game.truth))
    while not game.picker._line.active and not game.picker._line.waiting:  # until they have lied
        game.ask()
        for name in list(game.has):
            if game.asked[name]:
                game.answer(name)
    for name in "pqrs":
        game.join(name, lie(3, game.truth))
    game.join("honest")
    for second in range(3000):
        game.now += 1.0
        game.picker.expire(game.now)
        game.ask()
        for name in list(game.has):
            if name in game.has and game.asked[name] and (name == "honest" or second % 10 == 0):
                game.answer(name)
        if game.picker.is_done:
            break
    assert game.picker.is_done
    assert "honest" not in game.banned
    assert game.now < 250


def test_a_line_keeps_its_order() -> None:
    line = Line(2)
    for name in "abcd":
        line.join(name)
    assert line.promote(lambda name: name != "a") == ["b", "c"]
    assert line.promote(lambda _: True) == []
    line.join("b")
    line.send_back("b")
    assert list(line.waiting) == ["a", "d", "b"]
    line.leave("c")
    assert line.promote(lambda _: True) == ["a", "d"]


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 6 * PART),
    liars=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=8),
    honest_at=st.integers(0, 8),
    dice=st.integers(0, 1 << 32),
)
def test_the_honest_win_and_are_never_banned(
    size: int, liars: list[tuple[int, bool]], honest_at: int, dice: int
) -> None:
    """Any mixture of liars (a part changed, another size), peers that come and go, answers in any order, some never."""
    rng, truth = Random(dice), info(size)
    game = Game(truth, alone=2, max_size=6 * PART + 10)
    count = -(-size // PART)
    for number, (part, resized) in enumerate(liars):
        if number == honest_at:
            game.join("honest")
        false = lie(part % count, truth)
        game.join(f"liar{number}", false + b"x" * (1 + part) if resized else false)
    if "honest" not in game.has:
        game.join("honest")
    for step in range(5000):
        game.now += 1.0
        game.picker.expire(game.now)
        game.ask()
        for name in list(game.has):
            if name in game.has and game.asked[name] and rng.random() < (0.9 if name == "honest" else 0.5):
                game.answer(name)
        if step % 50 == 7 and rng.random() < 0.5 and f"liar{step % 8}" in game.has:
            game.leave(f"liar{step % 8}")
        assert game.picker.held == sum(copy.held for copy in game.picker._copies) <= 6 * PART + 10
        if game.picker.is_done:
            break
    assert game.picker.is_done
    assert "honest" not in game.banned
    assert game.picker.held == 0
