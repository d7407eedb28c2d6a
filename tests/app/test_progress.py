"""What a person or a program sees of progress: lines, bars, JSON."""

from __future__ import annotations

import io
import json
import re

import pytest

from torrent_snapshots import snapshot
from unchoke.app.cli.progress import (
    JsonReporter,
    LiveReporter,
    PlainReporter,
    QuietReporter,
    make_reporter,
    status_lines,
)
from unchoke.engine.stats import TorrentSnapshot
from unchoke.policy.announce import TrackerState


def test_a_line() -> None:
    moving = snapshot(down_rate=2e6, up_rate=1e3, peers=3)
    assert status_lines(moving) == ["stuff: 25.0 % of 4.0 MiB, down 2.0 MB/s, up 1.0 kB/s, 3 peers, 2s left"]
    assert status_lines(snapshot(state="checking", checked=0.5)) == ["stuff: checking, 50.0 %"]
    (alone,) = status_lines(snapshot(peers=1))
    assert alone.endswith("1 peer (1 peer, none has what we lack)")


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({"state": "stopped", "reason": "verified"}, "0 peers, stopped (verified)"),
        ({"state": "stopped", "reason": "stopped by its user"}, "0 peers (stopped by its user)"),
        ({"state": "queued", "position": 1}, "0 peers (queued at position 2, the next to start)"),
        ({"state": "checking", "checks_ahead": 2}, "checking, 100.0 % (waiting for 2 other checks)"),
        ({"state": "error", "reason": "disk full"}, "0 peers, error (disk full)"),
        ({"state": "no space", "space_free": 0, "space_needed": 5}, "0 peers (no space: 5 B needed, 0 B free)"),
        ({"down_rate": 1e5, "limited_by": "torrent"}, "31s left (held by this torrent's download limit)"),
    ],
)
def test_a_line_says_what_holds_it(changes: dict[str, object], ending: str) -> None:
    (line,) = status_lines(snapshot(**changes))
    assert line.endswith(ending)


def trackers(count: int) -> tuple[TrackerState, ...]:
    return tuple(
        TrackerState(url=f"http://t{n}/announce", tier=n, status="failed", error="no\x1b[2J") for n in range(count)
    )


def test_what_several_trackers_say_stands_below() -> None:
    out = io.StringIO()
    reporter = PlainReporter(out, lines=True)
    reporter.draw([], 0.0)
    reporter.draw([snapshot(dialing=2, trackers=trackers(6)), snapshot(name="b", trackers=trackers(2))], 20.0)
    assert out.getvalue().splitlines() == [
        "stuff: 25.0 % of 4.0 MiB, down 0 B/s, up 0 B/s, 0 peers (no peers yet)",
        "  dialling 2",
        "  tracker http://t0/announce failed: no[2J",
        "  tracker http://t1/announce failed: no[2J",
        "  and 4 more",
        "b: 25.0 % of 4.0 MiB, down 0 B/s, up 0 B/s, 0 peers (no peers yet)",
        "  tracker http://t0/announce failed: no[2J",
        "  tracker http://t1/announce failed: no[2J",
    ]


def test_the_last_of_several_is_told_and_not_counted() -> None:
    assert status_lines(snapshot(trackers=trackers(4)))[-1] == "tracker http://t3/announce failed: no[2J"
    assert status_lines(snapshot(trackers=trackers(5)))[-1] == "and 2 more"


def test_before_its_metadata_no_size_is_made_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    early = snapshot(name="0123456789abcdef", state="metadata", wanted=0, done=0, trackers=trackers(1))
    assert status_lines(early) == [
        "0123456789abcdef: metadata, 0 peers (no peers yet: tracker http://t0/announce failed: no[2J)"
    ]
    monkeypatch.setenv("COLUMNS", "100")
    line = drawn([early], capsys)[0]
    assert "metadata" in line
    assert "%" not in line
    assert "0 B/0 B" not in line


def test_a_chain_stands_below() -> None:
    assert status_lines(snapshot(peers=2, pieces_missing_everywhere=3, trackers=trackers(1)))[1:] == [
        "looking for more peers: tracker http://t0/announce failed: no[2J"
    ]


def test_json_has_the_reasons() -> None:
    out = io.StringIO()
    JsonReporter(out).draw([snapshot(trackers=trackers(5)), snapshot(state="seeding", peers=1)], 0.0)
    waiting, seeding = (json.loads(line) for line in out.getvalue().splitlines())
    assert [reason["code"] for reason in waiting["reasons"]] == ["no_peers"]
    assert len(waiting["reasons"][0]["sources"]) == 5
    assert waiting["reasons"][0]["sources"][0]["name"] == "http://t0/announce"
    assert (seeding["why"], seeding["reasons"][0]["code"]) == ("", "seeding")


