"""What ``unchoke doctor`` finds out by being on the network for ten seconds, on the port that peers would dial: is it free, does the
router map it, does the DHT answer, and does anybody reach us who was not asked?

Nobody outside tests ports for us, so the last can stay open, and is then said to. With ``network.discovery`` off only the port is
looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from unchoke.app.cli.checkup import Finding
from unchoke.app.cli.checkup_network import own_address, skipped
from unchoke.app.cli.joining import check_udp_port
from unchoke.app.cli.text import clean
from unchoke.engine.net.tcp import TcpNetwork
from unchoke.engine.net.udp import UdpEndpoint
from unchoke.errors import NetworkError, PortTakenError
from unchoke.types import Address

if TYPE_CHECKING:
    from unchoke.engine.dht import Dht
    from unchoke.engine.portmap import Portmap
    from unchoke.engine.settings import Settings

#: Seconds for the router and for the DHT, and how long the DHT may look around after it has found the first nodes.
MAPPING_TIME = 8.0
DHT_TIME = 10.0
SETTLING = 2.0
#: Good nodes with which lookups are worth anything.
FEW_NODES = 8
OFF = "network.discovery is off"


class Outpost:
    """A listening port, and what comes to it: ``strangers`` are hosts that were not written to before they came."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.network = TcpNetwork()
        self.endpoint = _Watched(bind=settings.network.bind)
        self.port = 0
        self.strangers: set[str] = set()
        self.endpoint.handlers.append(self._seen)

    async def open(self) -> Finding:
        """Take the port, or another one if it is taken."""
        wanted, bind = self.settings.network.port, self.settings.network.bind
        try:
            self.port = await self.network.listen(lambda: _Visitor(self.strangers), port=wanted, bind=bind)
            check_udp_port(self.port, bind)
            finding = Finding("port", "ok", f"port {self.port} is free, TCP and UDP")
        except PortTakenError as error:
            await self.network.aclose()
            self.port = await self.network.listen(lambda: _Visitor(self.strangers), port=0, bind=bind)
            advice = "that is right if it is unchoke's own; else choose another with network.port"
            finding = Finding("port", "warn", clean(str(error)), advice)
        self.endpoint.port = self.port
        await self.endpoint.open()
        return finding

    def _seen(self, data: bytes, address: Address, now: float) -> bool:
        if address.host not in self.endpoint.written:
            self.strangers.add(address.host)
        return False

    async def aclose(self) -> None:
        await self.network.aclose()
        await self.endpoint.aclose()


class _Watched(UdpEndpoint):
    """Remembers whom it has written to."""

    def __init__(self, *, bind: str) -> None:
        super().__init__(bind=bind)
        self.written: set[str] = set()

    def send(self, data: bytes, address: Address) -> None:
        self.written.add(address.host)
        super().send(data, address)


class _Visitor(asyncio.BufferedProtocol):
    """A TCP connection: noted and closed. Nobody knows of us, so who comes has tried the port."""

    def __init__(self, strangers: set[str]) -> None:
        self._strangers = strangers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer: Any = transport.get_extra_info("peername")
        if peer:
            self._strangers.add(str(peer[0]))
        transport.close()

    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(4096)

    def buffer_updated(self, nbytes: int) -> None:
        """Whatever it says."""


async def check_port(settings: Settings, nodes_file: Path) -> list[Finding]:
    """The port, the mapping, the DHT, and whether we can be reached."""
    outpost = Outpost(settings)
    try:
        try:
            port = await outpost.open()
        except NetworkError as error:
            bad = Finding("port", "bad", clean(str(error)), "choose another with network.port or network.bind")
            return [bad, *(skipped(name, "no port") for name in ("port mapping", "DHT", "reachable"))]
        if not settings.network.discovery:
            return [port, *(skipped(name, OFF) for name in ("port mapping", "DHT", "reachable"))]
        return [port, *await _look_around(outpost, nodes_file)]
    finally:
        await outpost.aclose()


async def _look_around(outpost: Outpost, nodes_file: Path) -> list[Finding]:
    async with _portmap(outpost) as portmap, _dht(outpost, nodes_file) as dht:
        beat = asyncio.ensure_future(_beat(portmap, dht))
        try:
            mapping, table = await asyncio.gather(_mapping(portmap), _table(dht))
            return [mapping, table, _reachable(outpost, portmap, dht)]
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)


