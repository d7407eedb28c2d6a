"""Choker: who gets the slots."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from unchoke.policy.choker import Candidate, Choker, ChokerSettings

SETTINGS = ChokerSettings(slots=4)


def peer(
    key: str, *, gives: float = 0, takes: float = 0, unchoked: bool = False, since: float = 0.0, **more: object
) -> Candidate:
    candidate = Candidate(
        key=key, interested=True, unchoked=unchoked, gives=gives, takes=takes, unchoked_since=since, connected_at=0.0
    )
    return replace(candidate, **more)  # type: ignore[arg-type]


def choker(seed: int = 1) -> Choker:
    return Choker(Random(seed), SETTINGS)


def test_enough_slots_serve_everybody_interested() -> None:
    peers = [peer("a"), peer("b"), peer("c", interested=False)]
    assert choker().rechoke(peers, seeding=False, now=0) == {"a", "b"}


def test_leeching_the_best_givers_are_served_and_one_more() -> None:
    peers = [peer(f"p{rate}", gives=rate) for rate in range(10)]
    chosen = choker().rechoke(peers, seeding=False, now=1000)
    assert {"p9", "p8", "p7"} < chosen
    assert len(chosen) == 4


def test_who_snubs_us_is_not_paid() -> None:
    peers = [peer("snub", gives=99, snubbed=True), *(peer(f"p{rate}", gives=rate) for rate in range(8))]
    chosen = choker().rechoke(peers, seeding=False, now=1000)
    assert {"p7", "p6", "p5"} < chosen


def test_the_optimistic_slot_stays_three_rounds_and_then_moves() -> None:
    everybody = [peer(f"p{rate}", gives=rate) for rate in range(20)]
    ours = choker()
    best = {"p19", "p18", "p17"}
    drawn = [next(iter(ours.rechoke(everybody, seeding=False, now=10.0 * turn) - best)) for turn in range(1, 31)]
    assert len(set(drawn)) > 5
    assert all(drawn[turn] == drawn[turn + 1] for turn in range(2, 28, 3))


def test_newcomers_are_drawn_more_often() -> None:
    counts = {"new": 0, "old": 0}
    for seed in range(300):
        peers = [peer("best", gives=9), peer("b2", gives=8), peer("b3", gives=7)]
        peers += [peer("new", connected_at=995.0), peer("old")]
        chosen = choker(seed).rechoke(peers, seeding=False, now=1000)
        counts["new" if "new" in chosen else "old"] += 1
    assert counts["new"] > 1.8 * counts["old"]


def test_seeding_the_fastest_takers_keep_their_slots_until_their_turn_is_over() -> None:
    peers = [peer(f"p{rate}", takes=rate, unchoked=True, since=950.0) for rate in range(4)] + [peer("w1"), peer("w2")]
    chosen = choker().rechoke(peers, seeding=True, now=1000)
    assert {"p3", "p2", "p1"} < chosen
    later = choker().rechoke(peers, seeding=True, now=1011)
    assert {"w1", "w2"} < later


def test_seeding_serves_everybody_in_time() -> None:
    ours, served = choker(), dict.fromkeys("abcdefghijkl", 0)
    since = dict.fromkeys(served, 0.0)
    unchoked = set[object]()
    for turn in range(120):
        now = 10.0 * turn
        peers = [peer(key, takes=1, unchoked=key in unchoked, since=since[key]) for key in served]
        chosen = ours.rechoke(peers, seeding=True, now=now)
        for key in served:
            if key in chosen:
                served[key] += 1
                if key not in unchoked:
                    since[key] = now
        unchoked = set(chosen)
    assert min(served.values()) > 20


def test_free_slots_are_filled_at_once_by_who_waits_longest() -> None:
    peers = [peer("a", unchoked=True), peer("b", connected_at=5.0), peer("c", connected_at=3.0)]
    assert choker().fill(peers) == {"a", "b", "c"}
    crowd = [peer(f"u{n}", unchoked=True) for n in range(3)] + [
        peer("late", connected_at=9.0),
        peer("early", connected_at=1.0),
    ]
    assert choker().fill(crowd) == {"u0", "u1", "u2", "early"}


def test_filling_chokes_nobody_who_is_interested() -> None:
    crowd = [peer(f"u{n}", unchoked=True) for n in range(9)]
    assert choker().fill(crowd) == {f"u{n}" for n in range(9)}
