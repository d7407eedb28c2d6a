"""Space: how much a file system has left, how much a torrent still needs, and reserving it.

Bytes are counted as allocated when the file system says so (st_blocks), not by a file's size: ours are sparse. A file system that
compresses allocates less than we count, so a complete torrent may seem to miss some there.
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, Literal

from unchoke.storage.base import Room, storage_error
from unchoke.storage.probe import nearest_existing

if TYPE_CHECKING:
    from unchoke.storage.parts import PartMap
    from unchoke.storage.places import Places

#: What happens to a file's space with its first write. off: it grows as it is written. sparse: it has its size at once, and takes
#: space as it is written. full: all of its space is taken at once.
Preallocate = Literal["off", "sparse", "full"]
MODES = ("off", "sparse", "full")
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)


def reserve(fd: int, length: int, mode: str) -> None:
    """Give a file that is about to be written its size or its space. Raises OSError, ENOSPC with the file as it was.

    ``full`` where the file system cannot reserve: the C library may write a byte to each of its blocks instead, which takes
    as long as writing it; or it refuses, and the file becomes a sparse one. Nobody may write to the file meanwhile.
    """
    status = os.fstat(fd)
    if mode == "full" and hasattr(os, "posix_fallocate"):
        if status.st_size >= length and allocated(status) >= length:
            return
        try:
            os.posix_fallocate(fd, 0, length)
            return
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                if not status.st_size:
                    os.ftruncate(fd, 0)  # what was reserved before it failed would help nobody
                raise
    if mode != "off" and not status.st_size:
        os.ftruncate(fd, length)


def allocated(status: os.stat_result) -> int:
    """Bytes that a file takes on its disk; its size where the system does not tell."""
    blocks: int | None = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else blocks * 512


def room(places: Places, parts: PartMap) -> Room:
    """The room of a torrent's folder. A stat for each wanted file. Raises StorageError if the disk does not answer."""
    where = nearest_existing(places.folder)
    try:
        return Room(_free(where), _missing(places) + _missing_shares(places, parts), os.stat(where).st_dev)
    except OSError as error:
        raise storage_error(error, "measure the space in", where) from error


def _free(folder: str) -> int:
    if hasattr(os, "statvfs"):
        status = os.statvfs(folder)
        return status.f_bavail * (status.f_frsize or status.f_bsize)
    return shutil.disk_usage(folder).free


def _missing(places: Places) -> int:
    """Bytes of wanted files that have no place on the disk yet."""
    missing = 0
    for index, file in enumerate(places.layout.files):
        if file.length and not file.pad and places.is_wanted(index):
            status = places.stat(index)
            missing += file.length if status is None else max(0, file.length - allocated(status))
    return missing


def _missing_shares(places: Places, parts: PartMap) -> int:
    """Bytes that unwanted files without a file of their own still have to get in the part file."""
    if places.wanted is None:
        return 0
    layout = places.layout
    there: dict[int, bool] = {}
    needed = 0
    for piece in parts.borders:
        spans = [span for span in layout.piece_spans(piece) if not layout.files[span.file].pad]
        unwanted = [span for span in spans if span.file not in places.wanted]
        if len(unwanted) == len(spans):
            continue
        for span in unwanted:
            if span.file not in there:
                there[span.file] = places.stat(span.file) is not None
            needed += 0 if there[span.file] else span.length
    status = places.stat(places.part)
    return max(0, needed - allocated(status)) if status is not None else needed
