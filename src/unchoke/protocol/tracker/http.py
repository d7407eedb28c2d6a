"""The client's half of the tracker protocol over HTTP: URLs to fetch, and bodies that came back (BEP 3, 7, 23, 24, 31, 48).

Fetching is the engine's. URLs are put together by hand: an infohash is 20 raw bytes that must arrive as they are, and a
private tracker's own query must stay exactly as it was. A tracker is a stranger: every answer that does not fit is a
``TrackerError`` in words fit to show. The tracker's half is ``http_server``.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable
from urllib.parse import quote_from_bytes

from unchoke.errors import BencodeError, ProtocolError, TrackerError
from unchoke.protocol import bencode
from unchoke.protocol.compact import unpack_peers, unpack_peers6
from unchoke.protocol.tracker.models import (
    MAX_PEERS,
    AnnounceEvent,
    AnnounceReply,
    AnnounceRequest,
    ScrapeCounts,
    ScrapeReply,
    clean_words,
    usable_peers,
)
from unchoke.types import Address, InfoHash

#: What may stand in a URL as it is; everything else a torrent puts there is escaped, so that no line break or space of a
#: hostile announce URL reaches the HTTP request line. ``%`` stays: the tracker's own escapes are its business.
_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"


def announce_url(tracker_url: str, request: AnnounceRequest) -> str:
    """The URL to GET: ``tracker_url`` with its own query kept, and the request appended (BEP 3, 7, 23)."""
    fields = [
        f"info_hash={quote_from_bytes(request.infohash, safe='')}",
        f"peer_id={quote_from_bytes(request.peer_id, safe='')}",
        f"port={request.port}",
        f"uploaded={request.uploaded}",
        f"downloaded={request.downloaded}",
        f"left={request.left}",
        f"key={request.key:08X}",
        f"compact={int(request.compact)}",
    ]
    if request.event is not AnnounceEvent.NONE:
        fields.append(f"event={request.event.value}")
    if request.numwant is not None:
        fields.append(f"numwant={request.numwant}")
    if request.ip:
        fields.append(f"ip={quote_from_bytes(request.ip.encode(), safe='')}")
    if request.tracker_id:
        fields.append(f"trackerid={quote_from_bytes(request.tracker_id, safe='')}")
    return _with_query(tracker_url, "&".join(fields))


def scrape_url(tracker_url: str) -> str | None:
    """The scrape URL that belongs to an announce URL, or None if the tracker has none (BEP 48).

    Only the last part of the path counts, and it must begin with ``announce``; the query stays.
    """
    head, mark, query = _clean_url(tracker_url).partition("?")
    folder, slash, last = head.rpartition("/")
    if not slash or not last.startswith("announce") or folder.endswith((":", ":/")):
        return None
    return f"{folder}/scrape{last.removeprefix('announce')}{mark}{query}"


def scrape_request_url(tracker_url: str, infohashes: Iterable[InfoHash]) -> str | None:
    """The URL to GET for the counts of ``infohashes``, or None if the tracker has no scrape (BEP 48)."""
    url = scrape_url(tracker_url)
    if url is None:
        return None
    return _with_query(url, "&".join(f"info_hash={quote_from_bytes(one, safe='')}" for one in infohashes))


def _with_query(url: str, query: str) -> str:
    url = _clean_url(url)
    joint = "?" if "?" not in url else "" if url[-1] in "?&" else "&"
    return f"{url}{joint}{query}"


def _clean_url(url: str) -> str:
    """Without fragment, and with nothing after the host that may not stand in a request line."""
    scheme, mark, rest = url.strip().partition("#")[0].partition("://")
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    return f"{scheme}{mark}{rest[:end]}{quote_from_bytes(rest[end:].encode('utf-8', 'replace'), safe=_URL_SAFE)}"


# ---- what a tracker answers -----------------------------------------------------------------------------------------


def parse_announce(body: bytes) -> AnnounceReply:
    """A tracker's answer to an announce. Raises TrackerError: its refusal (with BEP 31's wish), or why this is no answer."""
    reply = _parse_dictionary(body)
    peers = _peers(reply.get(b"peers", b"")) + _peers6(reply.get(b"peers6", b""))
    return AnnounceReply(
        interval=_count(reply, b"interval") or None,
        min_interval=_count(reply, b"min interval") or None,
        peers=usable_peers(peers),
        seeds=_count(reply, b"complete"),
        leechers=_count(reply, b"incomplete"),
        downloaded=_count(reply, b"downloaded"),
        warning=clean_words(_bytes(reply, b"warning message")),
        tracker_id=_bytes(reply, b"tracker id")[:1024],
        external_ip=_external_ip(_bytes(reply, b"external ip")),
    )


def parse_scrape(body: bytes) -> ScrapeReply:
    """A tracker's answer to a scrape (BEP 48). Raises TrackerError."""
    files = _parse_dictionary(body).get(b"files", {})
    if not isinstance(files, dict):
        raise TrackerError("the tracker's scrape has no list of torrents")
    torrents: dict[InfoHash, ScrapeCounts] = {}
    for infohash, counts in files.items():
        if len(infohash) == 20 and isinstance(counts, dict):
            torrents[InfoHash(infohash)] = ScrapeCounts(
                seeds=_count(counts, b"complete") or 0,
                downloaded=_count(counts, b"downloaded") or 0,
                leechers=_count(counts, b"incomplete") or 0,
            )
    return ScrapeReply(torrents)


