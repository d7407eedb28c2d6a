"""Choker: who gets the slots."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from unchoke.policy.choker import Candidate, Choker, ChokerSettings, SlotPool

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
    assert set(choker().rechoke(peers, seeding=False, now=0)) == {"a", "b"}


def test_leeching_the_best_givers_are_served_and_one_more() -> None:
    peers = [peer(f"p{rate}", gives=rate) for rate in range(10)]
    chosen = set(choker().rechoke(peers, seeding=False, now=1000))
    assert {"p9", "p8", "p7"} < chosen
    assert len(chosen) == 4


def test_who_snubs_us_is_not_paid() -> None:
    peers = [peer("snub", gives=99, snubbed=True), *(peer(f"p{rate}", gives=rate) for rate in range(8))]
    chosen = set(choker().rechoke(peers, seeding=False, now=1000))
    assert {"p7", "p6", "p5"} < chosen


def test_the_optimistic_slot_stays_three_rounds_and_then_moves() -> None:
    everybody = [peer(f"p{rate}", gives=rate) for rate in range(20)]
    ours = choker()
    best = {"p19", "p18", "p17"}
    drawn = [next(iter(set(ours.rechoke(everybody, seeding=False, now=10.0 * turn)) - best)) for turn in range(1, 31)]
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
    chosen = set(choker().rechoke(peers, seeding=True, now=1000))
    assert {"p3", "p2", "p1"} < chosen
    later = set(choker().rechoke(peers, seeding=True, now=1011))
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
    assert set(choker().fill(peers)) == {"a", "b", "c"}
    crowd = [peer(f"u{n}", unchoked=True) for n in range(3)] + [
        peer("late", connected_at=9.0),
        peer("early", connected_at=1.0),
    ]
    assert set(choker().fill(crowd)) == {"u0", "u1", "u2", "early"}


def test_filling_chokes_nobody_who_is_interested() -> None:
    crowd = [peer(f"u{n}", unchoked=True) for n in range(9)]
    assert set(choker().fill(crowd)) == {f"u{n}" for n in range(9)}


def test_slots_that_no_giver_earned_look_for_new_partners() -> None:
    """BEP 3's anti-snubbing: when all our partners snub us, more than one slot is optimistic."""
    peers = [peer(f"snub{n}", gives=9, snubbed=True, unchoked=True) for n in range(4)] + [
        peer(f"p{n}") for n in range(20)
    ]
    drawn = dict.fromkeys(key for seed in range(20) for key in choker(seed).rechoke(peers, seeding=False, now=1000))
    assert len(drawn) > 12
    assert all(len(choker(seed).rechoke(peers, seeding=False, now=1000)) == 4 for seed in range(5))


def test_whoever_owes_us_is_drawn_less() -> None:
    size = 1 << 18
    peers = [peer(f"best{n}", gives=9) for n in range(3)] + [peer("owes", owes=4 * size), peer("honest", owes=size)]
    drawn = [choker(seed).rechoke(peers, seeding=False, now=1000) for seed in range(300)]
    owes, honest = sum("owes" in chosen for chosen in drawn), sum("honest" in chosen for chosen in drawn)
    assert owes < honest / 10
    assert set(choker().fill(peers[3:])) == {"honest"}


def test_one_slot_is_the_best_givers_in_two_rounds_of_three() -> None:
    ours = Choker(Random(1), ChokerSettings(slots=1))
    peers = [peer("best", gives=9), *(peer(f"p{n}") for n in range(9))]
    rounds = [next(iter(ours.rechoke(peers, seeding=False, now=10.0 * turn))) for turn in range(1, 31)]
    assert rounds.count("best") >= 20
    assert len(set(rounds)) > 3


