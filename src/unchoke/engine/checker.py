"""Checker: which pieces of the data already there verify. Reads and hashes on every core; both release the GIL.

Each thread takes the next run of pieces in file order, asks the storage what is missing or sparse there, and reads the rest
in chunks, so that memory does not grow with the piece length. A sparse run counts as the zeros it reads as; what is missing
does not. What to do with the answer is the torrent's business. ``check`` is for the loop, ``check_blocking`` for scripts.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from hashlib import sha1
from threading import Lock

from bitarray import bitarray
from bitarray.util import zeros

from unchoke.bitfield import Bitfield
from unchoke.engine.tasks import Executor
from unchoke.layout import TorrentLayout
from unchoke.storage.base import Gap, MissingDataError, Storage

#: Bytes read at once.
CHUNK = 512 * 1024
#: Most bytes a thread takes at a time: long enough to pass quickly over what is missing.
RUN = 64 * 1024 * 1024
#: Past this many the disk is what limits; each has a chunk of memory.
MAX_THREADS = 16
#: Seconds between two reports of progress.
PROGRESS_INTERVAL = 0.05

Progress = Callable[[int], None]


async def check(
    storage: Storage,
    layout: TorrentLayout,
    piece_hashes: bytes,
    *,
    threads: int = 0,
    progress: Progress | None = None,
    pieces: Iterable[int] | None = None,
    executor: Executor | None = None,
    checked: Checked | None = None,
) -> Bitfield:
    """The pieces that verify, of ``pieces`` (None: all). ``piece_hashes`` holds 20 bytes a piece (BEP 3).

    ``threads``: 0 means one for each core. ``progress`` is called on the loop with the number of pieces done, at most 20
    times a second and once at the end. ``executor``: whose threads to use, held until the end; None makes our own.
    ``checked``: filled in as the check goes on, so that what a cancelled one found is not lost.
    Cancelled, it waits for its threads, which stop within a chunk. Raises StorageError if a file cannot be read (one that
    is missing or too short is no error), ValueError for arguments that do not fit.
    """
    loop = asyncio.get_running_loop()

    def report(done: int) -> None:
        try:
            loop.call_soon_threadsafe(tell, done)
        except RuntimeError:
            pass  # the loop was closed above us

    def tell(done: int) -> None:
        if progress is not None and not work.stopped:
            progress(done)

    count = _thread_count(threads)
    work = _Check(storage, layout, piece_hashes, pieces, count, report if progress is not None else None, checked)
    pool = ThreadPoolExecutor(count, "check") if executor is None else executor
    jobs = [pool.submit(work.run) for _ in range(count)]
    watched = [asyncio.wrap_future(job) for job in jobs]
    try:
        await asyncio.wait(watched, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        work.stopped = True
        for job in jobs:
            job.cancel()  # one that waits for a thread
        try:
            await _ended(watched)
        finally:
            if executor is None:
                pool.shutdown()  # its threads have nothing to do any more
    _raise_first(jobs)
    if progress is not None:
        progress(work.done)
    return work.have


def check_blocking(
    storage: Storage,
    layout: TorrentLayout,
    piece_hashes: bytes,
    *,
    threads: int = 0,
    progress: Progress | None = None,
    pieces: Iterable[int] | None = None,
) -> Bitfield:
    """``check`` without a loop; ``progress`` is called on the calling thread. Ctrl-C stops the threads and is raised on."""
    count = _thread_count(threads)
    work = _Check(storage, layout, piece_hashes, pieces, count, None)
    with ThreadPoolExecutor(count, "check") as executor:
        jobs = [executor.submit(work.run) for _ in range(count)]
        try:
            pending = set(jobs)
            while pending:
                pending = wait(pending, timeout=PROGRESS_INTERVAL if progress is not None else None).not_done
                if progress is not None:
                    progress(work.done)
        finally:
            work.stopped = True
    _raise_first(jobs)
    return work.have


class Checked:
    """What a check has found so far: ``done``, the pieces it looked at, and ``have``, those of them that verify."""

    __slots__ = ("done", "have")

    def __init__(self, piece_count: int) -> None:
        self.done: bitarray = zeros(piece_count, "big")
        self.have: bitarray = zeros(piece_count, "big")

    def __repr__(self) -> str:
        return f"<Checked [{self.have.count(1)} good of {self.done.count(1)} done, of {len(self.done)}]>"


class _Check:
    """One check, shared by its threads, each of which calls ``run`` once."""

    __slots__ = (
        "_hashes",
        "_lock",
        "_next_report",
        "_report",
        "_runs",
        "_zero_hashes",
        "checked",
        "done",
        "have",
        "layout",
        "stopped",
        "storage",
    )

    def __init__(
        self,
        storage: Storage,
        layout: TorrentLayout,
        hashes: bytes,
        pieces: Iterable[int] | None,
        threads: int,
        report: Progress | None,
        checked: Checked | None = None,
    ) -> None:
        if len(hashes) != 20 * layout.piece_count:
            raise ValueError(f"{len(hashes)} bytes of hashes for {layout.piece_count} pieces")
        self.storage = storage
        self.layout = layout
        self.checked = Checked(layout.piece_count) if checked is None else checked
        self.have = Bitfield(layout.piece_count)
        self.done = 0
        self.stopped = False
        self._hashes = hashes
        self._report = report
        self._next_report = 0.0
        self._runs = _runs(layout, pieces, threads)
        self._zero_hashes: dict[int, bytes] = {}
        self._lock = Lock()

    def run(self) -> None:
        """Verify runs until none is left, or the check is stopped. An error stops the other threads too."""
        buffer = memoryview(bytearray(min(CHUNK, max(1, self.layout.total_length))))
        try:
            while not self.stopped and (run := self._next_run()) is not None:
                self._verify_run(run, buffer)
        except BaseException:
            self.stopped = True
            raise

    def _next_run(self) -> range | None:
        with self._lock:
            return next(self._runs, None)

    def _verify_run(self, run: range, buffer: memoryview) -> None:
        start, last = run.start * self.layout.piece_length, run.stop - 1
        length = last * self.layout.piece_length + self.layout.piece_size(last) - start
        gaps = self.storage.gaps(start, length)
        if gaps and gaps[0].missing and gaps[0].length == length:
            self._finish(run, ())
            return
        if gaps and gaps[0].length == length:
            self._finish(run, self._zero_pieces(run, buffer))
            return
        missing, zeros = _coverage(self.layout, gaps)
        unread: list[int] = []
        good: list[int] = []
        for piece in run:
            if piece in missing:
                continue
            size = self.layout.piece_size(piece)
            if zeros.get(piece) != size:
                unread.append(piece)
            elif self._zero_hash(size, buffer) == self._hash(piece):
                good.append(piece)
        for group in _groups(sorted(set(run).difference(unread)), len(run)):
            self._finish(group, ())
        self._finish(range(0), good)
        for group in _groups(unread, max(1, len(buffer) // self.layout.piece_length)):
            if self.stopped:
                return
            good = self._verify_group(group, buffer)
            if not self.stopped:  # else the last one was not read to its end
                self._finish(group, good)

    def _zero_pieces(self, run: range, buffer: memoryview) -> list[int]:
        """Which of these neighbours are zeros by their hashes, found without looking at each: threads that run Python for long, and
        give up the interpreter only to each other, held the loop for 280 ms over 500,000 pieces of a hole."""
        last = run[-1]
        uniform = run if self.layout.piece_size(last) == self.layout.piece_length else run[:-1]
        good: list[int] = []
        if uniform:
            zero = self._zero_hash(self.layout.piece_length, buffer)
            hashes = self._hashes[20 * uniform.start : 20 * uniform.stop]
            at = hashes.find(zero) if zero else -1
            while at >= 0:
                if not at % 20:
                    good.append(uniform.start + at // 20)
                at = hashes.find(zero, at + (20 - at % 20))
        if len(uniform) < len(run) and self._zero_hash(self.layout.piece_size(last), buffer) == self._hash(last):
            good.append(last)
        return good

    def _verify_group(self, group: range, buffer: memoryview) -> list[int]:
        """Which of these neighbours verify. More than one are read at once, so they fit into the buffer."""
        if len(group) > 1:
            length, last = self.layout.piece_length, group[-1]
            size = (last - group[0]) * length + self.layout.piece_size(last)
            try:
                self.storage.read_into(group[0] * length, buffer[:size])
            except MissingDataError:
                pass  # a file became shorter meanwhile: find out which pieces are still there
            else:
                parts = (
                    (piece, buffer[at : at + length]) for piece, at in zip(group, range(0, size, length), strict=True)
                )
                sizes = self.layout.piece_size
                return [piece for piece, part in parts if sha1(part[: sizes(piece)]).digest() == self._hash(piece)]
        return [piece for piece in group if self._verify_piece(piece, buffer)]

    def _verify_piece(self, piece: int, buffer: memoryview) -> bool:
        """Read and hash one piece of any length, chunk by chunk."""
        at, left = piece * self.layout.piece_length, self.layout.piece_size(piece)
        digest = sha1()
        while left and not self.stopped:
            chunk = buffer[: min(left, len(buffer))]
            try:
                self.storage.read_into(at, chunk)
            except MissingDataError:
                return False
            digest.update(chunk)
            at += len(chunk)
            left -= len(chunk)
        return not left and digest.digest() == self._hash(piece)

    def _hash(self, piece: int) -> bytes:
        return self._hashes[20 * piece : 20 * piece + 20]

    def _zero_hash(self, size: int, buffer: memoryview) -> bytes:
        """The hash of so many zeros: there are at most two sizes, the piece length and the last piece's."""
        known = self._zero_hashes.get(size)
        if known is not None:
            return known
        digest = sha1()
        zeros = bytes(len(buffer))
        for at in range(0, size, len(zeros)):
            if self.stopped:
                return b""
            digest.update(zeros[: size - at])
        return self._zero_hashes.setdefault(size, digest.digest())

    def _finish(self, group: range, good: Iterable[int]) -> None:
        """These neighbours are done, and these are good."""
        with self._lock:
            for piece in good:
                self.have[piece] = 1
                self.checked.have[piece] = 1
            self.checked.done[group.start : group.stop] = 1
            self.done += len(group)
            if self._report is None or (now := time.monotonic()) < self._next_report:
                return
            self._next_report = now + PROGRESS_INTERVAL
        self._report(self.done)

    def __repr__(self) -> str:
        return f"<Check [{self.done} of {self.layout.piece_count} done, {'stopped' if self.stopped else 'running'}]>"


