"""Whose turn it is among the torrents that are followed in the DHT."""

from __future__ import annotations

from random import Random

from fakes.dht import Follower, infohash
from unchoke.engine.dht.following import FAIR, FIRST_RETRY, SHORTEST, Followed, Following
from unchoke.types import InfoHash

INTERVAL = 900.0


async def made(count: int) -> Following:
    following = Following(INTERVAL, Random(1))
    for number in range(count):
        following.add(infohash(number), Follower())
    return following


def ask_all(following: Following, now: float, *, nodes: int = 8, peers: int = 0) -> list[InfoHash]:
    """Everybody's turn that has come, one after the other."""
    asked = []
    while (entry := following.next(now)) is not None:
        asked.append(entry.infohash)
        following.ended(entry, nodes, peers, now)
    return asked


async def test_the_newest_comes_first_and_everybody_once() -> None:
    following = await made(3)
    assert ask_all(following, 0.0) == [infohash(2), infohash(1), infohash(0)]
    assert ask_all(following, INTERVAL / 2) == []


async def test_each_is_asked_again_after_the_interval_and_they_drift_apart() -> None:
    following = await made(50)
    ask_all(following, 0.0)
    due = {entry.next_at for number in range(50) if (entry := following.get(infohash(number)))}
    assert len(due) == 50
    assert all(when is not None and 0.9 * INTERVAL < when < 1.1 * INTERVAL for when in due)
    assert len(ask_all(following, 1.1 * INTERVAL)) == 50


async def test_nobody_answered_is_tried_again_soon_then_later() -> None:
    following = await made(1)
    now = 0.0
    waits = []
    for _ in range(8):
        ask_all(following, now, nodes=0)
        entry = following.get(infohash(0))
        assert entry is not None
        assert entry.next_at is not None
        waits.append(entry.next_at - now)
        now = entry.next_at
    assert waits[0] < 1.1 * FIRST_RETRY
    assert waits[1] > 1.5 * waits[0]
    assert max(waits) < 1.1 * INTERVAL


async def test_a_hungry_one_is_asked_soon_but_not_too_soon() -> None:
    following = await made(1)
    ask_all(following, 0.0)
    following.hasten(infohash(0), 1.0)
    following.hasten(infohash(0), 2.0)
    assert ask_all(following, SHORTEST - 1) == []
    assert ask_all(following, SHORTEST) == [infohash(0)]
    following.hasten(infohash(0), SHORTEST + 500)
    assert ask_all(following, SHORTEST + 500) == [infohash(0)]


async def test_hungry_ones_starve_nobody() -> None:
    following = await made(10 * FAIR)
    ask_all(following, 0.0)
    later = 2 * INTERVAL
    patient = infohash(0)
    for number in range(1, 10 * FAIR):
        following.hasten(infohash(number), later)
    turns = 0
    while (entry := following.next(later)) is not None and entry.infohash != patient:
        turns += 1
    assert entry is not None
    assert turns <= FAIR


async def test_while_its_lookup_runs_it_has_no_turn() -> None:
    following = await made(1)
    entry = following.next(0.0)
    assert entry is not None
    following.hasten(entry.infohash, 500.0)
    assert following.next(INTERVAL * 2) is None
    assert entry.running


async def test_one_that_left_during_its_lookup_does_not_come_back() -> None:
    following = await made(1)
    entry = following.next(0.0)
    assert entry is not None
    following.remove(entry.infohash)
    following.ended(entry, 8, 0, 1.0)
    assert following.next(INTERVAL * 2) is None
    assert len(following) == 0
    assert following.waiting == 0


async def test_one_that_left_and_came_again_has_a_turn_of_its_own() -> None:
    following = await made(1)
    old = following.next(0.0)
    assert isinstance(old, Followed)
    following.remove(old.infohash)
    following.add(old.infohash, Follower())
    following.ended(old, 8, 3, 1.0)
    fresh = following.next(2.0)
    assert fresh is not None
    assert fresh is not old
    assert fresh.peers == 0


async def test_adding_again_keeps_its_times_and_takes_the_new_follower() -> None:
    following = await made(1)
    ask_all(following, 0.0)
    other = Follower()
    following.add(infohash(0), other)
    entry = following.get(infohash(0))
    assert entry is not None
    assert entry.follower is other
    assert ask_all(following, 1.0) == []


async def test_with_nodes_at_last_those_that_found_nothing_are_asked_again() -> None:
    following = await made(3)
    ask_all(following, 0.0)
    lucky = following.get(infohash(1))
    assert lucky is not None
    lucky.peers = 4
    following.hasten_all()
    assert sorted(ask_all(following, 1.0)) == sorted([infohash(0), infohash(2)])


async def test_ten_thousand_cost_little() -> None:
    following = await made(10_000)
    asked = ask_all(following, 0.0)
    assert len(set(asked)) == 10_000
    assert len(ask_all(following, 1.1 * INTERVAL)) == 10_000
    for number in range(10_000):
        following.remove(infohash(number))
    assert len(following) == 0
    assert following.waiting == 0
    assert ask_all(following, 10 * INTERVAL) == []
