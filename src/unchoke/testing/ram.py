"""RamDisk: what torrents wrote, kept in memory from one run of a session to the next: a disk for simulations."""

from __future__ import annotations

from pathlib import Path

from unchoke.protocol.metainfo import Metainfo
from unchoke.storage.memory import MemoryStorage
from unchoke.types import InfoHash


class RamDisk:
    """``open`` is what ``Session(storage=...)`` wants. ``data``: what the first torrent opened has from the start."""

    def __init__(self, data: bytes | None = None) -> None:
        self.storages: dict[tuple[InfoHash, Path], MemoryStorage] = {}
        self._first = data

    def open(self, metainfo: Metainfo, folder: Path, wanted: frozenset[int] | None = None) -> MemoryStorage:
        """The storage of one torrent in one folder, with the bytes it had when it was closed."""
        key = (metainfo.infohash, folder)
        known = self.storages.get(key)
        made = self.storages[key] = known.reopened() if known is not None else MemoryStorage(metainfo.layout)
        if self._first is not None:
            made.write(0, self._first)
            self._first = None
        return made

    def __repr__(self) -> str:
        size = sum(len(storage.data or b"") for storage in self.storages.values())
        return f"<RamDisk [{len(self.storages)} torrents | {size} B]>"
