"""Calls on one descriptor that differ between systems: positioned reads and writes, reads that do not wait, sparse runs.

All take a ``Handle`` or a descriptor and raise OSError as the system said it; what it means is said by ``files``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from unchoke.storage.handles import Handle

_ZEROS = bytes(64 * 1024)
_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
#: File systems (st_dev) that answered "not supported" to RWF_NOWAIT, as tmpfs does: asked once, then never.
_cannot_nowait: set[int] = set()


#: Bytes of one write. For a longer one Linux looks for a page of that size, and where memory is in pieces the search costs
#: more than the writing: 1 GiB in random order to ext4 took 1.2-2.3 s in writes of 1 MiB, 0.19 s in writes of 256 KiB.
WRITE_SIZE = 256 * 1024
#: Bytes of one read when files are copied.
COPY_SIZE = 1024 * 1024


def write_at(handle: Handle, view: memoryview, offset: int) -> None:
    """Write the whole view."""
    while view:
        done = _pwrite(handle, view[:WRITE_SIZE], offset)
        offset += done
        view = view[done:]


def read_at(handle: Handle, view: memoryview, offset: int) -> int:
    """Fill the view as far as the file goes; how many bytes that were."""
    filled = 0
    while filled < len(view):
        done = _pread(handle, view[filled:], offset + filled)
        if not done:
            break
        filled += done
    return filled


def try_read_at(handle: Handle, view: memoryview, offset: int) -> bool:
    """Fill the whole view from the page cache. False: it would wait, the file ends, or this system cannot tell."""
    if not _NOWAIT or handle.device in _cannot_nowait:
        return False
    try:
        return os.preadv(handle.fd, [view], offset, _NOWAIT) == len(view)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            _cannot_nowait.add(handle.device)
        return False


def copy(source: Handle, at: int, target: Handle, offset: int, length: int) -> int:
    """Copy bytes between two files as far as the first one goes; how many that were."""
    chunk = bytearray(min(length, COPY_SIZE))
    done = 0
    while done < length:
        view = memoryview(chunk)[: length - done]
        got = read_at(source, view, at + done)
        write_at(target, view[:got], offset + done)
        done += got
        if got < len(view):
            break
    return done


def is_equal(one: Handle, other: Handle, length: int) -> bool:
    """Do two files have the same first ``length`` bytes?"""
    views = [memoryview(bytearray(min(length, COPY_SIZE))) for _ in range(2)]
    for at in range(0, length, COPY_SIZE):
        size = min(COPY_SIZE, length - at)
        if read_at(one, views[0][:size], at) < size or read_at(other, views[1][:size], at) < size:
            return False
        if views[0][:size] != views[1][:size]:
            return False
    return True


def sync(handle: Handle) -> None:
    """Let the file's bytes, and the size that reaches them, come to rest on the disk."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(handle.fd)
    else:
        os.fsync(handle.fd)


def sync_folder(folder: str) -> None:
    """Let the names in a folder come to rest on the disk, where the system lets a folder be synced."""
    if os.name == "nt":
        return
    try:
        fd = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
    except PermissionError:
        return  # it may be entered and not listed: then nobody can sync it
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(fd)


def extents(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The runs (from, to) of a file between two offsets that are no holes; everything where the file system does not tell."""
    end = min(end, os.fstat(fd).st_size)
    while start < end:
        data, hole = _next_data(fd, start, end)
        if data < end:
            yield data, min(hole, end)
        start = hole


def holes(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sparse runs (from, to) of a file between two offsets; none where the file system does not tell."""
    while start < end:
        data, hole = _next_data(fd, start, end)
        if data > start:
            yield start, data
        start = hole


def _next_data(fd: int, start: int, end: int) -> tuple[int, int]:
    """Where data begins and ends again, from ``start`` on; (``end``, ``end``) if there is none."""
    if not hasattr(os, "SEEK_DATA"):
        return start, end
    try:
        data = min(os.lseek(fd, start, os.SEEK_DATA), end)
        return data, os.lseek(fd, data, os.SEEK_HOLE) if data < end else end
    except OSError as error:
        return (end, end) if error.errno == errno.ENXIO else (start, end)


def is_all_zeros(handle: Handle) -> bool:
    """Is there no byte but zero in the file? Holes are not read; the first other byte ends it."""
    size = os.fstat(handle.fd).st_size
    chunk = bytearray(len(_ZEROS))
    start = 0
    while start < size:
        start, stop = _next_data(handle.fd, start, size)
        while start < stop:
            view = memoryview(chunk)[: min(len(chunk), stop - start)]
            got = read_at(handle, view, start)
            if not got:
                return True  # it became shorter meanwhile
            if bytes(view[:got]) != _ZEROS[:got]:
                return False
            start += got
    return True


def fill_zeros(view: memoryview) -> None:
    """What a pad file reads as."""
    for at in range(0, len(view), len(_ZEROS)):
        part = view[at : at + len(_ZEROS)]
        part[:] = _ZEROS[: len(part)]


def _pwrite(handle: Handle, view: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(handle.fd, view, offset)
    with handle.lock:
        os.lseek(handle.fd, offset, os.SEEK_SET)
        return os.write(handle.fd, view)


def _pread(handle: Handle, view: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(handle.fd, [view], offset)
    with handle.lock:
        os.lseek(handle.fd, offset, os.SEEK_SET)
        data = os.read(handle.fd, len(view))
    view[: len(data)] = data
    return len(data)
