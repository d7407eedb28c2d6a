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
    status_line,
)


def test_a_line() -> None:
    moving = snapshot(down_rate=2e6, up_rate=1e3, peers=3)
    assert status_line(moving) == "stuff: 25.0 % of 4.0 MiB, down 2.0 MB/s, up 1.0 kB/s, 3 peers, 2s left"
    assert status_line(snapshot(state="checking", checked=0.5)) == "stuff: checking, 50.0 %"
    assert status_line(snapshot(peers=1)).endswith("1 peer (1 peer, none has what we lack)")


def test_strangers_cannot_write_to_the_terminal() -> None:
    assert "\x1b" not in status_line(snapshot(name="evil\x1b[2Jname", peers=1))


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


def test_the_reporter_follows_the_flags() -> None:
    def kind(**flags: bool) -> type:
        given = {"progress": True, "quiet": False, "json": False} | flags
        return type(make_reporter(color="auto", **given))

    assert kind(json=True, quiet=True) is JsonReporter
    assert kind(quiet=True) is QuietReporter
    assert kind() is PlainReporter  # no terminal here
    assert kind(progress=False) is PlainReporter
