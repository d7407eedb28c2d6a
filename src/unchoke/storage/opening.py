"""Opening: files below a download folder, never through a link that leads out of it.

The folder itself may be a link. Below it each component is opened relative to the one before, without following links, so that
nobody can swap one in between check and use; only where a link stands is it resolved, found inside, and the resolved path walked
the same way. What is no ordinary file (a pipe, a device, a folder) is refused, and opening one never blocks. The download
folder itself is made by ``make_folder`` alone.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from unchoke.errors import StorageError
from unchoke.storage.paths import Components

_CAN_WALK = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# O_PATH passes folders that may be entered but not listed. O_NONBLOCK: a pipe in a file's place must not hold us for ever.
_FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | _CLOEXEC
_FILE_FLAGS = _CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
#: What the kernels answer to O_NOFOLLOW at a link: ELOOP, EMLINK (FreeBSD), ENOTDIR when a folder was asked for.
_MAYBE_LINK = (errno.ELOOP, errno.EMLINK, errno.ENOTDIR)
#: What ``link`` answers where there are none: FAT and many network shares; EPERM also if the file is somebody else's.
NO_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)


def open_below(
    folder: str, parts: Components, *, write: bool = False, make: bool = False, executable: bool = False
) -> tuple[int, os.stat_result]:
    """Open the ordinary file ``parts`` below ``folder``; the descriptor and its ``fstat``.

    ``write`` opens for reading and writing; ``make`` too, and makes the file and the folders between where missing;
    ``executable`` gives a file made here its x bits (less the umask). Raises OSError as the system said it, StorageError for
    a link leading out.
    """
    flags = _FILE_FLAGS | (os.O_RDWR | os.O_CREAT if make else os.O_RDWR if write else os.O_RDONLY)
    mode = 0o777 if executable else 0o666
    fd = _walk_or_resolve(folder, parts, flags, mode) if _CAN_WALK else _open_joined(folder, parts, flags, mode)
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            path = os.path.join(folder, *parts)
            raise StorageError(f"{path} is no ordinary file: move it away", path)
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def make_folder(folder: str) -> list[str]:
    """The download folder itself, and what is above it; the folders that got a new one in them, to be synced.

    A path longer than the system takes is the caller's OSError.
    """
    changed: list[str] = []
    path = os.path.abspath(folder)
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
        changed.append(path)
    os.makedirs(folder, exist_ok=True)
    return changed


@contextmanager
def entered(folder: str, parts: Components, *, make: bool = False) -> Iterator[tuple[int | None, str]]:
    """The folder that ``parts`` lies in, held open: its descriptor and the last name, as the ``dir_fd`` calls want them.

    Where folders cannot be held open: None and the whole path. ``make`` makes the folders between. Raises as ``open_below``.
    """
    if not _CAN_WALK:
        path = _long(safe_join(folder, parts))
        if make:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        yield None, path
        return
    above = _enter_all_or_resolve(folder, parts[:-1], make)
    try:
        yield above, parts[-1]
    finally:
        os.close(above)


def rename_new(above: int | None, name: str, to: int | None, new: str) -> None:
    """Rename without overwriting, below folders as ``entered`` gives them. FileExistsError if ``new`` is there.

    By a link and an unlink, so that a crash between leaves both names of one file. Where the file system has no links: a look
    first and then a rename, which loses to somebody who makes ``new`` in between.
    """
    try:
        link_new(above, name, to, new)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if exists(to, new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from error
        os.rename(name, new, src_dir_fd=above, dst_dir_fd=to)
    else:
        os.unlink(name, dir_fd=above)


def link_new(above: int | None, name: str, to: int | None, new: str) -> None:
    """Give a file a second name. FileExistsError if it is taken; an errno of ``NO_LINKS`` where that cannot be."""
    if not hasattr(os, "link"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    os.link(name, new, src_dir_fd=above, dst_dir_fd=to)


def exists(above: int | None, name: str) -> bool:
    """Is there anything under this name, be it a link to nothing?"""
    try:
        os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def safe_join(folder: str, parts: Components) -> str:
    """The absolute path of ``parts`` below ``folder``. StorageError if a link below the folder leads outside it."""
    if not parts or any(part in ("", ".", "..") or "/" in part or "\0" in part or os.sep in part for part in parts):
        raise StorageError(f"not a path below {folder}: {'/'.join(parts)}", folder)
    _resolve(folder, parts)
    return os.path.join(os.path.abspath(folder), *parts)


def _resolve(folder: str, parts: Components) -> tuple[str, Components]:
    """Folder and components with every link followed."""
    path = os.path.join(folder, *parts)
    real_folder, real = os.path.realpath(folder), os.path.realpath(path)
    if os.path.commonpath((real_folder, real)) != real_folder or real == real_folder:
        raise StorageError(f"{path} is a link, or below one, that leads outside {folder}: remove the link", path)
    return real_folder, tuple(os.path.relpath(real, real_folder).split(os.sep))


def _walk_or_resolve(folder: str, parts: Components, flags: int, mode: int) -> int:
    try:
        return _walk(folder, parts, flags, mode)
    except OSError as error:
        if error.errno not in _MAYBE_LINK:
            raise
        real_folder, real_parts = _resolve(folder, parts)
        if real_parts == parts:
            raise
        return _walk(real_folder, real_parts, flags, mode)


def _walk(folder: str, parts: Components, flags: int, mode: int) -> int:
    """Open component by component, following no link."""
    above = _enter_all(folder, parts[:-1], bool(flags & os.O_CREAT))
    try:
        return os.open(parts[-1], flags | _NOFOLLOW, mode, dir_fd=above)
    finally:
        os.close(above)


def _enter_all_or_resolve(folder: str, parts: Components, make: bool) -> int:
    try:
        return _enter_all(folder, parts, make)
    except OSError as error:
        if error.errno not in _MAYBE_LINK or not parts:
            raise
        real_folder, real_parts = _resolve(folder, parts)
        if real_parts == parts:
            raise
        return _enter_all(real_folder, real_parts, make)


def _enter_all(folder: str, parts: Components, make: bool) -> int:
    """The folder ``parts`` below ``folder``, following no link below it."""
    above = os.open(folder, _FOLDER_FLAGS)
    try:
        for part in parts:
            below = _enter(above, part, make)
            os.close(above)
            above = below
    except BaseException:
        os.close(above)
        raise
    return above


def _enter(above: int, part: str, make: bool) -> int:
    try:
        return os.open(part, _FOLDER_FLAGS | _NOFOLLOW, dir_fd=above)
    except FileNotFoundError:
        if not make:
            raise
    try:
        os.mkdir(part, dir_fd=above)
    except FileExistsError:
        pass  # another thread or program was faster
    return os.open(part, _FOLDER_FLAGS | _NOFOLLOW, dir_fd=above)


def _open_joined(folder: str, parts: Components, flags: int, mode: int) -> int:
    """Where folders cannot be held open (Windows): look first, then open."""
    path = _long(safe_join(folder, parts))
    if flags & os.O_CREAT:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    return os.open(path, flags, mode)


def _long(path: str) -> str:
    """Lifts Windows' limit of 260 characters."""
    return f"\\\\?\\{path}" if os.name == "nt" and not path.startswith("\\\\") else path
