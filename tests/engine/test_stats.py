"""Why nothing moves, in words; and the figures that are derived."""

from __future__ import annotations

import pytest

from torrent_snapshots import TRACKER, snapshot
from unchoke.policy.announce import TrackerState

FAILED = TrackerState(url="udp://t", tier=0, status="failed", error="unregistered torrent")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"down_rate": 1e6}, ""),
        ({"state": "seeding"}, ""),
        ({"state": "starting"}, ""),
        ({"state": "checking", "checked": 0.5}, ""),
        ({"state": "checking", "checks_ahead": 1}, "waiting for 1 other check"),
        ({"state": "error", "reason": "disk full"}, "disk full"),
        ({"state": "stopped", "reason": "stopped by its user"}, "stopped by its user"),
        ({"state": "stopped", "stopped_by": "goal"}, "stopped by its goal"),
        ({"verifying": True}, "waiting for the disk"),
        ({"peers": 1, "interesting": 1, "unchoked_by": 1, "limited": True}, "held by the session's download limit"),
        ({}, "no peers yet: no tracker, no DHT and no address to ask; give one with --peer or --tracker"),
        ({"limited": True, "limited_by": "session"}, snapshot().why()),  # the limit holds nobody who has no peers
        ({"dialing": 3, "known_peers": 5}, "no peers yet: dialling 3"),
        (
            {"known_peers": 2, "last_refusal": "10.0.0.1:7: Connection refused"},
            "no peers yet: none of 2 known answers (10.0.0.1:7: Connection refused)",
        ),
        ({"trackers": (TRACKER,)}, "no peers yet: tracker http://t/announce has not been asked yet"),
        ({"trackers": (FAILED,)}, "no peers yet: tracker udp://t failed: unregistered torrent"),
        ({"peers": 2}, "2 peers, none has what we lack"),
        ({"peers": 1, "interesting": 1}, "1 peer, all choke us"),
        ({"peers": 3, "interesting": 2, "unchoked_by": 1}, "asked 1 peer, waiting for data"),
        (
            {"state": "seeding", "trackers": (FAILED,)},
            "no tracker knows of us: tracker udp://t failed: unregistered torrent",
        ),
        ({"state": "seeding", "peers": 1, "trackers": (FAILED,)}, ""),
        ({"state": "seeding", "trackers": (TRACKER,)}, ""),
    ],
)
def test_why(changes: dict[str, object], words: str) -> None:
    assert snapshot(**changes).why() == words


def test_derived_figures() -> None:
    now = snapshot(wanted=1000, done=250, down_rate=50.0, uploaded=500)
    assert (now.progress, now.ratio, now.eta) == (0.25, 0.5, 15.0)
    assert snapshot(down_rate=0.0).eta is None
    empty = snapshot(wanted=0, done=0)
    assert (empty.progress, empty.ratio) == (1.0, 0.0)
