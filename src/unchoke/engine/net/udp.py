"""UDP: the session's socket of each family on the peers' port, shared by everything that speaks in datagrams.

``UdpEndpoint`` hands each packet to its handlers in turn until one takes it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any, cast

from unchoke.engine.net.resolver import family_of
from unchoke.engine.net.transport import DatagramFactory, Datagrams
from unchoke.errors import NetworkError
from unchoke.types import Address

log = logging.getLogger(__name__)

#: Takes a packet, who sent it and the time; True if it was for it.
Handler = Callable[[bytes, Address, float], bool]

#: Bytes asked for the kernel's receive buffer. uTP's windows and a burst of tracker answers have to fit.
RECEIVE_BUFFER = 1024 * 1024


class UdpEndpoint:
    """``port``: the peers' port. ``bind``: literal address, and then of its family alone; empty: both families.

    ``network`` opens the sockets (None: the kernel's), in ``open`` or the first time somebody needs them; a family the
    machine lacks is left out.
    """

    def __init__(self, network: Datagrams | None = None, *, port: int = 0, bind: str = "") -> None:
        self.port = port
        self.handlers: list[Handler] = []
        self._open_datagrams = network.open_datagrams if network is not None else open_datagrams
        self._bind = bind
        self._links: dict[int, asyncio.DatagramTransport] = {}
        self._opening = asyncio.Lock()
        self._opened = False
        self._closed = False
        self._complain_at = 0.0

    async def open(self) -> None:
        """Bind the sockets; done already is fine. A taken port is replaced by a free one: trackers need not be told from
        the peers' port. Raises NetworkError."""
        async with self._opening:
            if self._closed:
                raise NetworkError("the UDP socket is closed")
            if not self._opened:
                await self._open_links()
                self._opened = True

    async def _open_links(self) -> None:
        problem: OSError | None = None
        for host in [self._bind] if self._bind else ["0.0.0.0", "::"]:
            try:
                await self._open_link(host)
            except OSError as error:
                problem = error
                log.info("! no UDP on %s: %s", host, error)
        if not self._links and problem is not None:
            raise NetworkError(f"cannot open a UDP socket: {problem.strerror or problem}") from None

    async def _open_link(self, host: str) -> None:
        clock = asyncio.get_running_loop().time
        transport = await self._open_datagrams(lambda: _Receiver(self._received, clock), port=self.port, host=host)
        if not self._links:  # the other family follows the first, so that one number is true of both
            self.port = cast(int, transport.get_extra_info("sockname")[1])
        self._links[family_of(host)] = transport

    @property
    def families(self) -> frozenset[int]:
        """The families there is a socket for, once it is open."""
        return frozenset(self._links)

    def send(self, data: bytes, address: Address) -> None:
        """Send, or lose: what the network does not take is gone, as UDP allows. Never raises."""
        transport = self._links.get(family_of(address.host))
        if transport is None or transport.is_closing():
            return
        try:
            transport.sendto(data, (address.host, address.port))
        except (OSError, ValueError, OverflowError) as error:
            log.debug("! not sent to %s: %s", address, error)

    def _received(self, data: bytes, address: Address, now: float) -> None:
        for handler in self.handlers:
            try:
                if handler(data, address, now):
                    return
            except Exception:
                if now >= self._complain_at:  # a mistake of ours that a stranger can repeat must not fill the log
                    self._complain_at = now + 60.0
                    log.exception("! a packet from %s was not understood", address)
                return

    async def aclose(self) -> None:
        """Close the sockets; what has not left yet is lost."""
        async with self._opening:
            self._closed = True
            links, self._links = self._links, {}
            for transport in links.values():
                transport.abort()
            await asyncio.sleep(0)  # a transport gives its descriptor back in the loop's next turn

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._links)} sockets" if self._opened else "not open"
        return f"<UdpEndpoint port {self.port} [{state}]>"


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, Address, float], None], clock: Callable[[], float]) -> None:
        self._received = received
        self._clock = clock

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._received(data, Address(addr[0], addr[1]), self._clock())

    def error_received(self, exc: Exception) -> None:
        log.debug("! UDP: %s", exc)  # an ICMP message; the time-out of whoever waits says the rest


async def open_datagrams(factory: DatagramFactory, *, port: int, host: str) -> asyncio.DatagramTransport:
    """The kernel's UDP; see ``Datagrams``."""
    sock = _bind(host, port)
    try:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(factory, sock=sock)
    except BaseException:
        sock.close()
        raise
    return transport


def _bind(host: str, port: int) -> socket.socket:
    """A UDP socket on ``port``, or on any port if that one is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES) or not port:
                raise
            log.warning("! UDP port %d is taken; using another one", port)
            sock.bind((host, 0))
        return sock
    except BaseException:
        sock.close()
        raise
