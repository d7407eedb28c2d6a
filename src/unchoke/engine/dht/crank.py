"""Crank: moves packets and time between the session's UDP sockets and the node of one address family.

``DhtNode`` has no socket and no clock; this has nothing else. There is one timer, armed again after every step. What the node
has to tell goes to one callback; an exception there is logged, and costs nobody else anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from unchoke.engine.net.udp import UdpEndpoint
from unchoke.protocol.dht.models import Event
from unchoke.types import Address

if TYPE_CHECKING:
    from unchoke.protocol.dht.node import DhtNode

log = logging.getLogger(__name__)


class Crank:
    """``family``: 4 or 6. ``heard`` is told of each event of ``node``."""

    def __init__(
        self, node: DhtNode, family: int, endpoint: UdpEndpoint, heard: Callable[[Crank, Event], None]
    ) -> None:
        self.node = node
        self.family = family
        self._endpoint = endpoint
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None  # uvloop's handles give another figure, or none
        self._closed = False

    def receive(self, data: bytes, address: Address, now: float) -> bool:
        """A packet of this family. True if it was one of the DHT, whatever became of it."""
        if self._closed or not self.node.receive_datagram(data, address, now):
            return False
        self.move(now)
        return True

    def move(self, now: float) -> None:
        """Send what is due, tell what is new, and set the timer. To be called after everything that is asked of the node."""
        self._send(now)
        while events := self.node.events():
            for event in events:
                try:
                    self._heard(self, event)
                except Exception:
                    log.exception("! %s could not be dealt with", type(event).__name__)
            self._send(now)  # whoever heard may have asked for more
        self._set_timer(now)

    def _send(self, now: float) -> None:
        for data, address in self.node.datagrams_to_send(now):
            self._endpoint.send(data, address)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        self.node.handle_timer(now)
        self.move(now)

    def _set_timer(self, now: float) -> None:
        when = None if self._closed else self.node.get_timer()
        if self._timer is not None:
            if self._due == when:
                return
            self._timer.cancel()
            self._timer = None
        self._due = when
        if when is not None:
            self._timer = self._loop.call_at(max(when, now), self._tick)

    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def close(self) -> None:
        """No packet is sent or taken from now on."""
        self._closed = True
        self._set_timer(0.0)

    def __repr__(self) -> str:
        return f"<Crank IPv{self.family} [{'closed' if self._closed else repr(self.node)}]>"
