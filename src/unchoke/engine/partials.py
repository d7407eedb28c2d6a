"""Partials: pieces that a stop finds unfinished, and the next start goes on with.

At the stop the blocks held of a piece are written to their place in the storage, and told as a bit a block. At the start
such a piece is opened *spilled* (``pieces``): that costs no memory and no reading; it is read back when it is complete. If
what was there is not right any more, the piece fails its hash, nobody is blamed for the old blocks, and it is fetched again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from bitarray import bitarray

from unchoke.engine.pieces import TorrentDisk
from unchoke.engine.verify import Outcome, Result
from unchoke.layout import TorrentLayout
from unchoke.policy.picker import OpenPiece, PiecePicker

log = logging.getLogger(__name__)

#: Blocks in all the pieces that are taken up: 256 MiB of pieces, of which we keep an account of 1 MiB.
MOST_BLOCKS = 16_384


def take_up(
    disk: TorrentDisk, picker: PiecePicker, layout: TorrentLayout, partials: Mapping[int, bytes]
) -> list[OpenPiece]:
    """Open these pieces (piece → a bit a block, the first block the highest bit). Returns those that are complete already.

    What makes no sense, is not wanted or is too much is forgotten.
    """
    complete = []
    room = MOST_BLOCKS
    for piece, bits in partials.items():
        held = _held(layout, piece, bits)
        if held is None or len(held) > room or (open_piece := picker.take_up(piece, held)) is None:
            continue
        room -= len(held)
        disk.take_up(piece)
        if not open_piece.left:
            complete.append(open_piece)
    return complete


def _held(layout: TorrentLayout, piece: int, bits: bytes) -> bitarray | None:
    """The blocks of a record; None if it is no record of this piece, or says nothing."""
    if not 0 <= piece < layout.piece_count:
        return None
    count = layout.block_count(piece)
    held = bitarray(bits, endian="big")
    if len(bits) != -(-count // 8) or held[count:].any() or not held.any():
        return None
    return held[:count]


async def save(disk: TorrentDisk, picker: PiecePicker) -> dict[int, bytes]:
    """Close every open piece, keep what is held of it, and wait for the disk. Returns what ``take_up`` takes.

    A piece that cannot be written is left out, and logged. Cancelled, it goes on behind; memory comes back all the same.
    """
    saved: dict[int, bytes] = {}
    for piece in [piece for piece in picker.open.values() if piece.left]:
        held = piece.held()
        picker.close(piece.index)
        if held.any():
            disk.keep(piece.index, held, _Kept(saved, held))
        else:
            disk.drop(piece.index)
    await disk.flush()
    return saved


class _Kept:
    """Hears what became of a piece."""

    __slots__ = ("held", "saved")

    def __init__(self, saved: dict[int, bytes], held: bitarray) -> None:
        self.saved = saved
        self.held = held

    def __call__(self, piece: int, result: Result) -> None:
        if result.outcome is Outcome.GOOD:
            self.saved[piece] = self.held.tobytes()
        else:
            log.warning("! what we have of piece %d cannot be kept: %s", piece, result.error)
