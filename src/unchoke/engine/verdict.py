"""Verdict: what a record of a torrent's data is worth at the start, given how its files lie on the disk now.

A file closed cleanly that still has its size and mtime is believed; one that differs was written by somebody else, and is hashed. A
file still marked open is one we were killed over: what was recorded is believed, and other pieces that have data are
hashed, so that nothing is fetched twice; if that was in another boot (the power went), only what had reached the disk is
believed. A piece is believed if all its files allow it. A choice and no more: hashing is the checker's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bitarray import bitarray
from bitarray.util import zeros

from unchoke.layout import TorrentLayout
from unchoke.storage.base import FileStatus, Gap
from unchoke.storage.records import ResumeRow

Gaps = Callable[[int, int], list[Gap]]

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: Pieces looked at in one question about gaps, and how many uninteresting ones in between are worth a question less.
_WINDOW = 4096
_NEAR = 16


@dataclass(slots=True)
class Verdict:
    """``trusted`` pieces are there; those of ``check`` may be, and are to be hashed; no others are. Never both.

    ``partial``: blocks of other pieces that are there too, piece → bits. ``words`` says why, with numbers, for the log.
    """

    trusted: bitarray
    check: bitarray
    partial: dict[int, bytes] = field(default_factory=dict)
    words: str = ""


def judge(row: ResumeRow, layout: TorrentLayout, status: list[FileStatus | None], gaps: Gaps, boot_id: str) -> Verdict:
    """What to believe of ``row``.

    ``status``: one entry a file and then the part file's, as ``Storage.status`` gives it. ``gaps`` is ``Storage.gaps``: the only
    call that blocks, asked about files that are marked open alone; what it raises is raised. A record that does not fit the
    torrent is worth nothing: everything that is there is to be hashed. Without a ``boot_id`` every boot is another.
    """
    files = _Files(row, layout, status, bool(boot_id) and row.boot_id == boot_id)
    if not files.fits:
        check = ~files.missing
        return Verdict(
            zeros(layout.piece_count, "big"), check, {}, f"the record does not fit: {check.count(1)} to hash"
        )
    trusted = row.have & ~files.missing & ~files.differ
    trusted &= ~files.lost_power | row.durable
    touched = files.open & ~files.missing & ~trusted
    empty = _without_data(touched & ~row.have, layout, gaps)
    check = (touched & (row.have | ~empty)) | (files.differ & ~files.missing)
    unclean = files.missing | files.differ | files.open | trusted
    partial = {
        piece: blocks for piece, blocks in row.partial.items() if _fits(piece, blocks, layout) and not unclean[piece]
    }
    return Verdict(trusted, check, partial, files.words(trusted, check, partial))


class _Files:
    """What the files say of the pieces, as bits a piece: ``missing`` bytes; ``differ`` from the record; ``open``; ``lost_power``."""

    def __init__(self, row: ResumeRow, layout: TorrentLayout, status: list[FileStatus | None], same_boot: bool) -> None:
        count = len(layout.files)
        self.layout = layout
        self.status = status[:count] + [None] * (count - len(status))
        self.part = status[count] if len(status) > count else None
        self.missing, self.differ, self.open = (zeros(layout.piece_count, "big") for _ in range(3))
        self.fits = len(row.have) == len(row.durable) == layout.piece_count and (
            not row.files or count <= len(row.files) <= count + 1
        )
        self.have = row.have if self.fits else zeros(layout.piece_count, "big")
        self.counts = {"closed": 0, "differ": 0, "open": 0, "missing": 0}
        self.same_boot = same_boot
        border = _border_pieces(layout)
        recorded = row.files if self.fits else []
        self.recorded = recorded[:count] + [None] * (count - len(recorded))
        self.part_before = recorded[count] if len(recorded) > count else None
        self.marks = _length(row.open, count + 1)
        in_part = zeros(layout.piece_count, "big")
        for index, file in enumerate(layout.files):
            if file.length and not file.pad:
                self._look(index, border, in_part)
        self._look_at_part(in_part)
        self.lost_power = zeros(layout.piece_count, "big") if same_boot else self.open

    def _look(self, index: int, border: bitarray, in_part: bitarray) -> None:
        """One file that has bytes."""
        now, before, marked = self.status[index], self.recorded[index], self.marks[index]
        pieces = self.layout.file_pieces(index)
        if now is None:
            inner = _inner(pieces, border)
            if before is None:
                # Unwanted: what was needed of it lies in the part file. So do pieces of it alone that came before somebody
                # changed his mind, and nothing else of those.
                in_part[pieces.start : pieces.stop] = 1
                in_part[inner.start : inner.stop] = self.have[inner.start : inner.stop]
                self.missing[inner.start : inner.stop] = ~self.have[inner.start : inner.stop]
                self.marks[-1] |= marked
                return
            self.missing[pieces.start : pieces.stop] = 1
            self.counts["missing"] += 1
            return
        length = self.layout.files[index].length
        if now.size < length:
            first = (self.layout.file_start(index) + now.size) // self.layout.piece_length
            self.missing[first : pieces.stop] = 1
        if marked:
            self.open[pieces.start : pieces.stop] = 1
            self.counts["open"] += 1
        elif now != before:
            self.differ[pieces.start : pieces.stop] = 1
            self.counts["differ"] += 1
        else:
            self.counts["closed"] += 1

    def _look_at_part(self, pieces: bitarray) -> None:
        """The part file, for the pieces of which a share lies in it. What it holds of them its length cannot tell."""
        if self.part is None:
            self.missing |= pieces
        elif self.marks[-1]:
            self.open |= pieces
        elif self.part != self.part_before:
            self.differ |= pieces

    def words(self, trusted: bitarray, check: bitarray, partial: dict[int, bytes]) -> str:
        """What was chosen."""
        reasons = {
            "closed": "as we left them",
            "differ": "changed since by somebody else",
            "open": "open when we were killed" if self.same_boot else "open when the power went",
            "missing": "gone",
        }
        why = ", ".join(f"{count} files {reasons[kind]}" for kind, count in self.counts.items() if count)
        blocks = f", blocks of {len(partial)} more" if partial else ""
        return f"{trusted.count(1)} pieces trusted{blocks}, {check.count(1)} to hash ({why or 'no files'})"


def _border_pieces(layout: TorrentLayout) -> bitarray:
    """Pieces in which more than one real file has bytes."""
    border, seen = zeros(layout.piece_count, "big"), -1
    for index, file in enumerate(layout.files):
        if not file.length or file.pad:
            continue
        start = layout.file_start(index)
        first = start // layout.piece_length
        if first == seen:
            border[first] = 1
        seen = (start + file.length - 1) // layout.piece_length
    return border


def _inner(pieces: range, border: bitarray) -> range:
    """The pieces of a file that it shares with no other."""
    start, stop = pieces.start, pieces.stop
    if border[start]:
        start += 1
    if stop > start and border[stop - 1]:
        stop -= 1
    return range(start, max(start, stop))


def _without_data(candidates: bitarray, layout: TorrentLayout, gaps: Gaps) -> bitarray:
    """Those in which nothing was ever written: all a hole, or a byte is not there."""
    empty = zeros(layout.piece_count, "big")
    for window in _windows(candidates):
        start = window.start * layout.piece_length
        end = min(layout.total_length, window.stop * layout.piece_length)
        hole_start = hole_end = -1
        for at, length, missing in gaps(start, end - start):
            if missing:
                empty[at // layout.piece_length : (at + length - 1) // layout.piece_length + 1] = 1
            elif at == hole_end:  # goes on in the next file
                hole_end += length
            else:
                _mark_holes(empty, hole_start, hole_end, layout)
                hole_start, hole_end = at, at + length
        _mark_holes(empty, hole_start, hole_end, layout)
    return empty


def _mark_holes(empty: bitarray, start: int, end: int, layout: TorrentLayout) -> None:
    """The pieces that lie in this hole altogether."""
    first = -(-start // layout.piece_length)
    stop = layout.piece_count if end == layout.total_length else end // layout.piece_length
    if start >= 0 and first < stop:
        empty[first:stop] = 1


def _windows(pieces: bitarray) -> Iterator[range]:
    """Runs that hold all of these pieces, not too long, and few."""
    start = pieces.find(1)
    while start >= 0:
        stop, most = start + 1, min(len(pieces), start + _WINDOW)
        while stop < most:
            end = pieces.find(0, stop)
            stop = most if end < 0 else min(end, most)
            near = pieces.find(1, stop, min(stop + _NEAR, most))
            if near < 0:
                break
            stop = near + 1
        yield range(start, stop)
        start = pieces.find(1, stop)


def _fits(piece: int, blocks: bytes, layout: TorrentLayout) -> bool:
    return 0 <= piece < layout.piece_count and len(blocks) == (layout.block_count(piece) + 7) // 8


def _length(bits: bitarray, length: int) -> bitarray:
    """A copy of exactly this length."""
    return bitarray(bits[:length], "big") + zeros(max(0, length - len(bits)), "big")


def boot_id() -> str:
    """What is the same until the machine starts anew; empty if that cannot be known.

    On Linux the kernel's own. Elsewhere the time of the start, in steps of ten seconds: a clock that is set makes it another,
    which costs hashing and nothing else.
    """
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read(64).strip()
    except (OSError, ValueError):
        pass
    if os.path.exists("/proc"):
        return ""
    return f"started:{round((time.time() - time.monotonic()) / 10)}"
