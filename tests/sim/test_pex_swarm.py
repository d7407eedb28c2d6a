"""Peer exchange between whole engines on virtual time: who knows one peer finds the others; private torrents keep silent."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from unchoke.engine.settings import DhtSettings, Settings
from unchoke.policy.pex import PexSettings
from unchoke.testing import SimSwarm, make_torrent, run, swarm
from unchoke.testing.swarms import Member

SMALL = make_torrent(64 * 32768)


async def join(world: SimSwarm, name: str, *known: Member, complete: bool = False, pex: bool = True) -> Member:
    """A member without a tracker that knows only ``known``, and nothing else to find peers by but PEX."""
    member = await world.add(
        name, complete=complete, up=20_000, start=False, trackers=[], peers=[one.address for one in known]
    )
    settings: Settings = member.settings
    member.settings = replace(
        settings,
        network=replace(settings.network, discovery=pex),
        dht=DhtSettings(enabled=False),
        pex=PexSettings(),
    )
    await member.start()
    return member


def neighbours(member: Member) -> set[str]:
    return {peer.address.host for peer in member.torrent.peers()}


@pytest.mark.parametrize("pex", [True, False])
def test_who_knows_one_peer_finds_the_others_by_pex_and_not_without(pex: bool) -> None:
    async def scenario() -> None:
        async with swarm(SMALL, seeds=0, leechers=0) as world:
            seed = await join(world, "seed", complete=True, pex=pex)
            middle = await join(world, "middle", seed, pex=pex)
            last = await join(world, "last", middle, pex=pex)
            await asyncio.sleep(40)
            assert last.finished_at is None
            assert (seed.host.address in neighbours(last)) is pex
            assert (last.host.address in neighbours(seed)) is pex

    run(scenario)


def test_a_chain_of_strangers_becomes_one_swarm_and_finishes() -> None:
    async def scenario() -> None:
        async with swarm(SMALL, seeds=0, leechers=0) as world:
            members = [await join(world, "seed", complete=True)]
            for number in range(7):
                members.append(await join(world, f"leech{number}", members[-1]))
            await asyncio.sleep(90)
            assert all(len(neighbours(member)) >= 5 for member in members)
            await world.finished(members[1:])

    run(scenario)
