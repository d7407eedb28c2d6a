"""Guard: which hosts a stranger's URL may send us to: those on the internet, and others only in plain sight.

A tracker or web seed named by a torrent must not make us ask the services of this machine or its network. So a private address
counts only if the URL itself shows it (``127.0.0.1``, ``[fd00::1]``, ``localhost``), and then for few paths; never through a
name or a redirect. The address that is dialled is what is judged, so a name that changes its mind gains nothing. URLs that the
user gave need no guard.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from unchoke.engine.net.resolver import maybe_literal
from unchoke.errors import NetworkError
from unchoke.types import Address

#: "public": on the internet. "private": this machine or its network. "odd": what nobody has a tracker on: link-local
#: (169.254.169.254 tells a cloud machine's secrets to whoever asks from it), unspecified, multicast, reserved.
Place: TypeAlias = Literal["public", "private", "odd"]

#: What a tracker on a private host may be asked for: announce or scrape, with a key before or behind it.
_TRACKER_PATH = re.compile(r"(/[\w-]{1,64})?/(announce|scrape)(\.\w{1,5})?(/[\w-]{1,64})?", re.ASCII)
#: What helps somebody who wants it.
_HINT = "; the setting network.allow_private allows it"

_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.IGNORECASE)

_SHARED = ipaddress.ip_network("100.64.0.0/10")  # between a provider and its customers (RFC 6598)
_UNIQUE_LOCAL = ipaddress.ip_network("fc00::/7")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all that is given out (RFC 4291)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # the last 32 bits are an IPv4 address (RFC 6052)
_COMPATIBLE = ipaddress.ip_network("::/96")  # the same, of old (RFC 4291)


class GuardError(NetworkError):
    """A stranger's URL leads where it may not."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "guard")


class _Parts(NamedTuple):
    scheme: str
    host: str
    path: str
    query: str


class Guard:
    """``allow_private``: the user's setting: names and redirects may lead to private hosts, and every address may be named."""

    __slots__ = ("allow_private",)

    def __init__(self, allow_private: bool = False) -> None:
        self.allow_private = allow_private

    def check(self, url: str, *, web_seed: bool = False, origin: str = "") -> None:
        """Look at a URL before it is used: its scheme, its host, and the path if that host is private.

        ``origin``: the URL that redirected to this one; a private host may redirect to itself alone. A private host's tracker has
        a path like ``/announce``, its web seed no query. Raises GuardError.
        """
        scheme, host, path, query = _parts(url)
        if scheme not in (("http", "https") if web_seed else ("http", "https", "udp")):
            raise GuardError(f"addresses of the kind {scheme[:20]!r} are not used")
        if not in_plain_sight(host):
            return
        if not self.allow_private:
            if origin and _parts(origin).host != host:
                raise GuardError(f"{_parts(origin).host} redirects into the local network ({host}): refused{_HINT}")
            if not self._allows(host, plain=True):
                raise GuardError(f"{host} is no address for a tracker or web seed: refused")
        if web_seed and query:
            raise GuardError(f"a web seed on the private host {host} may have no query: refused")
        if not web_seed and scheme != "udp" and not _TRACKER_PATH.fullmatch(path):
            raise GuardError(f"only announce and scrape are asked of the private host {host}: refused")

    def allows(self, address: str, *, plain: bool) -> bool:
        """May we dial this literal address? ``plain``: the URL shows that it is private (``in_plain_sight``)."""
        where = place(address)
        return self.allow_private or where == "public" or (plain and where == "private")

    def _allows(self, host: str, *, plain: bool) -> bool:
        return maybe_literal(host) is None or self.allows(host, plain=plain)

    def choose(self, host: str, addresses: Sequence[Address]) -> list[Address]:
        """Those of a host's addresses that may be dialled. Raises GuardError if none may."""
        plain = in_plain_sight(host)
        allowed = [address for address in addresses if self.allows(address.host, plain=plain)]
        if addresses and not allowed:
            raise GuardError(f"the name {host} leads into the local network ({addresses[0].host}): refused{_HINT}")
        return allowed

    def __repr__(self) -> str:
        return f"<Guard [{'private hosts allowed' if self.allow_private else 'public hosts only'}]>"


def in_plain_sight(host: str) -> bool:
    """Can anyone who reads the URL see that this host is not on the internet?"""
    literal = maybe_literal(host)
    if literal is not None:
        return place(literal) != "public"
    return host == "localhost" or host.endswith(".localhost")  # this machine by definition (RFC 6761)


def place(address: str) -> Place:
    """Where a literal address is. IPv6 addresses that only wrap an IPv4 one are judged by that."""
    try:
        ip = _unwrapped(ipaddress.ip_address(address))
    except ValueError:
        return "odd"
    if ip.is_link_local or ip.is_unspecified or ip.is_multicast:
        return "odd"
    if isinstance(ip, ipaddress.IPv4Address):
        if ip.is_global:
            return "public"
        return "odd" if ip.is_reserved or ip.packed[0] == 0 else "private"
    if ip in _GLOBAL_UNICAST:
        return "public" if ip.is_global else "private"
    return "private" if ip.is_loopback or ip in _UNIQUE_LOCAL else "odd"


def _unwrapped(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """IPv4 that travels as IPv6: mapped, 6to4, Teredo, NAT64, and the compatible addresses of old."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
    if inner is None and (ip in _NAT64 or (ip in _COMPATIBLE and int(ip) > 1)):
        inner = ipaddress.IPv4Address(ip.packed[-4:])
    return inner or ip


def is_numeric(host: str) -> bool:
    """Would a resolver of the old kind read this as a number of an IPv4 address (``127.1``, ``0x7f000001``)?"""
    return _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is not None


def _parts(url: str) -> _Parts:
    """What the guard judges, read as our clients read it. Raises GuardError for what two readers might take differently."""
    scheme, mark, rest = url.strip().partition("://")
    end = min((at for one in "/?#" if (at := rest.find(one)) >= 0), default=len(rest))
    authority, (path, _, query) = rest[:end], rest[end:].partition("#")[0].partition("?")
    where = authority.rpartition("@")[2]
    host = where[1:].partition("]")[0] if where.startswith("[") else where.partition(":")[0]
    try:
        host = host if host.isascii() else host.encode("idna").decode()  # full-width digits are digits
    except UnicodeError:
        host = ""
    host = (maybe_literal(host) or host).lower().rstrip(".")
    odd = "\\" in authority or any(c.isspace() or not c.isprintable() for c in authority) or "%" in host
    odd = odd or (where.count(":") > 1 and not where.startswith("["))
    if not mark or not host or odd or (maybe_literal(host) is None and is_numeric(host)):
        raise GuardError(f"{host[:100]!r} is no host that can be asked")
    return _Parts(scheme.lower(), host, path, query)
