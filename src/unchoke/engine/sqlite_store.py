"""SqliteStore: records in an SQLite database that heals itself (a ``StateStore``).

A database that cannot be read is set aside under another name and rebuilt from the copies of the .torrent files that lie beside
it; what was recorded of the data is then lost, and the data is checked. One that was deleted under us is written anew.
What a change means is ``changes``' business, and when it is written ``resume``'s.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from unchoke.engine.changes import Batch, Change
from unchoke.errors import MetainfoError, StorageError
from unchoke.protocol.metainfo import Metainfo
from unchoke.storage import tables
from unchoke.storage.copies import Copies
from unchoke.storage.database import Database
from unchoke.storage.dialect import UnreadableError, set_aside
from unchoke.storage.locks import FileLock, TakenError
from unchoke.storage.records import Key, RecordError, ResumeRow, TorrentRow, Totals

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Fields that the copy beside the database is kept up to date with; the counters may be old there.
_COPIED = frozenset({"options", "running", "complete", "completed_at", "trackers", "name", "size", "piece_count"})
#: Damaged copies that are logged one by one.
_LOGGED = 10
#: The folder of copies, beside the database.
COPIES = "torrents"


class SqliteStore:
    """In the database at ``path``; ``shared``: with other processes, and then without copies of .torrent files.

    ``notice``: in words, what was done about a database that could not be read.
    """

    def __init__(self, path: str | Path, shared: bool = False, *, database: Database | None = None) -> None:
        self.notice = ""
        self._database = database if database is not None else Database(os.fspath(path), shared=shared)
        self.shared = shared
        self._copies = None if shared else Copies(os.path.join(os.path.dirname(self._database.path), COPIES))
        self._opened = False

    # the calls of StateStore

    def open(self) -> list[TorrentRow]:
        """Every torrent. A damaged database is set aside and rebuilt; StorageError if it cannot be used at all."""
        self._database.close()
        try:
            self._database.open(make_folder=not self._opened)
            rows = self._read(tables.read_torrents)
        except (UnreadableError, RecordError) as error:
            rows = self._begin_anew(error)
        else:
            if self._database.fresh:
                rows = self._rebuild("the database is new")
        self._opened = True
        return rows

    def load(self, key: Key) -> ResumeRow | None:
        """What is recorded of one torrent's data. Raises StorageError; RecordError if just this is damaged."""
        self._ensure()
        return self._read(tables.read_resume, key)

    def metainfo(self, infohash: bytes) -> bytes | None:
        """The .torrent file. Raises StorageError."""
        self._ensure()
        return self._read(tables.read_metainfo, infohash)

    def totals(self) -> Totals:
        """Bytes over all time. Raises StorageError."""
        self._ensure()
        return self._read(tables.read_totals)

    def apply(self, batch: Batch, boot_id: str, sync: bool) -> None:
        """All changes, or none and StorageError. It has reached the disk if ``sync``, or if the batch must be safe."""
        self._ensure()
        try:
            self._apply(batch, boot_id, sync)
        except UnreadableError as error:
            self._begin_anew(error)
            self._apply(batch, boot_id, sync)

    def close(self) -> None:
        """Give the file back. Later calls open it again."""
        self._database.close()

    # how

    def _ensure(self) -> None:
        """The database open, and in its place."""
        if not self._database.is_open:
            self.open()
        elif self._database.is_gone():
            if self.shared:  # another process has set it aside
                self._database.close()
                self.open()
            else:
                self._database.bring_back()

    def _read(self, what: Callable[..., T], *args: object) -> T:
        with self._database.reading() as connection:
            return what(connection, *args)

    def _apply(self, batch: Batch, boot_id: str, sync: bool) -> None:
        self._keep_copies(batch)
        safe = sync or batch.safe
        changed: list[TorrentRow] = []
        unused: list[bytes] = []
        with self._database.transaction(safe=safe) as connection:
            for key, change in batch.changes.items():
                if change.forget and tables.remove_torrent(connection, key):
                    unused.append(key[0])
                before = tables.read_torrent(connection, key) if change.fields.keys() & _COPIED else None
                _write(connection, key, change, boot_id)
                if before is not None and (row := tables.read_torrent(connection, key)) and _differ(before, row):
                    changed.append(row)
            tables.add_totals(connection, batch.totals, safe=safe)
        if self._copies is not None:
            self._drop_copies(self._copies, batch, changed, unused)

    def _keep_copies(self, batch: Batch) -> None:
        """Before the transaction, so that no torrent is ever without."""
        added = [change.add for change in batch.changes.values() if change.add is not None]
        if self._copies is None or not added:
            return
        try:
            for row, metainfo in added:
                if metainfo:
                    self._copies.keep(row.infohash, metainfo)
            self._copies.journal(row for row, _ in added)
        except StorageError as error:
            log.warning("! no copy of a .torrent file beside the database: %s", error)

    def _drop_copies(self, copies: Copies, batch: Batch, changed: list[TorrentRow], unused: list[bytes]) -> None:
        """After it: what is no longer, and rows as they are now."""
        added = {key[0] for key, change in batch.changes.items() if change.add}
        gone = [key for key, change in batch.changes.items() if change.forget and not change.add]
        for infohash in unused:
            if infohash not in added:
                copies.forget(infohash)
        if not gone and not changed:
            return
        try:
            size = copies.journal(changed, gone)
            if copies.is_long(size, 0) and copies.is_long(size, self._read(tables.count_torrents)):
                copies.rewrite(self._read(tables.read_torrents))
        except StorageError as error:
            log.warning("! the copies of the torrents' rows are old: %s", error)

    def _begin_anew(self, error: StorageError) -> list[TorrentRow]:
        """Set the database aside and rebuild it."""
        log.error("! %s", error)
        self._database.close()
        if self.shared:
            return self._begin_anew_shared(error)
        return self._set_aside(error)

    def _begin_anew_shared(self, error: StorageError) -> list[TorrentRow]:
        """One process does it; the others find a good one."""
        try:
            with FileLock(f"{self._database.path}.lock", "the database"):
                try:
                    self._database.open(make_folder=False)
                    return self._read(tables.read_torrents)
                except (UnreadableError, RecordError):
                    self._database.close()
                    return self._set_aside(error)
        except TakenError as taken:
            raise StorageError(f"{error}; {taken}: it is being set aside", self._database.path) from error

    def _set_aside(self, error: StorageError) -> list[TorrentRow]:
        try:
            target = set_aside(self._database.path)
        except OSError as refused:
            raise StorageError(f"{error}; it cannot be set aside: {refused}", self._database.path) from refused
        self._database.open(make_folder=False)
        return self._rebuild(f"{error}; it was set aside as {target}")

    def _rebuild(self, why: str) -> list[TorrentRow]:
        """Fill the new database from the copies. Said aloud, unless there was nothing to say."""
        rebuilt = passed_over = 0
        with self._database.transaction(safe=True) as connection:
            for row, metainfo in () if self._copies is None else self._copies.rows():
                if reason := _why_not(row, metainfo):
                    passed_over += 1
                    log.log(logging.WARNING if passed_over <= _LOGGED else logging.DEBUG, "! %r: %s", row.name, reason)
                    continue
                rebuilt += 1
                tables.write_torrent(connection, row)
                if metainfo:
                    tables.write_metainfo(connection, row.infohash, metainfo)
        if rebuilt or passed_over or "set aside" in why:
            found = f"{rebuilt} torrents were rebuilt from their copies"
            if self._copies is None:
                found = "what it knew is lost"
            self.notice = f"{why}; {found}, and data will be checked"
            if passed_over:
                self.notice += f"; the copies of {passed_over} are damaged"
            log.warning("! %s", self.notice)
        return self._read(tables.read_torrents)

    def __repr__(self) -> str:
        return f"<SqliteStore {self._database!r}>"


