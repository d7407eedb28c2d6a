"""What a swarm is for: the seed gives little, who gives gets, and lies lead nowhere. Medians over seeds of chance.

51 peers with equal uplinks, all leechers there from the start, each in conversation with half of the others. The fast suite
has a smaller swarm of each, once. Lines take turns of a whole block here: it changes nobody's order, and takes a third of the time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from statistics import median
from typing import Any

import pytest

from unchoke.engine import events
from unchoke.engine.settings import Settings
from unchoke.testing import Member, SimSwarm, elapsed, links, make_torrent, run, seeding, swarm, wrong

SEEDS = range(1, 21)
PIECE = 16384
EVERYBODY = Settings()
GREEDY = replace(EVERYBODY, choker=replace(EVERYBODY.choker, slots=0))


@pytest.fixture(autouse=True)
def coarse_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "LEAST_TURN", PIECE)


def knowing(neighbours: int) -> Settings:
    """At most so many conversations."""
    return replace(EVERYBODY, network=replace(EVERYBODY.network, max_connections_per_torrent=neighbours))


@dataclass(frozen=True)
class Outcome:
    """Copies the seed had given when the first and the last honest leecher finished, and who finished when."""

    at_first: float
    at_last: float
    finished: dict[str, float]


async def _watch(world: SimSwarm, seed: Member, honest: list[Member]) -> float:
    """The seed's copies when the first one finishes."""
    waiting = [asyncio.create_task(member.done.wait()) for member in honest]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    copies = world.copies(seed)
    await asyncio.gather(*waiting)
    return copies


def simulate(
    seed: int, *, leechers: int = 50, pieces: int = 64, up: float = 128 * 1024, rider: bool = False, **options: Any
) -> Outcome:
    """One swarm to its end. ``rider``: one of the leechers gives nothing. ``options`` are the seed's.

    The seed and the rider know everybody, the others half of the swarm.
    """

    async def scenario() -> Outcome:
        torrent = make_torrent(pieces * PIECE, piece_length=PIECE, seed=seed)
        async with swarm(torrent, seeds=0, leechers=0, seed=seed, settings=knowing(leechers // 2)) as world:
            first = await world.add("seed", complete=True, up=up, settings=EVERYBODY, **options)
            place = Random(seed).randrange(leechers) if rider else -1
            for number in range(leechers):  # all at one moment, but somebody is the first
                greedy = GREEDY if number == place else None
                await world.add("rider" if greedy else f"leech{number:02}", up=up, settings=greedy)
            honest = [member for member in world.leechers if member.name != "rider"]
            at_first = await _watch(world, first, honest)
            at_last = world.copies(first)
            await world.finished()
            if rider:
                assert world.members["rider"].uploaded == 0
            assert all(member.data == torrent.data for member in world.leechers)
            assert not [line for line in world.log if isinstance(line.event, events.PeerBanned)]
            return Outcome(at_first, at_last, {member.name: member.finished_at or 0.0 for member in world.leechers})

    return run(scenario, seed=seed, limit=3600)


def later_than(outcome: Outcome, name: str) -> float:
    """The share of the others that finished before this one."""
    others = [when for other, when in outcome.finished.items() if other != name]
    return sum(when < outcome.finished[name] for when in others) / len(others)


@cache
def crowd(seed: int, *, super_seed: bool = False) -> Outcome:
    """51 peers. With an ordinary seed one of them is a free rider, and the choker has rounds enough to tell."""
    if super_seed:
        return simulate(seed, super_seed=True)
    return simulate(seed, pieces=128, up=48 * 1024, rider=True)


def test_a_seed_gives_few_copies() -> None:
    assert simulate(7, leechers=16).at_last <= 2.5


def test_a_super_seed_gives_hardly_more_than_one_copy_until_the_first_finishes() -> None:
    outcome = simulate(7, leechers=16, super_seed=True)
    assert 1.0 <= outcome.at_first <= 1.3


def test_a_super_seed_is_not_held_up_by_one_that_keeps_what_it_got() -> None:
    """The last piece is shown to a peer that gives nothing on: the line must not lie idle until patience ends."""
    outcome = simulate(1, leechers=16, rider=True, super_seed=True)
    assert max(outcome.finished.values()) < 40


def test_who_gives_nothing_finishes_late() -> None:
    outcome = simulate(7, leechers=24, pieces=96, up=48 * 1024, rider=True)
    assert later_than(outcome, "rider") >= 0.9


@pytest.mark.long  # two minutes, which the next but one shares
@pytest.mark.timeout(900)
def test_of_51_peers_the_seed_gives_at_most_two_and_a_half_copies() -> None:
    assert median(crowd(seed).at_last for seed in SEEDS) <= 2.5


@pytest.mark.long  # a minute
@pytest.mark.timeout(600)
def test_of_51_peers_a_super_seed_gives_at_most_1_3_copies_until_the_first_finishes() -> None:
    assert median(crowd(seed, super_seed=True).at_first for seed in SEEDS) <= 1.3


@pytest.mark.long  # nothing after the last but one, else two minutes
@pytest.mark.timeout(900)
def test_of_51_peers_a_free_rider_is_later_than_nine_of_ten() -> None:
    """The seed's uplink equals one leecher's."""
    assert median(later_than(crowd(seed), "rider") for seed in SEEDS) >= 0.9


@pytest.mark.long  # a minute
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_of_51_peers_only_the_poisoner_is_banned(seed: int) -> None:
    async def scenario() -> None:
        torrent = make_torrent(48 * 65536, piece_length=65536, seed=seed)
        async with swarm(torrent, leechers=0, up=256 * 1024, seed=seed) as world:
            liar = await world.fake(
                seeding(torrent, alter=lambda piece, begin, data: data if begin else wrong(piece, begin, data)),
                up=512 * 1024,
            )
            for number in range(50):
                await world.add(f"leech{number:02}", up=256 * 1024)
            await world.finished(within=600)
            banned = {line.event.address.host for line in world.log if isinstance(line.event, events.PeerBanned)}
            assert banned == {liar.address.host}
            assert all(member.data == torrent.data for member in world.leechers)
            assert elapsed() < 600

    run(scenario, seed=seed)
