"""The processes that ``benchmarks.idle`` measures: ``add`` FOLDER, ``seed`` FOLDER, ``ask`` FOLDER PORT. Each prints its figures."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

from benchmarks.heartbeat import Heartbeat
from benchmarks.idle import ASKED, resident
from benchmarks.measure import BenchError, assert_same
from unchoke.app.cli.running import calm_collector, run_async
from unchoke.engine.session import Session
from unchoke.engine.settings import NetworkSettings, Settings
from unchoke.engine.torrent import Torrent
from unchoke.protocol.metainfo import Metainfo
from unchoke.types import Address

SETTINGS = Settings(network=NetworkSettings(bind="127.0.0.1", discovery=False))


def tell(word: str, **figures: float) -> None:
    print(word, json.dumps(figures), flush=True)


async def until(reached: Callable[[], bool], what: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not reached():
        if time.monotonic() > deadline:
            raise BenchError(f"not {what} in {timeout:g} s")
        await asyncio.sleep(0.01)


async def add(folder: Path) -> None:
    """Add all to a new session, taking their data on trust, as a user with thousands would."""
    session = Session(SETTINGS, state=folder / "state" / "session.sqlite")
    async with session:
        sources = sorted((folder / "torrents").iterdir())
        began = time.perf_counter()
        for source in sources:
            await session.add(source, folder=folder / "data", trust=True)
        added = time.perf_counter() - began
        torrents = deque(session.torrents.values())

        def seeding() -> bool:
            while torrents and torrents[0].state == "seeding":
                torrents.popleft()
            return not torrents

        await until(seeding, "seeding", 600)
        all_seed = time.perf_counter() - began
        closing = time.perf_counter()
    tell("added", added=added, seeding=all_seed, closed=time.perf_counter() - closing)


async def seed(folder: Path) -> None:
    """Open the session of ``add`` again, and stay until SIGTERM."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    base = await _warm(folder)
    heartbeat = Heartbeat()
    loop.add_signal_handler(signal.SIGUSR1, heartbeat.pause)
    rested = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR2, rested.set)
    began = time.perf_counter()
    async with heartbeat, Session(SETTINGS, state=folder / "state" / "session.sqlite") as session:
        torrents = list(session.torrents.values())
        assert torrents
        await until(lambda: all(torrent.state == "seeding" for torrent in torrents), "seeding", 60)
        seconds = time.perf_counter() - began
        calm_collector()
        await asyncio.sleep(0.02)
        memory, worst = resident() - base, heartbeat.worst(1)[0]
        tell("opened", seconds=seconds, base=base, memory=memory, port=session.port(), worst=worst)
        heartbeat.forget()
        await rested.wait()
        heartbeat.go_on()
        await until(lambda: any(not torrent.is_asleep for torrent in torrents), "woken", 600)
        seconds = time.perf_counter()
        await until(lambda: all(torrent.is_asleep for torrent in torrents), "asleep", 120)
        tell("asleep", seconds=time.perf_counter() - seconds, worst=heartbeat.worst(1)[0])
        await stop.wait()


def _is_announced(torrent: Torrent) -> bool:
    return all(tracker.status == "working" for tracker in torrent.snapshot().trackers)


async def _warm(folder: Path) -> int:
    """Memory of a session in which everything was imported and used once that these torrents use, with two of them."""
    async with Session(SETTINGS, state=folder / "warm" / "session.sqlite") as session:
        for source in sorted((folder / "torrents").iterdir())[:2]:
            torrent = await session.add(source, folder=folder / "data", trust=True)
            await until(partial(_is_announced, torrent), "announced", 20)
    gc.collect()
    return resident()


async def ask(folder: Path, port: int) -> None:
    """Ten of them, from the session at ``port``, compared byte for byte."""
    out = Path(tempfile.mkdtemp(prefix="asked-", dir=folder))
    chosen = random.Random(7).sample(sorted((folder / "torrents").iterdir()), ASKED)
    infos = [Metainfo.from_bytes(source.read_bytes()) for source in chosen]
    async with Session(SETTINGS) as session:
        began = time.perf_counter()
        torrents = [await session.add(info, folder=out, peers=[Address("127.0.0.1", port)]) for info in infos]
        async with asyncio.timeout(60):
            for torrent in torrents:
                await torrent.done()
        seconds = time.perf_counter() - began
    _compare(folder / "data", out, sum(len(info.layout.files) for info in infos))
    tell("asked", seconds=seconds)


def _compare(data: Path, out: Path, expected: int) -> None:
    files = [path for path in out.rglob("*") if path.is_file()]
    for path in files:
        assert_same(data / path.relative_to(out), path)
    if len(files) != expected:
        raise BenchError(f"{len(files)} files came instead of {expected}")
    shutil.rmtree(out)


if __name__ == "__main__":
    job, place, *rest = sys.argv[1:]
    jobs: dict[str, Callable[..., Coroutine[object, object, None]]] = {"add": add, "seed": seed, "ask": ask}
    run_async(jobs[job](Path(place), *map(int, rest)))
