"""Liars that fall silent: a piece that failed twice and is for one peer alone must not wait for one that does not answer."""

from __future__ import annotations

import pytest

from unchoke.engine.events import PeerBanned
from unchoke.engine.settings import DiskSettings, Settings
from unchoke.testing import make_torrent, run, seeding, swarm, wrong

#: What an honest peer takes for the data many times over, and far less than the time after which a silent peer is closed.
PATIENCE = 120.0


@pytest.mark.parametrize(("seed", "most"), [(0, 3), (0, 8), (1, 5), (3, 7), (5, 3), (13, 8)])
def test_who_lies_and_then_says_nothing_holds_nobody_up(seed: int, most: int) -> None:
    """It answers so many requests, wrongly."""

    async def scenario() -> None:
        torrent = make_torrent((256 << 10) - 5000, piece_length=64 << 10, seed=seed)
        settings = Settings(disk=DiskSettings(write_buffer=128 << 10))
        async with swarm(torrent, seeds=1, leechers=4, up=256 << 10, settings=settings, seed=seed) as world:
            liar = await world.fake(seeding(torrent, alter=wrong, most=most), up=64 << 10)
            for member in world.leechers:
                member.torrent.add_peers([liar.address])
            await world.finished(within=PATIENCE)
            assert all(member.data == torrent.data for member in world.leechers)
            banned = {line.event.address.host for line in world.log if isinstance(line.event, PeerBanned)}
            assert banned <= {liar.address.host}

    run(scenario, seed=seed)
