"""Searching for UPnP routers (SSDP): a few datagrams to the local network, and who answers within some seconds.

Only machines of the local network may answer, only for themselves, and only a few are kept; the default router comes first. Nothing
is fetched here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from unchoke.engine.net.gateway import Gateway
from unchoke.engine.net.transport import Datagrams
from unchoke.errors import ProtocolError
from unchoke.protocol.portmap import ssdp
from unchoke.protocol.portmap.ssdp import Found

log = logging.getLogger(__name__)

#: Searches are sent so often, a second apart: datagrams get lost, multicast over radio more than others.
ROUNDS = 3
PAUSE = 1.0

#: Seconds after the last search until silence counts, and after the router's own first answer until its others are in.
PATIENCE = ssdp.SPREAD + 0.5
ENOUGH = 0.5

#: Descriptions that are looked at.
MAX_FOUND = 8


async def search(network: Datagrams, gateway: Gateway) -> list[Found]:
    """Routers that answer on the network of ``gateway``, itself first. Takes up to 4.5 s. Raises OSError."""
    answers = _Answers(gateway)
    transport = await network.open_datagrams(lambda: answers, port=0, host=gateway.local)
    try:
        _aim(transport, gateway)
        for _ in range(ROUNDS):
            _ask(transport, gateway)
            if await answers.wait(PAUSE):
                break
        else:
            await answers.wait(PATIENCE - PAUSE)
        if answers.router_answered.is_set():
            await asyncio.sleep(ENOUGH)
    finally:
        transport.abort()
    return answers.in_order()


def _aim(transport: asyncio.DatagramTransport, gateway: Gateway) -> None:
    """Multicast leaves by the interface of ``gateway``: elsewhere than on Linux the socket's address does not say so."""
    sock = transport.get_extra_info("socket")
    if gateway.family == 4 and sock is not None:
        try:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(gateway.local))
        except (OSError, AttributeError, TypeError) as error:
            log.debug("! multicast by way of %s: %s", gateway.local, error)


def _ask(transport: asyncio.DatagramTransport, gateway: Gateway) -> None:
    """Ask the group, and the router by name: some networks do not carry multicast."""
    group, targets = (ssdp.GROUP6, ssdp.TARGETS6) if gateway.family == 6 else (ssdp.GROUP, ssdp.TARGETS)
    for host in (group, gateway.host):
        for target in targets:
            try:
                transport.sendto(ssdp.pack_search(target, host), sockaddr(gateway, host, ssdp.PORT))
            except (OSError, ValueError, OverflowError) as error:
                log.debug("! no search to %s: %s", host, error)


def sockaddr(gateway: Gateway, host: str, port: int) -> tuple[Any, ...]:
    """What a socket calls ``host`` on the network of ``gateway``."""
    return (host, port, 0, gateway.scope) if gateway.family == 6 else (host, port)


class _Answers(asyncio.DatagramProtocol):
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._found: dict[str, tuple[Found, bool]] = {}  # by location; is it the router's own?
        self.router_answered = asyncio.Event()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        host = str(addr[0]).partition("%")[0]
        if not self._gateway.is_near(host):
            return
        try:
            found = ssdp.unpack_answer(data)
        except ProtocolError:
            return
        if not found.is_at(host):
            log.info("! %s answers a UPnP search with the address of another machine; ignored", host)
            return
        ours = host == self._gateway.host or self._gateway.family == 6
        if found.location in self._found or (len(self._found) >= MAX_FOUND and not ours):
            return
        if len(self._found) < 2 * MAX_FOUND:
            self._found[found.location] = found, ours
        if ours:
            self.router_answered.set()

    def error_received(self, exc: Exception) -> None:
        log.debug("! UPnP search: %s", exc)

    async def wait(self, seconds: float) -> bool:
        """Until the router itself has answered, for so long at most."""
        try:
            async with asyncio.timeout(seconds):
                await self.router_answered.wait()
        except TimeoutError:
            return False
        return True

    def in_order(self) -> list[Found]:
        """The router's own answers first, of them those of version 2."""
        known = sorted(self._found.values(), key=lambda one: (not one[1], not one[0].target.endswith(":2")))
        return [found for found, _ in known][:MAX_FOUND]
