"""``unchoke demo``: the main job on this machine alone: a tracker, three seeders, and the ordinary ``get`` with its display.

Everything is on 127.0.0.1 and in one temporary folder, which is removed at the end; what the seeders had and what arrived
are compared byte for byte. The seeders and the tracker are the commands a user would start, each a process of its own.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from unchoke.app.cli.common import verbose_option
from unchoke.app.cli.text import SIZE, clean, format_size
from unchoke.errors import DataMismatchError, UnchokeError

LOCAL = "127.0.0.1"
SEEDERS = 3

#: The payload: name, and share of the whole. Odd sizes, a folder in a folder, a name that is not ASCII, and an empty file.
FILES = (
    ("film.bin", 0.5),
    ("music/one.bin", 0.2),
    ("music/zwei – двe – 二.bin", 0.15),
    ("music/three.bin", 0.1),
    ("notes/small.bin", 0.05),
    ("notes/empty.txt", 0.0),
)


@click.command()
@click.option("--size", type=SIZE, default="256MiB", show_default=True, help="How much to move.")
@verbose_option
def demo(size: int) -> int:
    """See it work: make a folder, seed it three times, download it by way of a tracker, and compare. Touches nothing else."""
    with tempfile.TemporaryDirectory(prefix="unchoke-demo-") as name, contextlib.ExitStack() as stack:
        home = Path(name)
        environment = {**os.environ, "UNCHOKE_HOME": str(home / "home"), "UNCHOKE_NETWORK__DISCOVERY": "0"}
        _tell(f"Making {format_size(size)} of files, and a tracker ...")
        source = home / "seeders" / "unchoke demo"
        _make_files(source, size)
        announce, *_ = stack.enter_context(_running(["tracker", "-p", "0", "--bind", LOCAL], environment, "ready"))
        torrent = home / "demo.torrent"
        _create(source, torrent, announce)
        _tell(f"Starting {SEEDERS} seeders on {LOCAL} ...")
        for number in range(SEEDERS):
            # Each with records of its own: one torrent in one folder is one process's.
            own = ["--state-dir", str(home / f"seeder-{number}")]
            words = ["seed", str(torrent), str(source.parent), "--bind", LOCAL, "--no-progress", *own]
            stack.enter_context(_running(words, environment, "seeding "))
        _tell("Downloading, as `unchoke get` does:")
        began = time.perf_counter()
        code = _get(torrent, home / "download", home / "home")
        took = time.perf_counter() - began
        if code:
            return code
        _compare(source, home / "download" / source.name)
        _tell(f"All {len(FILES)} files are the same, byte for byte.")
        _tell(f"Average speed, start to end: {size / took / 2**20:.0f} MiB/s ({format_size(size)} in {took:.1f} s).")
    _tell("")
    _tell("Next:  unchoke get FILE.torrent        download something")
    _tell("       unchoke create FOLDER           make a torrent of your own")
    _tell("       unchoke seed FILE.torrent DIR   and share it")
    return 0


def _tell(line: str) -> None:
    click.echo(line)


def _make_files(folder: Path, size: int) -> None:
    """Bytes that repeat nowhere, the same each time."""
    chance = random.Random(size)
    left = size
    for number, (name, share) in enumerate(FILES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        length = left if number == len(FILES) - 2 else min(left, int(size * share) | 1 if share else 0)
        left -= length
        with path.open("wb") as file:
            while length > 0:
                part = min(length, 1 << 24)
                file.write(chance.randbytes(part))
                length -= part


def _create(source: Path, torrent: Path, announce: str) -> None:
    from unchoke.engine.create import create_torrent

    torrent.write_bytes(create_torrent(source, trackers=[[announce]]))


@contextlib.contextmanager
def _running(words: list[str], environment: dict[str, str], ready: str) -> Iterator[list[str]]:
    """A command of ours as a process, from the line that begins with ``ready`` on; the lines before it are given."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unchoke", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # a Ctrl-C is for the download; these are stopped below
    )
    try:
        lines: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(ready):
                break
            lines.append(line.strip())
        else:
            raise UnchokeError(f"`unchoke {words[0]}` did not start: {clean(' '.join(lines)) or 'it said nothing'}")
        yield lines
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _get(torrent: Path, folder: Path, home: Path) -> int:
    """The ordinary command, with its ordinary display."""
    from unchoke.app.cli import run

    before = os.environ.get("UNCHOKE_NETWORK__DISCOVERY")
    os.environ["UNCHOKE_NETWORK__DISCOVERY"] = "0"
    try:
        return run(["--home", str(home), "get", str(torrent), "-d", str(folder), "--bind", LOCAL])
    finally:
        if before is None:
            del os.environ["UNCHOKE_NETWORK__DISCOVERY"]
        else:
            os.environ["UNCHOKE_NETWORK__DISCOVERY"] = before


def _compare(source: Path, result: Path) -> None:
    for name, _ in FILES:
        if not (result / name).is_file() or not filecmp.cmp(source / name, result / name, shallow=False):
            raise DataMismatchError(f"{name} did not arrive as it was sent; this is a bug, please report it")
