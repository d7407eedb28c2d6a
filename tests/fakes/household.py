"""A machine with ``Portmap`` behind a ``FakeRouter``, on virtual time, with the session's heartbeat played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from fakes.router import FakeRouter
from unchoke.engine.net.gateway import Gateway
from unchoke.engine.portmap import Portmap, PortmapSnapshot
from unchoke.engine.settings import NetworkSettings, PortmapSettings
from unchoke.testing import SimHost, SimNetwork, run

IP1, IP2, PPP1, FIREWALL = "WANIPConnection:1", "WANIPConnection:2", "WANPPPConnection:1", "WANIPv6FirewallControl:1"
ROUTER, US = "192.168.1.1", "192.168.1.2"
HOME = Gateway(4, ROUTER, US, "eth0", 0, "192.168.1.0/24")
HOME6 = Gateway(6, "2001:db8::1", "2001:db8::2", "eth0", 2, "2001:db8::/64")


class Home:
    """A machine behind a router; ``port`` is where it listens, ``routes`` the routers it has."""

    def __init__(self, gateway: Gateway, settings: PortmapSettings, network: NetworkSettings, **router: Any) -> None:
        world = SimNetwork(latency=0.001)
        self.world = world
        self.us: SimHost = world.host(gateway.local)
        self.router = FakeRouter(world.host(gateway.host), **router)
        self.port = 51413
        self.routes: Sequence[Gateway] = [gateway]
        self.external: list[tuple[str, str]] = []
        self.portmap = Portmap(
            settings,
            network,
            transport=self.us,
            port=lambda: self.port,
            rng=Random(7),
            secret=Random(8).getrandbits,
            on_external=lambda address, router: self.external.append((address, router)),
            find=lambda bind: list(self.routes),
        )

    async def pass_time(self, seconds: int) -> PortmapSnapshot:
        loop = asyncio.get_running_loop()
        for _ in range(seconds):
            self.portmap.heartbeat(loop.time())
            await asyncio.sleep(1)
        return self.portmap.snapshot()

    async def until(self, status: str) -> PortmapSnapshot:
        """Not longer than a round lasts."""
        for _ in range(120):
            snapshot = await self.pass_time(1)
            if snapshot.status == status:
                return snapshot
        raise AssertionError(f"{snapshot.status}: {snapshot.state}")


@asynccontextmanager
async def at_home(
    gateway: Gateway = HOME,
    settings: PortmapSettings | None = None,
    network: NetworkSettings | None = None,
    **router: Any,
) -> AsyncIterator[Home]:
    home = Home(gateway, settings or PortmapSettings(), network or NetworkSettings(discovery=True), **router)
    await home.router.start()
    home.portmap.start()
    try:
        yield home
    finally:
        await home.portmap.aclose()
        assert not home.us.sockets, "a socket is left"


def simulate(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    run(main)


def upnp_only(*services: str, **more: Any) -> dict[str, Any]:
    return {"pcp": False, "natpmp": False, "upnp": services, **more}
