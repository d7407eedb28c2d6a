"""Thousands of seeds that nobody asks for: ``python -m benchmarks idle``.

Small torrents of ten files each, over HTTP and UDP trackers by turns, in one session: what it costs to add them, to open the session
again with its records, to keep them (memory, processor), and whether all of them are still there: the tracker must have
heard of each, and a peer that asks for any ten gets them byte for byte, from seeds that were asleep.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import LT_TOOL, PYTHON
from benchmarks.measure import BenchError, cpu_of
from interop.program import Program
from unchoke.protocol.bencode import Encodable, encode

FILES, FILE_SIZE, PIECE = 10, 2000, 16 * 1024
#: Torrents that a peer asks for in the end.
ASKED = 10
KIB = 1024

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How many torrents, and for how many seconds they are watched doing nothing."""

    count: int
    seconds: float


@dataclass(frozen=True)
class Figure:
    """One line of the table: a target of None is a mere fact."""

    name: str
    value: float
    unit: str
    target: float | None = None
    theirs: float | None = None

    def row(self) -> str:
        target = "" if self.target is None else f"{self.target:10.2f}"
        verdict = "" if self.target is None else "  ok" if self.value <= self.target else "  MISSED"
        theirs = "" if self.theirs is None else f"{self.theirs:10.2f}"
        return f"{self.name:<44}{self.value:10.2f} {self.unit:<8}{target:>10}{theirs:>12}{verdict}"


