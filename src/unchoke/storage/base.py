"""Storage: what the engine asks of whatever keeps a torrent's bytes, and how a refusal of the file system is put into words.

A storage is addressed by the torrent's one stream of bytes, as ``TorrentLayout`` is (BEP 3). Every call blocks, may come from
any thread, and from several at once; none knows about pieces, hashes or peers. ``try_read_into`` alone never waits.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple, Protocol

from unchoke.errors import NoSpaceError, StorageError

Buffer = bytes | bytearray | memoryview

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
    errno.ENAMETOOLONG: "choose a folder with a shorter path",
    errno.ENOTDIR: "a file stands where a folder must be: move it away",
    errno.EISDIR: "a folder stands where a file must be: move it away",
}
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class MissingDataError(StorageError):
    """The bytes asked for are not there: the file is missing, or ends before them. Downloading them is what helps."""


class Gap(NamedTuple):
    """A run of the stream whose content is known without reading it.

    ``start`` and ``length`` in bytes. ``missing``: no file holds it, reading would fail; else it reads as zeros.
    """

    start: int
    length: int
    missing: bool


class Storage(Protocol):
    """Where one torrent's bytes rest. All raise StorageError with the path, NoSpaceError when the disk is full."""

    def prepare(self) -> None:
        """Make what must exist before the first write: folders, and the wanted files that have no bytes."""

    def write(self, start: int, data: Buffer) -> None:
        """Put ``data`` at byte ``start`` of the stream. Bytes of pad files are dropped (BEP 47)."""

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the whole buffer from byte ``start`` on, or raise (MissingDataError if the bytes are not there)."""

    def try_read_into(self, start: int, buffer: memoryview) -> bool:
        """Fill the whole buffer if that takes no waiting. False: it would, or failed; the buffer may be half filled."""

    def gaps(self, start: int, length: int) -> list[Gap]:
        """The runs inside ``length`` bytes from ``start`` that are known without reading, rising, none empty."""

    def flush(self) -> None:
        """Let everything written so far reach the disk."""

    def close(self) -> None:
        """Give every descriptor back. Later calls raise StorageError. Safe to call twice."""


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
