"""Whole swarms on virtual time: the builder itself, the same run twice, partitions, churn, liars and slow disks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from random import Random

import pytest

from unchoke.engine import events
from unchoke.testing import SimSwarm, SlowExecutor, elapsed, make_torrent, run, seeding, swarm, wrong

SMALL = make_torrent(16 * 32768 + 5)


def everybody_has_it(world: SimSwarm) -> bool:
    return all(member.data == world.torrent.data for member in world.members.values())


def test_a_swarm_finishes_and_counts_what_it_gave() -> None:
    async def scenario() -> None:
        async with swarm(SMALL, seeds=2, leechers=4, up=100_000, seed=7) as world:
            await world.finished()
            assert everybody_has_it(world)
            assert all(member.downloaded >= SMALL.size for member in world.leechers)
            given = sum(member.uploaded for member in world.members.values())
            assert given >= sum(member.downloaded for member in world.leechers)
            assert 4 * world.copies(world.seeds[0]) >= 1
            assert len(world.table().splitlines()) == 7
            assert {line.member for line in world.log} == set(world.members)
            assert [line.at for line in world.log] == sorted(line.at for line in world.log)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scenario)


def test_the_line_is_what_limits_a_download() -> None:
    async def scenario() -> float:
        async with swarm(SMALL, leechers=1, up=50_000) as world:
            await world.finished()
            return elapsed()

    assert run(scenario) == pytest.approx(SMALL.size / 50_000, rel=0.1)


def test_who_never_finishes_is_named() -> None:
    async def scenario() -> None:
        async with swarm(SMALL, seeds=0, leechers=2) as world:
            with pytest.raises(TimeoutError, match=r"leech01, leech02 \(2 in all\)"):
                await world.finished(within=60)

    run(scenario)


def test_members_behind_nats_are_reached_through_those_that_are_not() -> None:
    async def scenario() -> None:
        async with swarm(SMALL, leechers=2, up=100_000) as world:
            for number in range(3):
                await world.add(f"hidden{number}", up=100_000, reachable=False)
            await world.finished()
            assert everybody_has_it(world)

    run(scenario)


def test_a_member_that_stops_comes_back_with_what_it_had() -> None:
    async def scenario() -> None:
        async with swarm(SMALL, leechers=1, up=50_000) as world:
            (leech,) = world.leechers
            await asyncio.sleep(6)
            before = leech.snapshot().pieces_done
            assert 0 < before < SMALL.piece_count
            await leech.stop()
            await leech.stop()  # once is enough, twice does no harm
            await leech.start()
            await asyncio.sleep(1)
            assert leech.snapshot().pieces_done >= before
            await world.finished()
            assert everybody_has_it(world)
            assert leech.downloaded < SMALL.size + 8 * 32768

    run(scenario)


def test_a_slow_disk_slows_the_swarm_and_stops_nobody() -> None:
    async def scenario() -> float:
        async with swarm(SMALL, leechers=0) as world:
            await world.add("slow", executor=SlowExecutor(0.5))
            await world.finished()
            assert everybody_has_it(world)
            return elapsed()

    assert run(scenario) >= 17 * 0.5


def test_loss_and_jitter_stop_nobody() -> None:
    async def scenario() -> None:
        async with swarm(SMALL, leechers=4, up=200_000, loss=0.05, jitter=0.2, seed=3) as world:
            await world.finished(within=600)
            assert everybody_has_it(world)

    run(scenario)


def test_a_partition_heals() -> None:
    """The half without a seed gets no further than what it has among itself; afterwards it finishes, with old connections
    and new ones."""

    async def scenario() -> None:
        async with swarm(SMALL, leechers=8, up=30_000, seed=5) as world:
            await asyncio.sleep(8)
            away, near = world.leechers[:4], world.leechers[4:]
            world.network.partition([member.host for member in away])
            await world.finished(near)
            await asyncio.sleep(300)
            assert all(member.finished_at is None for member in away)
            world.network.heal()
            await world.finished(within=400)
            assert everybody_has_it(world)

    run(scenario)


@pytest.mark.parametrize("seed", [1, 2])
def test_churn_every_few_seconds_loses_nothing(seed: int) -> None:
    async def scenario() -> None:
        dice = Random(seed)
        async with swarm(SMALL, leechers=8, up=40_000, seed=seed) as world:
            for _ in range(15):
                await asyncio.sleep(dice.uniform(1, 4))
                member = dice.choice(world.leechers)
                await (member.stop() if member.session is not None else member.start())
            for member in world.leechers:
                if member.session is None:
                    await member.start()
            await world.finished(within=600)
            assert everybody_has_it(world)

    run(scenario, seed=seed)


def test_a_poisoner_is_banned_and_nobody_honest_is() -> None:
    """It announces itself as a seed, is faster than everybody, and lies in one block of each piece it gives."""

    async def scenario() -> set[str]:
        async with swarm(make_torrent(48 * 65536, piece_length=65536), leechers=0, up=60_000, seed=4) as world:
            liar = await world.fake(
                seeding(world.torrent, alter=lambda piece, begin, data: data if begin else wrong(piece, begin, data)),
                up=120_000,
            )
            for number in range(8):
                await world.add(f"leech{number}", up=60_000)
            await world.finished(within=3600)
            assert everybody_has_it(world)
            banned = [line.event.address.host for line in world.log if isinstance(line.event, events.PeerBanned)]
            assert banned
            assert any(isinstance(line.event, events.PieceFailed) for line in world.log)
            return {"the liar" if host == liar.address.host else host for host in banned}

    assert run(scenario) == {"the liar"}


# ---------------------------------------------------------------------- the same again


async def _busy() -> str:
    """A scenario with everything that could depend on chance, sets or addresses: its log."""
    async with swarm(SMALL, seeds=1, leechers=7, up=60_000, loss=0.02, jitter=0.05, seed=7) as world:
        await world.fake(seeding(SMALL, alter=wrong), up=60_000)
        await asyncio.sleep(3)
        await world.leechers[2].stop()
        await world.add("late", up=60_000, reachable=False, super_seed=False)
        world.network.partition([world.leechers[4].host])
        await asyncio.sleep(5)
        world.network.heal()
        await world.leechers[2].start()
        await world.finished(within=3600)
        return "\n".join(map(str, world.log)) + "\n" + world.table()


def test_the_same_seed_is_the_same_log() -> None:
    assert run(_busy, seed=7) == run(_busy, seed=7)


def test_the_log_does_not_depend_on_the_hash_seed() -> None:
    script = "from test_simulated_swarm import _busy; from unchoke.testing import run; print(run(_busy, seed=7))"
    logs = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.path.dirname(__file__)}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=50, check=False
        )
        assert done.returncode == 0, done.stderr
        logs.append(done.stdout)
    assert logs[0] == logs[1]
    assert "TorrentCompleted" in logs[0]
