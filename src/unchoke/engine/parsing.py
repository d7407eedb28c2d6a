"""Parsing: a .torrent file read on a thread, large ones without the garbage collector.

A list of 100,000 files makes some 300,000 records that live for half a second, and while they grow the collector walks through all
of them four times. Each time it holds the interpreter, and with it the loop, for 50 ms and more, and finds nothing.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from threading import Lock
from types import TracebackType

from unchoke.errors import NotFoundError, StorageError, UnsupportedError
from unchoke.protocol.metainfo import Metainfo

Source = str | os.PathLike[str] | bytes | Metainfo

#: A .torrent file larger than this is refused before it is read (100,000 files make about 10 MB).
MOST_METAINFO = 64 * 1024 * 1024
#: Bytes from which on a .torrent file is large.
LARGE = 512 * 1024


class NoCollector:
    """The process's collector rests until the last of those that want it so is done; one that was off stays off."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._wanted = 0
        self._was_on = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._wanted:
                self._was_on = gc.isenabled()
                gc.disable()
            self._wanted += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._wanted -= 1
            if not self._wanted and self._was_on:
                gc.enable()

    def __repr__(self) -> str:
        return f"<NoCollector [{self._wanted} want it]>"


#: The process has one collector.
no_collector = NoCollector()


def parse(data: bytes, *, layers_required: bool = True) -> Metainfo:
    """The Metainfo of a .torrent file. Blocking. Raises MetainfoError."""
    if len(data) < LARGE:
        return Metainfo.from_bytes(data, layers_required=layers_required)
    with no_collector:
        return Metainfo.from_bytes(data, layers_required=layers_required)


def parse_kept(data: bytes) -> Metainfo:
    """The Metainfo of what a session has kept: of a magnet link there are no piece layers. Blocking. Raises MetainfoError."""
    return parse(data, layers_required=False)


def read_metainfo(source: Source) -> Metainfo:
    """A Metainfo from a path, bytes, or one already. Raises MetainfoError, NotFoundError, StorageError."""
    if isinstance(source, Metainfo):
        return source
    if isinstance(source, bytes):
        return parse(source)
    if isinstance(source, str) and "://" in source:
        raise UnsupportedError(f"{source}: a session takes no URLs yet; fetch it, and give the bytes")
    path = Path(source)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_METAINFO + 1)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}", str(path)) from None
    if len(data) > MOST_METAINFO:
        raise StorageError(f"{path} is larger than {MOST_METAINFO >> 20} MiB: no .torrent file", str(path))
    return parse(data)
