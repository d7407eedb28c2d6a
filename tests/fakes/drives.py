"""Drives: real folders whose system calls fail, fill up, stop in the midst and lose power, as a machine's own disk would.

``watching`` stands between ``unchoke.storage`` and ``os``. What was written is readable at once; the bytes of a file are
safe after its fdatasync, new and changed names after an fsync of any folder, as with a journal. A power cut keeps some of the
pages that were not safe, and of the changes of names the first so many. ``kill -9`` changes nothing. No time passes here, and files
carry the loop's time, so that a run is the same every time.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

#: What survives a power cut or is lost as one.
PAGE = 4096

#: Hears of bytes about to be written: path, offset, bytes.
Written = Callable[[str, int, memoryview], None]


@dataclass(slots=True)
class Pending:
    """A change of names that a power cut may undo. ``inode``: of a file that it made."""

    path: str
    undo: Callable[[], None]
    inode: int = 0


class Drive:
    """The disk below ``root``. ``changes``: calls so far that change something; in the midst of number ``crash_at`` all ends.

    ``capacity``: bytes it holds; None: no end. ``fail``: kind of call ("write", "read", "sync") → the how manieth from now
    on is refused. ``died``: called when all ends.
    """

    def __init__(self, root: Path, rng: Random, clock: Callable[[], float]) -> None:
        root.mkdir(parents=True)
        self.root = str(root.resolve())
        self.rng = rng
        self.dead = False
        self.changes = 0
        self.crash_at: int | None = None
        self.capacity: int | None = None
        self.fail: dict[str, int] = {}
        self.died: Callable[[], None] = lambda: None
        self.written: Written = lambda path, offset, data: None
        self.made: Callable[[str], None] = lambda path: None
        self.open_files = 0
        self._clock = clock
        self._safe: dict[int, bytes] = {}  # inode → its bytes at its last fdatasync
        self._pending: list[Pending] = []
        self._grave = Path(f"{self.root}.graves")  # holds what was deleted until that is safe
        self._grave.mkdir()
        self._graves = 0

    # ------------------------------------------------------------------ what goes wrong

    def alive(self) -> None:
        if self.dead:
            raise OSError(errno.EIO, "the machine stands still")

    def counts(self) -> bool:
        """One change more; True if all ends in its midst."""
        self.alive()
        self.changes += 1
        return self.crash_at is not None and self.changes >= self.crash_at

    def die(self) -> NoReturn:
        self.dead = True
        self.died()
        self.alive()
        raise AssertionError

    def refuse(self, kind: str) -> None:
        """Raise EIO if this is the call that fails."""
        self.alive()
        left = self.fail.get(kind, 0)
        if left:
            self.fail[kind] = left - 1
            if left == 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    @property
    def used(self) -> int:
        """Bytes allocated."""
        return sum(os.stat(path).st_blocks * 512 for path in self.files())

    def free(self) -> int:
        return sys.maxsize if self.capacity is None else max(0, self.capacity - self.used) // PAGE * PAGE

    def files(self) -> list[str]:
        return sorted(os.path.join(folder, name) for folder, _, names in os.walk(self.root) for name in names)

    # ------------------------------------------------------------------ what is safe

    def synced(self, fd: int) -> None:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            self._pending.clear()
        else:
            self._safe[status.st_ino] = os.pread(fd, status.st_size, 0)

    def safe_bytes(self, path: str) -> bytes:
        """What of this file a power cut cannot take."""
        inode = os.stat(path).st_ino
        if any(inode == change.inode or path.startswith(f"{change.path}/") for change in self._pending):
            return b""
        return self._safe.get(inode, b"")

    def changed_names(self, path: str, undo: Callable[[], None], inode: int = 0) -> None:
        self._pending.append(Pending(path, undo, inode))

    def bury(self, path: str) -> Callable[[], None]:
        """Keep a file that is about to be deleted; what brings it back."""
        self._graves += 1
        grave = self._grave / str(self._graves)
        os.link(path, grave)
        return lambda: os.link(grave, path)

    def touch(self, target: int | str) -> None:
        now = int(self._clock() * 1e9)
        os.utime(target, ns=(now, now))

    def power_cut(self) -> None:
        """Lose what chance wants of that which was not safe. All that is left is safe."""
        keep = self.rng.randint(0, len(self._pending))
        for change in reversed(self._pending[keep:]):
            try:
                change.undo()
            except OSError:
                pass  # a folder that is not empty, a file that had another name
        self._pending.clear()
        survive = self.rng.choice((0.0, 0.3, 0.7))
        for path in self.files():
            self._tear(path, survive)

    def _tear(self, path: str, survive: float) -> None:
        status = os.stat(path)
        now = Path(path).read_bytes()
        safe = self._safe.get(status.st_ino, b"")
        size = self.rng.choice((len(now), len(safe)))
        with open(path, "r+b") as file:
            for at in range(0, size, PAGE):
                new = now[at : min(at + PAGE, size)]
                old = safe[at : at + PAGE].ljust(len(new), b"\0")
                if new != old[: len(new)] and self.rng.random() >= survive:
                    file.seek(at)
                    file.write(old[: max(len(new), min(PAGE, size - at))])
            file.truncate(size)
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))  # metadata may well be newer than data
        self._safe[status.st_ino] = Path(path).read_bytes()

    def __repr__(self) -> str:
        return f"<Drive {self.root} [{'dead' if self.dead else 'alive'} | {self.changes} changes]>"


class WatchedOs:
    """What the modules of ``unchoke.storage`` take for ``os``. Paths outside of all drives are not its business."""

    def __init__(self) -> None:
        self.drives: list[Drive] = []
        self._fds: dict[int, tuple[Drive, str]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _where(self, path: Any, dir_fd: int | None = None) -> tuple[Drive | None, str]:
        if dir_fd is not None and dir_fd in self._fds:
            drive, above = self._fds[dir_fd]
            return drive, f"{above}/{path}"
        full = os.path.abspath(os.fspath(path))
        for drive in self.drives:
            if full == drive.root or full.startswith(drive.root + "/"):
                return drive, full
        return None, full

    def _change(self, drive: Drive | None, kind: str, call: Callable[[], T]) -> T:
        if drive is None:
            return call()
        drive.refuse(kind)
        if not drive.counts():
            return call()
        if drive.rng.random() < 0.5:
            call()
        drive.die()

    # names

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        drive, full = self._where(path, dir_fd)
        if drive is None:
            return os.open(path, flags, mode, dir_fd=dir_fd)
        drive.alive()
        new = bool(flags & os.O_CREAT) and not os.path.lexists(full)
        if new:
            drive.made(full)
            if drive.counts():
                if drive.rng.random() < 0.5:
                    os.close(os.open(path, flags, mode, dir_fd=dir_fd))
                    self._note_made(drive, full)
                drive.die()
        fd = os.open(path, flags, mode, dir_fd=dir_fd)
        drive.open_files += 1
        self._fds[fd] = drive, full
        if new:
            self._note_made(drive, full)
        return fd

    def _note_made(self, drive: Drive, path: str) -> None:
        drive.touch(path)
        drive.changed_names(path, lambda: os.unlink(path), os.stat(path).st_ino)

    def close(self, fd: int) -> None:
        known = self._fds.pop(fd, None)
        if known is not None:
            known[0].open_files -= 1
        os.close(fd)

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        drive, full = self._where(path, dir_fd)

        def call() -> None:
            os.mkdir(path, mode, dir_fd=dir_fd)
            if drive is not None:
                drive.changed_names(full, lambda: os.rmdir(full))

        self._change(drive, "name", call)

    def makedirs(self, path: Any, mode: int = 0o777, exist_ok: bool = False) -> None:
        full = os.path.abspath(path)
        if not os.path.isdir(os.path.dirname(full)):
            self.makedirs(os.path.dirname(full), mode, exist_ok=True)
        if not (exist_ok and os.path.isdir(full)):
            self.mkdir(full, mode)

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        drive, full = self._where(path, dir_fd)

        def call() -> None:
            os.rmdir(path, dir_fd=dir_fd)
            if drive is not None:
                drive.changed_names(full, lambda: os.mkdir(full))

        self._change(drive, "name", call)

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        drive, full = self._where(path, dir_fd)

        def call() -> None:
            back = drive.bury(full) if drive is not None and os.path.lexists(full) else None
            os.unlink(path, dir_fd=dir_fd)
            if drive is not None and back is not None:
                drive.changed_names(full, back)

        self._change(drive, "name", call)

    def link(self, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        drive, full = self._where(dst, dst_dir_fd)
        _, old = self._where(src, src_dir_fd)

        def call() -> None:
            os.link(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            self._renamed(old, full)
            if drive is not None:
                drive.changed_names(full, lambda: os.unlink(full))

        self._change(drive, "name", call)

    def rename(self, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        drive, full = self._where(dst, dst_dir_fd)
        _, old = self._where(src, src_dir_fd)

        def call() -> None:
            os.rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            self._renamed(old, full)
            if drive is not None:
                drive.changed_names(full, lambda: os.rename(full, old))

        self._change(drive, "name", call)

    def _renamed(self, old: str, new: str) -> None:
        """What is open under the old name goes by the new one from now on."""
        for fd, (drive, path) in self._fds.items():
            if path == old:
                self._fds[fd] = drive, new

    # bytes

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        drive, path = self._fds.get(fd, (None, ""))
        if drive is None:
            return os.pwrite(fd, data, offset)
        drive.refuse("write")
        view = memoryview(data)
        drive.written(path, offset, view)
        dies = drive.counts()
        if dies:
            view = view[: drive.rng.randint(0, len(view))]
        elif (room := _fits(drive, fd, offset, len(view))) < len(view):
            view = view[:room]
            if not room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = os.pwrite(fd, view, offset)
        drive.touch(fd)
        if dies:
            drive.die()
        return done

    def preadv(self, fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        drive, _ = self._fds.get(fd, (None, ""))
        if drive is not None:
            if flags and drive.rng.random() < 0.3:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            if not flags:
                drive.refuse("read")
            flags = 0  # not every file system can
        return os.preadv(fd, buffers, offset, flags)

    def ftruncate(self, fd: int, length: int) -> None:
        drive, _ = self._fds.get(fd, (None, ""))

        def call() -> None:
            os.ftruncate(fd, length)
            if drive is not None:
                drive.touch(fd)

        self._change(drive, "name", call)

    def posix_fallocate(self, fd: int, offset: int, length: int) -> None:
        drive, _ = self._fds.get(fd, (None, ""))
        if drive is not None and drive.free() < length:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def call() -> None:
            os.posix_fallocate(fd, offset, length)
            if drive is not None:
                drive.touch(fd)

        self._change(drive, "name", call)

    def fdatasync(self, fd: int) -> None:
        drive, _ = self._fds.get(fd, (None, ""))
        if drive is not None:
            self._change(drive, "sync", lambda: drive.synced(fd))

    fsync = fdatasync

    # questions

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        drive, _ = self._where(path, dir_fd) if not isinstance(path, int) else (None, "")
        if drive is not None:
            drive.alive()
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def statvfs(self, path: Any) -> Any:
        drive, _ = self._where(path)
        if drive is None or drive.capacity is None:
            return SimpleNamespace(f_bavail=1 << 30, f_frsize=PAGE, f_bsize=PAGE)
        drive.alive()
        return SimpleNamespace(f_bavail=drive.free() // PAGE, f_frsize=PAGE, f_bsize=PAGE)


def _fits(drive: Drive, fd: int, offset: int, length: int) -> int:
    """How many of these bytes the drive still takes."""
    if drive.capacity is None:
        return length
    try:
        hole = os.lseek(fd, offset, os.SEEK_HOLE) - offset
    except OSError:
        hole = 0  # past the end
    return min(length, max(hole, 0) + drive.free())


@contextmanager
def watching() -> Iterator[WatchedOs]:
    """Storage goes through the drives added to what this gives."""
    watched = WatchedOs()
    modules = [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith("unchoke.storage.") and getattr(module, "os", None) is os
    ]
    for module in modules:
        module.os = watched  # type: ignore[attr-defined]
    try:
        yield watched
    finally:
        for module in modules:
            module.os = os  # type: ignore[attr-defined]
