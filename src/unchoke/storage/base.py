"""Storage: what the engine asks of whatever keeps a torrent's bytes, and how a refusal of the file system is put into words.

A storage is addressed by the torrent's one stream of bytes, as ``TorrentLayout`` is (BEP 3). Every call blocks, may come from
any thread, and from several at once; none knows about hashes or peers. ``try_read_into`` alone never waits.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

from unchoke.bitfield import Bitfield
from unchoke.errors import GoneError, NoSpaceError, StorageError

Buffer = bytes | bytearray | memoryview

#: No such file, or another thing where a folder or a file should be: in each case our bytes are not there.
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
#: What a person can do about it. The words of errno say what happened; these say what helps.
_HELP = {
    errno.ENOSPC: "free some space and start again",
    errno.EDQUOT: "your disk quota is used up: free some space and start again",
    errno.EACCES: "check the permissions of the file and its folders",
    errno.EPERM: "check the permissions of the file and its folders",
    errno.EROFS: "choose a folder on a file system that can be written",
    errno.EMFILE: "raise the limit on open files (ulimit -n) or lower disk.open_files",
    errno.ENFILE: "the whole system has too many files open",
    errno.EFBIG: "the file system cannot hold a file of this size",
    errno.EIO: "the disk reports an error: check its health",
    errno.EEXIST: "what stands there is not ours: move it away",
    errno.ENAMETOOLONG: "choose a folder with a shorter path",
    errno.ENOTDIR: "a file stands where a folder must be: move it away",
    errno.EISDIR: "a folder stands where a file must be: move it away",
}
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class MissingDataError(StorageError):
    """The bytes asked for are not there: the file is missing, or ends before them. Downloading them is what helps."""


class GoneDataError(MissingDataError, GoneError):
    """The bytes asked for had been there, and their file is gone."""


class Gap(NamedTuple):
    """A run of the stream whose content is known without reading it.

    ``start`` and ``length`` in bytes. ``missing``: no file holds it, reading would fail; else it reads as zeros.
    """

    start: int
    length: int
    missing: bool


class FileStatus(NamedTuple):
    """What the disk says of a file: its size in bytes, and when it was written last, in ns since 1970."""

    size: int
    mtime_ns: int


class Room(NamedTuple):
    """``free``: bytes we may still take. ``missing``: bytes of the files to be written that have no place on the disk yet.
    ``device``: st_dev of the folder, or of the nearest one above it that exists."""

    free: int
    missing: int
    device: int


class Storage(Protocol):
    """Where one torrent's bytes rest. All raise StorageError with the path: NoSpaceError when the disk is full, GoneError when
    what had been there is not any more."""

    # the bytes

    def prepare(self) -> None:
        """Make what must exist before the first write: folders, and the wanted files that have no bytes. Once it has run
        nothing makes the folder anew, nor a file that had been there."""

    def write(self, start: int, data: Buffer) -> None:
        """Put ``data`` at byte ``start`` of the stream. Bytes of pad files are dropped (BEP 47)."""

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the whole buffer from byte ``start`` on, or raise (MissingDataError if the bytes are not there)."""

    def try_read_into(self, start: int, buffer: memoryview) -> bool:
        """Fill the whole buffer if that takes no waiting. False: it would, or failed; the buffer may be half filled."""

    def gaps(self, start: int, length: int) -> list[Gap]:
        """The runs inside ``length`` bytes from ``start`` that are known without reading, rising, none empty."""

    def flush(self, *, everything: bool = False) -> None:
        """Let everything written so far reach the disk, and the names of the files made for it.

        ``everything``: also what others wrote, such as a run before this one that was killed.
        """

    def close(self) -> None:
        """Give every descriptor back. Later calls raise StorageError. Safe to call twice."""

    # the files

    @property
    def root(self) -> str:
        """The name of the torrent's own file or folder; empty if it has none."""

    def path(self, file: int) -> str:
        """Where the file is now, or will be, in words for a person; the folder for a pad file."""

    def status(self) -> list[FileStatus | None]:
        """One entry a file, and a last one for what keeps the shares of unwanted files. None: a pad file, or not there."""

    def select(self, wanted: Collection[int] | None) -> None:
        """Change which files are wanted (indexes; None: all), at any time. Raises if a wanted file cannot be made; what was
        written stays readable then, and calling again goes on."""

    def finished(self, file: int) -> None:
        """This file is complete: it gets its own name if it had another until now. Never overwrites: StorageError."""

    def relocate(self, folder: str | os.PathLike[str], moved: Callable[[], None] | None = None) -> list[str]:
        """Move everything, complete as it is, to another folder; never overwriting. The paths that could not be removed.

        ``moved`` is called when all lies in the new folder and nothing has left the old one, to record the new one. Raises
        with everything where it was; calling again goes on after a crash at any point.
        """

    # the disk

    def room(self) -> Room | None:
        """What space there is and what is still needed; None: unlimited."""

    def vanished(self) -> str:
        """Words if the folder, or a file that had been there, is gone or on another disk; else empty."""

    # what is ours

    def oversized(self) -> list[str]:
        """Paths of files to be written that are longer than the torrent says."""

    def shorten(self) -> None:
        """Cut those files. Only ever on the user's own word."""

    def foreign_files(self, have: Bitfield) -> list[str]:
        """Paths of files to be written that hold nothing of ours, given all the pieces that verify."""

    def delete(self, have: Bitfield) -> None:
        """Delete what is the torrent's, given all the pieces that verify, and close."""


def storage_error(error: OSError | ValueError, action: str, path: str) -> StorageError:
    """The StorageError for what the system said while we tried to ``action`` (a verb) ``path``."""
    if isinstance(error, OSError) and error.errno is not None:
        words = os.strerror(error.errno)
        help_ = _HELP.get(error.errno)
        kind = NoSpaceError if error.errno in _NO_SPACE else StorageError
        return kind(f"cannot {action} {path}: {words}" + (f"; {help_}" if help_ else ""), path)
    return StorageError(f"cannot {action} {path}: {error}", path)


def check_bounds(start: int, length: int, total: int) -> None:
    """Raise StorageError unless ``length`` bytes from ``start`` lie inside a stream of ``total`` bytes."""
    if start < 0 or start + length > total:
        raise StorageError(f"bytes {start} to {start + length} are outside the torrent's {total}")


def gone_error(path: str, *, reading: bool = False) -> GoneError:
    """The GoneError for a file or folder that had been there and is not any more; a MissingDataError too if ``reading``."""
    kind = GoneDataError if reading else GoneError
    return kind(f"{path} is gone: was its disk taken away? Bring it back, or start again to fetch it anew", path)
