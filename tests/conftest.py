"""For every test: nothing of the user's own is read or written, nobody is looked for, and leaks can be asked about.

With ``CI`` set in the environment a skipped test is a failed one, unless it carries ``@pytest.mark.platform(reason)``:
on the build machine nothing may be missing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from pathlib import Path
from typing import Any, Protocol

import pytest

from interop import torrents

_GRACE = 2.0  # seconds a closed transport may take to give its descriptor back
_home = ""


def pytest_configure(config: pytest.Config) -> None:
    global _home
    config.addinivalue_line("markers", "platform(reason): cannot run on every platform; may be skipped even under CI")
    _home = tempfile.mkdtemp(prefix="unchoke-tests-")
    os.environ["UNCHOKE_HOME"] = _home
    os.environ["UNCHOKE_NETWORK__DISCOVERY"] = "0"


def pytest_unconfigure() -> None:
    shutil.rmtree(_home, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.get_closest_marker("platform") is None and not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome == "skipped" and os.environ.get("CI"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped when CI is set, but: {why}"


@pytest.fixture
def payload() -> Callable[[int, int], bytes]:
    """``payload(size, seed)``: random bytes, the same each time."""
    return torrents.payload


class MakeTorrent(Protocol):
    def __call__(self, source: Path, *, trackers: Iterable[str] = (), piece_length: int = 1 << 16) -> Path: ...


@pytest.fixture
def make_torrent(tmp_path: Path) -> MakeTorrent:
    """``make_torrent(file_or_folder)``: the path of a v1 torrent of it, made without the code under test."""

    def make(source: Path, *, trackers: Iterable[str] = (), piece_length: int = 1 << 16) -> Path:
        out = tmp_path / f"{source.name}.torrent"
        return torrents.build_torrent(source, out, trackers=list(trackers), piece_length=piece_length)

    return make


@pytest.fixture
async def no_leaks() -> AsyncIterator[None]:
    """After the test: no asyncio task but pytest's own, no socket, pipe or file that was not open before."""
    tasks_before, files_before = _tasks(), _open_files()
    yield
    left = _left(tasks_before, files_before)
    deadline = asyncio.get_running_loop().time() + _GRACE
    while left and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
        left = _left(tasks_before, files_before)
    assert not left, "left behind: " + "; ".join(left)


def _tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if not task.done()}


def _open_files() -> dict[str, str]:
    """Descriptor → what it is, where the system can say (Linux); empty elsewhere."""
    found: dict[str, str] = {}
    folder = Path("/proc/self/fd")
    for entry in folder.iterdir() if folder.is_dir() else ():
        try:
            found[entry.name] = str(entry.readlink())
        except OSError:
            continue  # the descriptor of this very listing
    return {number: what for number, what in found.items() if "/fd" not in what}


def _left(tasks_before: set[asyncio.Task[Any]], files_before: dict[str, str]) -> list[str]:
    fresh = _tasks() - tasks_before - {asyncio.current_task()}
    files = set(_open_files().items()) - set(files_before.items())
    return [repr(task) for task in fresh if task is not None] + [f"{what} ({number})" for number, what in sorted(files)]