def _thread_count(wanted: int) -> int:
    if wanted > 0:
        return min(wanted, MAX_THREADS)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MAX_THREADS)


def _runs(layout: TorrentLayout, pieces: Iterable[int] | None, threads: int) -> Iterator[range]:
    """Runs of neighbours in file order: few for speed, yet so many that the threads end at about the same time."""
    if pieces is None:
        chosen: Iterable[int] = range(layout.piece_count)
        count = layout.piece_count
    else:
        chosen = sorted(set(pieces))
        count = len(chosen)
        if chosen and not 0 <= chosen[0] <= chosen[-1] < layout.piece_count:
            raise ValueError(f"pieces {chosen[0]} to {chosen[-1]} of {layout.piece_count}")
    return _groups(chosen, max(1, min(RUN // layout.piece_length, count // (4 * threads))))


def _groups(pieces: Iterable[int], most: int) -> Iterator[range]:
    """Rising piece numbers as ranges of neighbours, each of at most so many."""
    start = stop = -1
    for piece in pieces:
        if piece != stop or stop - start == most:
            if start >= 0:
                yield range(start, stop)
            start = piece
        stop = piece + 1
    if start >= 0:
        yield range(start, stop)


def _coverage(layout: TorrentLayout, gaps: list[Gap]) -> tuple[set[int], dict[int, int]]:
    """Pieces of which a byte is missing, and how many bytes of each piece are zeros for sure."""
    missing: set[int] = set()
    zeros: dict[int, int] = {}
    length = layout.piece_length
    for gap in gaps:
        end = gap.start + gap.length
        pieces = range(gap.start // length, (end - 1) // length + 1)
        if gap.missing:
            missing.update(pieces)
            continue
        for piece in pieces:
            zeros[piece] = zeros.get(piece, 0) + min(end, (piece + 1) * length) - max(gap.start, piece * length)
    return missing, zeros


async def _ended(watched: list[asyncio.Future[None]]) -> None:
    """Wait until every thread is out, however often we are cancelled meanwhile: they use the caller's storage."""
    cancelled: asyncio.CancelledError | None = None
    while pending := [future for future in watched if not future.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    for future in watched:
        if not future.cancelled():
            future.exception()  # looked at, so that the loop does not complain; the jobs raise it
    if cancelled is not None:
        raise cancelled


def _raise_first(jobs: list[Future[None]]) -> None:
    """Raise what ended the check early, if anything did."""
    for job in jobs:
        if not job.cancelled():
            job.result()
