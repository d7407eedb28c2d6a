"""A magnet link from its first peer to the last piece: whole engines and scripted peers, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from unchoke.engine.session import Session
from unchoke.engine.settings import NetworkSettings, Settings
from unchoke.engine.torrent import Torrent
from unchoke.testing import FakeServer, InlineExecutor, RamDisk, SimNetwork, elapsed, make_torrent, run
from unchoke.testing.fakemetadata import SPEAKS, garbled, knowing, silent
from unchoke.testing.fakepeer import Behaviour
from unchoke.types import Address

#: Its info dictionary has two parts.
TORRENT = make_torrent(830 * 1024, piece_length=1024)
QUIET = Settings(network=NetworkSettings(discovery=False))


class World:
    """Engines and scripted peers in one network; all of them end with the test."""

    def __init__(self) -> None:
        self.network = SimNetwork()
        self.stack = AsyncExitStack()
        self.sessions: list[Session] = []
        self.disks: list[RamDisk] = []

    async def session(self, data: bytes | None = None) -> Session:
        number = len(self.sessions) + 1
        self.disks.append(RamDisk(data))
        made = Session(
            QUIET,
            network=self.network.host(f"10.0.0.{number}"),
            rng=Random(number),
            executor=InlineExecutor(),
            storage=self.disks[-1].open,
            secret=Random(number).getrandbits,
        )
        self.sessions.append(await self.stack.enter_async_context(made))
        return made

    def address(self, number: int) -> Address:
        """Of the n-th session, from 1."""
        return Address(f"10.0.0.{number}", self.sessions[number - 1].port())

    async def fake(self, behaviour: Behaviour) -> FakeServer:
        host = self.network.host(f"10.0.1.{len(self.network.hosts)}")
        return await self.stack.enter_async_context(FakeServer(host, TORRENT, behaviour, reserved=SPEAKS))

    def data(self, number: int) -> bytes:
        """What the n-th session has on its disk."""
        return b"".join(bytes(storage.data or b"") for storage in self.disks[number - 1].storages.values())


def magnet(*peers: Address) -> str:
    return f"magnet:?xt=urn:btih:{TORRENT.infohash}" + "".join(f"&x.pe={peer}" for peer in peers)


async def finished(torrent: Torrent, within: float = 600.0) -> None:
    async with asyncio.timeout(within):
        await torrent.done()


def play(scenario: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        world = World()
        async with world.stack:
            await scenario(world)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(whole)


def test_one_conversation_brings_metadata_and_data() -> None:
    """What the peer told before the layout was known (that it has all, that we may ask) is not told twice."""

    async def scenario(world: World) -> None:
        server = await world.fake(knowing(TORRENT))
        session = await world.session()
        torrent = await session.add(magnet(server.address), folder=Path("/x"))
        await finished(torrent)
        assert world.data(1) == TORRENT.data
        assert len(server.peers) == 1

    play(scenario)


def test_what_one_learned_it_passes_on() -> None:
    async def scenario(world: World) -> None:
        await world.session(TORRENT.data)
        await world.sessions[0].add(TORRENT.metainfo, folder=Path("/x"), trust=True)
        for number in (1, 2, 3):
            session = await world.session()
            torrent = await session.add(magnet(world.address(number)), folder=Path("/x"))
            await finished(torrent)
            assert world.data(number + 1) == TORRENT.data

    play(scenario)


def test_two_who_know_nothing_wait_for_one_who_knows() -> None:
    async def scenario(world: World) -> None:
        first = await world.session()
        second = await world.session()
        one = await first.add(magnet(), folder=Path("/x"))
        other = await second.add(magnet(world.address(1)), folder=Path("/x"))
        await asyncio.sleep(300)
        assert (one.state, other.state) == ("metadata", "metadata")
        assert len(first.snapshot().torrents) == 1
        server = await world.fake(knowing(TORRENT))
        one.add_peers([server.address])
        await finished(one)
        await finished(other, within=60)
        assert world.data(2) == TORRENT.data

    play(scenario)


def test_who_knows_nobody_is_seldom_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand such links must cost next to nothing; who comes at last is served each second as ever."""
    looks: list[float] = []
    beat = Torrent.heartbeat

    def counted(torrent: Torrent, now: float) -> None:
        looks.append(now)
        beat(torrent, now)

    monkeypatch.setattr(Torrent, "heartbeat", counted)

    async def scenario(world: World) -> None:
        session = await world.session()
        torrent = await session.add(magnet(), folder=Path("/x"))
        await asyncio.sleep(120)
        assert 4 <= len(looks) <= 12
        silent_one = await world.fake(knowing(TORRENT, alter=silent))
        torrent.add_peers([silent_one.address])
        looks.clear()
        await asyncio.sleep(20)
        assert len(silent_one.peers) == 1
        assert len(looks) >= 19
        server = await world.fake(knowing(TORRENT))
        await server.dial(world.address(1))
        await finished(torrent)

    play(scenario)


def test_liars_in_the_majority_delay_it_and_are_banned() -> None:
    async def scenario(world: World) -> None:
        liars = [await world.fake(knowing(TORRENT, alter=garbled)) for _ in range(9)]
        honest = await world.fake(knowing(TORRENT, delay=0.2))
        session = await world.session()
        torrent = await session.add(magnet(*(each.address for each in (*liars, honest))), folder=Path("/x"))
        await finished(torrent)
        assert elapsed() < 120
        assert torrent.swarm is not None
        banned = set(torrent.swarm.peerlist.banned)
        assert honest.host.address not in banned
        assert banned <= {liar.host.address for liar in liars}
        assert banned

    play(scenario)
