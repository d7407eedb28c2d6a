"""MetadataSettings: how much metadata is taken from peers and given to them, and how soon (BEP 9)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataSettings:
    """Info dictionaries from peers, and for peers (BEP 9)."""

    max_size: int = 32 * 1024 * 1024
    """Bytes of the largest one accepted, and of all that is held of one torrent's while it is fetched. A million
    pieces of v1 make 19 MiB; most torrents have less than a tenth of one."""

    outstanding: int = 4
    """Parts of 16 KiB asked of one peer at a time, once it has answered quickly; 2 at first. libtorrent asks for 2, Transmission
    drops what goes beyond 64."""

    timeout: float = 15.0
    """Seconds without an answer until others are asked for the same parts."""

    retry: float = 60.0
    """Seconds until a peer is asked again that rejected a request or did not answer; doubles each time (libtorrent: 60)."""

    last_retry: float = 900.0
    """Seconds the wait grows to."""

    duplicates: int = 3
    """Peers asked for the same part at the end, when none is left to ask for: one that is slow must not hold up the whole."""

    alone: int = 4
    """Peers that fill copies of their own at one time, once somebody has lied."""

    least_rate: int = 16 * 1024
    """Bytes/s of a peer that fills a copy of its own, below which another that waits may go first."""

    served: int = 3
    """How often one peer is given the whole info dictionary in one conversation (BEP 9 proposes a limit of this kind)."""

    serve_rate: int = 256 * 1024
    """Bytes/s of info dictionary given to one peer; four times as much may go out at once, which is all of most torrents'."""
