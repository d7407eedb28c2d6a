"""Which reasons are found for which facts, in which order."""

from __future__ import annotations

import json
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torrent_snapshots import TRACKER
from unchoke.engine.diagnosis import Facts, diagnose, sources_of
from unchoke.engine.reasons import (
    AllChoke,
    AtLimit,
    Checking,
    DiskSlow,
    FewPeers,
    NobodyHas,
    NoPeers,
    NoSpace,
    Problem,
    Queued,
    Reason,
    Seeding,
    Source,
    Stopped,
    StorageProblem,
    Unannounced,
    Waiting,
    reason_record,
    words,
)
from unchoke.policy.announce import Status, TrackerState

TOLD = TrackerState(url="http://t", tier=0, status="working", last_announce=880.0, next_announce=1060.0, peers=2)
NEVER = TrackerState(url="http://u", tier=1, status="failed", last_announce=940.0, error="banned")


def of(state: str, **facts: object) -> tuple[Reason, ...]:
    return diagnose(Facts(state=state, now=1000.0, **facts))  # type: ignore[arg-type]


MOVING = {"down_rate": 5e5, "peers": 9, "interesting": 9, "unchoked_by": 4}
ASKED = {"peers": 9, "interesting": 9, "unchoked_by": 4}
SHORT = {"space_free": 10, "space_needed": 30, "space_path": "/d"}
TELLS = Source("tracker", "http://t", "gave 2 peers", 120.0, 60.0)


@pytest.mark.parametrize(
    ("facts", "chain"),
    [
        (MOVING, ()),
        (MOVING | {"limited": True}, ()),  # a bucket that is empty for a moment holds nobody
        (MOVING | {"limited_by": "torrent", "limit": 5e5}, (AtLimit("torrent", "down", 5e5),)),
        (MOVING | {"disk_waits": True}, (DiskSlow(True),)),
        (MOVING | {"verifying": True}, ()),
        (MOVING | SHORT, (NoSpace(10, 30, "/d"),)),
        (MOVING | {"space_free": 30, "space_needed": 30}, ()),
        (ASKED | {"limited_by": "session"}, (AtLimit("session", "down"),)),
        (ASKED | {"verifying": True}, (DiskSlow(False),)),
        (ASKED | {"disk_waits": True}, (DiskSlow(True), Waiting(4))),
        (ASKED | {"last_received": 900.0, "snubbed": 6}, (Waiting(4, 4, 100.0),)),
        (ASKED | {"unchoked_by": 0, "limited_by": "session"}, (AllChoke(9, 9),)),
        ({"peers": 3}, (NobodyHas(3),)),
        (
            {"peers": 3, "pieces_missing_everywhere": 7, "trackers": (TOLD,)},
            (NobodyHas(3, 7), FewPeers((TELLS,))),
        ),
        ({"trackers": (TOLD,), "known_peers": 2}, (NoPeers((TELLS,), 2),)),
    ],
)
def test_downloading(facts: dict[str, object], chain: tuple[Reason, ...]) -> None:
    assert of("downloading", **facts) == chain


@pytest.mark.parametrize(
    ("state", "facts", "chain"),
    [
        ("checking", {"checked": 0.25, "checks_ahead": 2}, (Checking(0.25, 2),)),
        ("queued", {"position": 4, "queued_behind": 2, "queue_limit": "seeds"}, (Queued(5, 2, "seeds"),)),
        ("stopped", {"stopped_by": "user"}, (Stopped("user"),)),
        ("error", {"reason": "no"}, (Problem("no"),)),
        (
            "error",
            {"reason": "gone", "error_kind": "storage", "error_since": 880.0, "retry_at": 1010.0},
            (StorageProblem("gone", 120.0, 10.0),),
        ),
        ("no space", SHORT | {"retry_at": 1010.0}, (NoSpace(10, 30, "/d", 10.0),)),
        (
            "error",
            SHORT | {"reason": "disk full", "error_kind": "storage", "retry_at": 1010.0},
            (NoSpace(10, 30, "/d", 10.0), StorageProblem("disk full")),
        ),
        ("seeding", {"wanted": 100, "uploaded": 50, "ratio_goal": 2.0}, (Seeding(0, 0, 0, 0.5, 2.0),)),
        (
            "seeding",
            {"peers": 3, "wanting": 2, "serving": 1, "up_limited_by": "session", "up_limit": 1e5},
            (AtLimit("session", "up", 1e5), Seeding(3, 2, 1)),
        ),
        ("seeding", {"up_limited_by": "session"}, (Seeding(0),)),
        ("seeding", {"trackers": (TOLD, NEVER)}, (Seeding(0),)),
        ("stopping", {}, ()),
    ],
)
def test_other_states(state: str, facts: dict[str, object], chain: tuple[Reason, ...]) -> None:
    assert of(state, **facts) == chain


