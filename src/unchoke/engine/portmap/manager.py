"""Portmap: the session's port mappings: which routers there are, one ``Side`` for each worth asking, and how all of it stands.

Routers are looked for again every two minutes, and when our port changes: machines move from one network to another. A machine
that has a public IPv4 address asks nobody: no home router stands before it, and its neighbours are strangers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from unchoke.engine.net.gateway import Gateway, GatewayFinder, find_gateways, gateway_at
from unchoke.engine.net.tcp import TcpNetwork
from unchoke.engine.net.transport import Network
from unchoke.engine.portmap.mapping import PortMapping
from unchoke.engine.portmap.records import PortmapSnapshot
from unchoke.engine.portmap.side import Side
from unchoke.engine.portmap.words import is_inside, picture
from unchoke.engine.settings import NetworkSettings, PortmapSettings
from unchoke.engine.tasks import Executor, Tasks, on_thread
from unchoke.protocol.portmap.pcp import NONCE_SIZE

log = logging.getLogger(__name__)

#: Seconds between two looks at which routers there are.
LOOK_INTERVAL = 120.0

_LOCAL6 = ipaddress.IPv6Network("fc00::/7")


class Portmap:
    """``network``: whether anything may be asked at all (``discovery``), and the address we are bound to, if any.

    ``port``, ``udp_port``: where we listen (0: not yet); the second is the first if not given. ``on_external(address, router)`` hears
    of our address outside as a router tells it. ``secret`` gives so many bits that nobody can guess. ``transport``: sockets (None: the
    kernel's). ``find``: the routers for a bind address; it blocks, and runs on ``executor`` (None: the loop's threads).
    """

    def __init__(
        self,
        settings: PortmapSettings,
        network: NetworkSettings,
        *,
        port: Callable[[], int],
        udp_port: Callable[[], int] | None = None,
        rng: Random,
        secret: Callable[[int], int] = secrets.randbits,
        on_external: Callable[[str, str], None] | None = None,
        transport: Network | None = None,
        find: GatewayFinder = find_gateways,
        executor: Executor | None = None,
    ) -> None:
        self._settings = settings
        self._network = network
        self._port = port
        self._udp_port = udp_port or port
        self._rng = rng
        self._secret = secret
        self._on_external = on_external
        self._transport = transport or TcpNetwork()
        self._find = find
        self._executor = executor
        self._tasks = Tasks("Portmap")
        self._sides: list[Side] = []
        self._leaving: dict[Side, None] = {}  # sides on their way out
        self._ports: dict[bool, int] = {}
        self._public = ""  # our own address, if it is one that needs no router
        self._looked = False
        self._looking = False
        self._look_at = 0.0
        self._started = False
        self._closed = False

    # ---- life ----

    def start(self) -> None:
        """Begin, unless the settings say no. What it does happens in ``heartbeat``; never raises."""
        self._started = self._settings.enabled and self._network.discovery

    def heartbeat(self, now: float) -> None:
        """Once a second. Never raises."""
        if not self._started or self._closed:
            return
        ports = {True: self._port(), False: self._udp_port()}
        if ports != self._ports and any(ports.values()) and not self._looking:
            self._ports = ports
            self._drop(self._sides)
            self._look_at = now
        if now >= self._look_at and any(self._ports.values()) and not self._looking:
            self._looking, self._look_at = True, now + LOOK_INTERVAL
            self._spawn(self._look(), "looking for routers")
        for side in self._sides:
            side.heartbeat(now)

    async def aclose(self) -> None:
        """Give all mappings back (two seconds at most) and end. Safe to call twice."""
        self._closed = True
        sides, self._sides = self._sides, []
        leaving = [*sides, *self._leaving]
        try:
            await asyncio.gather(*(side.aclose() for side in leaving))
        finally:
            await self._tasks.aclose()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.spawn(work, name)

    # ---- routers ----

    async def _look(self) -> None:
        try:
            found = await on_thread(self._executor, self._routers)
        finally:
            self._looking = False
        if self._closed:
            return
        self._looked = True
        public = (one.local for one in found if one.family == 4 and ipaddress.ip_address(one.local).is_global)
        self._public = "" if self._settings.router else next(public, "")
        wanted = [] if self._public else [one for one in found if one.family == 4 or _is_outside6(one.local)]
        self._drop([side for side in self._sides if side.gateway not in wanted])
        known = [side.gateway for side in self._sides]
        fresh = [self._side(gateway) for gateway in wanted if gateway not in known]
        self._sides += fresh
        for side in fresh:
            side.heartbeat(asyncio.get_running_loop().time())

    def _routers(self) -> list[Gateway]:
        if not self._settings.router:
            return self._find(self._network.bind)
        named = gateway_at(self._settings.router, self._network.bind)
        return [named] if named is not None else []

    def _side(self, gateway: Gateway) -> Side:
        log.info("= the router is %s, we are %s", gateway, gateway.local)
        return Side(
            gateway, self._transport, self._ports, rng=self._rng, nonce=self._nonce, changed=self._mapping_changed
        )

    def _nonce(self) -> bytes:
        return self._secret(8 * NONCE_SIZE).to_bytes(NONCE_SIZE, "big")

    def _drop(self, sides: list[Side]) -> None:
        """Leave routers that are not ours any more, or mappings of another port."""
        self._sides = [side for side in self._sides if side not in sides]
        for side in sides:
            self._leaving[side] = None
            self._spawn(self._leave(side), f"leaving {side.gateway}")

    async def _leave(self, side: Side) -> None:
        try:
            await side.aclose()
        finally:
            self._leaving.pop(side, None)

    def _mapping_changed(self, gateway: Gateway, mapping: PortMapping) -> None:
        if self._on_external is not None and mapping.external and not is_inside(mapping.external):
            self._on_external(mapping.external, gateway.host)

    # ---- how it stands ----

    def external_port(self, tcp: bool, family: int = 4) -> int | None:
        """The port others reach us at, where a router has mapped it: the one to announce. Cheap."""
        for side in self._sides:
            for mapping in side.mappings:
                if side.gateway.family == family and mapping.tcp == tcp and mapping.status == "mapped":
                    return mapping.external_port
        return None

    def snapshot(self) -> PortmapSnapshot:
        """How it stands now, in words too. Only while a loop runs."""
        if self._closed:
            return PortmapSnapshot("closed", "port mapping has ended")
        if not self._settings.enabled or not self._network.discovery:
            what = "port mapping" if self._network.discovery else "discovery, and with it port mapping,"
            return PortmapSnapshot("off", f"{what} is switched off")
        if not self._started or not any(self._ports.values()):
            return PortmapSnapshot("waiting", "no port to map yet")
        if self._public:
            words = f"no mapping needed: this machine itself has the public address {self._public}"
            return PortmapSnapshot("not needed", words)
        if not self._looked:
            return PortmapSnapshot("asking", "looking for the router")
        if not self._sides:
            return PortmapSnapshot("no router", "no router to ask: this machine has no route to the internet")
        now = asyncio.get_running_loop().time()
        mappings = tuple(one for side in self._sides for one in side.snapshots(now))
        next_try = min((side.next_try for side in self._sides), default=now)
        return picture(tuple(str(side.gateway) for side in self._sides), mappings, max(0.0, next_try - now))

    def __repr__(self) -> str:
        return f"<Portmap [{'closed' if self._closed else f'{len(self._sides)} routers'}]>"


def _is_outside6(host: str) -> bool:
    """An IPv6 address that others could reach: not one of the link or of a site."""
    address = ipaddress.IPv6Address(host)
    return not (address.is_link_local or address.is_loopback or address.is_unspecified or address in _LOCAL6)
