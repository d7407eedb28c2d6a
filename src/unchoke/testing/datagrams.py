"""SimDatagrams: a simulated socket for datagrams as asyncio has it, and the packets of a host on their way out.

Packets are lost, delayed and dropped when a line's buffer is full; none is ever split or joined, and nobody is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from unchoke.types import Address

if TYPE_CHECKING:
    from unchoke.testing.network import SimHost

#: The longest packet IPv4 carries, without its headers.
MOST_PACKET = 65507

#: Bytes of packets that may wait for the uplink; more are dropped.
MOST_WAITING = 256 * 1024


class PacketQueue:
    """What a host's sockets have given to the system and the line has not taken yet."""

    __slots__ = ("_host", "_packets", "_waiting", "queued")

    def __init__(self, host: SimHost) -> None:
        self._host = host
        self._packets: deque[tuple[bytes, Address, Address]] = deque()
        self._waiting = 0
        self.queued = False

    def put(self, data: bytes, source: Address, target: Address) -> None:
        if self._waiting + len(data) > MOST_WAITING:
            return
        self._packets.append((data, source, target))
        self._waiting += len(data)
        self._host.uplink.wake(self)

    def send_some(self, most: int, now: float, rate: float) -> int:
        """Part of links.Sender."""
        count = 0
        while self._packets and (count == 0 or count + len(self._packets[0][0]) <= most):
            data, source, target = self._packets.popleft()
            count += len(data)
            self._host.network.carry(data, source, target, now + count / rate)
        self._waiting -= count
        return count


class SimDatagrams(asyncio.DatagramTransport):
    """A socket at ``host``, bound to ``local``."""

    def __init__(self, host: SimHost, local: Address, protocol: asyncio.DatagramProtocol) -> None:
        super().__init__({"sockname": tuple(local)})
        self.host = host
        self.local = local
        self._protocol: asyncio.DatagramProtocol | None = protocol
        self._loop = asyncio.get_running_loop()
        self._known: set[str] = set()  # whom it has written to: who else gets through a NAT?
        self._closing = False

    def open(self) -> None:
        cast(asyncio.DatagramProtocol, self._protocol).connection_made(self)

    def sendto(self, data: bytes | bytearray | memoryview[Any], addr: Any = None) -> None:
        """Send a packet to (host, port)."""
        if addr is None:
            raise ValueError("no address to send to")
        if self._closing:
            return
        if len(data) > MOST_PACKET:
            if self._protocol is not None:
                self._protocol.error_received(OSError(90, "Message too long"))
            return
        target = Address(str(addr[0]), int(addr[1]))
        if not 0 < target.port < 65536:
            raise OverflowError("port must be 0-65535.")
        self._known.add(target.host)
        self.host.packets.put(bytes(data), self.local, target)

    def heard(self, data: bytes, source: Address) -> None:
        """A packet has come to this socket."""
        if self._protocol is None or self._closing:
            return
        if not self.host.reachable and source.host not in self._known:
            return
        try:
            self._protocol.datagram_received(data, tuple(source))
        except Exception as error:  # noqa: BLE001  # as asyncio: the loop hears of it
            self._loop.call_exception_handler(
                {"message": "datagram_received failed", "exception": error, "transport": self}
            )

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.host.sockets.pop(self.local.port, None)
            self._loop.call_soon(self._connection_lost)

    def abort(self) -> None:
        self.close()

    def _connection_lost(self) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(None)

    def get_write_buffer_size(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"<SimDatagrams {self.local} [{'closed' if self._closing else 'open'}]>"
