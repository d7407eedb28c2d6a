"""Multicast: a socket for each interface and family that hears one group on one port, and speaks to it.

Interfaces come and go (``look``). Only packets from an interface's own subnets are handed on: what is routed here, or forged to
look so, is no neighbour. Loopback interfaces count only where there is no other, or where the bind address is theirs.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Any, NamedTuple

from unchoke.engine.tasks import Executor, on_thread
from unchoke.types import Address

log = logging.getLogger(__name__)

#: Interfaces that are listened on: a machine with many containers has hundreds of virtual ones.
MOST_INTERFACES = 16

#: Linux: hear only groups that this socket has joined, not those that others have (missing in ``socket``).
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29

Subnet = IPv4Interface | IPv6Interface
#: Takes a packet, who sent it and the time.
Received = Callable[[bytes, Address, float], None]


class Link(NamedTuple):
    """An interface, seen by one family: its addresses of it, each with its network."""

    name: str
    family: int
    subnets: tuple[Subnet, ...]

    @property
    def is_loopback(self) -> bool:
        return all(subnet.is_loopback for subnet in self.subnets)


def links(bind: str = "") -> list[Link]:
    """The links to speak over now: all that can, or that of the literal address ``bind`` alone. Blocking; raises OSError."""
    import psutil  # 20 ms that only this needs

    addresses, stats = psutil.net_if_addrs(), psutil.net_if_stats()
    found: list[Link] = []
    for name, entries in addresses.items():
        if name in stats and not stats[name].isup:
            continue
        loopback, flags = False, getattr(stats.get(name), "flags", "").split(",")
        for family, number in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            subnets = tuple(_subnets((one.address, one.netmask) for one in entries if one.family == number))
            if subnets:
                link = Link(name, family, subnets)
                loopback = link.is_loopback
                if loopback or not any(flags) or ("multicast" in flags and "pointopoint" not in flags):
                    found.append(link)
    if bind:
        here = ip_address(bind.partition("%")[0])
        # Ours goes first: an IPv4 packet to a group comes from the first, and peers believe its sender.
        return [
            link._replace(subnets=tuple(sorted(link.subnets, key=lambda subnet: subnet.ip != here)))
            for link in found
            if any(subnet.ip == here for subnet in link.subnets)
        ]
    outside = [link for link in found if not link.is_loopback]
    return (outside or found)[:MOST_INTERFACES]


def _subnets(entries: Iterable[tuple[str, str | None]]) -> Iterable[Subnet]:
    for address, mask in entries:
        host = address.partition("%")[0]
        try:
            if ":" in host:
                prefix = int(ip_address(mask or "ffff:ffff:ffff:ffff::")).bit_count()
                yield ip_interface(f"{host}/{prefix}")
            else:
                yield ip_interface(f"{host}/{mask or 32}")
        except ValueError:
            log.debug("! an interface with address %s and netmask %s", address, mask)


def open_socket(link: Link, group: Address) -> socket.socket:
    """A socket that hears and speaks to ``group`` over ``link``, shared with other programs. Raises OSError."""
    sock = socket.socket(socket.AF_INET6 if link.family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        (_join6 if link.family == 6 else _join4)(sock, link, group.host)
        # Windows does not bind to a group; elsewhere it keeps out what was sent to us alone.
        sock.bind(("" if _is_windows() else group.host, group.port))
        return sock
    except BaseException:
        sock.close()
        raise


def _is_windows() -> bool:
    return hasattr(socket, "SIO_RCVALL")


def _join4(sock: socket.socket, link: Link, group: str) -> None:
    ours = link.subnets[0].ip.packed
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + ours)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, ours)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)  # other programs on this machine want peers too
    _only_own_groups(sock, socket.IPPROTO_IP, _IP_MULTICAST_ALL)


def _join6(sock: socket.socket, link: Link, group: str) -> None:
    index = socket.if_nametoindex(link.name)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    membership = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", index)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
    _only_own_groups(sock, socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL)


def _only_own_groups(sock: socket.socket, level: int, option: int) -> None:
    if hasattr(socket, "SO_BINDTODEVICE"):  # Linux
        try:
            sock.setsockopt(level, option, 0)
        except OSError as error:
            log.debug(
                "! groups of other sockets are heard too: %s", error
            )  # an old kernel; the subnets tell them apart


class Multicast:
    """``groups``: family → where to speak; ``received`` hears what neighbours say. ``bind``: the interface of this address only."""

    def __init__(
        self, groups: dict[int, Address], received: Received, *, bind: str = "", executor: Executor | None = None
    ) -> None:
        self._groups = groups
        self._received = received
        self._bind = bind
        self._executor = executor
        self._open: dict[Link, asyncio.DatagramTransport] = {}
        self._closed = False
        self.problem = ""  # why a link could not be opened, at the last look

    @property
    def links(self) -> Sequence[Link]:
        """Those that stand."""
        return tuple(self._open)

    async def look(self) -> bool:
        """Open what is new and close what went. True if there is a link that was not there. Raises OSError."""
        found = await on_thread(self._executor, links, self._bind)
        self.problem = ""
        for link in [link for link in self._open if link not in found]:
            self._open.pop(link).abort()
        new = [link for link in found if link.family in self._groups and link not in self._open]
        for link in new:
            await self._open_link(link)
        return any(link in self._open for link in new)

    async def _open_link(self, link: Link) -> None:
        group = self._groups[link.family]
        loop = asyncio.get_running_loop()
        try:
            sock = open_socket(link, group)
        except OSError as error:
            self.problem = f"{link.name}: {error.strerror or error}"
            log.info("! no multicast to %s on %s: %s", group, link.name, error)
            return
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Ear(self._received, link, loop.time), sock=sock)
        except BaseException:
            sock.close()
            raise
        if self._closed:
            transport.abort()
        else:
            self._open[link] = transport

    def send(self, family: int, packet: bytes) -> int:
        """To the group of ``family`` over each of its links; gives how many took it. Never raises."""
        group, taken = self._groups[family], 0
        for link, transport in self._open.items():
            if link.family == family and not transport.is_closing():
                try:
                    transport.sendto(packet, (group.host, group.port))
                except OSError as error:
                    log.debug("! not sent over %s: %s", link.name, error)
                else:
                    taken += 1
        return taken

    async def aclose(self) -> None:
        """Leave the groups."""
        self._closed = True
        while self._open:
            self._open.popitem()[1].abort()
        await asyncio.sleep(0)  # a transport gives its descriptor back in the loop's next turn

    def __repr__(self) -> str:
        return f"<Multicast [{', '.join(f'{link.name}/{link.family}' for link in self._open) or 'nowhere'}]>"


class _Ear(asyncio.DatagramProtocol):
    """One link's."""

    def __init__(self, received: Received, link: Link, clock: Callable[[], float]) -> None:
        self._received = received
        self._link = link
        self._clock = clock

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        sender = sender_of(addr, self._link)
        if sender is not None:
            self._received(data, sender, self._clock())

    def error_received(self, exc: Exception) -> None:
        log.debug("! %s: %s", self._link.name, exc)


def sender_of(addr: tuple[Any, ...], link: Link) -> Address | None:
    """Who sent a packet that came over ``link``, with its scope if it has one; None if it is none of the link's neighbours."""
    try:
        host = ip_address(str(addr[0]).partition("%")[0])
    except ValueError:
        return None
    if not any(host in subnet.network for subnet in link.subnets):
        return None
    # By number, as sockets give it for streams too: one neighbour must not have two names.
    scope = f"%{addr[3]}" if len(addr) == 4 and addr[3] and host.is_link_local else ""
    return Address(f"{host}{scope}", addr[1])