def _write(connection: sqlite3.Connection, key: Key, change: Change, boot_id: str) -> None:
    if change.add is not None:
        row, metainfo = change.add
        tables.write_torrent(connection, row)
        if metainfo:
            tables.write_metainfo(connection, row.infohash, metainfo)
    tables.change_torrent(connection, key, change.fields)
    if change.resumes:
        try:
            before = tables.read_resume(connection, key, with_files=False)  # which a change leaves alone, or replaces
        except RecordError as error:
            log.warning("! what was recorded of %s is lost: %s", key[0].hex(), error)
            before = None
        after = change.applied(before, boot_id)
        tables.write_resume(connection, key, after, files=change.settled is not None or before is None)


def _differ(before: TorrentRow, after: TorrentRow) -> bool:
    """In what the copy must not be old in? Most changes are of counters."""
    return any(getattr(before, name) != getattr(after, name) for name in _COPIED)


def _why_not(row: TorrentRow, metainfo: bytes) -> str:
    """Why this cannot be the .torrent file of the row (a power cut may have left half of it); empty: it is."""
    if not metainfo and not row.piece_count:
        return ""  # a magnet link whose info dictionary had not come
    try:
        found = Metainfo.from_bytes(metainfo)
    except MetainfoError as error:
        return f"the copy of its .torrent file is damaged: {error}"
    return "" if found.infohash == row.infohash else "the copy of its .torrent file is of another torrent"
