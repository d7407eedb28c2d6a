"""FileStream: reading and writing a torrent's one stream of bytes in its files and its part file.

A run of the stream is cut into spans of files; a span lies in its file, or in the part file if it belongs to an unwanted file that
does not exist. What is written to the part file is written under the lock, so that a move of shares out of it sees the whole or
nothing; everything else needs none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from threading import Lock

from unchoke.errors import StorageError
from unchoke.layout import FileSpan, TorrentLayout
from unchoke.storage import fileio
from unchoke.storage.base import (
    ABSENT,
    Buffer,
    Gap,
    MissingDataError,
    check_bounds,
    gone_error,
    storage_error,
)
from unchoke.storage.handles import Handle, Shelf
from unchoke.storage.maker import Maker
from unchoke.storage.places import PARTED, Places


class FileStream:
    """The half of ``FileStorage`` that moves bytes."""

    __slots__ = ("_dirty", "_lock", "_maker", "_places", "_shelf", "layout")

    def __init__(self, layout: TorrentLayout, places: Places, shelf: Shelf, maker: Maker) -> None:
        self.layout = layout
        self._places = places
        self._shelf = shelf
        self._maker = maker
        self._dirty: set[int] = set()
        self._lock = Lock()

    def write(self, start: int, data: Buffer) -> None:
        """Put ``data`` at byte ``start`` of the stream; wanted files, and the folders between, are made where missing."""
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

    def flush(self, *, everything: bool = False) -> None:
        """fdatasync of every file written since the last flush that succeeded, then fsync of folders with new names in them.

        ``everything``: of every file that is there, and of all their folders.
        """
        if everything:
            self._take_for_dirty()
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
        self._maker.folders.sync()

    def _take_for_dirty(self) -> None:
        """Nobody knows what an earlier run left unsynced."""
        there = [file for file in range(self._places.part + 1) if self._places.stat(file) is not None]
        for file in there:
            self._maker.folders.note(self._places.folder, self._places.parts(file))
        if there:
            self._maker.folders.add([os.path.dirname(self._places.folder)])
        with self._lock:
            self._dirty.update(there)

    def close(self) -> None:
        """Close the descriptors; nothing is synced. Calls under way on other threads may finish."""
        self._shelf.close()

    # one span

    def _write_span(self, span: FileSpan, view: memoryview) -> None:
        file = span.file
        if self._maker.ready(file):
            handle: Handle | None = self._borrow(file, write=True)
        else:
            with self._places.lock:
                handle = self._borrow_writable(file)
                if handle is None:
                    self._write_share(span, view)
        if handle is not None:
            self._write_at(handle, span.offset, view)

    def _write_share(self, span: FileSpan, view: memoryview) -> None:
        """Bytes of an unwanted file, to the part file. The lock is held: a move of shares must see the whole or nothing."""
        for at, _, length in self._maker.part.map.runs(span):
            handle = self._borrow_writable(self._places.part)
            assert handle is not None, "the part file is a file"
            self._write_at(handle, at, view[:length])
            view = view[length:]

    def _write_at(self, handle: Handle, offset: int, view: memoryview) -> None:
        try:
            fileio.write_at(handle, view, offset)
        except OSError as error:
            raise storage_error(error, "write", self._places.path(handle.file)) from error
        finally:
            self._shelf.give_back(handle)
            with self._lock:  # after the write: a flush that runs meanwhile must not take it for done
                self._dirty.add(handle.file)

    def _read_span(self, span: FileSpan, view: memoryview) -> None:
        handle = self._borrow_readable(span.file)
        try:
            for at, length in self._runs(handle, span):
                got = fileio.read_at(handle, view[:length], at)
                if got < length:
                    path = self._places.path(handle.file)
                    raise MissingDataError(f"{path} ends at byte {at + got}: verify the torrent", path)
                view = view[length:]
        except OSError as error:
            raise storage_error(error, "read", self._places.path(handle.file)) from error
        finally:
            self._shelf.give_back(handle)

    def _try_read_span(self, span: FileSpan, view: memoryview) -> bool:
        parted = self._places.states[span.file] == PARTED
        handle = self._shelf.borrow_open(self._places.part if parted else span.file)
        if handle is None:
            return False
        try:
            for at, length in self._runs(handle, span):
                if not fileio.try_read_at(handle, view[:length], at):
                    return False
                view = view[length:]
        finally:
            self._shelf.give_back(handle)
        return True

    def _file_gaps(self, span: FileSpan) -> Iterator[Gap]:
        """Gaps in one span, in offsets of its file."""
        file, offset, length = span
        if self.layout.files[file].pad:
            yield Gap(offset, length, False)
            return
        try:
            handle = self._borrow_readable(file)
        except MissingDataError:
            yield Gap(offset, length, True)
            return
        try:
            for at, run in self._runs(handle, span):
                yield from _gaps(handle, at, run, offset - at)
                offset += run
        except OSError as error:
            raise storage_error(error, "read", self._places.path(handle.file)) from error
        finally:
            self._shelf.give_back(handle)

    def _runs(self, handle: Handle, span: FileSpan) -> list[tuple[int, int]]:
        """Where in this file the span's bytes are (offset, length): its own file, or the part file."""
        if handle.file == span.file:
            return [(span.offset, span.length)]
        return [(run.at, run.length) for run in self._maker.part.map.runs(span)]

    # handles

    def _borrow_readable(self, file: int) -> Handle:
        """The file's handle, or the part file's if the file is not there. MissingDataError if neither is."""
        while True:
            state = self._places.states[file]
            missing: StorageError | None = None
            if state != PARTED:
                try:
                    return self._borrow(file, write=False)
                except MissingDataError as error:
                    if self._places.has_file(file):
                        raise
                    missing = error
            try:
                return self._borrow(self._places.part, write=False)
            except MissingDataError as error:
                if self._places.states[file] == state:
                    raise (missing or error) from error  # else it has been made out of the part file meanwhile

    def _borrow(self, file: int, *, write: bool) -> Handle:
        """The handle of a file that is there."""
        try:
            return self._shelf.borrow(file, write=write)
        except (OSError, ValueError) as error:
            raise self._refusal(error, file, write) from error

    def _borrow_writable(self, file: int) -> Handle | None:
        """The file's handle, made if need be; None: its bytes belong in the part file. The lock is held."""
        try:
            if file == self._places.part:
                return self._maker.writable_part()
            return self._maker.writable(file)
        except (OSError, ValueError) as error:
            raise self._refusal(error, file, True) from error

    def _refusal(self, error: OSError | ValueError, file: int, write: bool) -> StorageError:
        path = self._places.path(file)
        if isinstance(error, OSError) and error.errno in ABSENT:
            if self._places.has_file(file):
                return gone_error(path, reading=not write)
            if not write:
                return MissingDataError(f"{path} is not there: {error.strerror}", path)
        return storage_error(error, "open", path)

    def _sync(self, file: int) -> None:
        # Not for writing, which would need more rights; only Windows cannot sync otherwise.
        try:
            handle = self._borrow(file, write=os.name == "nt")
        except StorageError:
            if file == self._places.part and not self._places.has_file(file):
                return  # it was not needed any more: what was in it has been moved, and synced
            raise
        try:
            fileio.sync(handle)
        except OSError as error:
            raise storage_error(error, "write", self._places.path(file)) from error
        finally:
            self._shelf.give_back(handle)


def _gaps(handle: Handle, start: int, length: int, shift: int) -> Iterator[Gap]:
    """Sparse runs and what lies past the end, between two offsets of an open file, moved by ``shift``."""
    end = min(start + length, os.fstat(handle.fd).st_size)
    for hole, stop in fileio.holes(handle.fd, start, end):
        yield Gap(hole + shift, stop - hole, False)
    if end < start + length:
        end = max(end, start)
        yield Gap(end + shift, start + length - end, True)
