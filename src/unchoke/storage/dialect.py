"""What SQLite says and does with files, apart from any schema: errors in words, the journal, names beside a database."""

from __future__ import annotations

import logging
import os
import sqlite3
import time

from unchoke.errors import NoSpaceError, StorageError

log = logging.getLogger(__name__)

#: Seconds to wait for another process's transaction, which lasts milliseconds.
BUSY_TIMEOUT = 5.0
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
#: After these the connection may be what is broken: it is closed, and to be opened anew.
BROKEN = (*_UNREADABLE, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_WORDS = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_BUSY: "another process is using it",
    sqlite3.SQLITE_LOCKED: "another process is using it",
    sqlite3.SQLITE_READONLY: "it cannot be written; check the permissions of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder is there and can be written",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check its health",
    sqlite3.SQLITE_CORRUPT: "its content is damaged",
    sqlite3.SQLITE_NOTADB: "it is not a database",
}


class UnreadableError(StorageError):
    """The database is damaged: waiting does not help, setting it aside does."""


def choose_journal(connection: sqlite3.Connection, patience: float = BUSY_TIMEOUT) -> str:
    """Turn on the write-ahead log, or where that is refused a journal; which of them it is (``wal``, ``truncate``)."""
    deadline = time.monotonic() + patience
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                return "wal"
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself for two processes that both make this change.
            if error_code(error) not in _BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        return "wal" if mode == "wal" else str(connection.execute("PRAGMA journal_mode=TRUNCATE").fetchone()[0])


def set_aside(path: str) -> str:
    """Rename the database and what belongs to it; the new name. Raises OSError."""
    target = unused_name(f"{path}.unreadable")
    for suffix in ("", "-wal", "-shm", "-journal"):
        if os.path.lexists(path + suffix):
            os.rename(path + suffix, target + suffix)
    return target


def unused_name(wanted: str) -> str:
    """``wanted``, or with a number behind it where that is taken."""
    name, number = wanted, 1
    while any(os.path.lexists(name + suffix) for suffix in ("", "-wal", "-shm", "-journal")):
        number += 1
        name = f"{wanted}-{number}"
    return name


def database_error(error: sqlite3.Error, path: str) -> StorageError:
    """What SQLite said, in words that help."""
    code = error_code(error)
    words = f"the database {path}: {_WORDS.get(code, error)}"
    if code == sqlite3.SQLITE_FULL:
        return NoSpaceError(words, path)
    return (UnreadableError if code in _UNREADABLE else StorageError)(words, path)


def size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def error_code(error: sqlite3.Error) -> int:
    """The primary result code; 0 for errors of Python's module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def roll_back(connection: sqlite3.Connection) -> None:
    try:
        if connection.in_transaction:  # a full disk has rolled it back already
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        log.debug("! rolling back: %s", error)
