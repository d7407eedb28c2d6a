"""Foreign files: what stands where a torrent wants to write and is not ours, so that nothing is written over by mistake.

A file that we have no record of is not ours if it is longer than the torrent says; or if it is not all zeros, no piece that
overlaps it verifies, and it has another size than the torrent says (ours have it from the start, unless nothing is
preallocated: then only a record can tell) or a piece is wholly there. Whether there is a record, and what follows, is the
torrent's business. Only files that would be written to count: the wanted ones, and those that are there and share a piece
with one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from unchoke.bitfield import Bitfield
from unchoke.layout import TorrentLayout

if TYPE_CHECKING:
    from unchoke.storage.files import FileStorage


def oversized_files(storage: FileStorage) -> list[int]:
    """The files that are longer than the torrent says."""
    sizes, files = storage.sizes(), storage.layout.files
    touched = written_files(storage.layout, storage.wanted)
    return [index for index in touched if (size := sizes[index]) is not None and size > files[index].length]


def foreign_files(storage: FileStorage, have: Bitfield) -> list[str]:
    """Paths of the files that hold bytes of which none belongs to the torrent. ``have``: every piece that verified.

    Reads files of which no piece verified, up to the first byte that is not zero; it blocks.
    """
    sizes = storage.sizes()
    return [
        storage.path(index)
        for index in written_files(storage.layout, storage.wanted)
        if sizes[index]
        and not any_piece(storage.layout, index, have)
        and not storage.is_all_zeros(index)
        and (sizes[index] != storage.layout.files[index].length or _is_contradicted(storage, index))
    ]


def _is_contradicted(storage: FileStorage, file: int) -> bool:
    """Is a piece of this file there to its last byte? (None of them verified.) A piece with something missing proves nothing:
    its writing was cut short, or a neighbour that shares it is gone."""
    layout = storage.layout
    for piece in layout.file_pieces(file):
        gaps = storage.gaps(piece * layout.piece_length, layout.piece_size(piece))
        real = (span for gap in gaps for span in layout.spans(gap.start, gap.length) if not layout.files[span.file].pad)
        if next(real, None) is None:
            return True
    return False


def written_files(layout: TorrentLayout, wanted: Collection[int] | None) -> list[int]:
    """The files that get written, if they are there, when these are wanted (None: all), rising; whole pieces are downloaded,
    and an unwanted file that is not there has its share in the part file. No pad files."""
    real = [index for index, file in enumerate(layout.files) if not file.pad]
    if wanted is None:
        return real
    chosen = frozenset(wanted)
    last = -1  # the highest piece of a wanted file so far, then the same from the end: files lie in the order of pieces
    touched = set(chosen)
    for index in real:
        pieces = layout.file_pieces(index)
        if pieces:
            if pieces[0] <= last:
                touched.add(index)
            if index in chosen:
                last = pieces[-1]
    first = layout.piece_count
    for index in reversed(real):
        pieces = layout.file_pieces(index)
        if pieces:
            if pieces[-1] >= first:
                touched.add(index)
            if index in chosen:
                first = pieces[0]
    return [index for index in real if index in touched]


def any_piece(layout: TorrentLayout, file: int, have: Bitfield) -> bool:
    """Did a piece that overlaps this file verify?"""
    pieces = layout.file_pieces(file)
    return bool(pieces) and have.bits.find(1, pieces.start, pieces.stop) >= 0
