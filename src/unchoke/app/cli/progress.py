"""Progress of ``get`` and ``seed``: a live bar a torrent on a terminal, a plain line every ten seconds elsewhere, or JSON lines.

Drawn from snapshots a few times a second on the engine's own loop, so that it needs no thread and no lock; what a drawing
costs is measured in ``benchmarks``. Everything strangers named is cleaned before it is shown.
"""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Any, Protocol

from unchoke.app.cli.text import clean, format_duration, format_rate, format_size
from unchoke.engine.reasons import Reason, reason_record, words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from unchoke.engine.stats import TorrentSnapshot

#: Seconds between two lines where there is no terminal.
PLAIN_INTERVAL = 10.0
#: Seconds between two drawings of the live display.
LIVE_INTERVAL = 0.25
#: Torrents drawn each with a bar; the rest is in the total.
MOST_BARS = 12
#: Lines below a torrent's own that say what holds it; the rest is counted.
MOST_REASONS = 3
#: The narrowest that a name is cut to.
LEAST_NAME = 12
#: What a terminal has room for, the richest first: columns it needs, width of the bar, with upload rate?, with sizes?
LAYOUTS = (
    (95, 24, True, True),
    (75, 10, True, True),
    (75, 10, False, True),
    (60, 0, False, True),
    (0, 0, False, False),
)


class Reporter(Protocol):
    """What the commands tell of."""

    interval: float

    def draw(self, snapshots: list[TorrentSnapshot], now: float) -> None:
        """The state now; called every ``interval`` seconds."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def happened(self, event: str, snapshot: TorrentSnapshot | None, **facts: object) -> None:
        """Something for programs that read our JSON."""

    def close(self) -> None:
        """Give the terminal back."""


def make_reporter(*, progress: bool, quiet: bool, json: bool, color: str) -> Reporter:
    if json:
        return JsonReporter(sys.stdout)
    if quiet:
        return QuietReporter()
    if not progress:
        return PlainReporter(sys.stderr, lines=False)
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return LiveReporter(color)
    return PlainReporter(sys.stderr, lines=True)


class QuietReporter:
    """Nothing but errors, and these go another way."""

    interval = 1.0

    def draw(self, snapshots: list[TorrentSnapshot], now: float) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def happened(self, event: str, snapshot: TorrentSnapshot | None, **facts: object) -> None:
        pass

    def close(self) -> None:
        pass


class PlainReporter(QuietReporter):
    """``lines``: also a line of progress a torrent every ten seconds."""

    def __init__(self, out: IO[str], *, lines: bool) -> None:
        self._out = out
        self._lines = lines
        self._next: float | None = None

    def draw(self, snapshots: list[TorrentSnapshot], now: float) -> None:
        if not self._lines:
            return
        if self._next is None:
            self._next = now + PLAIN_INTERVAL
        elif now >= self._next:
            self._next = now + PLAIN_INTERVAL
            for snapshot in snapshots:
                self.say("\n  ".join(status_lines(snapshot)))

    def say(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()


class JsonReporter(QuietReporter):
    """One object a line: ``event`` says what it is; ``progress`` comes once a second."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def draw(self, snapshots: list[TorrentSnapshot], now: float) -> None:
        for snapshot in snapshots:
            self.happened("progress", snapshot)

    def happened(self, event: str, snapshot: TorrentSnapshot | None, **facts: object) -> None:
        import json

        record: dict[str, object] = {"event": event}
        if snapshot is not None:
            record |= snapshot_record(snapshot)
        self._out.write(json.dumps(record | facts) + "\n")
        self._out.flush()