@asynccontextmanager
async def _portmap(outpost: Outpost) -> AsyncIterator[Portmap | None]:
    from unchoke.engine.portmap import Portmap

    settings = outpost.settings
    if not settings.portmap.enabled:
        yield None
        return
    portmap = Portmap(
        settings.portmap,
        settings.network,
        port=lambda: outpost.port,
        udp_port=lambda: outpost.endpoint.port,
        rng=Random(),
    )
    portmap.start()
    try:
        yield portmap
    finally:
        await portmap.aclose()


@asynccontextmanager
async def _dht(outpost: Outpost, nodes_file: Path) -> AsyncIterator[Dht | None]:
    from unchoke.engine.dht import Dht

    settings = outpost.settings
    if not settings.dht.enabled:
        yield None
        return
    dht = Dht(outpost.endpoint, settings.dht, port=lambda: outpost.port, nodes_file=nodes_file)
    dht.start()
    try:
        yield dht
    finally:
        await dht.aclose()


async def _beat(*parts: Portmap | Dht | None) -> None:
    loop = asyncio.get_running_loop()
    while True:
        for part in parts:
            if part is not None:
                part.heartbeat(loop.time())
        await asyncio.sleep(0.5)


async def _mapping(portmap: Portmap | None) -> Finding:
    name = "port mapping"
    if portmap is None:
        return skipped(name, "portmap.enabled is off")
    for _ in range(round(4 * MAPPING_TIME)):
        found = portmap.snapshot()
        if found.status not in ("waiting", "asking"):
            break
        await asyncio.sleep(0.25)
    words = clean("; ".join([found.state, *found.warnings]))
    if found.status in ("mapped", "not needed"):
        return Finding(name, "warn" if found.warnings else "ok", words, network=True)
    advice = "turn on UPnP or NAT-PMP in your router, or forward the port (TCP and UDP) to this machine there"
    return Finding(name, "warn", words, advice, network=True)


async def _table(dht: Dht | None) -> Finding:
    name = "DHT"
    if dht is None:
        return skipped(name, "dht.enabled is off")
    try:
        async with asyncio.timeout(DHT_TIME):
            await dht.joined()
    except (TimeoutError, NetworkError):
        words = clean(dht.trouble or "no node has answered")
        return Finding(name, "bad", words, "check that UDP is let out by firewalls, and DNS", network=True)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(dht.settled(), SETTLING)
    families = [one for one in dht.snapshot().families if one.counts.good]
    words = ", ".join(f"{one.counts.good} good nodes over IPv{one.family}" for one in families) or "no good node"
    if sum(one.counts.good for one in families) < FEW_NODES:
        return Finding(
            name, "warn", f"only {words}", "it may be better in a minute; else UDP is hindered", network=True
        )
    return Finding(name, "ok", words, network=True)


def _reachable(outpost: Outpost, portmap: Portmap | None, dht: Dht | None) -> Finding:
    """What speaks for it, the strongest first."""
    name, port = "reachable", outpost.port
    if outpost.strangers:
        who = len(outpost.strangers)
        return Finding(name, "ok", f"yes: {who} host{'s' if who > 1 else ''} came to port {port} unasked", network=True)
    outside = {one.external for one in dht.snapshot().families if one.external} if dht is not None else set()
    ours = {own_address(family, outpost.settings.network.bind) for family in (4, 6)} - {""}
    if outside & ours:
        words = f"likely: others see us at {', '.join(sorted(outside & ours))}, an address of this machine"
        return Finding(name, "ok", f"{words}; a firewall could still keep them out", network=True)
    if portmap is not None and portmap.snapshot().external_port(tcp=True) is not None:
        return Finding(
            name, "ok", "likely: the router has mapped our port; it cannot be tested from here", network=True
        )
    seen = f" (others see us at {', '.join(sorted(outside))})" if outside else ""
    return Finding(
        name,
        "warn",
        f"this cannot be known from here, and nothing speaks for it{seen}",
        f"downloads work, with fewer peers; forward port {port} (TCP and UDP) in your router to this machine",
        network=True,
    )
