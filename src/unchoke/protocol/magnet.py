"""Magnet links, parsed and printed (BEP 9, 53): an infohash, and hints where to begin.

What a link must say right is what it asks for: ``xt`` and ``so``; a bad one raises MagnetError and nothing else. A bad
hint (``x.pe``, ``xl``) is passed over, and so are unknown parameters. Nothing here looks anything up.
"""

from __future__ import annotations

import binascii
import re
from base64 import b32decode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from unchoke.errors import MagnetError
from unchoke.types import InfoHash

if TYPE_CHECKING:
    from unchoke.protocol.metainfo import Metainfo

#: Longer links are no links. One with 500 trackers has about 30 kB.
MAX_LENGTH = 256 * 1024
#: Ranges in ``so``, and the highest file index in them.
MAX_RANGES = 10_000
MAX_INDEX = 10_000_000

_NUMBERED = re.compile(r"(xt|tr|ws|xs|dn)\.\d{1,4}")
_RANGE = re.compile(r"(\d{1,8})(?:-(\d{1,8}))?", re.ASCII)
_PEER = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([^\[\]:/\s]{1,253})):(\d{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Magnet:
    """A magnet link. At least one of the two infohashes is there.

    ``peers`` are hosts (names or addresses) and ports. ``select`` are ranges of file indexes from 0 (BEP 53), None for all
    files. ``size`` is in bytes. ``sources`` are ``xs``: where the .torrent itself can be had.
    """

    infohash_v1: InfoHash | None = None
    infohash_v2: InfoHash | None = None
    name: str | None = None
    trackers: tuple[str, ...] = ()
    web_seeds: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    peers: tuple[tuple[str, int], ...] = ()
    select: tuple[range, ...] | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if self.infohash_v1 is None and self.infohash_v2 is None:
            raise MagnetError("a magnet link needs an infohash (xt=urn:btih:… or xt=urn:btmh:…)")

    @classmethod
    def parse(cls, link: str) -> Magnet:
        """Read a link. Raises MagnetError."""
        if len(link) > MAX_LENGTH:
            raise MagnetError("a magnet link of absurd length")
        if not is_magnet(link):
            raise MagnetError("a magnet link begins with magnet:?")
        given: dict[str, list[str]] = {}
        for key, value in _parameters(link.strip()[len("magnet:?") :]):
            given.setdefault(key, []).append(value)
        v1, v2 = _topics(given.get("xt", []))
        return cls(
            infohash_v1=v1,
            infohash_v2=v2,
            name=next(iter(given.get("dn", [])), None),
            trackers=_unique(given.get("tr", [])),
            web_seeds=_unique(given.get("ws", [])),
            sources=_unique(given.get("xs", [])),
            peers=tuple(dict.fromkeys(peer for text in given.get("x.pe", []) if (peer := _maybe_peer(text)))),
            select=_selection(given["so"]) if "so" in given else None,
            size=next((int(text) for text in given.get("xl", []) if re.fullmatch("[0-9]{1,18}", text)), None),
        )

    @classmethod
    def from_metainfo(cls, metainfo: Metainfo) -> Magnet:
        """The link to a torrent we have: both infohashes, name, size, trackers and web seeds."""
        return cls(
            infohash_v1=metainfo.infohash_v1,
            infohash_v2=metainfo.infohash_v2,
            name=metainfo.name,
            trackers=_unique([url for tier in metainfo.trackers for url in tier]),
            web_seeds=metainfo.web_seeds,
            size=metainfo.layout.payload_length,
        )

    @property
    def infohash(self) -> InfoHash:
        """The 20 bytes handshakes and trackers carry: v1's, else v2's first 20 (BEP 52)."""
        if self.infohash_v1 is not None:
            return self.infohash_v1
        assert self.infohash_v2 is not None
        return self.infohash_v2.truncated

    def selects(self, file: int) -> bool:
        """Is this file (index from 0) asked for?"""
        return self.select is None or any(file in part for part in self.select)

    def __str__(self) -> str:
        return "magnet:?" + "&".join(f"{key}={value}" for key, value in self._printed())

    def _printed(self) -> Iterator[tuple[str, str]]:
        if self.infohash_v1 is not None:
            yield "xt", f"urn:btih:{self.infohash_v1.hex()}"
        if self.infohash_v2 is not None:
            yield "xt", f"urn:btmh:1220{self.infohash_v2.hex()}"
        if self.name is not None:
            yield "dn", _quoted(self.name)
        if self.size is not None:
            yield "xl", str(self.size)
        for key, urls in (("tr", self.trackers), ("ws", self.web_seeds), ("xs", self.sources)):
            for url in urls:
                yield key, _quoted(url)
        for host, port in self.peers:
            yield "x.pe", _quoted(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", safe="[]:")
        if self.select is not None:
            yield "so", ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in self.select)


def is_magnet(text: str) -> bool:
    """Does this mean to be a magnet link?"""
    return text.lstrip()[:8].lower() == "magnet:?"


def maybe_infohash(text: str) -> InfoHash | None:
    """The infohash that is written here as 40 or 64 hex digits, or 32 of base32; None if it is none."""
    text = text.strip()
    try:
        if len(text) in (40, 64):
            return InfoHash(binascii.unhexlify(text))
        if len(text) == 32:
            return InfoHash(b32decode(text.upper()))
    except ValueError:  # binascii.Error is one
        pass
    return None


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    for part in query.split("&"):
        key, _, value = part.partition("=")
        key = key.lower()
        if _NUMBERED.fullmatch(key):
            key = key[:2]  # "tr.1", from the magnet draft; the order in the link is the order
        if key == "dn":
            value = value.replace("+", " ")
        text = unquote_to_bytes(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogateescape").strip()
        if text:
            yield key, text


def _topics(topics: list[str]) -> tuple[InfoHash | None, InfoHash | None]:
    """The v1 and the v2 infohash. Topics of other networks are passed over."""
    v1: InfoHash | None = None
    v2: InfoHash | None = None
    for topic in topics:
        kind, digits = topic[:9].lower(), topic[9:]
        if kind == "urn:btih:":
            found = maybe_infohash(digits) if len(digits) in (32, 40) else None
            if found is None or (v1 is not None and v1 != found):
                raise MagnetError(f"a bad or second infohash in the magnet link: {topic[:80]}")
            v1 = found
        elif kind == "urn:btmh:":
            found = maybe_infohash(digits[4:]) if len(digits) == 68 and digits.startswith("1220") else None
            if found is None or (v2 is not None and v2 != found):
                raise MagnetError(f"a bad or second v2 infohash in the magnet link: {topic[:80]}")
            v2 = found
    return v1, v2


def _unique(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _maybe_peer(text: str) -> tuple[str, int] | None:
    match = _PEER.fullmatch(text)
    if match is None or not 0 < int(match[3]) < 65536:
        return None
    return match[1] or match[2], int(match[3])


def _selection(texts: list[str]) -> tuple[range, ...]:
    found: list[range] = []
    parts = [part.strip() for text in texts for part in text.split(",")]
    if len(parts) > MAX_RANGES:
        raise MagnetError("too many file ranges (so=) in the magnet link")
    for part in parts:
        match = _RANGE.fullmatch(part)
        first = int(match[1]) if match else -1
        last = int(match[2] or first) if match else -1
        if not 0 <= first <= last <= MAX_INDEX:
            raise MagnetError(f"a bad file range (so=) in the magnet link: {part[:40]}")
        found.append(range(first, last + 1))
    return tuple(found)


def _quoted(text: str, safe: str = "") -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe=safe)
