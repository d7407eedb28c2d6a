"""Gateways: the default router of each address family, and the address of ours that faces it.

Read from the system's own routing table: files below ``/proc/net`` on Linux, ``route`` and ``netstat`` elsewhere, bounded in time.
Nothing is sent: asking which address faces a router is connecting a UDP socket, which sends no packet.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

#: Seconds that a system's own program may take to print its routes.
PROGRAM_TIMEOUT = 3.0

#: Bytes of a routing table that are read. A home has ten lines; a router with the whole internet's table has no router to ask.
MAX_TABLE = 1024 * 1024

#: A connected socket shows which address of ours leads there: a prefix for documentation (RFC 3849).
_OUTSIDE = "2001:db8::1"

_UP, _HAS_GATEWAY = 0x1, 0x2


@dataclass(frozen=True, slots=True)
class Gateway:
    """A router. ``family``: 4 or 6; ``host``: its literal address, without a scope; ``local``: ours towards it.

    ``interface``: the name of ours that faces it (empty: unknown); ``scope``: over IPv6 that interface's number, else 0;
    ``subnet``: the local network in CIDR form (empty: unknown).
    """

    family: int
    host: str
    local: str
    interface: str = ""
    scope: int = 0
    subnet: str = ""

    def __str__(self) -> str:
        return f"{self.host}%{self.interface}" if self.interface and self.host.startswith("fe80:") else self.host

    def is_near(self, host: str) -> bool:
        """``host`` (no scope) is on the network between us and the router, or the router itself."""
        try:
            address = ipaddress.ip_address(host)
            if address == ipaddress.ip_address(self.host):
                return True
            if address.version != self.family:
                return False
            if self.subnet and address in ipaddress.ip_network(self.subnet, strict=False):
                return True
        except ValueError:
            return False
        return self.family == 6 and address.is_link_local


def find_gateways(bind: str = "") -> list[Gateway]:
    """The default router of each family that has one. Blocks for a moment: call it on a thread. Never raises.

    ``bind``: a literal address of ours: only its family, and the router on its interface.
    """
    found = []
    for family in (4, 6):
        if bind and (":" in bind) != (family == 6):
            continue
        try:
            route = _find(family, bind)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            log.debug("! routes of IPv%d: %s", family, error)
            continue
        if route is not None:
            found.append(route)
    return found


def gateway_at(host: str, bind: str = "") -> Gateway | None:
    """The router the user named, with the address of ours that faces it; None if it is no address, or out of reach for us."""
    plain, _, zone = host.partition("%")
    try:
        address = ipaddress.ip_address(plain)
        scope = _scope(zone) if zone else 0
        local = bind or _local_towards(plain, address.version)
    except (OSError, ValueError):
        return None
    if (":" in local) != (address.version == 6):
        return None  # we are bound to the other family
    return Gateway(address.version, plain, local, zone, scope, _subnet_of(address.version, local))


def _find(family: int, bind: str) -> Gateway | None:
    if sys.platform == "linux":
        found = linux_default(family, _read(family), bind, _read_addresses() if family == 6 and bind else "")
    elif sys.platform == "win32":
        found = windows_default(family, _run("netstat", "-rn"), bind)
    else:
        found = bsd_default(_run("netstat", "-rn", "-f", "inet6" if family == 6 else "inet"))
    if found is None:
        return None
    host, interface = found
    scope = _scope(interface) if family == 6 and interface else 0
    local = bind or _local_towards(host, family)
    return Gateway(family, host, local, interface, scope, _subnet_of(family, local))


def _scope(interface: str) -> int:
    return int(interface) if interface.isdigit() else socket.if_nametoindex(interface)


def _local_towards(host: str, family: int) -> str:
    """Our address that faces the router; over IPv6 the one we use outside, since that is the one to open. Raises OSError."""
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    target = host if family == 4 else _OUTSIDE
    with socket.socket(kind, socket.SOCK_DGRAM) as probe:
        probe.connect((target, 9))
        return str(probe.getsockname()[0]).partition("%")[0]


# ---- Linux ----------------------------------------------------------------------------------------------------------


def _read(family: int) -> str:
    return _head(Path("/proc/net/ipv6_route" if family == 6 else "/proc/net/route"))


def _read_addresses() -> str:
    return _head(Path("/proc/net/if_inet6"))


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_TABLE).decode("ascii", "replace")


def linux_default(family: int, table: str, bind: str = "", addresses: str = "") -> tuple[str, str] | None:
    """Router and interface of the default route with the lowest metric, from ``/proc/net/route`` or ``ipv6_route``.

    ``bind``: only on the interface with this address; ``addresses``: ``/proc/net/if_inet6``, which tells it for IPv6.
    """
    routes = list(_routes6(table) if family == 6 else _routes4(table))
    wanted = None
    if bind:
        wanted = _interface6(addresses, bind) if family == 6 else _interface4(routes, bind)
        if wanted is None:
            return None
    defaults = [one for one in routes if one[2] is not None and one[1].prefixlen == 0 and wanted in (None, one[0])]
    if not defaults:
        return None
    interface, _, gateway, _ = min(defaults, key=lambda route: route[3])
    return str(gateway), interface


_Route = tuple[
    str, ipaddress.IPv4Network | ipaddress.IPv6Network, ipaddress.IPv4Address | ipaddress.IPv6Address | None, int
]


def _routes4(table: str) -> Iterator[_Route]:
    for line in table.splitlines()[1:]:
        parts = line.split()
        try:
            interface, destination, gateway, flags, metric, mask = (*parts[:4], parts[6], parts[7])
            if int(flags, 16) & _UP:
                network = ipaddress.IPv4Network((_word(destination), bin(int(mask, 16)).count("1")), strict=False)
                router = ipaddress.IPv4Address(_word(gateway)) if int(flags, 16) & _HAS_GATEWAY else None
                yield interface, network, router, int(metric)
        except (ValueError, IndexError):
            continue


def _word(text: str) -> bytes:
    """The kernel prints an address as a number of this machine's byte order."""
    return int(text, 16).to_bytes(4, sys.byteorder)


