"""What a client and a tracker tell each other, whichever way it is spoken (BEP 3, 7, 15, 23, 24, 31, 48).

Plain frozen records without bytes of any wire; ``http`` and ``udp`` turn them into bytes and back. A refusal is a
``TrackerError``. Here too is the one rule for which addresses out of a stranger's list are worth dialling.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from unchoke.types import Address, InfoHash, PeerId

#: Peers kept of one reply. We ask for 200 at most; a megabyte of them is an attack on our memory and on whoever is in it.
MAX_PEERS = 2000

#: Characters kept of a tracker's own words (failure reason, warning).
MAX_WORDS = 300


class AnnounceEvent(enum.Enum):
    """Why we announce; the values are the words of BEP 3."""

    NONE = ""
    STARTED = "started"
    COMPLETED = "completed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceRequest:
    """One peer's report on one torrent. ``uploaded``, ``downloaded`` and ``left`` are bytes.

    ``infohash`` has 20 bytes (BEP 52: v2 hashes are truncated). ``numwant`` None leaves the number of peers to the tracker.
    ``key`` is 32 bits that only this client and its trackers know (BEP 7, 15). ``ip`` is rarely honoured.
    """

    infohash: InfoHash
    peer_id: PeerId
    port: int
    uploaded: int = 0
    downloaded: int = 0
    left: int = 0
    event: AnnounceEvent = AnnounceEvent.NONE
    numwant: int | None = None
    key: int = 0
    compact: bool = True
    ip: str = ""
    tracker_id: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceReply:
    """A tracker's answer. Intervals are seconds, as the tracker said them: unchecked beyond being positive.

    ``seeds``, ``leechers`` and ``downloaded`` are None where the tracker did not say. ``external_ip`` is how it sees us
    (BEP 24), a literal address or empty.
    """

    interval: int | None = None
    min_interval: int | None = None
    peers: tuple[Address, ...] = ()
    seeds: int | None = None
    leechers: int | None = None
    downloaded: int | None = None
    warning: str = ""
    tracker_id: bytes = b""
    external_ip: str = ""


@dataclass(frozen=True, slots=True)
class ScrapeCounts:
    """One torrent in a scrape reply: who has it, how often it was completed, who still wants it."""

    seeds: int = 0
    downloaded: int = 0
    leechers: int = 0


@dataclass(frozen=True, slots=True)
class ScrapeReply:
    """Counts by infohash. A torrent the tracker does not know is missing."""

    torrents: dict[InfoHash, ScrapeCounts]


def clean_words(text: bytes | str) -> str:
    """A stranger's words fit to show: UTF-8 with replacements, no control characters, at most ``MAX_WORDS`` long."""
    if isinstance(text, bytes):
        text = text[: 4 * MAX_WORDS].decode("utf-8", "replace")
    words = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_WORDS]).split())
    return words if len(words) <= MAX_WORDS else words[: MAX_WORDS - 1] + "…"


def usable_peers(peers: Iterable[Address]) -> tuple[Address, ...]:
    """The first ``MAX_PEERS`` distinct addresses that one can dial: a port, and no unspecified, multicast or broadcast host.

    Private and loopback addresses stay: a tracker on a LAN hands them out for good reason.
    """
    kept: dict[Address, None] = {}
    for peer in peers:
        clean = usable_peer(peer)
        if clean is not None:
            kept[clean] = None
            if len(kept) >= MAX_PEERS:
                break
    return tuple(kept)


def usable_peer(peer: Address) -> Address | None:
    """``peer`` in canonical form (IPv4 addresses mapped into IPv6 become IPv4), or None if it cannot be dialled."""
    if not 0 < peer.port < 65536:
        return None
    try:
        host = ipaddress.ip_address(peer.host)
    except ValueError:
        return None
    if isinstance(host, ipaddress.IPv6Address):
        if host.scope_id is not None:
            return None
        host = host.ipv4_mapped or host
    if host.is_unspecified or host.is_multicast:
        return None
    if isinstance(host, ipaddress.IPv4Address) and (host.packed[0] == 0 or host.packed == b"\xff\xff\xff\xff"):
        return None
    return Address(str(host), peer.port)
