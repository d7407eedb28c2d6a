"""What ``unchoke doctor`` finds out about routes, names and trackers. Our port, the router and the DHT are ``checkup_port``'s.

Routes are looked at without a packet. Trackers are asked because the user named them or a torrent with them, so also with
``network.discovery`` off.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import replace
from secrets import randbits, token_bytes
from typing import TYPE_CHECKING, NamedTuple

from unchoke.app.cli.checkup import Finding
from unchoke.app.cli.text import clean
from unchoke.errors import TrackerError
from unchoke.masking import masked
from unchoke.types import InfoHash, PeerId

if TYPE_CHECKING:
    from unchoke.engine.net.http_trackers import HttpTrackers
    from unchoke.engine.net.udp_trackers import UdpTrackers
    from unchoke.engine.settings import Settings

#: Seconds for names and for a tracker: with a second to close what was opened they stay below the 15 that all of it may take.
NAMES_TIME = 9.0
TRACKER_TIME = 11.0
#: Trackers asked.
MOST_TRACKERS = 30

#: Addresses nobody has, kept for documentation (RFC 5737, 3849): the way there is the way to the internet.
_OUTSIDE = {4: "198.51.100.1", 6: "2001:db8::1"}


class Tracker(NamedTuple):
    """One to ask. ``infohash``: of the torrent that it is for, None: the user named it alone. ``given``: the user named it."""

    url: str
    infohash: InfoHash | None
    given: bool


def skipped(name: str, why: str) -> Finding:
    return Finding(name, "skipped", f"skipped: {why}", network=True)


# ---------------------------------------------------------------------- routes and names


def own_address(family: int, bind: str = "") -> str:
    """The address of ours that packets to the internet leave from; empty: there is no way. Sends nothing."""
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    if bind and (":" in bind) != (family == 6):
        return ""
    try:
        with socket.socket(kind, socket.SOCK_DGRAM) as sock:
            if bind:
                sock.bind((bind, 0))
            sock.connect((_OUTSIDE[family], 9))
            return str(sock.getsockname()[0])
    except OSError:
        return ""


def routes(bind: str) -> list[Finding]:
    """Is there a way to the internet over IPv4 and IPv6? One of them is enough."""
    ours = {family: own_address(family, bind) for family in (4, 6)}
    return [_route(family, address, ours[10 - family]) for family, address in ours.items()]


def _route(family: int, address: str, other: str) -> Finding:
    name = f"IPv{family}"
    if address:
        inside = "a private address: a router stands before us" if _is_inside(address) else "a public address"
        return Finding(name, "ok", f"there is a route; we are {address}, {inside}", network=True)
    if other and family == 6:
        words = "no route: peers that have only IPv6 cannot be reached"
        return Finding(name, "warn", words, "most are reached without; ask your provider for IPv6", network=True)
    advice = "connect this machine to a network: check cable or Wi-Fi, and the default route"
    return Finding(name, "warn" if other else "bad", "no default route: nobody outside can be reached", advice, True)


def _is_inside(address: str) -> bool:
    return not ipaddress.ip_address(address.partition("%")[0]).is_global


async def names(hosts: Sequence[str]) -> Finding:
    """Can these names be resolved? They are those of routers of the DHT and of trackers."""
    from unchoke.engine.net.resolver import maybe_literal, resolve

    asked = [host for host in dict.fromkeys(hosts) if maybe_literal(host) is None]
    if not asked:
        return skipped("DNS", "no name has to be looked up")
    found = await asyncio.gather(*(resolve(host, 1, timeout=NAMES_TIME) for host in asked), return_exceptions=True)
    failed = [one for one in found if isinstance(one, Exception)]
    if not failed:
        return Finding("DNS", "ok", f"{len(asked)} of {len(asked)} names resolved", network=True)
    words = f"{len(asked) - len(failed)} of {len(asked)} names resolved: {clean(str(failed[0]))}"
    if len(failed) < len(asked):
        return Finding("DNS", "warn", words, "a name that is gone hurts nobody; if all are well known, check DNS", True)
    return Finding("DNS", "bad", words, "check the DNS server in the system's or your router's settings", True)


# ---------------------------------------------------------------------- trackers


async def trackers(listed: Sequence[Tracker], settings: Settings, *, show: bool) -> list[Finding]:
    """Ask each tracker about its torrent, or about one that nobody has. ``show``: whole URLs, passkeys too.

    It is told that we leave, so that nobody is sent to us.
    """
    from unchoke.engine.net.http import HttpClient
    from unchoke.engine.net.http_trackers import HttpTrackers
    from unchoke.engine.net.udp import UdpEndpoint
    from unchoke.engine.net.udp_trackers import UdpTrackers

    endpoint = UdpEndpoint(bind=settings.network.bind)
    http = HttpClient(bind=settings.network.bind)
    quick = replace(settings.announce, http_timeout=TRACKER_TIME - 1)
    asked = _Trackers(HttpTrackers(http, quick), UdpTrackers(endpoint, settings=quick))
    try:
        return list(await asyncio.gather(*(asked.check(one, show) for one in listed[:MOST_TRACKERS])))
    finally:
        await asked.udp.aclose()
        await endpoint.aclose()
        await http.aclose()


class _Trackers:
    def __init__(self, http: HttpTrackers, udp: UdpTrackers) -> None:
        self.http = http
        self.udp = udp

    async def check(self, tracker: Tracker, show: bool) -> Finding:
        from unchoke.protocol.tracker.models import AnnounceEvent, AnnounceRequest

        url, infohash, given = tracker
        name = f"tracker {clean(url if show else masked(url))}"
        request = AnnounceRequest(
            infohash=(infohash or InfoHash(token_bytes(20))).truncated,
            peer_id=PeerId(token_bytes(20)),
            port=1,
            event=AnnounceEvent.STOPPED,
            numwant=0,
            key=randbits(32),
        )
        side = self.udp if url.lower().startswith("udp:") else self.http
        try:
            async with asyncio.timeout(TRACKER_TIME):
                await side.announce(url, request, given=given)
        except TrackerError as error:
            return _tracker_trouble(name, error, known=infohash is not None)
        except TimeoutError:
            return Finding(name, "bad", f"no answer within {TRACKER_TIME:g} s", "it may be down, or UDP blocked", True)
        return Finding(name, "ok", "answers", network=True)


def _tracker_trouble(name: str, error: TrackerError, *, known: bool) -> Finding:
    words = clean(str(error))
    if error.kind == "refused":  # it is there, and has an opinion
        if not known:
            return Finding(name, "ok", f"answers (of a torrent it cannot know: {words})", network=True)
        return Finding(name, "warn", f"refuses: {words}", "see what it says; its torrent may be gone", True)
    return Finding(name, "bad", words, "check the URL; if others answer, this tracker is down", True)
