"""A DHT of ours in a simulated network: any number of hosts with a ``Dht`` each, their heartbeats, and followers that remember."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from unchoke.engine.dht import Dht
from unchoke.engine.net.udp import UdpEndpoint
from unchoke.engine.settings import DhtSettings
from unchoke.engine.tasks import Inline
from unchoke.testing import SimNetwork, rng
from unchoke.types import Address, InfoHash

PORT = 6881


class Follower:
    """Remembers what it is told."""

    def __init__(self, *, seed: bool = False) -> None:
        self.dht_seed = seed
        self.found: list[Address] = []
        self.event = asyncio.Event()

    def dht_found(self, addresses: Sequence[Address]) -> None:
        self.found += addresses
        self.event.set()


class DhtHost:
    """One machine. ``tcp``: the peers' port that it announces."""

    def __init__(self, dht: Dht, endpoint: UdpEndpoint, address: Address, tcp: int) -> None:
        self.dht = dht
        self.endpoint = endpoint
        self.address = address
        self.tcp = tcp
        self._beat: asyncio.Task[None] | None = None

    @property
    def peer(self) -> Address:
        return Address(self.address.host, self.tcp)

    def start(self) -> None:
        self.dht.start()
        self._beat = asyncio.ensure_future(self._beats())

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.dht.heartbeat(asyncio.get_running_loop().time())

    async def aclose(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            await asyncio.gather(self._beat, return_exceptions=True)
        await self.dht.aclose()
        await self.endpoint.aclose()


class DhtWorld:
    """The hosts of one network: 10.1.0.1, 10.1.0.2, … The first is the others' router."""

    def __init__(self, network: SimNetwork) -> None:
        self.network = network
        self.hosts: list[DhtHost] = []

    def add(
        self,
        *,
        settings: DhtSettings | None = None,
        nodes_file: Path | None = None,
        address: str = "",
        start: bool = True,
        routers: tuple[str, ...] | None = None,
    ) -> DhtHost:
        number = len(self.hosts) + 1
        host = address or f"10.1.{number // 250}.{number % 250 + 1}"
        network_host = self.network.hosts.get(host) or self.network.host(host)
        endpoint = UdpEndpoint(network_host, port=PORT)
        if routers is None:
            routers = (str(self.hosts[0].address),) if self.hosts else ()
        dht = Dht(
            endpoint,
            replace(settings or DhtSettings(), routers=routers),
            port=lambda: 7000 + number,
            rng=Random(rng().random()),
            secret=Random(rng().random()).getrandbits,
            executor=Inline(),
            nodes_file=nodes_file,
        )
        made = DhtHost(dht, endpoint, Address(host, PORT), 7000 + number)
        self.hosts.append(made)
        if start:
            made.start()
        return made

    async def until(self, reached: Callable[[], bool], *, limit: float = 600.0) -> None:
        """Let virtual time pass until it is so."""
        async with asyncio.timeout(limit):
            while not reached():  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.5)


@asynccontextmanager
async def dht_world(count: int, *, settings: DhtSettings | None = None) -> AsyncIterator[DhtWorld]:
    """``count`` hosts that know each other, more or less."""
    world = DhtWorld(SimNetwork())
    try:
        for _ in range(count):
            world.add(settings=settings)
        await asyncio.gather(*(host.dht.joined() for host in world.hosts[1:]))
        yield world
    finally:
        for host in world.hosts:
            await host.aclose()


def infohash(number: int) -> InfoHash:
    return InfoHash(Random(number).randbytes(20))