def test_strangers_cannot_write_to_the_terminal() -> None:
    assert not any("\x1b" in line for line in status_lines(snapshot(name="evil\x1b[2Jname", trackers=trackers(3))))


def test_plain_lines_come_every_ten_seconds() -> None:
    out = io.StringIO()
    reporter = PlainReporter(out, lines=True)
    for now in range(0, 25):
        reporter.draw([snapshot()], float(now))
    assert len(out.getvalue().splitlines()) == 2
    silent = io.StringIO()
    PlainReporter(silent, lines=False).draw([snapshot()], 0.0)
    assert silent.getvalue() == ""


def test_json_has_one_object_a_line() -> None:
    out = io.StringIO()
    reporter = JsonReporter(out)
    reporter.draw([snapshot(), snapshot(name="b")], 0.0)
    reporter.happened("failed", None, code=3)
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [record["event"] for record in records] == ["progress", "progress", "failed"]
    assert (records[0]["done"], records[0]["size"], records[2]["code"]) == (1 << 20, 4 << 20, 3)


@pytest.mark.parametrize("color", ["never", "always"])
def test_bars(color: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    reporter = LiveReporter(color)
    reporter.draw([snapshot(down_rate=2e6, peers=3), snapshot(name="other")], 0.0)
    reporter.say("a line that stays")
    reporter.close()
    said = capsys.readouterr().err
    assert "a line that stays" in said
    if color == "always":
        assert "25.0 %" in said
        assert "0 of 2 complete" in said


@pytest.mark.parametrize("columns", [50, 60, 80, 95, 120])
def test_every_width_has_name_and_percentage(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    reporter = LiveReporter("never")
    long = "a long name that no terminal has the room for, however wide it may be, not even a very wide one"
    moving = snapshot(name=long, down_rate=2e6, up_rate=1e3, peers=3)
    reporter.close()
    capsys.readouterr()
    reporter._console.print(reporter._table([moving, snapshot(name="other", peers=1)]))
    lines = capsys.readouterr().err.splitlines()
    assert all(len(line) <= columns for line in lines)
    assert re.match(r"a long nam.*25\.0 %.*↓ 2\.0 MB/s", lines[0])
    assert "3 peers" in lines[0]
    assert ("1.0 MiB/4.0 MiB" in lines[0]) == (columns >= 60)
    assert ("↑ 1.0 kB/s" in lines[0]) == (columns >= 95)
    assert ("━" in lines[0]) == (columns >= 75)
    assert re.match(r"other.*25\.0 %", lines[1])
    assert lines[2].startswith("  other: 1 peer, none has")


def test_why_is_told_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    reporter = LiveReporter("never")
    reporter.close()
    capsys.readouterr()
    reporter._console.print(reporter._table([snapshot()]))
    said = " ".join(line.strip() for line in capsys.readouterr().err.splitlines()[1:])
    assert said == snapshot().why()


def drawn(snapshots: list[TorrentSnapshot], capsys: pytest.CaptureFixture[str]) -> list[str]:
    reporter = LiveReporter("never")
    reporter.close()
    capsys.readouterr()
    reporter._console.print(reporter._table(snapshots))
    return [line.rstrip() for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize(("height", "lines"), [("25", 3 + 4 + 5 + 1), ("10", 3 + 3)])
def test_reasons_never_push_the_total_off_the_terminal(
    height: str, lines: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", height)
    several = [snapshot(trackers=trackers(3)), snapshot(name="b", trackers=trackers(5)), snapshot(name="c", peers=1)]
    said = drawn(several, capsys)
    assert len(said) == lines + 1
    assert said[3] == "  stuff: no peers yet"
    assert (said[4] == "    tracker http://t0/announce failed: no[2J") == (height == "25")
    assert ("    and 2 more" in said) == (height == "25")
    assert "  c: 1 peer, none has what we lack" in said
    assert said[-1].startswith("0 of 3 complete")


def test_the_reporter_follows_the_flags() -> None:
    def kind(**flags: bool) -> type:
        given = {"progress": True, "quiet": False, "json": False} | flags
        return type(make_reporter(color="auto", **given))

    assert kind(json=True, quiet=True) is JsonReporter
    assert kind(quiet=True) is QuietReporter
    assert kind() is PlainReporter  # no terminal here
    assert kind(progress=False) is PlainReporter
