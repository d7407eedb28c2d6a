"""The packets of the UDP tracker protocol, both ways, and BEP 41's URL data after an announce (BEP 15, 41).

Pure codecs: ``pack_*`` build, ``unpack_*`` read and raise ProtocolError for what is too short or of another kind. Longer packets
are read as far as they are known, as BEP 15 asks. In replies, peers have 6 bytes over IPv4 and 18 over IPv6; which it is
follows from the family of the packet itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from unchoke.errors import ProtocolError, TrackerError
from unchoke.protocol.compact import pack_peers, pack_peers6, unpack_peers, unpack_peers6
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
from unchoke.types import InfoHash, PeerId

#: "This is a UDP tracker": the first eight bytes of every connect request (BEP 15).
MAGIC = 0x41727101980

CONNECT, ANNOUNCE, SCRAPE, ERROR = range(4)

#: Infohashes of one scrape packet (BEP 15: "about 74" keep it under an Ethernet frame).
MAX_SCRAPE = 74

#: Peers of one announce reply that a tracker of ours sends, by IP version: such a packet is not fragmented on common paths.
MAX_REPLY_PEERS = {4: 200, 6: 66}

#: Bytes of path and query that an announce carries along (BEP 41); 98 + 1100 bytes still make one unfragmented packet.
MAX_URL_DATA = 1024

_EVENTS = (AnnounceEvent.NONE, AnnounceEvent.COMPLETED, AnnounceEvent.STARTED, AnnounceEvent.STOPPED)
_INT64 = 2**63 - 1

_HEAD = struct.Struct(">II")  # of replies: action, transaction
_REQUEST = struct.Struct(">QII")  # connection id (or MAGIC), action, transaction
_CONNECT_REPLY = struct.Struct(">IIQ")
_ANNOUNCE = struct.Struct(">QII20s20sqqqIIIiH")
_ANNOUNCE_REPLY = struct.Struct(">IIIII")
_COUNTS = struct.Struct(">III")


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    transaction: int


@dataclass(frozen=True, slots=True)
class UdpAnnounce:
    """``url_data`` is the path and query of the client's announce URL, where it sent them (BEP 41)."""

    connection: int
    transaction: int
    request: AnnounceRequest
    url_data: bytes = b""


@dataclass(frozen=True, slots=True)
class UdpScrape:
    connection: int
    transaction: int
    infohashes: tuple[InfoHash, ...]


UdpRequest: TypeAlias = ConnectRequest | UdpAnnounce | UdpScrape


def url_parts(url: str) -> tuple[str, int, bytes]:
    """Host, port, and the path and query that BEP 41 sends along, of ``udp://host:port/path?query``. Raises TrackerError.

    A bare ``/announce`` is what everybody writes and no tracker of this kind looks at: it is not sent.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise TrackerError("a UDP tracker's address needs a host and a port: udp://host:port", kind="unsupported")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    return host, port, b"" if path in ("", "/", "/announce") else path.encode("utf-8", "replace")


# ---- the client's half ----------------------------------------------------------------------------------------------


def pack_connect(transaction: int) -> bytes:
    return _REQUEST.pack(MAGIC, CONNECT, transaction)


def pack_announce(connection: int, transaction: int, request: AnnounceRequest, url_data: bytes = b"") -> bytes:
    """An announce packet. The IP field stays 0: it has no meaning over IPv6 and is open to abuse over IPv4 (BEP 7)."""
    fixed = _ANNOUNCE.pack(
        connection,
        ANNOUNCE,
        transaction,
        request.infohash[:20],
        request.peer_id,
        min(request.downloaded, _INT64),
        min(request.left, _INT64),
        min(request.uploaded, _INT64),
        _EVENTS.index(request.event),
        0,
        request.key & 0xFFFFFFFF,
        -1 if request.numwant is None else min(request.numwant, 2**31 - 1),
        request.port,
    )
    return fixed + _pack_url_data(url_data)


def _pack_url_data(url_data: bytes) -> bytes:
    """Options of type 2, 255 bytes each at most (BEP 41). What is too long to fit is left out whole: half a key is none."""
    if len(url_data) > MAX_URL_DATA:
        return b""
    parts = (url_data[at : at + 255] for at in range(0, len(url_data), 255))
    return b"".join(b"\x02" + bytes([len(part)]) + part for part in parts)


def pack_scrape(connection: int, transaction: int, infohashes: tuple[InfoHash, ...]) -> bytes:
    return _REQUEST.pack(connection, SCRAPE, transaction) + b"".join(one[:20] for one in infohashes[:MAX_SCRAPE])


def unpack_head(data: bytes) -> tuple[int, int]:
    """Action and transaction id that every reply begins with. Raises ProtocolError."""
    if len(data) < _HEAD.size:
        raise ProtocolError(f"a tracker's packet of {len(data)} bytes")
    action, transaction = _HEAD.unpack_from(data)
    return action, transaction


def unpack_connect_reply(data: bytes) -> int:
    """The connection id. Raises ProtocolError."""
    if len(data) < _CONNECT_REPLY.size:
        raise ProtocolError(f"a connect reply of {len(data)} bytes")
    connection: int = _CONNECT_REPLY.unpack_from(data)[2]
    return connection


def unpack_announce_reply(data: bytes, *, ipv6: bool) -> AnnounceReply:
    """Raises ProtocolError if even the fixed part is missing; a rest that is no whole peer is ignored."""
    if len(data) < _ANNOUNCE_REPLY.size:
        raise ProtocolError(f"an announce reply of {len(data)} bytes")
    _, _, interval, leechers, seeds = _ANNOUNCE_REPLY.unpack_from(data)
    size = 18 if ipv6 else 6
    count = min((len(data) - _ANNOUNCE_REPLY.size) // size, MAX_PEERS)
    packed = bytes(data[_ANNOUNCE_REPLY.size : _ANNOUNCE_REPLY.size + count * size])
    peers = unpack_peers6(packed) if ipv6 else unpack_peers(packed)
    return AnnounceReply(interval=interval or None, leechers=leechers, seeds=seeds, peers=usable_peers(peers))


def unpack_scrape_reply(data: bytes, infohashes: tuple[InfoHash, ...]) -> ScrapeReply:
    """Counts for the hashes asked, in their order; raises ProtocolError if the packet holds fewer."""
    if len(data) < _HEAD.size + len(infohashes) * _COUNTS.size:
        raise ProtocolError(f"a scrape reply of {len(data)} bytes for {len(infohashes)} torrents")
    torrents = {}
    for index, infohash in enumerate(infohashes):
        seeds, downloaded, leechers = _COUNTS.unpack_from(data, _HEAD.size + index * _COUNTS.size)
        torrents[infohash] = ScrapeCounts(seeds, downloaded, leechers)
    return ScrapeReply(torrents)


def unpack_error(data: bytes) -> str:
    """The tracker's own words, fit to show."""
    return clean_words(bytes(data[_HEAD.size :]).rstrip(b"\0")) or "no reason given"


