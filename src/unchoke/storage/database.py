"""Database: one SQLite file with its schema, its migrations, and what the file system may do to it. Rows are ``tables``' business.

*Exclusive* (one process, the daemon): ``locking_mode=EXCLUSIVE``, which needs no shared memory and so works on a network share.
*Shared* (any number of processes): WAL and a busy time-out. Where WAL is refused, a rollback journal does, more slowly.

A transaction survives ``kill -9`` always. Under WAL it reaches the disk some time later (``synchronous=NORMAL``: a power cut takes
the last transactions, in order, and never damages the file); one that is *safe* has reached it when it returns (``FULL`` for
that transaction alone, which brings along all before it). Nothing is ever deleted: what cannot be read is renamed.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from unchoke.errors import StorageError
from unchoke.storage.base import storage_error
from unchoke.storage.dialect import (
    BROKEN,
    BUSY_TIMEOUT,
    UnreadableError,
    choose_journal,
    database_error,
    error_code,
    roll_back,
    set_aside,
    size_of,
    unused_name,
)

log = logging.getLogger(__name__)

#: "unch": says in the header that a file is ours (SQLite keeps these four bytes for that).
APPLICATION_ID = 0x756E6368
#: Pages (of 4 KiB) in the log until they are copied into the database.
_CHECKPOINT = 2000
#: Bytes of log kept for reuse.
_LOG_LIMIT = 16 * 1024 * 1024

#: One tuple of statements for each version of the schema, the first from nothing to version 1. Only ever appended to.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE torrents (
            infohash BLOB NOT NULL, folder BLOB NOT NULL, name BLOB NOT NULL, size INTEGER NOT NULL,
            piece_count INTEGER NOT NULL, trackers TEXT NOT NULL, options TEXT NOT NULL, running INTEGER NOT NULL,
            complete INTEGER NOT NULL, added_at REAL NOT NULL, completed_at REAL, uploaded INTEGER NOT NULL,
            downloaded INTEGER NOT NULL, wasted INTEGER NOT NULL, active_time REAL NOT NULL, seeding_time REAL NOT NULL,
            position INTEGER NOT NULL, PRIMARY KEY (infohash, folder))""",
        # Apart from the list, which is read whole at start: a .torrent file may have megabytes.
        "CREATE TABLE metainfo (infohash BLOB PRIMARY KEY, data BLOB NOT NULL)",
        """CREATE TABLE resume (
            infohash BLOB NOT NULL, folder BLOB NOT NULL, have BLOB NOT NULL, durable BLOB NOT NULL, open BLOB NOT NULL,
            boot_id TEXT NOT NULL, device TEXT NOT NULL, PRIMARY KEY (infohash, folder))""",
        # Apart from the bits, which change every second: SQLite writes a row anew as a whole.
        """CREATE TABLE files (
            infohash BLOB NOT NULL, folder BLOB NOT NULL, files BLOB NOT NULL, partial BLOB NOT NULL,
            PRIMARY KEY (infohash, folder))""",
        """CREATE TABLE statistics (
            id INTEGER PRIMARY KEY CHECK (id = 1), uploaded INTEGER NOT NULL, downloaded INTEGER NOT NULL,
            safe_commits INTEGER NOT NULL)""",
        "INSERT INTO statistics VALUES (1, 0, 0, 0)",
    ),
)
TABLES = frozenset({"torrents", "metainfo", "resume", "files", "statistics"})


