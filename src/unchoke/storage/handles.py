"""FilePool: the descriptors that all torrents of a session share, at most ``limit`` at rest, the longest unused closed first.

A descriptor in use is never closed: it is lent to one call at a time or to several, and only one that is given back can go.
Opening and closing happen outside the lock, so that one slow network share does not stop the other torrents.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from unchoke.errors import StorageError

#: (file, write) -> descriptor and st_dev. Raises OSError or StorageError.
Opener = Callable[[int, bool], tuple[int, int]]
T = TypeVar("T")
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class Handle:
    """One open file. ``device`` is its st_dev; ``lock`` guards the file position where there is no pread and pwrite."""

    __slots__ = ("device", "fd", "file", "lock", "retired", "shelf", "users", "writable")

    def __init__(self, shelf: Shelf, file: int, fd: int, device: int, writable: bool) -> None:
        self.shelf = shelf
        self.file = file
        self.fd = fd
        self.device = device
        self.writable = writable
        self.users = 1
        self.retired = False
        self.lock = Lock()

    def __repr__(self) -> str:
        state = "retired" if self.retired else "open"
        return f"<Handle {self.file} [{state}, {'rw' if self.writable else 'r'}, {self.users} users]>"


class FilePool:
    """``limit`` descriptors over all shelves; more only while more than ``limit`` are in use at the same moment."""

    __slots__ = ("_lock", "_open", "limit")

    def __init__(self, limit: int = 128) -> None:
        if limit < 1:
            raise ValueError("a file pool needs room for at least one file")
        self.limit = limit
        self._open: OrderedDict[tuple[int, int], Handle] = OrderedDict()
        self._lock = Lock()

    def shelf(self, opener: Opener) -> Shelf:
        """A new owner's part of the pool; ``opener`` opens its files by their index."""
        return Shelf(self, opener)

    def close_all(self, shelf: Shelf | None = None) -> None:
        """Close what this shelf (None: every shelf) has open; a descriptor in use is closed when it is given back."""
        with self._lock:
            handles = [handle for handle in self._open.values() if shelf is None or handle.shelf is shelf]
            idle = [handle for handle in handles if self._retire(handle)]
        _close(idle)

    def __len__(self) -> int:
        """Descriptors open now."""
        return len(self._open)

    def __repr__(self) -> str:
        return f"<FilePool [{len(self)} of {self.limit} open]>"

    # for Shelf

    def lend(self, shelf: Shelf, file: int, write: bool) -> Handle | None:
        """The open handle if there is one (for ``write``: one that can write), marked as used once more."""
        key = (id(shelf), file)
        with self._lock:
            handle = self._open.get(key)
            if handle is None or (write and not handle.writable):
                return None
            self._open.move_to_end(key)
            handle.users += 1
            return handle

    def adopt(self, fresh: Handle) -> Handle:
        """Keep a handle just opened, or an equal one that another thread was faster with. Makes room for it."""
        shelf = fresh.shelf
        key = (id(shelf), fresh.file)
        with self._lock:
            known = self._open.get(key)
            if shelf.closed:
                surplus, kept = [fresh], None
            elif known is not None and (known.writable or not fresh.writable):
                known.users += 1
                surplus, kept = [fresh], known
            else:
                surplus, kept = ([known] if known is not None and self._retire(known) else []), fresh
                self._open[key] = fresh
                surplus += self._overflow()
        _close(surplus)
        if kept is None:
            raise StorageError("the storage is closed")
        return kept

    def give_back(self, handle: Handle) -> None:
        """End one use. The last use of a retired handle closes it."""
        with self._lock:
            handle.users -= 1
            surplus = [handle] if handle.retired and not handle.users else []
            if len(self._open) > self.limit:
                surplus += self._overflow()
        if surplus:
            _close(surplus)

    def drop(self, shelf: Shelf, file: int) -> None:
        """Close one file, or let it be closed when it is given back; the next use opens it anew."""
        with self._lock:
            handle = self._open.get((id(shelf), file))
            idle = [handle] if handle is not None and self._retire(handle) else []
        _close(idle)

    def make_room(self) -> None:
        """Close everything that nobody uses: the process has no descriptor left."""
        with self._lock:
            idle = [handle for handle in self._open.values() if not handle.users]
            for handle in idle:
                self._retire(handle)
        _close(idle)

    def _overflow(self) -> list[Handle]:
        """Take idle handles out, the longest unused first, until the limit holds. The caller closes them."""
        idle: list[Handle] = []
        excess = len(self._open) - self.limit
        if excess > 0:
            for handle in self._open.values():
                if not handle.users:
                    idle.append(handle)
                    if len(idle) == excess:
                        break
            for handle in idle:
                self._retire(handle)
        return idle

    def _retire(self, handle: Handle) -> bool:
        """Take it out of the pool; True if the caller must close it now."""
        del self._open[(id(handle.shelf), handle.file)]
        handle.retired = True
        return not handle.users


class Shelf:
    """One storage's part of the pool."""

    __slots__ = ("_opener", "closed", "pool")

    def __init__(self, pool: FilePool, opener: Opener) -> None:
        self.pool = pool
        self._opener = opener
        self.closed = False

    def borrow(self, file: int, *, write: bool) -> Handle:
        """The file's handle, opened if need be. Give it back in a ``finally``. Raises what the opener raises."""
        handle = self.pool.lend(self, file, write)
        if handle is not None:
            return handle
        fd, device = self.opened(lambda: self._opener(file, write))
        return self.put(file, fd, device, writable=write)

    def opened(self, opener: Callable[[], T]) -> T:
        """What ``opener`` opens, asked once more after making room if the process has no descriptor left."""
        if self.closed:
            raise StorageError("the storage is closed")
        try:
            return opener()
        except OSError as error:
            if error.errno not in _NO_DESCRIPTORS:
                raise
        self.pool.make_room()
        return opener()

    def put(self, file: int, fd: int, device: int, *, writable: bool) -> Handle:
        """Keep a descriptor opened elsewhere as this file's, borrowed once; it is ours from now on."""
        return self.pool.adopt(Handle(self, file, fd, device, writable))

    def borrow_open(self, file: int) -> Handle | None:
        """The file's handle if it is open already; never touches the disk."""
        return self.pool.lend(self, file, False)

    def give_back(self, handle: Handle) -> None:
        self.pool.give_back(handle)

    def drop(self, file: int | None = None) -> None:
        """Close this file (None: every file), or let it be closed when it is given back; the next use opens it anew."""
        if file is None:
            self.pool.close_all(self)
        else:
            self.pool.drop(self, file)

    def close(self) -> None:
        """Close every file of this shelf; it opens none again. Safe to call twice."""
        self.closed = True
        self.pool.close_all(self)

    def __repr__(self) -> str:
        return f"<Shelf [{'closed' if self.closed else 'open'}]>"


def _close(handles: list[Handle]) -> None:
    for handle in handles:
        try:
            os.close(handle.fd)
        except OSError:
            pass  # what a late close may say (NFS) was asked for by flush(); the descriptor is gone in any case