# ---- the tracker's half ---------------------------------------------------------------------------------------------


def unpack_request(data: bytes) -> UdpRequest:
    """What a client asks. Raises ProtocolError for everything that is no request; the connection id is not judged here."""
    if len(data) < _REQUEST.size:
        raise ProtocolError(f"a request of {len(data)} bytes")
    connection, action, transaction = _REQUEST.unpack_from(data)
    if action == CONNECT and connection == MAGIC:
        return ConnectRequest(transaction)
    if action == ANNOUNCE:
        return _unpack_announce(data)
    if action == SCRAPE:
        count = min((len(data) - _REQUEST.size) // 20, MAX_SCRAPE)
        starts = (_REQUEST.size + 20 * index for index in range(count))
        return UdpScrape(connection, transaction, tuple(InfoHash(bytes(data[at : at + 20])) for at in starts))
    raise ProtocolError(f"a request of unknown kind {action}")


def _unpack_announce(data: bytes) -> UdpAnnounce:
    if len(data) < _ANNOUNCE.size:
        raise ProtocolError(f"an announce of {len(data)} bytes")
    (connection, _, transaction, infohash, peer_id, downloaded, left, uploaded, event, _, key, numwant, port) = (
        _ANNOUNCE.unpack_from(data)
    )
    request = AnnounceRequest(
        infohash=InfoHash(infohash),
        peer_id=PeerId(peer_id),
        port=port,
        uploaded=max(uploaded, 0),
        downloaded=max(downloaded, 0),
        left=_INT64 if left < 0 else left,  # unsigned in some clients: "I do not know yet"
        event=_EVENTS[event] if event < len(_EVENTS) else AnnounceEvent.NONE,
        numwant=numwant if numwant >= 0 else None,
        key=key,
    )
    return UdpAnnounce(connection, transaction, request, _unpack_url_data(bytes(data[_ANNOUNCE.size :])))


def _unpack_url_data(options: bytes) -> bytes:
    """The joined data of all type 2 options up to the end or type 0; type 1 is padding, others are skipped (BEP 41)."""
    parts, at = [], 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if options[at] == 2:
            parts.append(options[at + 2 : at + 2 + length])
        at += 2 + length
    return b"".join(parts)


def pack_connect_reply(transaction: int, connection: int) -> bytes:
    return _CONNECT_REPLY.pack(CONNECT, transaction, connection)


def pack_announce_reply(transaction: int, reply: AnnounceReply, *, ipv6: bool) -> bytes:
    """Only the peers of the packet's own family are told, as many as one packet carries."""
    peers = [peer for peer in reply.peers if (":" in peer.host) == ipv6][: MAX_REPLY_PEERS[6 if ipv6 else 4]]
    head = _ANNOUNCE_REPLY.pack(ANNOUNCE, transaction, reply.interval or 0, reply.leechers or 0, reply.seeds or 0)
    return head + (pack_peers6(peers) if ipv6 else pack_peers(peers))


def pack_scrape_reply(transaction: int, infohashes: tuple[InfoHash, ...], reply: ScrapeReply) -> bytes:
    """Counts in the order asked; zeros for a torrent that ``reply`` does not know."""
    nothing = ScrapeCounts()
    counts = (reply.torrents.get(infohash, nothing) for infohash in infohashes)
    return _HEAD.pack(SCRAPE, transaction) + b"".join(
        _COUNTS.pack(one.seeds, one.downloaded, one.leechers) for one in counts
    )


def pack_error(transaction: int, words: str) -> bytes:
    return _HEAD.pack(ERROR, transaction) + clean_words(words).encode()
