"""SimTracker: a UDP tracker (BEP 15) in a simulated network: ``TrackerServer``'s answers, through a host's packets."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, cast

from unchoke.engine.tracker_server import TrackerServer
from unchoke.protocol.tracker import udp_packets
from unchoke.protocol.tracker.models import AnnounceEvent, AnnounceRequest
from unchoke.testing.network import SimHost
from unchoke.types import Address, InfoHash, PeerId

PORT = 6969


class SimTracker:
    """At ``host``; ``url`` is what torrents announce to. ``interval``: seconds between announces. ``requests`` counts packets."""

    def __init__(self, host: SimHost, *, interval: int = 120, rng: Random | None = None) -> None:
        self.host = host
        self.requests = 0
        self.server = TrackerServer(port=PORT, interval=interval, rng=rng)
        self._link: asyncio.DatagramTransport | None = None

    @property
    def url(self) -> str:
        return f"udp://{Address(self.host.address, PORT)}/announce"

    async def start(self) -> None:
        """Begin to answer."""
        self._link = await self.host.open_datagrams(lambda: _Door(self), port=PORT)

    async def aclose(self) -> None:
        """Fall silent; what is known stays known. Safe to call twice."""
        if self._link is not None:
            self._link.abort()
            self._link = None
            await asyncio.sleep(0)

    def register(self, infohash: InfoHash, peer_id: PeerId, address: Address, *, left: int = 0) -> None:
        """Make somebody known who does not announce by itself."""
        request = AnnounceRequest(
            infohash=infohash, peer_id=peer_id, port=address.port, left=left, event=AnnounceEvent.STARTED, numwant=0
        )
        connect = self.server.answer_datagram(udp_packets.pack_connect(1), address.host)
        assert connect is not None
        connection = udp_packets.unpack_connect_reply(connect)
        self.server.answer_datagram(udp_packets.pack_announce(connection, 2, request), address.host)

    def heard(self, data: bytes, address: tuple[str, int]) -> None:
        """A packet has come."""
        self.requests += 1
        reply = self.server.answer_datagram(data, address[0])
        if reply is not None and self._link is not None:
            self._link.sendto(reply, address)

    def __repr__(self) -> str:
        return f"<SimTracker {self.url} [{self.requests} packets | {self.server.stats()}]>"


class _Door(asyncio.DatagramProtocol):
    def __init__(self, tracker: SimTracker) -> None:
        self._tracker = tracker

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._tracker.heard(data, cast("tuple[str, int]", addr))