def _routes6(table: str) -> Iterator[_Route]:
    for line in table.splitlines():
        parts = line.split()
        try:
            destination, length, gateway, metric, flags = parts[0], parts[1], parts[4], parts[5], int(parts[8], 16)
            if flags & _UP and parts[9] != "lo":
                network = ipaddress.IPv6Network((bytes.fromhex(destination), int(length, 16)), strict=False)
                router = ipaddress.IPv6Address(bytes.fromhex(gateway)) if flags & _HAS_GATEWAY else None
                yield parts[9], network, router, int(metric, 16)
        except (ValueError, IndexError):
            continue


def _interface4(routes: list[_Route], bind: str) -> str | None:
    """The interface whose own network holds the address: the longest prefix of those without a router."""
    address = ipaddress.ip_address(bind)
    near = [route for route in routes if route[2] is None and route[1].prefixlen and address in route[1]]
    return max(near, key=lambda route: route[1].prefixlen)[0] if near else None


def _interface6(addresses: str, bind: str) -> str | None:
    wanted = ipaddress.ip_address(bind.partition("%")[0]).packed.hex()
    for line in addresses.splitlines():
        parts = line.split()
        if len(parts) == 6 and parts[0] == wanted:
            return parts[5]
    return None


def _subnet_of(family: int, local: str) -> str:
    """The network our address is in: the kernel's word for IPv4 on Linux, the usual /64 for IPv6, else unknown."""
    if family == 6:
        return str(ipaddress.ip_network((local, 64), strict=False))
    if sys.platform != "linux":
        return ""
    try:
        routes = _routes4(_read(4))
    except OSError:
        return ""
    address = ipaddress.ip_address(local)
    near = [route[1] for route in routes if route[2] is None and route[1].prefixlen and address in route[1]]
    return str(max(near, key=lambda network: network.prefixlen)) if near else ""


# ---- the others -----------------------------------------------------------------------------------------------------


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, timeout=PROGRAM_TIMEOUT, check=False, stdin=subprocess.DEVNULL)
    return done.stdout[:MAX_TABLE].decode("ascii", "replace")


def bsd_default(table: str) -> tuple[str, str] | None:
    """Router and interface of the first default route in ``netstat -rn`` of macOS and the BSDs."""
    for line in table.splitlines():
        parts = line.split()
        if len(parts) >= 4 and parts[0] in ("default", "0.0.0.0/0", "::/0"):
            host, _, zone = parts[1].partition("%")
            if _is_router(host):
                return host, zone or parts[3]
    return None


def windows_default(family: int, table: str, bind: str = "") -> tuple[str, str] | None:
    """Router and interface (IPv6: its number) of the default route with the lowest metric in ``netstat -rn`` of Windows."""
    if family == 4:
        rows = re.findall(r"^\s*0\.0\.0\.0\s+0\.0\.0\.0\s+([\d.]+)\s+([\d.]+)\s+(\d+)", table, re.MULTILINE)
        known = [(int(metric), host) for host, ours, metric in rows if _is_router(host) and bind in ("", ours)]
        return (min(known)[1], "") if known else None
    rows = re.findall(r"^\s*(\d+)\s+(\d+)\s+::/0\s+([0-9a-fA-F:]+)", table, re.MULTILINE)
    found = [(int(metric), host, number) for number, metric, host in rows if _is_router(host)]
    return min(found)[1:] if found else None


def _is_router(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


#: How ``Portmap`` is given another way to find routers (a test, a simulation).
GatewayFinder = Callable[[str], list[Gateway]]
