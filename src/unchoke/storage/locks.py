"""Locks between processes: who works on a torrent in a folder, and who owns a state directory.

A lock is the kernel's (``flock``, on Windows a locked byte), so it ends with its process, however that ends. The file holds the
owner's pid for whoever comes second; by itself it means nothing. It is removed on release, by its owner and while still locked.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from hashlib import sha1
from types import TracebackType

from unchoke.errors import UnchokeError
from unchoke.storage.base import storage_error
from unchoke.storage.records import pack_text

log = logging.getLogger(__name__)

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
#: Where there are no locks at all: a few network file systems.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
#: Tries to read the pid of an owner who has locked and not written yet, 5 ms apart.
_PID_TRIES = 20


class TakenError(UnchokeError):
    """Another process has the lock: ``pid``, or 0 if that could not be read."""

    exit_code = 1

    def __init__(self, message: str, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid


class FileLock:
    """An exclusive lock on ``path``, from ``acquire`` to ``release``; ``what`` is named to whoever comes second.

    Two in one process exclude each other as well. ``with`` acquires and releases.
    """

    def __init__(self, path: str, what: str) -> None:
        self.path = os.path.abspath(path)
        self.what = what
        self._fd = -1

    def acquire(self) -> None:
        """Take it without waiting. Raises TakenError, and StorageError if the file cannot be made."""
        if self._fd >= 0:
            raise RuntimeError(f"{self!r} is held already")
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            while self._fd < 0:
                self._fd = self._try()
            os.ftruncate(self._fd, 0)
            os.write(self._fd, b"%d\n" % os.getpid())
        except (OSError, ValueError) as error:
            self.release()
            raise storage_error(error, "lock", self.path) from error

    def _try(self) -> int:
        """A locked descriptor; -1 if the file was removed by its last owner meanwhile."""
        fd = os.open(self.path, _FLAGS, 0o600)
        try:
            self._lock(fd)
            if os.name != "nt" and not self._is_current(fd):
                os.close(fd)
                return -1
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _lock(self, fd: int) -> None:
        try:
            _lock_now(fd)
        except OSError as error:
            if error.errno in _TAKEN:
                pid = self._owner()
                raise TakenError(
                    f"{self.what} is in use by {f'process {pid}' if pid else 'another process'}", pid
                ) from None
            if error.errno not in _UNSUPPORTED:
                raise
            log.warning(
                "! %s: no locks on this file system; nothing keeps a second process from %s", self.path, self.what
            )

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _owner(self) -> int:
        for _ in range(_PID_TRIES):
            try:
                with open(self.path, "rb") as file:
                    text = file.read(32).strip()
            except OSError:
                return 0
            if text.isdigit():
                return int(text)
            time.sleep(0.005)
        return 0

    def release(self) -> None:
        """Give it back. Safe to call twice; never raises."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            if os.name != "nt":  # which refuses while the file is open, and after closing it may be another's
                os.unlink(self.path)
        except OSError as error:
            log.debug("! removing %s: %s", self.path, error)
        os.close(fd)

    @property
    def is_held(self) -> bool:
        return self._fd >= 0

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} [{'held' if self.is_held else 'free'}]>"


class PairLock(FileLock):
    """For one torrent in one folder, by files below ``locks``. ``name``: what people call the torrent."""

    def __init__(self, locks: str, infohash: bytes, folder: str, name: str = "") -> None:
        real = os.path.realpath(folder)
        mark = sha1(pack_text(real), usedforsecurity=False).hexdigest()[:16]
        super().__init__(
            os.path.join(locks, f"{bytes(infohash).hex()}-{mark}.lock"), f"{name or bytes(infohash).hex()} in {real}"
        )


class FolderLock(FileLock):
    """For a state directory."""

    def __init__(self, folder: str) -> None:
        super().__init__(os.path.join(folder, "lock"), f"the directory {os.path.abspath(folder)}")


if sys.platform == "win32":
    import msvcrt

    def _lock_now(fd: int) -> None:
        """A byte far behind the pid: on Windows nobody can read what is locked."""
        os.lseek(fd, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(fd, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock_now(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