def _parse_dictionary(body: bytes) -> dict[bytes, bencode.Value]:
    try:
        reply = bencode.decode(body, trailing=True)
    except BencodeError as error:
        raise TrackerError(_no_bencode(body, str(error))) from None
    if not isinstance(reply, dict):
        raise TrackerError("the tracker's answer is no dictionary")
    if b"failure reason" in reply:
        reason = clean_words(_bytes(reply, b"failure reason")) or "no reason given"
        raise TrackerError(f"the tracker says: {reason}", _retry_in(reply.get(b"retry in")), kind="refused")
    return reply


def _no_bencode(body: bytes, why: str) -> str:
    start = body[:256].lstrip().lower()
    if not start:
        return "the tracker's answer is empty"
    if start.startswith((b"<", b"\xef\xbb\xbf<")):
        return "the tracker answered with a web page"
    return f"the tracker's answer is not bencode: {why}"


def _retry_in(value: bencode.Value | None) -> float | None:
    """Seconds (BEP 31 counts minutes, as an integer or, in its own example, as digits in a string)."""
    if value == b"never":
        return math.inf
    if isinstance(value, bytes) and value.isdigit() and len(value) <= 10:
        value = int(value)
    return float(value * 60) if isinstance(value, int) and value > 0 else None


def _count(reply: dict[bytes, bencode.Value], key: bytes) -> int | None:
    value = reply.get(key)
    return min(value, 2**63) if isinstance(value, int) and value >= 0 else None


def _bytes(reply: dict[bytes, bencode.Value], key: bytes) -> bytes:
    value = reply.get(key)
    return value if isinstance(value, bytes) else b""


def _peers(value: bencode.Value) -> list[Address]:
    """``peers``: a compact string (BEP 23) or a list of dictionaries (BEP 3); names in those are not looked up."""
    if isinstance(value, bytes):
        return _compact(value, 6)
    if not isinstance(value, list):
        raise TrackerError("the tracker's peers are neither a string nor a list")
    found = []
    for peer in value:
        if not isinstance(peer, dict):
            raise TrackerError("a peer in the tracker's list is no dictionary")
        host, port = peer.get(b"ip"), peer.get(b"port")
        if isinstance(host, bytes) and isinstance(port, int) and len(host) <= 45:
            found.append(Address(host.decode("ascii", "replace"), port))
            if len(found) >= 2 * MAX_PEERS:
                break
    return found


def _peers6(value: bencode.Value) -> list[Address]:
    if isinstance(value, bytes):
        return _compact(value, 18)
    if not isinstance(value, list):
        raise TrackerError("the tracker's peers6 are neither a string nor a list")
    return _peers(value)


def _compact(data: bytes, size: int) -> list[Address]:
    if len(data) % size:
        raise TrackerError(f"the tracker's peers list has an odd length: {len(data)} bytes, not a multiple of {size}")
    data = data[: 2 * MAX_PEERS * size]
    try:
        return list(unpack_peers(data) if size == 6 else unpack_peers6(data))
    except ProtocolError as error:
        raise TrackerError(f"the tracker's peers list is broken: {error}") from None


def _external_ip(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed)) if len(packed) in (4, 16) else ""
