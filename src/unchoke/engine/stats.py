"""Snapshots: frozen pictures of what is now, for whoever draws or reports; and *why* nothing moves, in words.

Taking one is cheap (no I/O, no walk over pieces), so that a face may ask as often as it draws.
"""

from __future__ import annotations

from dataclasses import dataclass

from unchoke.policy.announce import TrackerState
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


@dataclass(frozen=True, slots=True)
class TorrentSnapshot:
    """One torrent at one moment. Sizes in bytes, rates in payload bytes/s, times in seconds.

    ``state``: checking, downloading, seeding, stopped or error (``reason`` then says why). ``wanted`` and ``done`` count
    the pieces of the selected files; ``checked`` is the share of a check that is done.
    """

    infohash: InfoHash
    name: str
    state: str
    reason: str
    wanted: int
    done: int
    piece_count: int
    pieces_done: int
    checked: float
    down_rate: float
    up_rate: float
    downloaded: int
    uploaded: int
    wasted: int
    corrupt: int
    peers: int
    seeds: int
    known_peers: int
    dialing: int
    unchoked_by: int
    interesting: int
    verifying: bool
    limited: bool
    last_refusal: str
    active_time: float
    seeding_time: float
    trackers: tuple[TrackerState, ...]

    @property
    def progress(self) -> float:
        """0 to 1 of what is wanted."""
        return self.done / self.wanted if self.wanted else 1.0

    @property
    def ratio(self) -> float:
        """Bytes given for each byte of the wanted data."""
        return self.uploaded / self.wanted if self.wanted else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until done at the present rate, if there is one."""
        return (self.wanted - self.done) / self.down_rate if self.down_rate >= 1 and self.done < self.wanted else None

    def why(self) -> str:
        """Why nothing comes, in words; empty when data comes, or none is wanted."""
        if self.state in ("error", "stopped"):
            return self.reason
        if self.state != "downloading" or self.down_rate >= 1:
            return ""
        if self.verifying:
            return "waiting for the disk"
        if self.limited:
            return "held by the download limit"
        if not self.peers:
            return self._why_no_peers()
        if not self.interesting:
            return f"{_count(self.peers, 'peer')}, none has what we lack"
        if not self.unchoked_by:
            return f"{_count(self.peers, 'peer')}, all choke us"
        return f"asked {_count(self.unchoked_by, 'peer')}, waiting for data"

    def _why_no_peers(self) -> str:
        if self.dialing:
            return f"no peers yet: dialling {self.dialing}"
        parts = []
        if self.known_peers:
            parts.append(
                f"none of {self.known_peers} known answers" + (f" ({self.last_refusal})" if self.last_refusal else "")
            )
        parts += [f"tracker {tracker.url} {tracker.summary}" for tracker in self.trackers[:3]]
        if not self.trackers and not self.known_peers:
            parts.append("no tracker and no address to ask; give one with --peer or --tracker")
        return "no peers yet: " + "; ".join(parts)


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """The whole session at one moment."""

    port: int
    torrents: tuple[TorrentSnapshot, ...]
    down_rate: float
    up_rate: float
    peers: int
    half_open: int


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
