"""What each reason says to a person, and to a program."""

from __future__ import annotations

from math import inf, nan

import pytest

from unchoke.engine import reasons as r

FAILS = r.Source("tracker", "udp://t", "failed: timed out", 12.0, 30.0)
TELLS = r.Source("tracker", "http://u", "gave 0 peers", 7200.0, inf)
ASKED = r.Source("tracker", "http://v", "failed: no", 200.0, None, asking=True)
MANY = tuple(r.Source("tracker", f"t{number}", "is silent") for number in range(5))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            r.NoPeers((FAILS, TELLS, ASKED)),
            "no peers yet: tracker udp://t failed: timed out (12 s ago, again in 30 s);"
            " tracker http://u gave 0 peers (2 h ago, never again); tracker http://v failed: no (3 min ago, being asked again)",
        ),
        (r.NoPeers(MANY), "no peers yet: tracker t0 is silent; tracker t1 is silent; tracker t2 is silent; and 2 more"),
        (r.NoPeers(MANY[:1], known=3, dialing=2), "no peers yet: dialling 2; tracker t0 is silent"),
        (
            r.NoPeers((r.Source("dht", "DHT", "gave 0 peers from 8 nodes", 9.0, 51.0),)),
            "no peers yet: the DHT gave 0 peers from 8 nodes (9 s ago, again in 51 s)",
        ),
        (r.NoPeers((), known=3), "no peers yet: none of 3 known answers"),
        (r.FewPeers((FAILS,)), "looking for more peers: tracker udp://t failed: timed out (12 s ago, again in 30 s)"),
        (r.NobodyHas(1), "1 peer, none has what we lack"),
        (r.NobodyHas(2, 1), "2 peers, none has the 1 piece we lack"),
        (r.AllChoke(4, 2), "4 peers, all choke us"),
        (r.Waiting(2), "asked 2 peers, waiting for data"),
        (r.Waiting(2, 1, 200.0), "asked 2 peers, 1 of them not answering, waiting for data, nothing came for 3 min"),
        (r.AtLimit("torrent", "up", 2.5e6), "held by this torrent's upload limit of 2.5 MB/s"),
        (r.AtLimit("session", "down"), "held by the session's download limit"),
        (r.DiskSlow(True), "the disk is slower than the network"),
        (r.DiskSlow(False), "waiting for the disk"),
        (r.Queued(3, 2, "downloads"), "queued at position 3, 2 before it (limit of active downloads)"),
        (r.Queued(None), "queued, the next to start"),
        (r.Checking(0.123), "checking, 12.3 %"),
        (r.Checking(0.0, 2), "waiting for 2 other checks"),
        (r.NoSpace(1 << 30, 3 << 30, "/d"), "no space in /d: 3.0 GiB needed, 1.0 GiB free"),
        (r.NoSpace(0, 1500, "", 10.0), "no space: 1.5 KiB needed, 0 B free (tries again in 10 s)"),
        (r.Problem("it broke"), "it broke"),
        (r.StorageProblem("/d is gone", 4000.0, 15.0), "/d is gone (for 67 min, tries again in 15 s)"),
        (r.Stopped("user"), "stopped by its user"),
        (r.Stopped(""), "stopped"),
        (r.Stopped("goal", "stopped: its ratio of 2 is reached"), "stopped: its ratio of 2 is reached"),
        (r.Seeding(3, 2, 1, 0.5, 2.0), "serving 1 of 3 peers, ratio 0.50 of 2"),
        (r.Seeding(3), "nobody wants data now, ratio 0.00"),
    ],
)
def test_words(reason: r.Reason, words: str) -> None:
    assert r.words(reason) == words


def test_what_only_tells_holds_nothing() -> None:
    telling = [r.Seeding(1), r.Checking(0.5)]
    assert not any(reason.holds for reason in telling)
    assert all(reason.holds for reason in (r.Checking(0.0, 1), r.Stopped("user"), r.NoPeers()))


def test_for_programs() -> None:
    assert r.reason_record(r.NoPeers((TELLS,), known=1)) == {
        "code": "no_peers",
        "words": "no peers yet: the one known address does not answer; tracker http://u gave 0 peers (2 h ago, never again)",
        "sources": [
            {
                "kind": "tracker",
                "name": "http://u",
                "said": "gave 0 peers",
                "ago": 7200.0,
                "next_in": None,
                "asking": False,
            }
        ],
        "known": 1,
        "dialing": 0,
        "last_refusal": "",
    }
    assert r.reason_record(r.Seeding(0, ratio=nan))["ratio"] is None
    assert r.reason_record(r.StorageProblem("gone", 1.23456))["lasts"] == 1.235


def test_every_reason_has_a_code_of_its_own() -> None:
    kinds = [kind for kind in vars(r).values() if isinstance(kind, type) and issubclass(kind, r.Reason)]
    codes = [kind.code for kind in kinds if kind is not r.Reason and not kind.__name__.startswith("_")]
    assert len(codes) == len(set(codes)) == 16
    assert all(code.isidentifier() and code.islower() for code in codes)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "2 h"),
        (129600, "2 d"),
        (9e6, "104 d"),
    ],
)
def test_spans(seconds: float, words: str) -> None:
    assert r.span(seconds) == words


def test_sizes_and_rates() -> None:
    assert [r.size(number) for number in (1023, 1024, 1023.99 * 1024, 2**70)] == [
        "1023 B",
        "1.0 KiB",
        "1.0 MiB",
        "1048576.0 PiB",
    ]
    assert [r.rate(number) for number in (999, 1500, 2e6)] == ["999 B/s", "1.5 kB/s", "2.0 MB/s"]
