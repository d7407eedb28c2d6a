"""A torrent with a web seed and nobody else, beside what a user without a client would type: ``python -m benchmarks webseed``.

nginx serves one file from the first host; in the second ``unchoke get`` fetches, verifies and writes it, and in turn
``curl -s URL | tee FILE | sha1sum`` does the same.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.cases import Progress, take_turns
from benchmarks.contenders import OURS, PYTHON
from benchmarks.measure import MIB, BenchError, Run, assert_same
from benchmarks.report import Series
from benchmarks.stage import Stage
from interop.nginx import Nginx, missing
from interop.torrents import build_torrent

CURL = "curl | tee | sha1sum"


def webseed(stage: Stage, rounds: int, say: Progress) -> list[Series]:
    """Wall of a download from nginx alone, verified and on disk."""
    if (why := missing()) is not None:
        raise BenchError(why)
    home = stage.folder / "nginx"
    home.mkdir()
    server = Nginx(stage.hosts[0], home, stage.payload.parent)
    url = f"{server.url}/{stage.payload.name}"
    torrent = build_torrent(stage.payload, stage.folder / "webseed.torrent", web_seeds=[url], piece_length=MIB)
    digest = _digest(stage.payload)
    turns: dict[str, Callable[[Path], Run]] = {
        OURS: lambda out: _ours(stage, torrent, out),
        CURL: lambda out: _curl(stage, url, out / stage.payload.name, digest),
    }

    def turn(one: Series) -> Run:
        out = stage.folder / "out-webseed"
        out.mkdir()
        try:
            took = turns[one.name](out)
            assert_same(stage.payload, out / stage.payload.name)
            return took
        finally:
            shutil.rmtree(out)

    series = [Series("webseed", name, stage.size) for name in turns]
    take_turns(series, rounds, turn, say)
    return series


def _ours(stage: Stage, torrent: Path, out: Path) -> Run:
    argv = [PYTHON, "-m", "unchoke", "get", str(torrent), "-d", str(out), "--no-progress", "-q"]
    return stage.measure([*stage.hosts[1].argv, *argv])


def _curl(stage: Stage, url: str, out: Path, digest: str) -> Run:
    pipe = f"curl -s {shlex.quote(url)} | tee {shlex.quote(str(out))} | sha1sum | grep -q {digest}"
    return stage.measure([*stage.hosts[1].argv, "bash", "-c", pipe])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
