"""Opening: files below a download folder, never through a link that leads out of it.

The folder itself may be a link. Below it each component is opened relative to the one before, without following links, so that
nobody can swap one in between check and use; only where a link stands is it resolved, found inside, and the resolved path walked
the same way. What is no ordinary file (a pipe, a device, a folder) is refused, and opening one never blocks.
"""

from __future__ import annotations

import errno
import os
import stat

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


def open_below(folder: str, parts: Components, *, write: bool, executable: bool = False) -> tuple[int, os.stat_result]:
    """Open the ordinary file ``parts`` below ``folder``; the descriptor and its ``fstat``.

    ``write`` opens for reading and writing, and makes the file and the folders above it where missing; ``executable`` gives
    a file made here its x bits (less the umask). Raises OSError as the system said it, StorageError for a link leading out.
    """
    flags = _FILE_FLAGS | (os.O_RDWR | os.O_CREAT if write else os.O_RDONLY)
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


def make_folder(folder: str) -> None:
    """The download folder itself, and what is above it. A path longer than the system takes is the caller's OSError."""
    os.makedirs(folder, exist_ok=True)


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
    make = bool(flags & os.O_CREAT)
    try:
        above = os.open(folder, _FOLDER_FLAGS)
    except FileNotFoundError:
        if not make:
            raise
        make_folder(folder)
        above = os.open(folder, _FOLDER_FLAGS)
    try:
        for part in parts[:-1]:
            below = _enter(above, part, make)
            os.close(above)
            above = below
        return os.open(parts[-1], flags | _NOFOLLOW, mode, dir_fd=above)
    finally:
        os.close(above)


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
    path = safe_join(folder, parts)
    if os.name == "nt" and not path.startswith("\\\\"):
        path = f"\\\\?\\{path}"  # lifts the limit of 260 characters
    if flags & os.O_CREAT:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    return os.open(path, flags, mode)
