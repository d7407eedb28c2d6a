"""The tracker's half of the tracker protocol over HTTP: raw queries read, bodies built (BEP 3, 7, 23, 24, 31, 48).

It is lenient where clients differ (an unknown event, a missing ``left``) and firm where a guess would poison the swarm: hashes,
ids and ports. A refusal is a ``TrackerError`` whose words are fit to be the ``failure reason``. Who is in which swarm is not
its business; the client's half is ``http``.
"""

from __future__ import annotations

import ipaddress
import math
from urllib.parse import unquote_to_bytes

from unchoke.errors import TrackerError
from unchoke.protocol import bencode
from unchoke.protocol.compact import pack_peers, pack_peers6
from unchoke.protocol.tracker.models import AnnounceEvent, AnnounceReply, AnnounceRequest, ScrapeReply, clean_words
from unchoke.types import InfoHash, PeerId

#: Infohashes of one scrape that are answered (BEP 15 has room for about 74), and parameters of one query that are looked at.
MAX_SCRAPE = 100
_MAX_PARAMETERS = 200


def parse_announce_query(query: str | bytes) -> AnnounceRequest:
    """A client's announce out of the raw query string (still escaped). Raises TrackerError, fit to be the failure reason."""
    fields = dict(reversed(_fields(query)))  # of a field given twice the first counts
    infohash, peer_id = fields.get(b"info_hash", b""), fields.get(b"peer_id", b"")
    if len(infohash) != 20:
        raise TrackerError(f"info_hash must have 20 bytes, not {len(infohash)}")
    if len(peer_id) != 20:
        raise TrackerError(f"peer_id must have 20 bytes, not {len(peer_id)}")
    port = _number(fields, b"port", 65535)
    if port is None:
        raise TrackerError("port must be a number up to 65535")
    try:
        event = AnnounceEvent(fields.get(b"event", b"").decode("ascii", "replace"))
    except ValueError:
        event = AnnounceEvent.NONE  # "paused" (BEP 21) and whatever comes after it
    return AnnounceRequest(
        infohash=InfoHash(infohash),
        peer_id=PeerId(peer_id),
        port=port,
        uploaded=_number(fields, b"uploaded") or 0,
        downloaded=_number(fields, b"downloaded") or 0,
        left=_left(fields),
        event=event,
        numwant=_number(fields, b"numwant", 2**31),
        key=_key(fields.get(b"key", b"")),
        compact=fields.get(b"compact") != b"0",
        ip=_literal(fields.get(b"ip", b"")),
        tracker_id=fields.get(b"trackerid", b"")[:1024],
    )


def parse_scrape_query(query: str | bytes) -> list[InfoHash]:
    """The infohashes a client asks for, at most ``MAX_SCRAPE``. Raises TrackerError if there is none."""
    hashes = [InfoHash(value) for key, value in _fields(query) if key == b"info_hash" and len(value) == 20]
    if not hashes:
        raise TrackerError("a scrape needs an info_hash of 20 bytes")
    return hashes[:MAX_SCRAPE]


def build_announce_reply(reply: AnnounceReply, *, compact: bool = True) -> bytes:
    """The body for ``reply``: compact ``peers`` and ``peers6``, or BEP 3's dictionaries without peer ids."""
    body: dict[bytes, bencode.Encodable] = {b"interval": reply.interval or 0}
    optional = (
        (b"min interval", reply.min_interval),
        (b"complete", reply.seeds),
        (b"incomplete", reply.leechers),
        (b"downloaded", reply.downloaded),
    )
    body |= {key: value for key, value in optional if value is not None}
    if reply.warning:
        body[b"warning message"] = reply.warning
    if reply.tracker_id:
        body[b"tracker id"] = reply.tracker_id
    if reply.external_ip:
        body[b"external ip"] = ipaddress.ip_address(reply.external_ip).packed
    if compact:
        body[b"peers"] = pack_peers([peer for peer in reply.peers if ":" not in peer.host])
        body[b"peers6"] = pack_peers6([peer for peer in reply.peers if ":" in peer.host])
    else:
        body[b"peers"] = [{b"ip": peer.host, b"port": peer.port} for peer in reply.peers]
    return bencode.encode(body)


def build_failure(error: TrackerError) -> bytes:
    """The body that refuses: ``failure reason``, and ``retry in`` where the error has one (BEP 31)."""
    body: dict[bytes, bencode.Encodable] = {b"failure reason": clean_words(str(error))}
    if error.retry_in is not None:
        body[b"retry in"] = b"never" if math.isinf(error.retry_in) else max(1, math.ceil(error.retry_in / 60))
    return bencode.encode(body)


def build_scrape_reply(reply: ScrapeReply) -> bytes:
    """The body of a scrape (BEP 48)."""
    files: dict[bytes, bencode.Encodable] = {
        bytes(infohash): {b"complete": one.seeds, b"downloaded": one.downloaded, b"incomplete": one.leechers}
        for infohash, one in reply.torrents.items()
    }
    return bencode.encode({b"files": files})


def _fields(query: str | bytes) -> list[tuple[bytes, bytes]]:
    """Raw pairs of an escaped query. A ``+`` is a plus: an infohash is bytes, not a form."""
    raw = query.encode("utf-8", "replace") if isinstance(query, str) else query
    pairs = (part.partition(b"=") for part in raw.split(b"&", _MAX_PARAMETERS)[:_MAX_PARAMETERS])
    return [(unquote_to_bytes(key), unquote_to_bytes(value)) for key, _, value in pairs]


def _number(fields: dict[bytes, bytes], key: bytes, most: int = 2**63) -> int | None:
    text = fields.get(key, b"")
    if not text.isdigit() or len(text) > 20:
        return None
    return int(text) if int(text) <= most else None


def _left(fields: dict[bytes, bytes]) -> int:
    """A client that does not say (or says -1, as some do with a magnet link) is one that still wants something."""
    left = _number(fields, b"left")
    return 1 if left is None else left


def _key(text: bytes) -> int:
    """32 bits from a key of any form: hex as most send it, else folded from its bytes."""
    try:
        return int(text[:16], 16) & 0xFFFFFFFF if text else 0
    except ValueError:
        return int.from_bytes(text[:32], "big") % 0xFFFFFFFB


def _literal(text: bytes) -> str:
    try:
        return str(ipaddress.ip_address(text.decode("ascii", "replace")))
    except ValueError:
        return ""