def test_a_seed_nobody_can_find() -> None:
    first, second = of("seeding", trackers=(NEVER,))
    assert isinstance(first, Unannounced)
    assert isinstance(second, Seeding)
    assert words(first) == "no tracker knows of us: tracker http://u failed: banned (60 s ago, never again)"


def test_who_has_said_something_is_told_first() -> None:
    asked = TrackerState(url="http://v", tier=2, status="announcing", last_announce=990.0, error="timed out")
    odd = TrackerState(url="wss://w", tier=3, status="unsupported")
    told = sources_of(Facts(state="downloading", now=1000.0, trackers=(odd, TRACKER, asked, TOLD, NEVER)))
    assert [source.words for source in told] == [
        "tracker http://t gave 2 peers (2 min ago, again in 60 s)",
        "tracker http://u failed: banned (60 s ago, never again)",
        "tracker http://v failed: timed out (10 s ago, being asked again)",
        "tracker http://t/announce has not been asked yet",
        "tracker wss://w is of a kind that is not supported",
    ]


def test_without_a_clock_no_times_are_told() -> None:
    (source,) = sources_of(Facts(state="downloading", trackers=(TOLD,)))
    assert source.words == "tracker http://t gave 2 peers"


counts = st.integers(0, 5)
moments = st.none() | st.floats(-1e9, 1e9) | st.just(inf)
statuses: list[Status] = ["waiting", "announcing", "working", "silent", "failed", "unsupported"]
trackers = st.builds(
    TrackerState,
    url=st.text(max_size=5),
    tier=counts,
    status=st.sampled_from(statuses),
    last_announce=moments,
    next_announce=st.floats(0, 1e9) | st.just(inf),
    error=st.text(max_size=5),
)
states = ["checking", "queued", "downloading", "seeding", "stopped", "stopping", "error", "no space", "other"]


@settings(max_examples=80)
@given(
    st.builds(
        Facts,
        state=st.sampled_from(states),
        reason=st.text(max_size=5),
        now=moments,
        checks_ahead=counts,
        down_rate=st.sampled_from([0.0, 0.5, 1e6]),
        peers=counts,
        known_peers=counts,
        dialing=counts,
        interesting=counts,
        unchoked_by=counts,
        snubbed=counts,
        pieces_missing_everywhere=st.none() | counts,
        last_received=moments,
        verifying=st.booleans(),
        disk_waits=st.booleans(),
        limited=st.booleans(),
        limited_by=st.sampled_from(["", "torrent", "session"]),
        position=st.none() | counts,
        space_free=st.none() | counts,
        space_needed=st.none() | counts,
        error_since=moments,
        retry_at=moments,
        ratio_goal=st.none() | st.just(inf),
        trackers=st.lists(trackers, max_size=6).map(tuple),
    )
)
def test_every_chain_can_be_said_and_sent(facts: Facts) -> None:
    for reason in diagnose(facts):
        assert words(reason)
        record = reason_record(reason)
        assert record["code"] == reason.code
        assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_download_that_stands_still_always_has_a_reason() -> None:
    for number in range(2**6):
        peers, interesting, unchoked, verifying, waits, limited = (number >> bit & 1 for bit in range(6))
        chain = of(
            "downloading",
            peers=peers,
            interesting=interesting,
            unchoked_by=unchoked,
            verifying=bool(verifying),
            disk_waits=bool(waits),
            limited=bool(limited),
        )
        assert any(reason.holds for reason in chain)
