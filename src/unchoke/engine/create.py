"""create_torrent: hash what lies on the disk, and describe it in a .torrent file (BEP 3, version 1).

Blocking, for the command line or a thread: it hashes on all cores with one megabyte of buffer each, whatever the piece
length. Order is by the raw bytes of the path, a component at a time, so the same files give the same infohash everywhere.
Links are followed, as ``cp -L`` does; empty folders, sockets and pipes are left out; what cannot be read is an error,
since a torrent that silently lacks a file is worse than none.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha1
from typing import NamedTuple, TypeAlias

from unchoke.errors import NotFoundError, StorageError, UnsupportedError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.protocol.bencode import Encodable, encode
from unchoke.version import VERSION

Progress: TypeAlias = Callable[[int, int], None]
#: The folders a path goes through, by device and inode.
Chain: TypeAlias = tuple[tuple[int, int], ...]

MIN_PIECE_LENGTH = 16 * 1024
#: The largest power of two below what every reader accepts.
MAX_PIECE_LENGTH = 256 * 1024 * 1024
#: Beyond this the pieces of a download come too seldom to be shared well; above it a person has to ask for it.
MAX_DEFAULT_PIECE_LENGTH = 16 * 1024 * 1024
#: Pieces aimed at: the .torrent of a large torrent stays near 30 kB.
USUAL_PIECES = 1500

_BUFFER = 1024 * 1024
#: Bytes a thread hashes before it comes back: the grain of progress and of cancelling.
_RUN = 16 * 1024 * 1024
#: O_NONBLOCK: a pipe put where a file was must not hang us.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class Found(NamedTuple):
    """A file to share: its components below the root (none if it is the root), where it is, and its size."""

    parts: tuple[bytes, ...]
    path: str
    size: int


def create_torrent(
    path: str | os.PathLike[str],
    *,
    trackers: Sequence[str | Sequence[str]] = (),
    web_seeds: Sequence[str] = (),
    piece_length: int | None = None,
    private: bool = False,
    comment: str | None = None,
    source: str | None = None,
    created_at: int | None = None,
    created_by: str | None = f"unchoke/{VERSION}",
    version: str = "v1",
    progress: Progress | None = None,
    threads: int = 0,
) -> bytes:
    """The bytes of a .torrent for the file or folder at ``path``.

    ``trackers`` are tiers of URLs, a bare URL being a tier of its own (BEP 12). ``piece_length``: bytes, a power of two
    from 16 KiB to 256 MiB; None: by size. ``created_at``: Unix seconds; None: no date, and then the same input gives the
    same bytes. ``progress(done, total)`` is called in this thread, in bytes. ``threads``: 0 for one a core.

    Raises NotFoundError, StorageError (unreadable, nothing to share, changed while it was read), UnsupportedError (v2 and
    hybrid) and ValueError (piece length).
    """
    if version != "v1":
        raise UnsupportedError(f"creating {version} torrents is not supported yet; use v1")
    root = os.path.abspath(os.fspath(path))
    name = os.fsencode(os.path.basename(root))
    if not name:
        raise StorageError(f"{root}: the root of a file system has no name to give a torrent", root)
    files = sorted(find_files(root))
    total = sum(file.size for file in files)
    if not total:
        raise StorageError(f"{root}: nothing to share: no file with anything in it", root)
    if piece_length is None:
        piece_length = usual_piece_length(total)
    elif not _is_piece_length(piece_length):
        raise ValueError(f"the piece length must be a power of two from 16 KiB to 256 MiB, not {piece_length}")
    info: dict[str, Encodable] = {"name": name, "piece length": piece_length}
    if files[0].parts:
        info["files"] = [{"length": file.size, "path": list(file.parts)} for file in files]
    else:
        info["length"] = total
    if private:
        info["private"] = 1
    if source:
        info["source"] = source
    info["pieces"] = hash_pieces(files, piece_length, progress, threads)
    return encode(_around(info, trackers, web_seeds, comment, created_at, created_by))


def _around(
    info: dict[str, Encodable],
    trackers: Sequence[str | Sequence[str]],
    web_seeds: Sequence[str],
    comment: str | None,
    created_at: int | None,
    created_by: str | None,
) -> dict[str, Encodable]:
    tiers = [[tier] if isinstance(tier, str) else list(tier) for tier in trackers if tier]
    keys: dict[str, Encodable] = {"info": info}
    if tiers:
        keys["announce"] = tiers[0][0]
    if sum(map(len, tiers)) > 1:
        keys["announce-list"] = tiers
    if web_seeds:
        keys["url-list"] = list(web_seeds)
    if comment:
        keys["comment"] = comment
    if created_at is not None:
        keys["creation date"] = created_at
    if created_by:
        keys["created by"] = created_by
    return keys


def usual_piece_length(total: int) -> int:
    """The power of two nearest ``total``/1,500, within 16 KiB and 16 MiB."""
    wanted = total / USUAL_PIECES
    length = MIN_PIECE_LENGTH
    while length < MAX_DEFAULT_PIECE_LENGTH and wanted - length > 2 * length - wanted:
        length *= 2
    return length


def _is_piece_length(length: int) -> bool:
    return MIN_PIECE_LENGTH <= length <= MAX_PIECE_LENGTH and not length & (length - 1)


def find_files(root: str) -> Iterator[Found]:
    """Every regular file at or below ``root``, in no order. Raises NotFoundError and StorageError.

    A link to a folder above itself is an error: what it stands for has no end.
    """
    status = _stat(root)
    if stat.S_ISREG(status.st_mode):
        yield Found((), root, status.st_size)
        return
    if not stat.S_ISDIR(status.st_mode):
        raise StorageError(f"{root}: neither a file nor a folder", root)
    folders: list[tuple[str, tuple[bytes, ...], Chain]] = [(root, (), ((status.st_dev, status.st_ino),))]
    while folders:
        folder, parts, chain = folders.pop()
        for name in _names(folder):
            path = os.path.join(folder, name)
            status = _stat(path)
            below = (*parts, os.fsencode(name))
            if stat.S_ISREG(status.st_mode):
                yield Found(below, path, status.st_size)
            elif stat.S_ISDIR(status.st_mode):
                identity = (status.st_dev, status.st_ino)
                if identity in chain:
                    raise StorageError(f"{path}: a link to a folder that it is in itself", path)
                folders.append((path, below, (*chain, identity)))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise _refused(error, folder) from error


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise _refused(error, path) from error


def _refused(error: OSError, path: str) -> NotFoundError | StorageError:
    if error.errno == errno.ENOENT:
        if os.path.islink(path):
            return StorageError(f"{path}: a link that leads nowhere", path)
        return NotFoundError(f"{path}: no such file or folder")
    return StorageError(f"{path}: {error.strerror or error}", path)


def hash_pieces(files: Sequence[Found], piece_length: int, progress: Progress | None = None, threads: int = 0) -> bytes:
    """The SHA-1 of every piece, 20 bytes each, in order. Raises StorageError if a file is not what it was."""
    layout = TorrentLayout(piece_length, (FileEntry((), file.size) for file in files))
    threads = threads or os.cpu_count() or 1
    per_run = max(1, _RUN // piece_length)
    runs = iter(range(0, layout.piece_count, per_run))
    hashes: list[bytes] = []
    waiting: deque[Future[bytes]] = deque()
    done = 0

    def submit(pool: ThreadPoolExecutor) -> None:
        first = next(runs, None)
        if first is not None:
            pieces = range(first, min(first + per_run, layout.piece_count))
            waiting.append(pool.submit(_hash_run, layout, files, pieces))

    with ThreadPoolExecutor(threads, thread_name_prefix="hash") as pool:
        try:
            for _ in range(2 * threads):
                submit(pool)
            while waiting:
                hashes.append(waiting.popleft().result())
                submit(pool)
                done = min(done + per_run * piece_length, layout.total_length)
                if progress is not None:
                    progress(done, layout.total_length)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return b"".join(hashes)


def _hash_run(layout: TorrentLayout, files: Sequence[Found], pieces: range) -> bytes:
    """The hashes of neighbouring pieces; each file they share is opened once."""
    buffer = memoryview(bytearray(min(_BUFFER, len(pieces) * layout.piece_length)))
    hashes: list[bytes] = []
    reader = _Reader()
    try:
        for piece in pieces:
            digest = sha1(usedforsecurity=False)
            for file, offset, length in layout.piece_spans(piece):
                reader.open(files[file])
                for at in range(offset, offset + length, len(buffer)):
                    part = buffer[: min(len(buffer), offset + length - at)]
                    reader.read(part, at)
                    digest.update(part)
            hashes.append(digest.digest())
        reader.finish()
    finally:
        reader.close()
    return b"".join(hashes)


class _Reader:
    """One open file at a time, that has to stay as long as it was."""

    __slots__ = ("_fd", "_file")

    def __init__(self) -> None:
        self._fd = -1
        self._file: Found | None = None

    def open(self, file: Found) -> None:
        if file is self._file:
            return
        self.finish()
        try:
            self._fd = os.open(file.path, _FLAGS)
            status = os.fstat(self._fd)
        except OSError as error:
            raise StorageError(f"{file.path}: {error.strerror or error}", file.path) from error
        self._file = file
        if not stat.S_ISREG(status.st_mode):
            raise _changed(file)
        self._check(file, status.st_size)

    def finish(self) -> None:
        """Done with this file: it may not have grown meanwhile."""
        if self._file is not None:
            self._check(self._file, os.fstat(self._fd).st_size)
        self.close()

    def _check(self, file: Found, size: int) -> None:
        if size != file.size:
            raise _changed(file)

    def read(self, into: memoryview, offset: int) -> None:
        file = self._file
        assert file is not None
        try:
            while into:
                count = _read_at(self._fd, into, offset)
                if not count:
                    raise _changed(file)
                into = into[count:]
                offset += count
        except OSError as error:
            raise StorageError(f"{file.path}: {error.strerror or error}", file.path) from error

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._file = -1, None


def _read_at(fd: int, into: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [into], offset)
    os.lseek(fd, offset, os.SEEK_SET)  # Windows; the descriptor is this thread's own
    data = os.read(fd, len(into))
    into[: len(data)] = data
    return len(data)


def _changed(file: Found) -> StorageError:
    return StorageError(
        f"{file.path}: changed its size while it was being read; try again when nobody writes", file.path
    )
