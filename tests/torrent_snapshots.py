"""Snapshots for the tests of whoever draws them."""

from __future__ import annotations

from dataclasses import replace

from unchoke.engine.stats import TorrentSnapshot
from unchoke.policy.announce import TrackerState
from unchoke.types import InfoHash

TRACKER = TrackerState(url="http://t/announce", tier=0, status="waiting")

_PLAIN = TorrentSnapshot(
    infohash=InfoHash(bytes(20)),
    name="stuff",
    state="downloading",
    reason="",
    wanted=4 << 20,
    done=1 << 20,
    piece_count=4,
    pieces_done=1,
    checked=1.0,
    down_rate=0.0,
    up_rate=0.0,
    downloaded=1 << 20,
    uploaded=0,
    wasted=0,
    corrupt=0,
    peers=0,
    seeds=0,
    known_peers=0,
    dialing=0,
    unchoked_by=0,
    interesting=0,
    verifying=False,
    limited=False,
    last_refusal="",
    active_time=1.0,
    seeding_time=0.0,
    trackers=(),
)


def snapshot(**changes: object) -> TorrentSnapshot:
    """A download at a quarter, without peers, but for ``changes``."""
    return replace(_PLAIN, **changes)  # type: ignore[arg-type]