def idle(plan: Plan, say: Progress) -> list[Figure]:
    """All of it, in a folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="unchoke-idle-"))
    try:
        with _tracker() as (http, udp):
            began = time.perf_counter()
            make(folder, plan.count, (http, udp))
            say(f"made {plan.count} torrents in {time.perf_counter() - began:.1f} s")
            return _measure(folder, plan, http, say)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def table(figures: list[Figure]) -> str:
    head = f"{'idle':<44}{'measured':>10} {'':<8}{'target':>10}{'libtorrent':>12}"
    return "\n".join([head, *(figure.row() for figure in figures)])


# ---------------------------------------------------------------------- what it works on


def make(folder: Path, count: int, trackers: tuple[str, ...]) -> None:
    """``count`` torrents in ``folder``/torrents, their data in ``folder``/data."""
    (folder / "torrents").mkdir()
    data = folder / "data"
    data.mkdir()
    for number in range(count):
        payload = random.Random(number).randbytes(FILES * FILE_SIZE)
        name = f"torrent-{number:05}"
        (data / name).mkdir()
        for index in range(FILES):
            at = index * FILE_SIZE
            (data / name / f"file-{index}").write_bytes(payload[at : at + FILE_SIZE])
        hashes = b"".join(hashlib.sha1(payload[at : at + PIECE]).digest() for at in range(0, len(payload), PIECE))
        info: dict[bytes, Encodable] = {
            b"files": [{b"length": FILE_SIZE, b"path": [b"file-%d" % index]} for index in range(FILES)],
            b"name": name.encode(),
            b"piece length": PIECE,
            b"pieces": hashes,
        }
        torrent: dict[bytes, Encodable] = {b"announce": trackers[number % len(trackers)].encode(), b"info": info}
        (folder / "torrents" / f"{number:05}.torrent").write_bytes(encode(torrent))


@contextmanager
def _tracker() -> Iterator[tuple[str, str]]:
    """Our own tracker in a process of its own: its announce URLs, HTTP and UDP."""
    argv = [PYTHON, "-m", "unchoke", "tracker", "--bind", "127.0.0.1", "--port", "0", "--interval", "1800"]
    program = Program(argv, "tracker")
    try:
        http = program.wait_line(r"^http://\S+$").group()
        yield http, program.wait_line(r"^udp://\S+$").group()
    finally:
        program.stop()


def known_to(http: str) -> int:
    """Seeds that the tracker has heard of, over all torrents."""
    with urllib.request.urlopen(http.replace("/announce", "/stats"), timeout=10) as reply:
        return int(json.load(reply)["seeds"])


# ---------------------------------------------------------------------- the measuring


def _measure(folder: Path, plan: Plan, http: str, say: Progress) -> list[Figure]:
    theirs = _libtorrent(folder, plan, say)
    added = _told(_worker("add", folder), "added", 600)
    say(f"added: {added}")
    seeder = _worker("seed", folder)
    try:
        opened = _told(seeder, "opened", 120, keep=True)
        say(f"opened: {opened}")
        began = time.monotonic()
        while (known := known_to(http)) < plan.count:
            if time.monotonic() - began > 60 + plan.count / 50:
                raise BenchError(f"the tracker has heard of {known} of {plan.count}\n{seeder.tail()}")
            time.sleep(0.5)
        announced = time.monotonic() - began
        say(f"all announced after {announced:.1f} s; now {plan.seconds:g} s of rest")
        time.sleep(5)  # answers, and what they leave to clean up
        seeder.tell(signal.SIGUSR1)  # the measuring heartbeat would be most of what is measured
        time.sleep(0.5)
        before = cpu_of(seeder.pid)
        time.sleep(plan.seconds)
        spent = cpu_of(seeder.pid) - before
        memory = resident(seeder.pid) - opened["base"]
        seeder.tell(signal.SIGUSR2)
        asked = _told(_worker("ask", folder, str(int(opened["port"]))), "asked", 120)
        say(f"asked: {asked}")
        asleep = _told(seeder, "asleep", 120, keep=True)
        closing = time.monotonic()
        seeder.stop(timeout=60)
        closed = time.monotonic() - closing
    finally:
        seeder.stop()
    count = plan.count
    scale = count / 5000  # the targets are for 5,000
    return [
        Figure("add all (calls returned)", added["added"], "s", theirs=theirs.get("added")),
        Figure("add all (all of them seed)", added["seeding"], "s"),
        Figure("close them", added["closed"], "s"),
        Figure("open with records, all of them seed", opened["seconds"], "s", 3.0 * scale),
        Figure("worst delay of the loop meanwhile", opened["worst"] * 1e3, "ms"),
        Figure("memory of each, after opening", opened["memory"] / count / KIB, "KiB", 10.0),
        Figure("memory of each, at rest", memory / count / KIB, "KiB", 10.0, theirs.get("memory")),
        Figure("all known to the tracker after", announced, "s"),
        Figure("worst delay of the loop since", asleep["worst"] * 1e3, "ms", 50.0),
        Figure("processor at rest", 100 * spent / plan.seconds, "%", 1.0, theirs.get("cpu")),
        Figure(f"{ASKED} asked for, from sleep to verified", asked["seconds"], "s"),
        Figure("asleep again after", asleep["seconds"], "s"),
        Figure("close", closed, "s"),
    ]


def _libtorrent(folder: Path, plan: Plan, say: Progress) -> dict[str, float]:
    """The same torrents in a libtorrent session, seed mode, no trackers."""
    try:
        import libtorrent  # noqa: F401
    except ImportError:
        return {}
    program = Program([PYTHON, LT_TOOL, "idle", str(folder / "torrents"), str(folder / "data")], "libtorrent")
    try:
        found: dict[str, float] = json.loads(program.wait_line(r"^idle (.*)$", 120).group(1))
        time.sleep(5)
        before, seconds = cpu_of(program.pid), min(plan.seconds, 20.0)
        time.sleep(seconds)
        found["cpu"] = 100 * (cpu_of(program.pid) - before) / seconds
        found["memory"] = (resident(program.pid) - found["base"]) / plan.count / KIB
    finally:
        program.stop()
    say(f"libtorrent: {found}")
    return found


def _worker(job: str, folder: Path, *more: str) -> Program:
    argv = [PYTHON, "-m", "benchmarks.idle_worker", job, str(folder), *more]
    return Program(argv, job, cwd=Path(__file__).resolve().parent.parent)


def _told(program: Program, word: str, timeout: float, *, keep: bool = False) -> dict[str, float]:
    """The figures of a worker's line."""
    found: dict[str, float] = json.loads(program.wait_line(rf"^{word} (\{{.*\}})$", timeout).group(1))
    if not keep and program.wait(60) != 0:
        raise BenchError(f"{program.name} failed:\n{program.tail()}")
    return found


def resident(pid: int | str = "self") -> int:
    """Bytes of memory a living process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(table(idle(Plan(500, 10.0), lambda line: print(line, file=sys.stderr))))
