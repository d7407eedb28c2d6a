"""TorrentLayout: how a torrent's bytes divide into pieces, blocks and files. Pure arithmetic, no bytes, no disk.

All files of a torrent stand end to end in one stream (BEP 3); pieces cut it at every ``piece_length`` bytes, and the last
one is shorter. Pad files (BEP 47) are part of the stream, hold zeros, and are never written. Empty files have no bytes
and so no piece. Everything here is O(log files) or O(1) a question, since torrents of 100,000 files exist.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

from unchoke.types import BLOCK_SIZE, Block


class FileEntry(NamedTuple):
    """A file as the torrent names it.

    ``path`` are the components below the torrent's own name (empty for a single-file torrent's one file: then the
    torrent's name is the file's name). Bytes that are no UTF-8 are kept as lone surrogates (``surrogateescape``).
    """

    path: tuple[str, ...]
    length: int
    pad: bool = False
    executable: bool = False


class FileSpan(NamedTuple):
    """A run of bytes inside one file: the file's index, offset in the file, length."""

    file: int
    offset: int
    length: int


class Files(Sequence[FileEntry]):
    """The files of a layout in columns: an entry is made when it is asked for.

    100,000 entries that stay would be walked through by every full round of the garbage collector, which holds all threads for it.
    Of these columns it walks through the paths alone. Lengths have 63 bits.
    """

    __slots__ = ("executables", "lengths", "pads", "paths")

    def __init__(self, files: Iterable[FileEntry]) -> None:
        self.paths: list[tuple[str, ...]] = []
        self.lengths = array("q")
        self.pads = bytearray()
        self.executables = bytearray()
        for path, length, pad, executable in files:
            self.paths.append(path)
            self.lengths.append(length)
            self.pads.append(pad)
            self.executables.append(executable)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[FileEntry]:
        return map(FileEntry, self.paths, self.lengths, map(bool, self.pads), map(bool, self.executables))

    @overload
    def __getitem__(self, index: int) -> FileEntry: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[FileEntry, ...]: ...

    def __getitem__(self, index: int | slice) -> FileEntry | tuple[FileEntry, ...]:
        if isinstance(index, slice):
            return tuple(self[one] for one in range(*index.indices(len(self))))
        return FileEntry(self.paths[index], self.lengths[index], bool(self.pads[index]), bool(self.executables[index]))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Files | tuple):
            return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"<Files [{len(self)}]>"


class TorrentLayout:
    """The shape of one torrent. Immutable.

    >>> layout = TorrentLayout(32768, [FileEntry(("a",), 40000), FileEntry(("b",), 10000)])
    >>> layout.piece_count, layout.piece_size(1), layout.spans(32768, 17232)
    (2, 17232, [FileSpan(file=0, offset=32768, length=7232), FileSpan(file=1, offset=0, length=10000)])
    """

    __slots__ = ("_starts", "files", "last_piece_size", "piece_count", "piece_length", "total_length")

    def __init__(self, piece_length: int, files: Iterable[FileEntry]) -> None:
        if piece_length <= 0:
            raise ValueError("piece length must be positive")
        self.piece_length = piece_length
        self.files = Files(files)
        self._starts = array("q")
        end = 0
        for length in self.files.lengths:
            self._starts.append(end)
            end += length
        self.total_length = end
        self.piece_count = -(-end // piece_length)
        self.last_piece_size = end - (self.piece_count - 1) * piece_length if end else 0

    # pieces and blocks

    def piece_size(self, piece: int) -> int:
        """Bytes in this piece: ``piece_length``, or what is left for the last one."""
        return self.piece_length if piece < self.piece_count - 1 else self.last_piece_size

    def block_count(self, piece: int) -> int:
        """How many requests of 16 KiB (the last one maybe shorter) cover this piece."""
        return -(-self.piece_size(piece) // BLOCK_SIZE)

    def block(self, piece: int, number: int) -> Block:
        """The ``number``-th block of a piece."""
        begin = number * BLOCK_SIZE
        return Block(piece, begin, min(BLOCK_SIZE, self.piece_size(piece) - begin))

    def blocks(self, piece: int) -> Iterator[Block]:
        """Every block of a piece, in order."""
        return (self.block(piece, number) for number in range(self.block_count(piece)))

    def contains(self, block: Block) -> bool:
        """Does this block (of any length) lie inside one piece of the torrent?"""
        piece, begin, length = block
        return 0 <= piece < self.piece_count and begin >= 0 < length and begin + length <= self.piece_size(piece)

    # files

    def file_start(self, file: int) -> int:
        """Where in the torrent's stream the file begins."""
        return self._starts[file]

    def spans(self, start: int, length: int) -> list[FileSpan]:
        """The pieces of files that hold ``length`` bytes of the stream from ``start`` on, in order; empty files are skipped."""
        found: list[FileSpan] = []
        if length <= 0:
            return found
        file = bisect_right(self._starts, start) - 1
        while length > 0:
            offset = start - self._starts[file]
            take = min(length, self.files.lengths[file] - offset)
            if take > 0:
                found.append(FileSpan(file, offset, take))
                start += take
                length -= take
            file += 1
        return found

    def piece_spans(self, piece: int) -> list[FileSpan]:
        """The runs of files that make up one piece."""
        return self.spans(piece * self.piece_length, self.piece_size(piece))

    def file_pieces(self, file: int) -> range:
        """The pieces that hold at least a byte of this file; an empty range for an empty file."""
        length = self.files.lengths[file]
        if not length:
            return range(0)
        start = self._starts[file]
        return range(start // self.piece_length, (start + length - 1) // self.piece_length + 1)

    def first_and_last_pieces(self, files: Iterable[int]) -> list[tuple[int, int]]:
        """The first and the last piece of each of these files; the empty ones are left out. For many files at a time."""
        starts, lengths, size = self._starts, self.files.lengths, self.piece_length
        return [(starts[file] // size, (starts[file] + lengths[file] - 1) // size) for file in files if lengths[file]]

    def pieces_of(self, files: Sequence[int]) -> set[int]:
        """Every piece that holds a byte of any of these files."""
        return {piece for file in files for piece in self.file_pieces(file)}

    @property
    def payload_length(self) -> int:
        """Bytes of real files: the total without pad files."""
        return sum(file.length for file in self.files if not file.pad)

    def __repr__(self) -> str:
        return f"<TorrentLayout {self.piece_count} × {self.piece_length} B, {len(self.files)} files, {self.total_length} B>"
