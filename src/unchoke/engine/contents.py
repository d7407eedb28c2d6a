"""Contents: what lies on disk for one torrent: opened, checked, refused when it is not ours, deleted.

It answers which pieces are there and never fetches one. Blocking work runs on threads that a cancelled caller waits for.
What to do with the answers is the torrent's business (docs/decisions/0005 says what makes a file ours).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from bitarray import bitarray
from bitarray.util import ones, zeros

from unchoke.bitfield import Bitfield
from unchoke.engine.checker import check
from unchoke.engine.settings import DiskSettings
from unchoke.engine.tasks import finish
from unchoke.errors import DataMismatchError, ForeignFileError, NotFoundError
from unchoke.protocol.metainfo import Metainfo
from unchoke.storage.files import FileStorage
from unchoke.storage.handles import FilePool
from unchoke.storage.paths import map_paths

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class TorrentOptions:
    """What the user wants of one torrent.

    ``files``: indexes into the metainfo's files, from 0; None for all. ``trust``: take the data for complete without a check.
    ``overwrite``: write over files that are not ours. ``seed_only``: serve, and neither fetch nor write anything; incomplete
    data is an error. ``trackers`` are added, each a tier of its own.
    """

    files: frozenset[int] | None = None
    trust: bool = False
    overwrite: bool = False
    sequential: bool = False
    seed_only: bool = False
    trackers: tuple[str, ...] = ()


class Contents:
    """One torrent's below ``folder``. ``wanted``: the pieces of the selected files; ``checked``: the share of a check done."""

    def __init__(
        self, metainfo: Metainfo, folder: Path, options: TorrentOptions, settings: DiskSettings, pool: FilePool
    ) -> None:
        self.metainfo = metainfo
        self.folder = folder
        self.options = options
        self.checked = 0.0
        self._settings = settings
        self._pool = pool
        self._storage: FileStorage | None = None
        self.wanted = self._wanted_pieces()
        self.wanted_bytes = self.bytes_of(self.wanted)

    def _wanted_pieces(self) -> bitarray:
        layout, files = self.metainfo.layout, self.options.files
        if files is None:
            return ones(layout.piece_count, "big")
        wanted = zeros(layout.piece_count, "big")
        for file in files:
            if not 0 <= file < len(layout.files):
                raise ValueError(f"file {file} of {len(layout.files)}")
            pieces = layout.file_pieces(file)
            wanted[pieces.start : pieces.stop] = 1
        return wanted

    def bytes_of(self, pieces: bitarray) -> int:
        """How many bytes these pieces have."""
        layout = self.metainfo.layout
        count = pieces.count(1)
        short = layout.piece_length - layout.last_piece_size if count and pieces[-1] else 0
        return count * layout.piece_length - short

    @property
    def path(self) -> Path:
        """Its file, or its folder if it is of several files."""
        names = map_paths(self.metainfo.name, self.metainfo.layout, self.metainfo.multi_file, portable=self._portable())
        first = next((parts for parts in names if parts is not None), None)
        return self.folder / first[0] if first else self.folder

    def _portable(self) -> bool:
        return self._storage.portable if self._storage is not None else self._settings.portable_names

    def file_progress(self, have: bitarray) -> list[int]:
        """Bytes of each file that are in pieces we have, by index."""
        layout = self.metainfo.layout
        done = []
        for index, file in enumerate(layout.files):
            start, end = layout.file_start(index), layout.file_start(index) + file.length
            count = 0
            for piece in layout.file_pieces(index):
                if have[piece]:
                    begin = piece * layout.piece_length
                    count += min(end, begin + layout.piece_size(piece)) - max(start, begin)
            done.append(count)
        return done

    async def open(self) -> FileStorage:
        """The files, opened afresh. Raises StorageError."""
        return await on_thread(self._open)

    def _open(self) -> FileStorage:
        if self._storage is not None:
            self._storage.close()
        self._storage = FileStorage(
            self.folder,
            self.metainfo.name,
            self.metainfo.layout,
            multi_file=self.metainfo.multi_file,
            wanted=self.options.files,
            portable=True if self._settings.portable_names else None,
            pool=self._pool,
        )
        return self._storage

    async def find(self, storage: FileStorage) -> bitarray:
        """The pieces that are there. Raises ForeignFileError, StorageError."""
        layout = self.metainfo.layout
        if self.options.trust:
            return ones(layout.piece_count, "big")
        ours = self.options.overwrite or self.options.seed_only  # a seed writes nothing
        if self.options.overwrite:
            await on_thread(storage.shorten)
        if not ours:
            _refuse(await asyncio.to_thread(storage.oversized), "is longer than the torrent says")

        def progress(done: int) -> None:
            self.checked = done / (layout.piece_count or 1)

        threads = self._settings.check_threads
        have = await check(storage, layout, self.metainfo.piece_hashes, threads=threads, progress=progress)
        if not ours:
            _refuse(await asyncio.to_thread(storage.foreign_files, have), "holds other data than the torrent's")
        log.info("= %s checked: %d of %d pieces are there", self.metainfo.name, have.count(), layout.piece_count)
        return have.bits

    def refuse_incomplete(self, storage: FileStorage, have: bitarray) -> None:
        """A seed has everything. Unchecked data must at least be there, at full size."""
        sizes = storage.sizes()
        for index, file in enumerate(self.metainfo.layout.files):
            if not file.pad and sizes[index] is None:
                raise NotFoundError(f"{storage.path(index)}: not there; `unchoke get` downloads it")
            if not file.pad and sizes[index] != file.length and self.options.trust:
                raise DataMismatchError(f"{storage.path(index)}: has {sizes[index]} bytes, not {file.length}")
        missing = len(have) - have.count(1)
        if missing:
            raise DataMismatchError(
                f"{self.metainfo.name}: {missing} of {len(have)} pieces are missing or damaged; `unchoke get` fetches them"
            )

    def lost_files(self) -> list[str]:
        """Wanted files that are not there at their full size. Blocking."""
        if self._storage is None:
            return []
        sizes, wanted = self._storage.sizes(), self.options.files
        return [
            self._storage.path(index)
            for index, file in enumerate(self.metainfo.layout.files)
            if not file.pad and (wanted is None or index in wanted) and sizes[index] != file.length
        ]

    async def delete(self, known: bitarray | None) -> None:
        """Delete the files, and the folders they leave empty. ``known``: the pieces we have, if that is known.

        Without it all is checked first: only what is the torrent's is deleted. Raises StorageError.
        """
        storage = await self.open()
        try:
            have = Bitfield()
            if known is not None:
                have.bits = known
            else:
                threads = self._settings.check_threads
                have = await check(storage, self.metainfo.layout, self.metainfo.piece_hashes, threads=threads)
            await on_thread(storage.delete, have)
        finally:
            storage.close()

    async def close(self) -> None:
        """Give the descriptors back."""
        if self._storage is not None:
            await asyncio.to_thread(self._storage.close)

    def __repr__(self) -> str:
        return f"<Contents of {self.metainfo.name[:40]!r} in {self.folder} [{'open' if self._storage else 'not open'}]>"


async def on_thread(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """``asyncio.to_thread``, but a caller that is cancelled waits: the thread would go on writing behind its back."""
    return await finish(asyncio.to_thread(call, *args, **kwargs))


def _refuse(paths: Collection[str], what: str) -> None:
    if paths:
        first = sorted(paths)[0]
        more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
        raise ForeignFileError(
            f"{first} {what}{more}: it is not ours, so nothing was written; move it away, or allow it with --overwrite",
            first,
        )
