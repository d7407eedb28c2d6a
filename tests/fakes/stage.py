"""Tiny torrents with known bytes, and sessions that stay on the loopback."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from fakes.peer import PATIENCE, soon
from interop.torrents import Bencodable, bencode, payload
from unchoke.engine.events import Event, EventsLost, Subscription
from unchoke.engine.session import Session
from unchoke.engine.settings import NetworkSettings, Settings
from unchoke.engine.swarm import Swarm
from unchoke.engine.torrent import Torrent
from unchoke.protocol.metainfo import Metainfo
from unchoke.types import BLOCK_SIZE, Address

E = TypeVar("E", bound=Event)

PIECE = 2 * BLOCK_SIZE
#: Loopback only, and nobody is looked for. The buffers are the kernel's own, so that a thousand sockets cost little.
SETTINGS = Settings(network=NetworkSettings(bind="127.0.0.1", discovery=False, socket_buffer=0))


@dataclass(frozen=True)
class Sample:
    """A torrent, its bytes, and the files they make: (path below the download folder, bytes)."""

    torrent: bytes
    data: bytes
    files: tuple[tuple[Path, bytes], ...]
    piece_length: int

    @property
    def metainfo(self) -> Metainfo:
        return Metainfo.from_bytes(self.torrent)

    def write_to(self, folder: Path) -> None:
        for path, data in self.files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)

    def assert_in(self, folder: Path) -> None:
        """Exactly these files, byte for byte."""
        assert {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} == {p for p, _ in self.files}
        for path, data in self.files:
            assert (folder / path).read_bytes() == data, path

    def piece(self, index: int) -> bytes:
        return self.data[index * self.piece_length : (index + 1) * self.piece_length]


def sample(
    size: int = 4 * PIECE, *, files: dict[str, int] | None = None, name: str = "sample", piece_length: int = PIECE
) -> Sample:
    """A torrent of one file of ``size`` bytes, or of ``files`` (relative path → size), made without the code under test."""
    total = sum(files.values()) if files is not None else size
    data = payload(total, 7)
    hashes = b"".join(hashlib.sha1(data[at : at + piece_length]).digest() for at in range(0, len(data), piece_length))
    info: dict[str, Bencodable] = {"name": name, "piece length": piece_length, "pieces": hashes}
    contents: list[tuple[Path, bytes]] = []
    if files is None:
        info["length"] = size
        contents.append((Path(name), data))
    else:
        info["files"] = [{"length": length, "path": path.split("/")} for path, length in files.items()]
        start = 0
        for path, length in files.items():
            contents.append((Path(name, path), data[start : start + length]))
            start += length
    return Sample(bencode({"info": info}), data, tuple(contents), piece_length)


def tuned(**sections: Any) -> Settings:
    """``SETTINGS`` with whole sections replaced; ``network`` is given as keywords in a dict."""
    network = sections.pop("network", None)
    if network is not None:
        sections["network"] = replace(SETTINGS.network, **network)
    return replace(SETTINGS, **sections)


@asynccontextmanager
async def session(settings: Settings = SETTINGS, seed: int = 1, *, state: Path | None = None) -> AsyncIterator[Session]:
    """An open session whose choices are the same each time."""
    async with Session(settings, rng=Random(seed), state=state) as opened:
        yield opened


async def seeder(opened: Session, what: Sample, folder: Path) -> Torrent:
    """``opened`` has and serves ``what``."""
    what.write_to(folder)
    torrent = await opened.add(what.torrent, folder=folder)
    await soon(torrent.done())
    return torrent


def address_of(opened: Session) -> Address:
    return Address("127.0.0.1", opened.port())


async def leecher(opened: Session, what: Sample, folder: Path, peers: Sequence[Address] = (), **how: Any) -> Torrent:
    """``opened`` wants ``what``, and is past its check of what is there."""
    watching = opened.subscribe()
    torrent = await opened.add(what.torrent, folder=folder, peers=peers, **how)
    while torrent.swarm is None:
        assert torrent.error is None, torrent.error
        await soon(anext(watching))
    return torrent


def swarm_of(torrent: Torrent) -> Swarm:
    assert torrent.swarm is not None
    return torrent.swarm


async def next_event(watching: Subscription, kind: type[E]) -> E:
    """The next event of this kind; others are passed over."""
    while True:
        event: Event | EventsLost = await soon(anext(watching))
        if isinstance(event, kind):
            return event


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


async def until(happened: Callable[[], object]) -> None:
    """Wait for something that tells nobody when it happens."""
    async with asyncio.timeout(PATIENCE):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def turns(count: int) -> None:
    """Let the loop go round ``count`` times."""
    for _ in range(count):
        await asyncio.sleep(0)