class Database:
    """``migrations`` and ``busy_timeout`` (seconds) are arguments for tests. One thread at a time may use it; any may."""

    def __init__(
        self,
        path: str,
        *,
        shared: bool = False,
        migrations: Sequence[Sequence[str]] = MIGRATIONS,
        busy_timeout: float = BUSY_TIMEOUT,
    ) -> None:
        self.path = os.path.abspath(path)
        self.shared = shared
        self.fresh = False
        self.journal = ""
        self._migrations = migrations
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        """Raises StorageError if it is not open."""
        if self._connection is None:
            raise StorageError(f"the database {self.path} is closed", self.path)
        return self._connection

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    # opening

    def open(self, *, make_folder: bool = True) -> None:
        """Open or make it, and bring its schema up to date. ``fresh`` says whether it is new.

        ``make_folder``: make its folder too (not where it was before and vanished).

        Raises UnreadableError if it is damaged; StorageError if it is not ours, of a newer version, in use, or refused by the
        file system. In all these cases the file is as it was.
        """
        self._touch(make_folder)
        try:
            with self._in_words():
                self._connection = sqlite3.connect(
                    self.path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
                )
                version = self._recognise(self._connection)
                self.journal = choose_journal(self._connection, self._busy_timeout)
                self._tune(self._connection)
                self._migrate(version)
        except BaseException:
            self.close()
            raise
        if self.journal != "wal":
            log.warning("! %s: no write-ahead log here, a journal takes its place: commits are slower", self.path)

    def _touch(self, make_folder: bool) -> None:
        """The file and its folder, for nobody else: trackers' addresses hold passwords."""
        try:
            if make_folder:
                os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                status = os.fstat(fd)
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            raise storage_error(error, "open the database", self.path) from error
        self._identity = status.st_dev, status.st_ino
        if not status.st_size and size_of(self.path + "-wal"):
            # SQLite would begin anew and delete the log, which may hold everything.
            raise UnreadableError(f"the database {self.path} is empty, but its log is not", self.path)

    def _recognise(self, connection: sqlite3.Connection) -> int:
        """The version of the schema; 0: the file is empty. Nothing is written before this has returned."""
        if not self.shared:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        ours = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if not tables and not version:
            return 0
        if not ours:
            raise StorageError(f"{self.path} is a database of another program: choose another place", self.path)
        known = len(self._migrations)
        if version > known:
            raise StorageError(
                f"{self.path} was written by a newer unchoke (schema {version}, this one knows {known}): "
                "use that version, or move the file away",
                self.path,
            )
        if version < 1 or not tables >= TABLES:
            raise UnreadableError(f"{self.path} lacks tables", self.path)
        return version

    def _tune(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA synchronous={'NORMAL' if self.journal == 'wal' else 'FULL'}")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
        connection.execute(f"PRAGMA journal_size_limit={_LOG_LIMIT}")
        connection.execute("PRAGMA cell_size_check=ON")  # damage is found sooner

    def _migrate(self, version: int) -> None:
        self.fresh = version == 0
        if version == len(self._migrations):
            return
        if version:
            self._keep_copy(version)
        with self.transaction(safe=True):
            # Another process may have been faster.
            version = int(self.connection.execute("PRAGMA user_version").fetchone()[0])
            for number, statements in enumerate(self._migrations[version:], version + 1):
                for statement in statements:
                    self.connection.execute(statement)
                log.info("= %s: schema %d", self.path, number)
            self.connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self.connection.execute(f"PRAGMA user_version={len(self._migrations)}")

    def _keep_copy(self, version: int) -> None:
        """A copy of the whole database beside it, before its schema changes."""
        target = self._copy_to(f"{self.path}.schema-{version}")
        log.info("= %s: a copy was kept as %s", self.path, target)

    def _copy_to(self, wanted: str) -> str:
        """A whole copy under this name, or one like it that is free; under its name only when it is whole."""
        part = unused_name(f"{wanted}.part")
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            copy = sqlite3.connect(part)
            try:
                self.connection.backup(copy)
            finally:
                copy.close()
            target = unused_name(wanted)
            os.rename(part, target)
        except BaseException:
            os.unlink(part)
            raise
        return target

    # using

    @contextmanager
    def transaction(self, *, safe: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing. Raises StorageError (NoSpaceError, UnreadableError); then nothing of it has happened."""
        with self._in_words():
            connection = self.connection
            if self.journal == "wal":
                connection.execute(f"PRAGMA synchronous={'FULL' if safe else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                roll_back(connection)
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, with its errors as StorageError."""
        with self._in_words():
            yield self.connection

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if error_code(error) in BROKEN:
                self.close()
            raise database_error(error, self.path) from error
        except (OSError, OverflowError) as error:
            raise StorageError(f"the database {self.path}: {error}", self.path) from error

    # what happens to files

    def is_gone(self) -> bool:
        """Has somebody deleted, renamed or replaced the file under us? What is written then is lost at the end."""
        try:
            status = os.stat(self.path)
        except OSError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    def bring_back(self) -> None:
        """Write the database anew from what is still open, after ``is_gone``, and go on with it.

        Raises StorageError if its folder is gone too, or another file stands in its place: that one is left alone.
        """
        if os.path.lexists(self.path):
            raise StorageError(
                f"the database {self.path} was replaced while in use: restart to use the new one", self.path
            )
        with self._in_words():
            rescued = self._copy_to(f"{self.path}.rescued")
            self.close()
            set_aside(self.path)  # a log that was left would be taken for the new file's
            os.rename(rescued, self.path)
        self.open(make_folder=False)
        log.warning("! the database %s had been deleted while in use: it was written anew", self.path)

    def close(self) -> None:
        """Give the file back. Safe to call twice; never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                log.warning("! closing the database %s: %s", self.path, error)

    def __repr__(self) -> str:
        state = "closed" if self._connection is None else f"{'shared' if self.shared else 'exclusive'}, {self.journal}"
        return f"<Database {self.path} [{state}]>"
