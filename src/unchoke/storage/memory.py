"""MemoryStorage: a torrent in one bytearray, for tests and for programs that want no files.

It behaves as a sparse file of full size: what was never written reads as zeros, and pad files stay zeros (BEP 47).
"""

from __future__ import annotations

from unchoke.errors import NoSpaceError, StorageError
from unchoke.layout import TorrentLayout
from unchoke.storage.base import Buffer, Gap, check_bounds


class MemoryStorage:
    """The ``Storage`` of one torrent in memory: ``data`` is its whole stream. The bytes are reserved with the first write.

    Threads may share it: each call is one or a few copies under the interpreter's lock, as good as a file's.
    """

    __slots__ = ("_closed", "_pads", "data", "layout")

    def __init__(self, layout: TorrentLayout) -> None:
        self.layout = layout
        self.data: bytearray | None = None
        self._pads = any(file.pad and file.length for file in layout.files)
        self._closed = False

    def prepare(self) -> None:
        """Reserve the bytes. NoSpaceError if there is not so much memory."""
        self._bytes()

    def write(self, start: int, data: Buffer) -> None:
        """Put ``data`` at byte ``start`` of the stream."""
        view = memoryview(data)
        check_bounds(start, len(view), self.layout.total_length)
        into = self._bytes()
        if not self._pads:
            into[start : start + len(view)] = view
            return
        for span in self.layout.spans(start, len(view)):
            at = self.layout.file_start(span.file) + span.offset
            if not self.layout.files[span.file].pad:
                into[at : at + span.length] = view[: span.length]
            view = view[span.length :]

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

    def flush(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Later calls are refused; ``data`` stays for whoever wants it."""
        self._closed = True

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
