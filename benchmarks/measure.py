"""One process from exec to exit: wall clock, processor time, peak memory; and the processor time of one that goes on.

The measuring process must stay small: Linux counts the memory of the parent at the moment of the fork into the child's
peak, so libtorrent, aiohttp and the like are never imported here.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
_TICK = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A measured program failed, took too long, or delivered wrong bytes."""


@dataclass(frozen=True, slots=True)
class Run:
    """``wall`` and ``cpu`` in seconds (user and system, children included), ``rss`` the peak in bytes."""

    wall: float
    cpu: float
    rss: int


def run(argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, timeout: float = 600.0) -> Run:
    """Run to the end. Raises BenchError with the end of its output when it fails or is not done in ``timeout`` seconds."""
    with log.open("wb") as out:
        began = time.perf_counter()
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )
        try:
            in_time = _await_exit(child.pid, timeout)
        except BaseException:
            child.kill()
            child.wait()
            raise
        wall = time.perf_counter() - began
        if not in_time:
            child.kill()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if not in_time or child.returncode:
        what = f"not done in {timeout:g} s" if not in_time else f"ended with {child.returncode}"
        raise BenchError(f"{' '.join(argv)}: {what}\n{log.read_text(errors='replace')[-2000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _await_exit(pid: int, timeout: float) -> bool:
    handle = os.pidfd_open(pid)
    try:
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        return bool(waiting.poll(timeout * 1000))
    finally:
        os.close(handle)


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
