"""Snapshots: frozen pictures of what is now, for whoever draws or reports; and *why* nothing moves.

Taking one is cheap (no I/O, no walk over pieces), so that a face may ask as often as it draws; the reasons are made from it
(by ``diagnosis``) when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass

from unchoke.engine.diagnosis import Facts, diagnose
from unchoke.engine.reasons import Reason, words
from unchoke.types import Address, InfoHash


@dataclass(frozen=True, slots=True)
class PeerSnapshot:
    """One peer at one moment. Rates are payload bytes/s; ``progress`` is the share of pieces it has."""

    address: Address
    client: str
    incoming: bool
    progress: float
    down_rate: float
    up_rate: float
    downloaded: int
    uploaded: int
    we_choke: bool
    we_interested: bool
    they_choke: bool
    they_interested: bool
    snubbed: bool
    requests: int
    upload_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TorrentSnapshot(Facts):
    """One torrent at one moment. Sizes in bytes, rates in payload bytes/s, times in seconds (see ``Facts`` for the rest).

    ``state``: metadata, checking, queued, downloading, seeding, stopped, no space or error (``reason`` then says why). ``wanted`` and
    ``done`` count the pieces of the selected files; ``checked`` is the share of a check that is done. ``added_at`` and
    ``completed_at`` are seconds since 1970, None for not yet or not known. ``web_seeds``: those that are sending.
    """

    infohash: InfoHash
    name: str
    done: int
    piece_count: int
    pieces_done: int
    downloaded: int
    wasted: int
    corrupt: int
    seeds: int
    active_time: float
    seeding_time: float
    added_at: float | None = None
    completed_at: float | None = None
    forced: bool = False
    web_seeds: int = 0

    @property
    def progress(self) -> float:
        """0 to 1 of what is wanted; 0 while that is not known."""
        if self.metadata is not None:
            return 0.0
        return self.done / self.wanted if self.wanted else 1.0

    @property
    def eta(self) -> float | None:
        """Seconds until done at the present rate, if there is one."""
        return (self.wanted - self.done) / self.down_rate if self.down_rate >= 1 and self.done < self.wanted else None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """What holds it, the outermost cause first; made when asked for. Empty when nothing does."""
        return diagnose(self)

    def why(self) -> str:
        """What holds it, in words; empty when nothing does."""
        return "; ".join(words(reason) for reason in self.reasons if reason.holds)


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """The whole session at one moment."""

    port: int
    torrents: tuple[TorrentSnapshot, ...]
    down_rate: float
    up_rate: float
    peers: int
    half_open: int
    trouble: str = ""  # why no records can be kept; empty: they are
