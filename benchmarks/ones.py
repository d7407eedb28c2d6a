"""A seeder of any size that needs no disk: every byte of its torrent is a one. ``python -m benchmarks.ones TORRENT PORT``."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from unchoke.app.cli.running import run_async
from unchoke.engine.session import Session
from unchoke.engine.settings import NetworkSettings, Settings
from unchoke.protocol.metainfo import Metainfo
from unchoke.storage.base import Gap
from unchoke.storage.memory import MemoryStorage

_ONES = memoryview(b"\x01" * (1 << 20))


class Ones(MemoryStorage):
    """Reads as ones, and is never written."""

    def prepare(self) -> None:
        """Nothing to reserve."""

    def read_into(self, start: int, buffer: memoryview) -> None:
        buffer[:] = _ONES[: len(buffer)]

    def gaps(self, start: int, length: int) -> list[Gap]:
        return []


def storage(metainfo: Metainfo, folder: Path, wanted: frozenset[int] | None) -> Ones:
    return Ones(metainfo.layout)


async def serve(torrent: str, port: int) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    network = NetworkSettings(bind="127.0.0.1", port=port, discovery=False)
    async with Session(Settings(network=network), storage=storage) as session:
        added = await session.add(torrent, trust=True)
        await added.done()
        print("seeding", flush=True)
        await stop.wait()


if __name__ == "__main__":
    run_async(serve(sys.argv[1], int(sys.argv[2])))
