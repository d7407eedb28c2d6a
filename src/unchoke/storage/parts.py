"""PartFile: where the bytes of unwanted files are kept that do not exist, and what is kept of which.

A piece that touches several files is downloaded whole though not all of them are wanted; the shares of the unwanted ones lie in
one hidden file without a header. A border piece (one that touches more than one real file) has its place at rank × piece
length, where its rank is the number of border pieces before it; any other piece comes after all of those, by its index. So
the place follows from the layout alone, whatever is wanted, and a sparse file takes no more room than what is in it. Making
files of it is ``maker``'s.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from unchoke.errors import StorageError
from unchoke.layout import FileSpan, TorrentLayout
from unchoke.storage import fileio
from unchoke.storage.handles import Handle, Shelf
from unchoke.storage.places import Places


class Run(NamedTuple):
    """Neighbouring bytes: where they are in the part file, where in their own file, and how many."""

    at: int
    offset: int
    length: int


class PartMap:
    """The arithmetic of one layout's part file. Making it is O(files); a question is O(log files)."""

    __slots__ = ("borders", "layout")

    def __init__(self, layout: TorrentLayout) -> None:
        self.layout = layout
        self.borders = _borders(layout)

    def runs(self, span: FileSpan) -> list[Run]:
        """Where the bytes of a span lie: at most three runs, for only a file's first and last piece can be border pieces."""
        size = self.layout.piece_length
        base = self.layout.file_start(span.file)
        start, end = base + span.offset, base + span.offset + span.length
        found: list[Run] = []
        while start < end:
            piece = start // size
            rank = bisect_left(self.borders, piece)
            if rank < len(self.borders) and self.borders[rank] == piece:
                place, stop = rank, min(end, (piece + 1) * size)
            else:
                place = len(self.borders) + piece
                stop = min(end, self.borders[rank] * size) if rank < len(self.borders) else end
            found.append(Run(place * size + start - piece * size, start - base, stop - start))
            start = stop
        return found

    def whole(self, file: int) -> list[Run]:
        """Where all bytes of a file lie."""
        return self.runs(FileSpan(file, 0, self.layout.files[file].length))

    def files(self, at: int, end: int) -> Iterator[int]:
        """The real files that have a place between two offsets of the part file, some of them more than once."""
        size, count = self.layout.piece_length, len(self.borders)
        first, last = at // size, (end - 1) // size
        for rank in range(first, min(last + 1, count)):
            for span in self.layout.piece_spans(self.borders[rank]):
                if not self.layout.files[span.file].pad:
                    yield span.file
        start = max(first - count, 0) * size
        stop = min((last - count + 1) * size, self.layout.total_length)
        for span in self.layout.spans(start, stop - start):
            if not self.layout.files[span.file].pad:
                yield span.file

    def __repr__(self) -> str:
        return f"<PartMap [{len(self.borders)} border pieces of {self.layout.piece_count}]>"


class PartFile:
    """One torrent's part file, read. Methods raise OSError and StorageError; it may be gone between two of them."""

    __slots__ = ("_map", "places", "shelf")

    def __init__(self, places: Places, shelf: Shelf) -> None:
        self.places = places
        self.shelf = shelf
        self._map: PartMap | None = None

    @property
    def map(self) -> PartMap:
        """Made when first asked for: most torrents never need it."""
        if self._map is None:
            self._map = PartMap(self.places.layout)
        return self._map

    def is_there(self) -> bool:
        return self.places.stat(self.places.part) is not None

    def files(self) -> list[int]:
        """The files that have bytes in it, rising. The time grows with what is in it, not with the torrent."""
        if not self.is_there():
            return []
        handle = self.shelf.borrow(self.places.part, write=False)
        try:
            found = fileio.extents(handle.fd, 0, os.fstat(handle.fd).st_size)
            near = {file for start, end in found for file in self.map.files(start, end)}
            return sorted(file for file in near if self._data(handle, file))
        finally:
            self.shelf.give_back(handle)

    def shares(self, file: int) -> list[Run]:
        """The runs of a file that it has bytes of; holes left out."""
        if not self.is_there():
            return []
        handle = self.shelf.borrow(self.places.part, write=False)
        try:
            return self._data(handle, file)
        finally:
            self.shelf.give_back(handle)

    def copy(self, runs: list[Run], target: Handle) -> None:
        """Copy these runs into their own file."""
        handle = self.shelf.borrow(self.places.part, write=False)
        try:
            for at, offset, length in runs:
                if fileio.copy(handle, at, target, offset, length) != length:
                    path = self.places.path(self.places.part)
                    raise StorageError(f"{path} became shorter while it was read", path)
        finally:
            self.shelf.give_back(handle)

    def _data(self, handle: Handle, file: int) -> list[Run]:
        return [
            Run(start, run.offset + start - run.at, end - start)
            for run in self.map.whole(file)
            for start, end in fileio.extents(handle.fd, run.at, run.at + run.length)
        ]

    def __repr__(self) -> str:
        return (
            f"<PartFile {self.places.names.part} [{'seen' if self.places.has_file(self.places.part) else 'not seen'}]>"
        )


def _borders(layout: TorrentLayout) -> list[int]:
    """The pieces that touch more than one real file, rising."""
    borders: list[int] = []
    last = -1  # the last piece of the real file before
    for index, file in enumerate(layout.files):
        if file.pad or not file.length:
            continue
        pieces = layout.file_pieces(index)
        if pieces.start == last and (not borders or borders[-1] != last):
            borders.append(last)
        last = pieces.stop - 1
    return borders
