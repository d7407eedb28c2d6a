"""FileStorage: a torrent's bytes in sparse files below a folder, under the names ``paths`` makes of the torrent's.

Files and folders appear when first written (wanted empty ones in ``prepare``). Nothing shortens a file but ``shorten``. Pad
files (BEP 47) read as zeros and are never made. Which files may be written over is the torrent's decision; ``storage/foreign``
tells it what is not ours. Descriptors come from the session's ``FilePool``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from threading import Lock

from unchoke.bitfield import Bitfield
from unchoke.layout import FileSpan, TorrentLayout
from unchoke.storage import deleting, fileio, foreign, opening
from unchoke.storage.base import Buffer, Gap, MissingDataError, check_bounds, storage_error
from unchoke.storage.handles import FilePool, Handle
from unchoke.storage.paths import Components
from unchoke.storage.probe import choose_names

#: No such file, or a file or another thing where a folder or a file should be: in each case our bytes are not there.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


class FileStorage:
    """The ``Storage`` of one torrent in ``folder``.

    ``name`` and ``multi_file`` as in the metainfo. ``wanted``: file indexes (None: all) whose empty files are made; what is written
    is what ``write`` is given. ``portable``: force (True) or forbid portable names; None asks the file system, only if it would make
    a difference: then, and for very many files, make the storage on a thread.
    """

    __slots__ = ("_dirty", "_lock", "_paths", "_shelf", "folder", "layout", "portable", "wanted")

    def __init__(
        self,
        folder: str | os.PathLike[str],
        name: str,
        layout: TorrentLayout,
        *,
        multi_file: bool,
        wanted: Collection[int] | None = None,
        portable: bool | None = None,
        pool: FilePool | None = None,
    ) -> None:
        self.folder = os.path.abspath(os.fspath(folder))
        self.layout = layout
        self.wanted: frozenset[int] | None
        self.select(wanted)
        self.portable, self._paths = choose_names(self.folder, name, layout, multi_file, portable)
        self._shelf = (FilePool() if pool is None else pool).shelf(self._open)
        self._dirty: set[int] = set()
        self._lock = Lock()

    # the Storage protocol

    def prepare(self) -> None:
        """Make the folder, and the wanted files that have no bytes. Nothing that exists is changed."""
        try:
            opening.make_folder(self.folder)
        except OSError as error:
            raise storage_error(error, "make the folder", self.folder) from error
        for index, file in enumerate(self.layout.files):
            if not file.length and not file.pad and (self.wanted is None or index in self.wanted):
                self._make_empty(index)

    def write(self, start: int, data: Buffer) -> None:
        """Put ``data`` at byte ``start`` of the stream; folders and files are made where missing."""
        view = memoryview(data)
        check_bounds(start, len(view), self.layout.total_length)
        for span in self.layout.spans(start, len(view)):
            part, view = view[: span.length], view[span.length :]
            if not self.layout.files[span.file].pad:
                self._write_span(span, part)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the buffer. MissingDataError if a file is missing or ends too soon."""
        check_bounds(start, len(buffer), self.layout.total_length)
        for span in self.layout.spans(start, len(buffer)):
            part, buffer = buffer[: span.length], buffer[span.length :]
            if self.layout.files[span.file].pad:
                fileio.fill_zeros(part)
            else:
                self._read_span(span, part)

    def try_read_into(self, start: int, buffer: memoryview) -> bool:
        """Fill the buffer from open files and the page cache only. False: call ``read_into`` on a thread."""
        check_bounds(start, len(buffer), self.layout.total_length)
        for span in self.layout.spans(start, len(buffer)):
            part, buffer = buffer[: span.length], buffer[span.length :]
            if self.layout.files[span.file].pad:
                fileio.fill_zeros(part)
            elif not self._try_read_span(span, part):
                return False
        return True

    def gaps(self, start: int, length: int) -> list[Gap]:
        """Missing files, what lies past the end of a file, sparse runs, pad files."""
        check_bounds(start, length, self.layout.total_length)
        found: list[Gap] = []
        for span in self.layout.spans(start, length):
            base = self.layout.file_start(span.file)
            for gap in self._file_gaps(span):
                gap = Gap(base + gap.start, gap.length, gap.missing)
                if found and found[-1].missing == gap.missing and found[-1].start + found[-1].length == gap.start:
                    found[-1] = Gap(found[-1].start, found[-1].length + gap.length, gap.missing)
                else:
                    found.append(gap)
        return found

    def flush(self) -> None:
        """fdatasync of every file written since the last flush that succeeded."""
        with self._lock:
            dirty = sorted(self._dirty)
            self._dirty.clear()
        for position, file in enumerate(dirty):
            try:
                self._sync(file)
            except BaseException:
                with self._lock:
                    self._dirty.update(dirty[position:])
                raise

    def close(self) -> None:
        """Close the descriptors; nothing is synced. Calls under way on other threads may finish."""
        self._shelf.close()

    # what the files are

    @property
    def paths(self) -> list[str | None]:
        """The absolute path of each file; None for pad files."""
        return [None if parts is None else os.path.join(self.folder, *parts) for parts in self._paths]

    def path(self, file: int) -> str:
        """The absolute path of one file (of a pad file: the folder's)."""
        return os.path.join(self.folder, *(self._paths[file] or ()))

    def parts(self, file: int) -> Components:
        """The path of one file below the folder, as components; none for a pad file."""
        return self._paths[file] or ()

    @property
    def root(self) -> str:
        """The name of the torrent's own file or folder in ``folder``; empty for a torrent of pad files alone."""
        return next((parts[0] for parts in self._paths if parts), "")

    def sizes(self) -> list[int | None]:
        """What each file's size is on disk, in bytes; None: no ordinary file is there, or it is a pad file."""
        return [None if parts is None else _size(os.path.join(self.folder, *parts)) for parts in self._paths]

    def select(self, wanted: Collection[int] | None) -> None:
        """Change which files are wanted (None: all)."""
        self.wanted = None if wanted is None else frozenset(wanted)

    def oversized(self) -> list[str]:
        """Paths of files to be written that are longer than the torrent says (see ``storage/foreign``)."""
        return [self.path(index) for index in foreign.oversized_files(self)]

    def shorten(self) -> None:
        """Cut files to be written that are too long. Only ever on the user's own word (``--overwrite``)."""
        for index in foreign.oversized_files(self):
            handle = self._borrow(index, write=True)
            try:
                os.ftruncate(handle.fd, self.layout.files[index].length)
            except OSError as error:
                raise storage_error(error, "shorten", self.path(index)) from error
            finally:
                self._shelf.give_back(handle)

    def foreign_files(self, have: Bitfield) -> list[str]:
        """Paths of files to be written that hold nothing of ours, given all the pieces that verify. Reads, so it blocks."""
        return foreign.foreign_files(self, have)

    def is_all_zeros(self, file: int) -> bool:
        """Is there no byte but zero in this file? A missing file has none."""
        try:
            handle = self._borrow(file, write=False)
        except MissingDataError:
            return True
        try:
            return fileio.is_all_zeros(handle)
        except OSError as error:
            raise storage_error(error, "read", self.path(file)) from error
        finally:
            self._shelf.give_back(handle)

    def delete(self, have: Bitfield) -> None:
        """Delete what is the torrent's, given all the pieces that verify, and folders left empty (``storage/deleting``).

        It closes the storage. Raises StorageError for the first file that could not be deleted; the others are.
        """
        owned = [self.parts(index) for index in deleting.owned_files(self, have)]
        self.close()
        deleting.delete_files(self.folder, owned)

    # one span

    def _write_span(self, span: FileSpan, view: memoryview) -> None:
        file, offset, _ = span
        handle = self._borrow(file, write=True)
        try:
            fileio.write_at(handle, view, offset)
        except OSError as error:
            raise storage_error(error, "write", self.path(file)) from error
        finally:
            self._shelf.give_back(handle)
            with self._lock:  # after the write: a flush that runs meanwhile must not take it for done
                self._dirty.add(file)

    def _read_span(self, span: FileSpan, view: memoryview) -> None:
        file, offset, _ = span
        handle = self._borrow(file, write=False)
        try:
            got = fileio.read_at(handle, view, offset)
        except OSError as error:
            raise storage_error(error, "read", self.path(file)) from error
        finally:
            self._shelf.give_back(handle)
        if got < len(view):
            path = self.path(file)
            raise MissingDataError(f"{path} ends at byte {offset + got}: verify the torrent", path)

    def _try_read_span(self, span: FileSpan, view: memoryview) -> bool:
        handle = self._shelf.borrow_open(span.file)
        if handle is None:
            return False
        try:
            return fileio.try_read_at(handle, view, span.offset)
        finally:
            self._shelf.give_back(handle)

    def _file_gaps(self, span: FileSpan) -> Iterator[Gap]:
        """Gaps in one file, in offsets of the file."""
        file, start, length = span
        if self.layout.files[file].pad:
            yield Gap(start, length, False)
            return
        try:
            handle = self._borrow(file, write=False)
        except MissingDataError:
            yield Gap(start, length, True)
            return
        try:
            size = os.fstat(handle.fd).st_size
            end = min(start + length, size)
            for hole, stop in fileio.holes(handle.fd, start, end):
                yield Gap(hole, stop - hole, False)
        finally:
            self._shelf.give_back(handle)
        if end < start + length:
            end = max(end, start)
            yield Gap(end, start + length - end, True)

    # opening

    def _borrow(self, file: int, *, write: bool) -> Handle:
        try:
            return self._shelf.borrow(file, write=write)
        except (OSError, ValueError) as error:
            path = self.path(file)
            if not write and isinstance(error, OSError) and error.errno in _ABSENT:
                raise MissingDataError(f"{path} is not there: {error.strerror}", path) from error
            raise storage_error(error, "open", path) from error

    def _open(self, file: int, write: bool) -> tuple[int, int]:
        parts = self._paths[file]
        assert parts is not None, "pad files are never opened"
        entry = self.layout.files[file]
        fd, status = opening.open_below(self.folder, parts, write=write, executable=entry.executable)
        if write and not status.st_size and entry.length:
            # At its full size from the first byte on, sparse: a file of another size is not ours (see ``foreign``).
            try:
                os.ftruncate(fd, entry.length)
            except BaseException:
                os.close(fd)
                raise
        return fd, status.st_dev

    def _make_empty(self, file: int) -> None:
        try:
            os.close(self._open(file, True)[0])
        except (OSError, ValueError) as error:
            raise storage_error(error, "make", self.path(file)) from error

    def _sync(self, file: int) -> None:
        # Not for writing, which would make anew what somebody deleted meanwhile; only Windows cannot sync otherwise.
        handle = self._borrow(file, write=os.name == "nt")
        try:
            fileio.sync(handle)
        except OSError as error:
            raise storage_error(error, "write", self.path(file)) from error
        finally:
            self._shelf.give_back(handle)

    def __repr__(self) -> str:
        return f"<FileStorage {self.folder} [{len(self._paths)} files, {len(self._dirty)} unsynced]>"


def _size(path: str) -> int | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
