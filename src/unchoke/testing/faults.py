"""FaultyStorage: any storage, on a disk that gets full, fails, or loses power, with a page cache that forgets.

What is written is readable at once, and durable after ``flush``. When the power goes (``crash``), every page that was not
flushed survives by chance or is again what it was; so a write can be torn. From then on everything raises CrashedError;
``after_crash`` is the disk after the reboot. Slow disks are ``SlowExecutor``'s: here no time passes.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Collection, Container
from dataclasses import dataclass
from random import Random

from bitarray import bitarray
from bitarray.util import zeros

from unchoke.bitfield import Bitfield
from unchoke.errors import StorageError
from unchoke.storage.base import Buffer, FileStatus, Gap, MissingDataError, Room, Storage, storage_error

#: Bytes of a page of the cache: what survives or is lost as one.
PAGE = 4096


class CrashedError(StorageError):
    """The power is gone; nothing works any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong. Writes, reads and changes (writes and flushes) are counted from 1."""

    room: int | None = None
    """Bytes that the disk takes, in whole pages, before it is full; None: no end."""

    failing_writes: Container[int] = ()
    """Writes that the disk refuses (EIO)."""

    failing_reads: Container[int] = ()
    """Reads that it refuses. ``try_read_into`` counts too, and says no."""

    crash_at: int | None = None
    """The change in whose midst the power goes."""

    survive: float = 0.5
    """How likely a page that was not flushed survives a crash."""


class FaultyStorage:
    """``inner`` is the disk as it reads now; ``total`` its length in bytes. ``writes``, ``reads``, ``changes``: how many so far."""

    def __init__(self, inner: Storage, total: int, faults: Faults | None = None, *, rng: Random | None = None) -> None:
        self.faults = faults or Faults()
        self.writes = self.reads = self.changes = 0
        self.crashed = False
        self._inner = inner
        self._total = total
        self._rng = rng or Random(0)
        self._room = self.faults.room
        self._written: bitarray = zeros(-(-total // PAGE), "big")  # a bit a page
        self._unflushed: dict[int, bytes] = {}  # page → what it was at the last flush
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ the bytes

    def write(self, start: int, data: Buffer) -> None:
        """As the inner storage, or as ``faults`` want."""
        with self._lock:
            view = memoryview(data)
            self.writes += 1
            dies = self._change()
            if self.writes in self.faults.failing_writes:
                raise storage_error(OSError(errno.EIO, os.strerror(errno.EIO)), "write", "simulated disk")
            fits = len(view) if dies else self._take_room(start, len(view))
            self._remember(start, fits)
            self._inner.write(start, view[:fits])
            if dies:
                self._lose_power()
            if fits < len(view):
                raise storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "write", "simulated disk")

    def flush(self, *, everything: bool = False) -> None:
        """Everything written so far is durable when this returns, whoever wrote it."""
        with self._lock:
            if self._change():
                self._lose_power()
            self._inner.flush(everything=everything)
            self._unflushed.clear()

    def read_into(self, start: int, buffer: memoryview) -> None:
        """As the inner storage, or as ``faults`` want."""
        self._alive()
        self.reads += 1
        if self.reads in self.faults.failing_reads:
            raise storage_error(OSError(errno.EIO, os.strerror(errno.EIO)), "read", "simulated disk")
        self._inner.read_into(start, buffer)

    def try_read_into(self, start: int, buffer: memoryview) -> bool:
        """As the inner storage; what fails waits for ``read_into`` to say so."""
        if self.crashed or self.reads + 1 in self.faults.failing_reads:
            return False
        if not self._inner.try_read_into(start, buffer):
            return False
        self.reads += 1
        return True

    # ------------------------------------------------------------------ trouble

    def make_room(self, size: int | None) -> None:
        """The disk takes so many bytes more than it holds now; None: no end."""
        self._room = None if size is None else self._written.count(1) * PAGE + size

    def crash(self) -> None:
        """The power goes now. (No CrashedError: whoever calls this knows.)"""
        with self._lock:
            try:
                self._lose_power()
            except CrashedError:
                pass

    def after_crash(self, faults: Faults | None = None) -> FaultyStorage:
        """The same disk with power again, what survived on it."""
        made = FaultyStorage(self._inner, self._total, faults, rng=self._rng)
        made.keep_history(self)
        return made

    def keep_history(self, earlier: FaultyStorage) -> None:
        """This is the same disk as ``earlier`` was: what was written then was written, what was not flushed is not yet."""
        self._written |= earlier._written
        self._unflushed.update(earlier._unflushed)

    def is_written(self, start: int, length: int) -> bool:
        """Every page with one of these bytes was written to (in this run or before the crash)."""
        return self._written.count(1, start // PAGE, _pages_end(start, length)) == len(_pages(start, length))

    def is_durable(self, start: int, length: int) -> bool:
        """They were written, and a crash now would change none of them."""
        return self.is_written(start, length) and not any(page in self._unflushed for page in _pages(start, length))

    def _alive(self) -> None:
        if self.crashed:
            raise CrashedError("the power is gone")

    def _change(self) -> bool:
        """Count one; True if the power goes in the midst of it."""
        self._alive()
        self.changes += 1
        return self.changes == self.faults.crash_at

    def _take_room(self, start: int, length: int) -> int:
        """How many of these bytes still fit."""
        if self._room is None:
            return length
        left = self._room - self._written.count(1) * PAGE
        for page in _pages(start, length):
            if not self._written[page]:
                left -= PAGE
                if left < 0:
                    return max(0, page * PAGE - start)
        return length

    def _remember(self, start: int, length: int) -> None:
        """What these pages hold now is what a crash may bring back."""
        for page in _pages(start, length):
            self._written[page] = 1
            if page not in self._unflushed:
                old = bytearray(min(PAGE, self._total - page * PAGE))
                try:
                    self._inner.read_into(page * PAGE, memoryview(old))
                except MissingDataError:
                    old = bytearray(len(old))  # beyond a file's end: zeros, if it ever comes to be read
                self._unflushed[page] = bytes(old)

    def _lose_power(self) -> None:
        self.crashed = True
        for page, old in self._unflushed.items():
            if self._rng.random() >= self.faults.survive:
                self._inner.write(page * PAGE, old)
        self._unflushed.clear()
        raise CrashedError("the power goes")

    # ------------------------------------------------------------------ all else is the inner storage's

    def prepare(self) -> None:
        self._alive()
        self._inner.prepare()

    def gaps(self, start: int, length: int) -> list[Gap]:
        self._alive()
        return self._inner.gaps(start, length)

    def close(self) -> None:
        """Nothing after a crash: there is nobody to close it."""
        if not self.crashed:
            self._inner.close()

    @property
    def root(self) -> str:
        return self._inner.root

    def path(self, file: int) -> str:
        return self._inner.path(file)

    def status(self) -> list[FileStatus | None]:
        self._alive()
        return self._inner.status()

    def select(self, wanted: Collection[int] | None) -> None:
        self._alive()
        self._inner.select(wanted)

    def finished(self, file: int) -> None:
        self._alive()
        self._inner.finished(file)

    def relocate(self, folder: str | os.PathLike[str], moved: Callable[[], None] | None = None) -> list[str]:
        self._alive()
        return self._inner.relocate(folder, moved)

    def room(self) -> Room | None:
        """What the simulated disk still takes; the inner storage's own if it has no end."""
        self._alive()
        inner = self._inner.room()
        if self._room is None:
            return inner
        used = self._written.count(1) * PAGE
        missing = inner.missing if inner is not None else max(0, self._total - used)
        return Room(max(0, self._room - used), missing, inner.device if inner is not None else 0)

    def vanished(self) -> str:
        self._alive()
        return self._inner.vanished()

    def oversized(self) -> list[str]:
        self._alive()
        return self._inner.oversized()

    def shorten(self) -> None:
        self._alive()
        self._inner.shorten()

    def foreign_files(self, have: Bitfield) -> list[str]:
        self._alive()
        return self._inner.foreign_files(have)

    def delete(self, have: Bitfield) -> None:
        self._alive()
        self._inner.delete(have)

    def __repr__(self) -> str:
        state = "crashed" if self.crashed else f"{len(self._unflushed)} pages not flushed"
        return f"<FaultyStorage of {self._inner!r} [{self.writes} writes | {self.reads} reads | {state}]>"


def _pages(start: int, length: int) -> range:
    return range(start // PAGE, _pages_end(start, length))


def _pages_end(start: int, length: int) -> int:
    return (start + length - 1) // PAGE + 1 if length else start // PAGE
