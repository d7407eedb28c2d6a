"""One process from exec to exit: wall clock, processor time, peak memory; and the processor time of one that goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
LAUNCH = str(Path(__file__).with_name("launch.py"))
_TICK = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A measured program failed, took too long, or delivered wrong bytes."""


@dataclass(frozen=True, slots=True)
class Run:
    """``wall`` and ``cpu`` in seconds (user and system, children included), ``rss`` the peak in bytes."""

    wall: float
    cpu: float
    rss: int


def run(argv: Sequence[str], folder: Path, *, env: Mapping[str, str] | None = None, timeout: float = 600.0) -> Run:
    """Run to the end; ``folder`` keeps its output. BenchError when it fails or is not done in ``timeout`` seconds."""
    log, result = folder / "log", folder / "cost.json"
    result.unlink(missing_ok=True)
    with log.open("wb") as out:
        launcher = subprocess.Popen(
            [sys.executable, "-I", "-S", LAUNCH, str(result), *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        try:
            launcher.wait(timeout)
        except BaseException as error:
            os.killpg(launcher.pid, signal.SIGKILL)  # the session we made: the launcher and what it started
            launcher.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise _failure(argv, f"not done in {timeout:g} s", log) from None
            raise
    if not result.exists():
        raise _failure(argv, "could not be started", log)
    cost = json.loads(result.read_text())
    if cost["exit"]:
        raise _failure(argv, f"ended with {cost['exit']}", log)
    return Run(cost["wall"], cost["cpu"], cost["rss"])


def _failure(argv: Sequence[str], what: str, log: Path) -> BenchError:
    return BenchError(f"{' '.join(argv)}: {what}\n{log.read_text(errors='replace')[-2000:]}")


def cpu_of(pid: int) -> float:
    """Seconds of processor time (user and system) a living process has used; to a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def peak_of(pid: int) -> int:
    """VmHWM of a living process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def assert_same(one: Path, other: Path) -> None:
    """Compare two files; BenchError when they differ."""
    same = one.stat().st_size == other.stat().st_size
    with one.open("rb") as left, other.open("rb") as right:
        while same and (chunk := left.read(4 * MIB)):
            same = chunk == right.read(len(chunk))
    if not same:
        raise BenchError(f"{other} is not {one}")