def test_a_turn_at_a_seed_is_some_pieces_and_not_for_ever() -> None:
    size = 1 << 18
    waiting = [peer(f"w{n}", connected_at=900.0) for n in range(4)]
    half = [peer(f"p{n}", takes=5000, taken=4 * size, unchoked=True, since=920.0) for n in range(4)]
    assert set(choker().rechoke(half + waiting, seeding=True, now=1000)) == {"p0", "p1", "p2", "p3"}
    whole = [replace(each, taken=8 * size) for each in half]
    assert set(choker().rechoke(whole + waiting, seeding=True, now=1000)) == {"w0", "w1", "w2", "w3"}
    assert set(choker().rechoke(half + waiting, seeding=True, now=920.0 + 600)) == {"w0", "w1", "w2", "w3"}


def test_one_that_sips_at_a_seed_gives_way_after_a_round() -> None:
    peers = [peer(f"p{n}", takes=9000, unchoked=True, since=985.0) for n in range(3)]
    peers += [peer("sip", takes=5, unchoked=True, since=985.0), peer("w", connected_at=990.0)]
    assert set(choker().rechoke(peers, seeding=True, now=1000)) == {"p0", "p1", "p2", "w"}


def test_coming_back_all_the_time_is_no_way_to_the_front() -> None:
    peers = [peer(f"p{n}", since=900.0 + n, connected_at=1.0) for n in range(4)] + [peer("again", connected_at=999.0)]
    assert "again" not in choker().rechoke(peers, seeding=True, now=1000)
    assert "again" not in choker().fill(peers)


def test_a_pool_gives_all_their_share_and_never_more_than_there_is() -> None:
    pool, used = SlotPool(10), dict.fromkeys("abc", 0)
    demand = {"a": 2, "b": 8, "c": 8}
    for turn in range(4):
        for key, want in demand.items():
            used[key] = pool.ask(key, want, 10.0 * turn)
            pool.use(key, used[key])
            assert sum(used.values()) == pool.used <= 10
    assert used == {"a": 2, "b": 4, "c": 4}
    pool.forget("b")
    assert pool.ask("c", 8, 50.0) == 8
    assert SlotPool().ask("anybody", 50, 0.0) == 50


def test_more_torrents_than_slots_take_turns() -> None:
    pool, had = SlotPool(2, rotation=60.0), dict.fromkeys(range(7), 0)
    for turn in range(84):
        for key in had:
            granted = pool.ask(key, 3, 10.0 * turn)
            pool.use(key, granted)
            had[key] += granted
        assert pool.used <= 2
    assert min(had.values()) > 0.5 * max(had.values())


def test_a_torrent_nobody_wants_anything_of_takes_no_share() -> None:
    pool = SlotPool(4)
    pool.ask("idle", 3, 0.0)
    assert pool.ask("busy", 8, 0.0) == 2
    assert pool.ask("idle", 0, 1.0) == 0
    assert pool.ask("busy", 8, 1.0) == 4


def test_a_free_rider_gets_nothing_even_of_an_idle_line() -> None:
    rider = peer("rider", owes=1 << 20, free_rider=True)
    peers = [peer("a", gives=5), peer("b"), rider]
    ours = choker()
    assert all(set(ours.rechoke(peers, seeding=False, now=10.0 * turn)) == {"a", "b"} for turn in range(1, 13))
    assert not ours.rechoke([rider], seeding=False, now=200.0)
    assert not ours.fill([rider])
    assert set(ours.rechoke([rider], seeding=True, now=210.0)) == {"rider"}, "a seed asks nothing for what it gives"


def test_credit_is_a_piece_and_one_more_for_each_parole() -> None:
    size = 1 << 18
    ours = Choker(Random(1), ChokerSettings(parole=120.0), piece_length=size)
    assert not ours.is_in_debt(size, 0, 0.0)
    assert ours.is_in_debt(size + 1, 0, 0.0)
    assert not ours.is_in_debt(2 * size, 0, 120.0), "a misunderstanding is not for ever"
    assert ours.is_in_debt(2 * size + 1, 0, 120.0)
    assert not ours.is_in_debt(100 * size, 10 * size, 0.0), "a tenth is much from a slow line"
    assert ours.is_in_debt(100 * size, 9 * size, 0.0)