class LiveReporter(QuietReporter):
    """Bars that are drawn over, with rich."""

    interval = LIVE_INTERVAL

    def __init__(self, color: str) -> None:
        from rich.console import Console
        from rich.live import Live

        forced = True if color == "always" else None
        plain = color == "never" or (color == "auto" and "NO_COLOR" in os.environ)
        self._console = Console(stderr=True, no_color=plain, force_terminal=forced, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._columns = self._layout = 0
        self._live.start()

    def draw(self, snapshots: list[TorrentSnapshot], now: float) -> None:
        self._live.update(self._table(snapshots), refresh=True)

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    def _table(self, snapshots: list[TorrentSnapshot]) -> RenderableType:
        from rich.console import Group
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        shown = snapshots[:MOST_BARS]
        shares = [one.checked if one.state == "checking" else one.progress for one in shown]
        bar_width, cells = self._fitting(shown, shares)
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(ratio=1, min_width=LEAST_NAME, no_wrap=True, overflow="ellipsis")
        if bar_width:
            table.add_column(width=bar_width)
        for _ in cells[0] if cells else ():
            table.add_column(justify="right", no_wrap=True)
        for snapshot, share, row in zip(shown, shares, cells, strict=True):
            bar = [ProgressBar(total=1.0, completed=share, width=bar_width)] if bar_width else []
            table.add_row(Text(clean(snapshot.name)), *bar, *(Text(cell) for cell in row))
        rows: list[Any] = [table]
        for indent, line in self._reasons(shown, several=len(snapshots) > 1):
            rows.append(Padding(Text(line, style="yellow", overflow="fold"), (0, 0, 0, indent)))
        if len(snapshots) > 1:
            rows.append(Text(_total_line(snapshots), style="bold"))
        return Group(*rows)

    def _reasons(self, shown: list[TorrentSnapshot], *, several: bool) -> list[tuple[int, str]]:
        """What holds each, with its indent; only the outermost causes where the terminal has no room for more."""
        found: list[tuple[int, str]] = []
        for snapshot in shown:
            whose = f"{clean(snapshot.name)}: " if several else ""
            for number, line in enumerate(reason_lines(snapshot)):
                found.append((4, line) if number else (2, whose + line))
        if several and len(shown) + len(found) + 1 > self._console.height:
            return [line for line in found if line[0] == 2]
        return found

    def _fitting(self, shown: list[TorrentSnapshot], shares: list[float]) -> tuple[int, list[list[str]]]:
        """Width of the bar, and the other cells, of the richest layout that fits; it grows back only with the terminal."""
        columns = self._console.width
        if columns != self._columns:
            self._columns, self._layout = columns, 0
        while True:
            least, bar, up, sizes = LAYOUTS[self._layout]
            cells = [_cells(one, share, up=up, sizes=sizes) for one, share in zip(shown, shares, strict=True)]
            needed = LEAST_NAME + (bar + 1 if bar else 0)
            needed += sum(1 + max(map(len, column)) for column in zip(*cells, strict=True))
            if max(least, needed) <= columns or self._layout == len(LAYOUTS) - 1:
                return bar, cells
            self._layout += 1

    def close(self) -> None:
        self._live.stop()


def _cells(snapshot: TorrentSnapshot, share: float, *, up: bool, sizes: bool) -> list[str]:
    """What stands behind the bar; as many for every torrent."""
    state = {"downloading": "", "seeding": "seeding"}.get(snapshot.state, snapshot.state)
    eta = format_duration(snapshot.eta) if snapshot.eta is not None else ""
    sized = snapshot.state != "metadata"  # nobody knows yet of how much
    cells = [f"{100 * share:.1f} %" if sized else ""]
    if sizes:
        cells.append(f"{format_size(snapshot.done)}/{format_size(snapshot.wanted)}" if sized else "")
    cells.append(f"↓ {format_rate(snapshot.down_rate)}")
    if up:
        cells.append(f"↑ {format_rate(snapshot.up_rate)}")
    cells.append(_peers(snapshot) + (f" · {state}" if state else f" · {eta}" if eta else ""))
    return cells


def status_lines(snapshot: TorrentSnapshot) -> list[str]:
    """One torrent in one line, and what lies behind the reason at its end in a few more."""
    outer, *behind = reason_lines(snapshot) or [""]
    return [f"{_status(snapshot, outer)}{f' ({outer})' if outer else ''}", *behind]


def _status(snapshot: TorrentSnapshot, why: str) -> str:
    name = clean(snapshot.name)
    if snapshot.state == "checking":
        return f"{name}: checking, {100 * snapshot.checked:.1f} %"
    if snapshot.state == "metadata":
        return f"{name}: metadata, {_peers(snapshot)}"
    parts = [
        f"{100 * snapshot.progress:.1f} % of {format_size(snapshot.wanted)}",
        f"down {format_rate(snapshot.down_rate)}",
        f"up {format_rate(snapshot.up_rate)}",
        _peers(snapshot),
    ]
    if snapshot.eta is not None:
        parts.append(f"{format_duration(snapshot.eta)} left")
    if snapshot.state != "downloading" and not why.startswith(snapshot.state):
        parts.append(snapshot.state)
    return f"{name}: {', '.join(parts)}"


def reason_lines(snapshot: TorrentSnapshot) -> list[str]:
    """What holds the torrent, a line each: the outermost cause, then what lies behind it; empty when nothing does."""
    lines = [clean(line) for reason in snapshot.reasons if reason.holds for line in _told(reason)]
    more = len(lines) - 1 - MOST_REASONS
    if more < 2:  # a last one takes no more room than its count
        return lines
    return [*lines[: 1 + MOST_REASONS], f"and {more} more"]


def _told(reason: Reason) -> list[str]:
    """One reason; a single detail stands in its line, several below it."""
    return [words(reason)] if len(reason.details) < 2 else [reason.headline, *reason.details]


def _total_line(snapshots: list[TorrentSnapshot]) -> str:
    wanted = sum(snapshot.wanted for snapshot in snapshots)
    done = sum(snapshot.done for snapshot in snapshots)
    down = sum(snapshot.down_rate for snapshot in snapshots)
    up = sum(snapshot.up_rate for snapshot in snapshots)
    finished = sum(snapshot.done == snapshot.wanted for snapshot in snapshots)
    share = done / wanted if wanted else 1.0
    return (
        f"{finished} of {len(snapshots)} complete · {100 * share:.1f} % of {format_size(wanted)}"
        f" · ↓ {format_rate(down)} · ↑ {format_rate(up)}"
    )


def _peers(snapshot: TorrentSnapshot) -> str:
    servers = f", {snapshot.web_seeds} web seed{'' if snapshot.web_seeds == 1 else 's'}" if snapshot.web_seeds else ""
    return f"{snapshot.peers} peer{'' if snapshot.peers == 1 else 's'}{servers}"


def snapshot_record(snapshot: TorrentSnapshot) -> dict[str, object]:
    """A snapshot as JSON has it. Rates in bytes/s, times in seconds."""
    return {
        "infohash": snapshot.infohash.hex(),
        "name": clean(snapshot.name),
        "state": snapshot.state,
        "size": snapshot.wanted,
        "done": snapshot.done,
        "down_rate": round(snapshot.down_rate),
        "up_rate": round(snapshot.up_rate),
        "downloaded": snapshot.downloaded,
        "uploaded": snapshot.uploaded,
        "peers": snapshot.peers,
        "seeds": snapshot.seeds,
        "eta": None if snapshot.eta is None else round(snapshot.eta),
        "why": clean(snapshot.why()),
        "reasons": [_cleaned(reason_record(reason)) for reason in snapshot.reasons],
    }


def _cleaned(value: Any) -> Any:
    """The same for JSON, with all text made harmless."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(one) for one in value]
    return {name: _cleaned(one) for name, one in value.items()} if isinstance(value, dict) else value
