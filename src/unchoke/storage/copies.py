"""Copies: each torrent's .torrent file beside the database, and a journal of their rows, from which a lost database is rebuilt.

``<infohash>.torrent`` is the file as it was added. ``rows.jsonl`` has a line for each row as it was added or changed, and for each that
was forgotten; the last one counts, and now and then the file is written anew. (A file for each row would cost as much again as
the .torrent files.) They are spares: none is read while the database is well, none is synced, a damaged one is passed over.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator

from unchoke.storage.base import storage_error
from unchoke.storage.records import Key, RecordError, TorrentRow, pack_text
from unchoke.storage.tables import COLUMNS, torrent_of

log = logging.getLogger(__name__)

_ROWS = "rows.jsonl"
#: The journal is written anew past this many bytes and so many a row (one has about 600).
_MAX_JOURNAL = 1024 * 1024
_MAX_JOURNAL_ROW = 4096
#: Bytes of one line. What is longer is not ours.
_MAX_LINE = 16 * 1024 * 1024
_CLOEXEC: int = getattr(os, "O_CLOEXEC", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _CLOEXEC
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _CLOEXEC


class Copies:
    """Those in ``folder``, which is made when the first is kept (not what is above it). Files are for their owner alone."""

    def __init__(self, folder: str) -> None:
        self.folder = os.path.abspath(folder)

    def keep(self, infohash: bytes, metainfo: bytes) -> None:
        """Keep a .torrent file, whole or not at all. Raises StorageError."""
        self._replace(self._torrent(infohash), metainfo)

    def journal(self, rows: Iterable[TorrentRow], forgotten: Iterable[Key] = ()) -> int:
        """Add lines: these were forgotten, those are new or changed. The size of the journal then. Raises StorageError."""
        lines = [json.dumps({"forgotten": [bytes(infohash).hex(), folder]}) for infohash, folder in forgotten]
        lines += map(_line, rows)
        path = self._path(_ROWS)
        try:
            with open(self._open(path, _APPEND), "ab") as file:
                # A line that a kill cut short must not take the next with it.
                file.write("".join(f"\n{line}" for line in lines).encode("ascii"))
                return file.tell()
        except OSError as error:
            raise storage_error(error, "write", path) from error

    def is_long(self, size: int, rows: int) -> bool:
        """Is a journal of so many bytes much too long for so many rows?"""
        return size > _MAX_JOURNAL + _MAX_JOURNAL_ROW * rows

    def rewrite(self, rows: Iterable[TorrentRow]) -> None:
        """The journal anew, with these rows alone. Raises StorageError."""
        self._replace(self._path(_ROWS), "\n".join(map(_line, rows)).encode("ascii"))

    def forget(self, infohash: bytes) -> None:
        """Remove the .torrent file. That it is not there, or cannot be removed, is no error."""
        try:
            os.unlink(self._torrent(infohash))
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("! cannot remove %s: %s", self._torrent(infohash), error)

    def rows(self) -> Iterator[tuple[TorrentRow, bytes]]:
        """Every row that was not forgotten, and its .torrent file (empty: there is none). Damaged lines are passed over."""
        for row in self._read_journal().values():
            try:
                with open(self._torrent(row.infohash), "rb") as file:
                    metainfo = file.read()
            except OSError:
                metainfo = b""
            yield row, metainfo

    def _read_journal(self) -> dict[Key, TorrentRow]:
        rows: dict[Key, TorrentRow] = {}
        damaged = 0
        try:
            with open(self._path(_ROWS), "rb") as file:
                while line := file.readline(_MAX_LINE):
                    try:
                        _enter(rows, line)
                    except RecordError:
                        damaged += 1
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("! cannot read %s: %s", self._path(_ROWS), error)
        if damaged:
            log.warning("! %s: %d damaged lines passed over", self._path(_ROWS), damaged)
        return rows

    def _torrent(self, infohash: bytes) -> str:
        return self._path(f"{bytes(infohash).hex()}.torrent")

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def _open(self, path: str, flags: int) -> int:
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            os.mkdir(self.folder, mode=0o700)
            return os.open(path, flags, 0o600)

    def _replace(self, path: str, data: bytes) -> None:
        part = f"{path}.part"
        try:
            with open(self._open(part, _NEW), "wb", buffering=0) as file:
                file.write(data)
            os.replace(part, path)
        except OSError as error:
            raise storage_error(error, "write", path) from error

    def __repr__(self) -> str:
        return f"<Copies in {self.folder}>"


def _line(row: TorrentRow) -> str:
    return json.dumps({name: getattr(row, name) for name in COLUMNS} | {"infohash": bytes(row.infohash).hex()})


def _enter(rows: dict[Key, TorrentRow], line: bytes) -> None:
    """What one line does to the rows before it. Raises RecordError."""
    if not line.strip():
        return
    try:
        values = dict(json.loads(line))
        if "forgotten" in values:
            infohash, folder = values["forgotten"]
            rows.pop((bytes.fromhex(infohash), folder), None)
            return
        values["infohash"] = bytes.fromhex(values["infohash"])
        values |= {name: pack_text(values[name]) for name in ("folder", "name")}
        values |= {name: json.dumps(values[name]) for name in ("trackers", "options")}
        row = torrent_of(tuple(values[name] for name in COLUMNS))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RecordError(f"the copy of a torrent's row is damaged: {error}") from error
    rows[row.key] = row
