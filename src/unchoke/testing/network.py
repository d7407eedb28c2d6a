"""SimNetwork: a world of hosts on simulated lines, with streams and datagrams between them, for a loop on virtual time.

Every host has an address, an uplink and a downlink; between two hosts there is latency, jitter and loss (which costs packets
their life, and streams time), and a partition may stand. A host is a ``Network`` for a session: ``Session(network=host)``.
Bytes are counted without headers. Names of machines are the loop's (``VirtualLoop.names``).
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from math import inf
from random import Random
from typing import Any

from unchoke.engine.net.transport import DatagramFactory
from unchoke.errors import NetworkError, PortTakenError
from unchoke.testing.clock import virtual_loop
from unchoke.testing.datagrams import PacketQueue, SimDatagrams
from unchoke.testing.links import Downlink, Uplink
from unchoke.testing.pipes import Pipe
from unchoke.testing.streams import SimTransport
from unchoke.types import Address

#: The port given to who names none, as the kernel's ``TcpNetwork`` does; and where ports of dialling sockets begin.
USUAL_PORT = 51413
FIRST_EPHEMERAL = 49152

#: Seconds that a lost part of a stream costs at least (Linux' least retransmission time-out).
RETRANSMISSION = 0.2

#: Makes the protocol object of a connection. Sessions use BufferedProtocol, scripts StreamReaderProtocol.
Factory = Callable[[], asyncio.BaseProtocol]


class SimNetwork:
    """Made inside a running ``VirtualLoop``.

    ``latency``: seconds one way between two hosts; ``jitter``: up to so many seconds more, evenly drawn. ``loss``: the
    share of packets that never arrive; a chunk of a stream that is lost comes later. ``rng``: chance; the simulation's
    own if not given.
    """

    def __init__(
        self, *, latency: float = 0.025, jitter: float = 0.0, loss: float = 0.0, rng: Random | None = None
    ) -> None:
        self.latency = latency
        self.jitter = jitter
        self.loss = loss
        self.hosts: dict[str, SimHost] = {}
        self._loop = virtual_loop()
        self._rng = rng or self._loop.rng
        self._sides: dict[str, int] = {}  # of a partition
        self._rest: int | None = None  # the side of all others
        self._held: dict[Pipe, None] = {}

    def host(
        self,
        address: str,
        *,
        up: float = inf,
        down: float = inf,
        latency: float | None = None,
        reachable: bool = True,
    ) -> SimHost:
        """A new host with this literal address. ``up`` and ``down`` in bytes/s.

        ``latency``: its share of the way, in seconds (else half the network's). One that is not ``reachable`` sits behind
        a NAT: it dials, nobody dials it, and packets come only from hosts that it has written to.
        """
        if address in self.hosts:
            raise ValueError(f"there is a host {address} already")
        made = self.hosts[address] = SimHost(self, address, up=up, down=down, latency=latency, reachable=reachable)
        return made

    # ------------------------------------------------------------------ trouble

    def partition(self, *sides: Collection[SimHost | str]) -> None:
        """Nothing passes between hosts of different sides (of one side: between it and all others) until ``heal``.

        Packets are lost, dials get no answer, streams stand still. It replaces the partition there was.
        """
        self._sides = {str(host): number for number, side in enumerate(sides, 1) for host in side}
        self._rest = 0 if len(sides) == 1 else None
        self._go_on()

    def heal(self) -> None:
        """The partition ends; what streams hold arrives soon."""
        self._sides.clear()
        self._go_on()

    def _go_on(self) -> None:
        held, self._held = self._held, {}
        for pipe in held:
            here, there = pipe.source.host, pipe.target.host
            pipe.go_on(self._loop.time() + RETRANSMISSION + self._way(here, there))

    # ------------------------------------------------------------------ what lines and sockets ask

    def reaches(self, here: SimHost, there: SimHost) -> bool:
        """No partition stands between them."""
        if not self._sides:
            return True
        mine, theirs = self._sides.get(here.address, self._rest), self._sides.get(there.address, self._rest)
        return mine is None or theirs is None or mine == theirs

    def hold(self, pipe: Pipe) -> None:
        """Remember a stream that stands still."""
        self._held[pipe] = None

    def delay(self, here: SimHost, there: SimHost, *, stream: bool = False) -> float:
        """Seconds that the next chunk takes on its way."""
        time = self._way(here, there)
        if self.jitter:
            time += self._rng.random() * self.jitter
        if stream and self.loss:
            again = max(RETRANSMISSION, 3 * time)
            while self._rng.random() < self.loss:
                time += again
                again *= 2
        return time

    def _way(self, here: SimHost, there: SimHost) -> float:
        half = self.latency / 2
        return (half if here.latency is None else here.latency) + (half if there.latency is None else there.latency)

    def carry(self, data: bytes, source: Address, target: Address, leaves: float) -> None:
        """A packet leaves its host."""
        here, there = self.hosts[source.host], self.hosts.get(target.host)
        if there is None or (self.loss and self._rng.random() < self.loss):
            return
        arrives = leaves + self.delay(here, there)
        if not there.downlink.is_full(arrives):
            through = there.downlink.take(len(data), arrives)
            self._loop.post_at(through, partial(self._arrive, data, source, here, there, target))

    def _arrive(self, data: bytes, source: Address, here: SimHost, there: SimHost, target: Address) -> None:
        socket = there.sockets.get(target.port)
        if socket is not None and self.reaches(here, there):
            socket.heard(data, source)

    def __repr__(self) -> str:
        state = "partitioned" if self._sides else "whole"
        return f"<SimNetwork {self.latency * 1000:g} ms [{len(self.hosts)} hosts | {state}]>"


class SimHost:
    """A machine in a ``SimNetwork``; a session's ``Network``. ``uplink.rate`` and ``downlink.rate`` may change at any time."""

    def __init__(
        self, network: SimNetwork, address: str, *, up: float, down: float, latency: float | None, reachable: bool
    ) -> None:
        self.network = network
        self.address = address
        self.latency = latency
        self.reachable = reachable
        self.uplink = Uplink(up)
        self.downlink = Downlink(down)
        self.packets = PacketQueue(self)
        self.listeners: dict[int, Factory] = {}
        self.sockets: dict[int, SimDatagrams] = {}
        self.transports: dict[SimTransport, None] = {}  # streams with an end here
        self._next_port = FIRST_EPHEMERAL

    # ------------------------------------------------------------------ engine.net.transport.Network

    async def listen(self, accept: Factory, *, port: int = 0, bind: str = "") -> int:
        """Accept connections; returns the port. Raises PortTakenError, NetworkError."""
        if not self._is_ours(bind):
            raise NetworkError(f"cannot listen on {bind} port {port}: {os.strerror(errno.EADDRNOTAVAIL)}")
        if port in self.listeners:
            raise PortTakenError(f"port {port} is taken ({os.strerror(errno.EADDRINUSE)})")
        if not port:
            port = next(port for port in range(USUAL_PORT, 65536) if port not in self.listeners)
        self.listeners[port] = accept
        return port

    async def connect(self, factory: Factory, address: Address, *, bind: str = "", timeout: float = 10.0) -> None:
        """Dial. Raises NetworkError (also after ``timeout`` seconds)."""
        if not self._is_ours(bind):
            raise NetworkError(os.strerror(errno.EADDRNOTAVAIL))
        try:
            async with asyncio.timeout(timeout):
                ours = await self._dial(address)
        except TimeoutError:
            raise NetworkError(f"no answer within {timeout:g} s") from None
        ours.open(factory())

    async def _dial(self, address: Address) -> SimTransport:
        """The three-way handshake: a way there, a way back. Without an answer it is tried again, as TCP does."""
        network = self.network
        patience = 1.0
        while True:
            target = network.hosts.get(address.host)
            if target is not None:
                await asyncio.sleep(network.delay(self, target, stream=True))
                if network.reaches(self, target) and (target.reachable or target is self):
                    break
            await asyncio.sleep(patience)
            patience *= 2
        accept = target.listeners.get(address.port)
        if accept is None:
            await asyncio.sleep(network.delay(target, self, stream=True))
            raise NetworkError(os.strerror(errno.ECONNREFUSED))
        ours, theirs = SimTransport.pair(self, self._ephemeral(), target, address)
        theirs.open(accept())
        try:
            await asyncio.sleep(network.delay(target, self))
        except BaseException:
            ours.abort()
            raise
        return ours

    async def open_datagrams(
        self, factory: DatagramFactory, *, port: int = 0, host: str = ""
    ) -> asyncio.DatagramTransport:
        """A socket for packets; another port if ``port`` is taken. Raises OSError for an address that is not ours."""
        if not self._is_ours(host):
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        while not port or port in self.sockets:
            port = self._ephemeral().port
        made = self.sockets[port] = SimDatagrams(self, Address(self.address, port), factory())
        made.open()
        return made

    async def aclose(self) -> None:
        """Stop listening."""
        self.listeners.clear()

    def _is_ours(self, bind: str) -> bool:
        return bind in ("", self.address, "::" if ":" in self.address else "0.0.0.0")

    def _ephemeral(self) -> Address:
        self._next_port = FIRST_EPHEMERAL if self._next_port >= 65535 else self._next_port + 1
        return Address(self.address, self._next_port)

    # ------------------------------------------------------------------ for scripts

    async def open_connection(
        self, address: Address, *, timeout: float = 10.0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """``asyncio.open_connection`` over the simulated network. Raises NetworkError."""
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await self.connect(lambda: protocol, address, timeout=timeout)
        transport: Any = protocol._transport  # type: ignore[attr-defined]
        return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())

    async def start_server(
        self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None], *, port: int = 0
    ) -> int:
        """``asyncio.start_server`` over the simulated network; returns the port."""
        return await self.listen(lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), serve), port=port)

    def __str__(self) -> str:
        return self.address

    def __repr__(self) -> str:
        return f"<SimHost {self.address} [{len(self.transports)} streams | {len(self.sockets)} sockets]>"
