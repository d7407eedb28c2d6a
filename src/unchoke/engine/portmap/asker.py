"""Asker: ``PortClient`` (PCP, NAT-PMP) over a socket of its own, with one timer, armed again after every step.

The socket is bound to our address that faces the router, as PCP demands: the router compares it with the one in the request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from unchoke.engine.net.gateway import Gateway
from unchoke.engine.net.transport import Datagrams
from unchoke.engine.portmap.search import sockaddr
from unchoke.protocol.portmap.client import PortClient, PortEvent
from unchoke.types import Address

log = logging.getLogger(__name__)


class Asker:
    """``heard`` is told what has become of mappings. ``nonce`` gives 12 unpredictable bytes."""

    def __init__(
        self, gateway: Gateway, network: Datagrams, nonce: Callable[[], bytes], heard: Callable[[PortEvent], None]
    ) -> None:
        self._gateway = gateway
        self._network = network
        self._client = PortClient(gateway.host, gateway.local, nonce=nonce)
        self._heard = heard
        self._moved = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Bind the socket; done already is fine. Raises OSError."""
        if self._transport is None:
            make, host = self._network.open_datagrams, self._gateway.local
            self._transport = await make(lambda: _Receiver(self._receive), port=0, host=host)

    def ask(self, tcp: bool, internal: int, wished: int) -> None:
        """Ask for a mapping, and keep it until ``release``; ``heard`` hears of it."""
        self._client.ask(tcp, internal, wished, _now())
        self._move()

    def is_asking(self, tcp: bool) -> bool:
        return self._client.is_asking(tcp)

    def forget(self, tcp: bool) -> None:
        """Somebody else maps that port."""
        self._client.forget(tcp)

    def expires_in(self, tcp: bool) -> float | None:
        """Seconds until the router forgets the mapping; None if there is none."""
        return self._client.lifetime(tcp, _now())

    async def settled(self) -> None:
        """Until every question has its answer, or is given up: 8 s at most."""
        while self._client.is_asking(True) or self._client.is_asking(False):
            await self._step()

    async def release(self) -> None:
        """Give everything back, and wait for the router's word on it: 2 s at most."""
        for tcp in (True, False):
            self._client.release(tcp, _now())
        self._move()
        while self._transport is not None and not self._client.is_idle:
            await self._step()

    async def _step(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def close(self) -> None:
        """Close the socket. Nothing is sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    # ---- the machine's crank ----

    def _receive(self, data: bytes, source: Address) -> None:
        if self._client.receive_datagram(data, source, _now()):
            self._move()

    def _tick(self) -> None:
        self._timer = None
        self._client.handle_timer(_now())
        self._move()

    def _move(self) -> None:
        """Send what is due, tell what has come of it, and set the timer for what is next."""
        for data, address in self._client.datagrams_to_send(_now()):
            self._send(data, address)
        for event in self._client.events():
            self._heard(event)
        self._moved.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self._client.get_timer()
        if when is not None and self._transport is not None and not self._transport.is_closing():
            self._timer = asyncio.get_running_loop().call_at(when, self._tick)

    def _send(self, data: bytes, address: Address) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._transport.sendto(data, sockaddr(self._gateway, address.host, address.port))
        except (OSError, ValueError, OverflowError) as error:
            log.debug("! not sent to %s: %s", self._gateway, error)

    def __repr__(self) -> str:
        return f"<Asker {self._client!r}>"


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, Address], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._received(data, Address(str(addr[0]).partition("%")[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        log.debug("! PCP: %s", exc)  # an ICMP message; the retransmissions come to the same


def _now() -> float:
    return asyncio.get_running_loop().time()
