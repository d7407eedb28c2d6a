"""MemoryStorage: a torrent in one bytearray, for tests and for programs that want no files.

It behaves as a sparse file of full size: what was never written reads as zeros, and pad files stay zeros (BEP 47). All files are
wanted, and none is anybody else's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from threading import Lock

from unchoke.bitfield import Bitfield
from unchoke.errors import NoSpaceError, StorageError
from unchoke.layout import TorrentLayout
from unchoke.storage.base import Buffer, FileStatus, Gap, Room, check_bounds


class MemoryStorage:
    """The ``Storage`` of one torrent in memory: ``data`` is its whole stream. The bytes are reserved with the first write.

    Threads may share it: each call is one or a few copies under the interpreter's lock, as good as a file's.
    """

    __slots__ = ("_closed", "_lock", "_pads", "_status", "data", "layout")

    def __init__(self, layout: TorrentLayout) -> None:
        self.layout = layout
        self.data: bytearray | None = None
        self._pads = any(file.pad and file.length for file in layout.files)
        self._closed = False
        self._status: dict[int, FileStatus] = {}
        self._lock = Lock()

    def prepare(self) -> None:
        """Reserve the bytes. NoSpaceError if there is not so much memory."""
        self._bytes()

    def write(self, start: int, data: Buffer) -> None:
        """Put ``data`` at byte ``start`` of the stream."""
        view = memoryview(data)
        check_bounds(start, len(view), self.layout.total_length)
        into = self._bytes()
        if self._pads:
            self._write_around_pads(into, start, view)
        else:
            into[start : start + len(view)] = view
        self._note(start, len(view))

    def _write_around_pads(self, into: bytearray, start: int, view: memoryview) -> None:
        for span in self.layout.spans(start, len(view)):
            at = self.layout.file_start(span.file) + span.offset
            if not self.layout.files[span.file].pad:
                into[at : at + span.length] = view[: span.length]
            view = view[span.length :]

    def _note(self, start: int, length: int) -> None:
        """A file is as long as what was written to it, and its time is the number of writes."""
        with self._lock:
            for file, offset, size in self.layout.spans(start, length):
                if not self.layout.files[file].pad:
                    known = self._status.get(file, FileStatus(0, 0))
                    self._status[file] = FileStatus(max(known.size, offset + size), known.mtime_ns + 1)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fill the buffer from byte ``start`` on."""
        check_bounds(start, len(buffer), self.layout.total_length)
        with memoryview(self._bytes()) as whole:
            buffer[:] = whole[start : start + len(buffer)]

    def try_read_into(self, start: int, buffer: memoryview) -> bool:
        """Fill the buffer; memory never waits."""
        self.read_into(start, buffer)
        return True

    def gaps(self, start: int, length: int) -> list[Gap]:
        """Everything is zeros until the first write; after it nothing is known without reading."""
        check_bounds(start, length, self.layout.total_length)
        return [Gap(start, length, False)] if self.data is None and length else []

    def flush(self, *, everything: bool = False) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Later calls are refused; ``data`` stays for whoever wants it."""
        self._closed = True

    def reopened(self) -> MemoryStorage:
        """Another one of the same bytes, open: what the next run of a program finds."""
        other = MemoryStorage(self.layout)
        other.data, other._status = self.data, self._status
        return other

    # the files, of which there are none

    @property
    def root(self) -> str:
        """Nothing has a name here."""
        return ""

    def path(self, file: int) -> str:
        """For messages: the file's path in the torrent."""
        return "/".join(("memory:", *self.layout.files[file].path))

    def status(self) -> list[FileStatus | None]:
        """What was written to each file: up to which byte, and how often (in place of a time). None: nothing was."""
        return [*map(self._status.get, range(len(self.layout.files))), None]

    def select(self, wanted: Collection[int] | None) -> None:
        """Nothing to do."""

    def finished(self, file: int) -> None:
        """Nothing to do."""

    def relocate(self, folder: str | os.PathLike[str], moved: Callable[[], None] | None = None) -> list[str]:
        """Nothing to move."""
        if moved is not None:
            moved()
        return []

    def room(self) -> Room | None:
        """Unlimited."""
        return None

    def vanished(self) -> str:
        """Memory stays."""
        return ""

    def oversized(self) -> list[str]:
        """Nothing is."""
        return []

    def shorten(self) -> None:
        """Nothing to do."""

    def foreign_files(self, have: Bitfield) -> list[str]:
        """Nothing is."""
        return []

    def delete(self, have: Bitfield) -> None:
        """Forget the bytes, and close."""
        self.close()
        self.data = None
        self._status.clear()

    def _bytes(self) -> bytearray:
        if self._closed:
            raise StorageError("the storage is closed")
        if self.data is None:
            try:
                self.data = bytearray(self.layout.total_length)
            except (MemoryError, OverflowError) as error:
                raise NoSpaceError(f"no memory for {self.layout.total_length} bytes") from error
        return self.data

    def __repr__(self) -> str:
        return f"<MemoryStorage {self.layout.total_length} B [{'closed' if self._closed else 'open'}]>"
