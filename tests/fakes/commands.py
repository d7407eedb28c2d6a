"""Real ``unchoke get`` processes, and a seeder in the test's own process that knows every block it gave, and when.

The seeder is a session over memory. What it reads to send is booked by block, so that a test can say which bytes were fetched
twice, and can act (kill, fill a disk) at an exact point of a download instead of at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from bitarray import bitarray
from bitarray.util import zeros

from fakes import stage
from fakes.peer import soon
from fakes.stage import Sample
from interop.program import Program
from unchoke.engine.resume import ResumeRow, SqliteStore
from unchoke.engine.session import Session
from unchoke.policy.bandwidth import BandwidthSettings
from unchoke.storage.memory import MemoryStorage
from unchoke.types import BLOCK_SIZE

LOCAL = "127.0.0.1"
#: Seconds that any one command may take.
PATIENCE = 40.0


class Given(MemoryStorage):
    """A whole torrent in memory that books what is read of it. ``blocks``: a bit for each 16 KiB of the stream."""

    def __init__(self, what: Sample) -> None:
        super().__init__(what.metainfo.layout)
        self.data = bytearray(what.data)
        self.total = 0
        self.blocks = zeros(-(-self.layout.total_length // BLOCK_SIZE), "big")
        self._alarms: list[tuple[int, Callable[[], None]]] = []

    def begin(self) -> None:
        """Book from nothing."""
        self.total = 0
        self.blocks = zeros(len(self.blocks), "big")
        self._alarms.clear()

    def at(self, total: int, call: Callable[[], None]) -> None:
        """Call when so many bytes were read since ``begin``."""
        self._alarms.append((total, call))
        self._ring()

    async def reached(self, total: int) -> None:
        """Wait for the same."""
        event = asyncio.Event()
        self.at(total, event.set)
        await asyncio.wait_for(event.wait(), PATIENCE)

    def read_into(self, start: int, buffer: memoryview) -> None:
        super().read_into(start, buffer)
        self.total += len(buffer)
        self.blocks[start // BLOCK_SIZE : -(-(start + len(buffer)) // BLOCK_SIZE)] = 1
        self._ring()

    def _ring(self) -> None:
        for alarm in [alarm for alarm in self._alarms if alarm[0] <= self.total]:
            self._alarms.remove(alarm)
            alarm[1]()

    def close(self) -> None:
        """A seed that sleeps is opened again, with the same books."""


class Seeder:
    """``address`` is what ``--peer`` is told."""

    def __init__(self, folder: Path, up: int) -> None:
        self._folder = folder
        self._given: dict[bytes, Given] = {}
        # A short burst: what is on its way when a reader is killed shall be little.
        settings = replace(stage.SETTINGS, bandwidth=BandwidthSettings(up=up, burst=0.05))
        self.session = Session(settings, storage=lambda metainfo, *_: self._given[metainfo.infohash])

    @property
    def address(self) -> str:
        return f"{LOCAL}:{self.session.port()}"

    def limit(self, up: int) -> None:
        """Bytes/s to everybody; 0: as fast as it goes."""
        self.session.limit(up=up)

    async def serve(self, what: Sample) -> Given:
        """Have this, and give it."""
        given = self._given[what.metainfo.infohash] = Given(what)
        torrent = await self.session.add(what.torrent, folder=self._folder, trust=True)
        await soon(torrent.done())
        return given


@asynccontextmanager
async def seeding(folder: Path, *, up: int = 0) -> AsyncIterator[Seeder]:
    """A seeder on the loopback that gives ``up`` bytes/s (0: as fast as it can)."""
    seeder = Seeder(folder, up)
    async with seeder.session:
        yield seeder


class Get:
    """One ``unchoke get`` process. With ``async with`` it has ended afterwards, killed if it must be."""

    def __init__(
        self,
        torrent: Path,
        folder: Path,
        *words: object,
        home: Path,
        peer: str = "",
        env: Mapping[str, str] | None = None,
        start: Sequence[str] = ("-m", "unchoke"),
    ) -> None:
        told = ["--peer", peer] if peer else []
        argv = [sys.executable, *start, "get", str(torrent), "-d", str(folder), *told, "--bind", LOCAL]
        own = {"UNCHOKE_HOME": str(home), "UNCHOKE_NETWORK__DISCOVERY": "0", **(env or {})}
        self.program = Program([*argv, "--no-progress", *map(str, words)], "get", env=own)

    async def ended(self) -> int:
        """Its exit status; negative: the signal that killed it."""
        return await asyncio.to_thread(self.program.wait, PATIENCE)

    async def said(self, pattern: str) -> str:
        """The first line that matches, when it comes."""
        found = await asyncio.to_thread(self.program.wait_line, pattern, PATIENCE)
        return found.string

    @property
    def output(self) -> str:
        """All it has said until now, both streams."""
        return "\n".join(self.program.lines)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The same of one with ``--json``."""
        return [json.loads(line) for line in self.program.lines if line.startswith("{")]

    def kill(self) -> None:
        self.program.tell(signal.SIGKILL)

    def interrupt(self) -> None:
        self.program.tell(signal.SIGINT)

    async def __aenter__(self) -> Get:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        await self.ended()


def write_torrent(what: Sample, folder: Path) -> Path:
    """The .torrent of ``what`` in a file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{what.metainfo.name}.torrent"
    path.write_bytes(what.torrent)
    return path


def recorded(home: Path, what: Sample, folder: Path) -> ResumeRow | None:
    """What the records of ``get`` say, read as another process would."""
    store = SqliteStore(Path(home) / "data" / "cli.sqlite", shared=True)
    store.open()
    try:
        return store.load((bytes(what.metainfo.infohash), os.path.realpath(folder)))
    finally:
        store.close()


def on_disk(what: Sample, folder: Path, pieces: bitarray) -> bitarray:
    """Those of ``pieces`` that lie in the files, byte for byte."""
    stream = b"".join(
        (folder / path).read_bytes().ljust(len(data), b"\0")[: len(data)]
        if (folder / path).exists()
        else bytes(len(data))
        for path, data in what.files
    )
    length = what.piece_length
    right = [pieces[at] and stream[at * length : (at + 1) * length] == what.piece(at) for at in range(len(pieces))]
    return bitarray(right, "big")
