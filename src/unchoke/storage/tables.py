"""Tables: rows of the database to records and back. Inside a transaction of ``Database``; nothing is decided here."""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import fields
from typing import TypeVar

from unchoke.storage.records import (
    MAX_INT,
    Key,
    RecordError,
    ResumeRow,
    TorrentRow,
    Totals,
    pack_bits,
    pack_files,
    pack_partial,
    pack_text,
    unpack_bits,
    unpack_files,
    unpack_partial,
    unpack_text,
)

T = TypeVar("T")
Value = bytes | str | int | float | None

COLUMNS = tuple(column.name for column in fields(TorrentRow))
_NAMES = ", ".join(COLUMNS)
_UPSERT = f"INSERT OR REPLACE INTO torrents ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})"
_MINE = "WHERE infohash = ? AND folder = ?"
#: What may change after a torrent was added.
_CHANGEABLE = frozenset(COLUMNS) - {"infohash", "folder"}


def read_torrents(connection: sqlite3.Connection) -> list[TorrentRow]:
    """All torrents, by position and then by date. Raises RecordError if a row is not what we wrote."""
    rows = connection.execute(f"SELECT {_NAMES} FROM torrents ORDER BY position, added_at, infohash, folder")
    # All at once: a cursor left half-way, by an exception, would keep the file open beyond its closing.
    return [torrent_of(values) for values in rows.fetchall()]


def count_torrents(connection: sqlite3.Connection) -> int:
    """How many there are."""
    return int(connection.execute("SELECT count(*) FROM torrents").fetchone()[0])


def read_torrent(connection: sqlite3.Connection, key: Key) -> TorrentRow | None:
    """One of them. Raises RecordError."""
    values = connection.execute(f"SELECT {_NAMES} FROM torrents {_MINE}", _bind(key)).fetchone()
    return None if values is None else torrent_of(values)


def write_torrent(connection: sqlite3.Connection, row: TorrentRow) -> None:
    """Add it, or replace it."""
    connection.execute(_UPSERT, [_value(name, getattr(row, name)) for name in COLUMNS])


def change_torrent(connection: sqlite3.Connection, key: Key, changed: dict[str, object]) -> None:
    """Set these fields of a torrent that is there. ValueError for a field there is not."""
    check_fields(changed)
    if changed:
        names = ", ".join(f"{name} = ?" for name in changed)
        values = [_value(name, value) for name, value in changed.items()]
        connection.execute(f"UPDATE torrents SET {names} {_MINE}", (*values, *_bind(key)))


def check_fields(changed: dict[str, object]) -> None:
    """ValueError unless these are fields that can be changed, with values that can be written."""
    if unknown := changed.keys() - _CHANGEABLE:
        raise ValueError(f"a torrent's row has no {', '.join(sorted(unknown))} to change")
    for name, value in changed.items():
        _value(name, value)


def read_metainfo(connection: sqlite3.Connection, infohash: bytes) -> bytes | None:
    """The .torrent file."""
    found = connection.execute("SELECT data FROM metainfo WHERE infohash = ?", (bytes(infohash),)).fetchone()
    return found[0] if found is not None and isinstance(found[0], bytes) else None


def write_metainfo(connection: sqlite3.Connection, infohash: bytes, data: bytes) -> None:
    """Keep the .torrent file, once for all folders."""
    connection.execute("INSERT OR REPLACE INTO metainfo VALUES (?, ?)", (bytes(infohash), data))


def remove_torrent(connection: sqlite3.Connection, key: Key) -> bool:
    """Forget all of it. Whether the infohash is in no other folder: then its .torrent file is forgotten too."""
    for table in ("torrents", "resume", "files"):
        connection.execute(f"DELETE FROM {table} {_MINE}", _bind(key))
    infohash = (bytes(key[0]),)
    if connection.execute("SELECT 1 FROM torrents WHERE infohash = ?", infohash).fetchone() is not None:
        return False
    connection.execute("DELETE FROM metainfo WHERE infohash = ?", infohash)
    return True


def read_resume(connection: sqlite3.Connection, key: Key, *, with_files: bool = True) -> ResumeRow | None:
    """What is recorded of a torrent's data. Raises RecordError if that is damaged.

    Without ``with_files`` the row lacks ``files`` and ``partial``, which may be the most of it.
    """
    columns = f"SELECT have, durable, open, boot_id, device FROM resume {_MINE}"
    values = connection.execute(columns, _bind(key)).fetchone()
    if values is None:
        return None
    have, durable, marks, boot_id, device = values
    row = ResumeRow(
        have=unpack_bits(have),
        durable=unpack_bits(durable),
        open=unpack_bits(marks),
        boot_id=boot_id if isinstance(boot_id, str) else "",
        device=int(device) if isinstance(device, str) and device.isdecimal() else 0,
    )
    if len(row.have) != len(row.durable):
        raise RecordError("the record of pieces is damaged")
    if not with_files:
        return row
    files = connection.execute(f"SELECT files, partial FROM files {_MINE}", _bind(key)).fetchone()
    if files is not None:
        row.files, row.partial = unpack_files(files[0]), unpack_partial(files[1])
    return row


def write_resume(connection: sqlite3.Connection, key: Key, row: ResumeRow, *, files: bool) -> None:
    """Replace the record; the files' part of it only with ``files``, since it may have megabytes."""
    connection.execute(
        "INSERT OR REPLACE INTO resume VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*_bind(key), pack_bits(row.have), pack_bits(row.durable), pack_bits(row.open), row.boot_id, str(row.device)),
    )
    if files:
        values = (*_bind(key), pack_files(row.files), pack_partial(row.partial))
        connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", values)


def read_totals(connection: sqlite3.Connection) -> Totals:
    """Bytes over all time."""
    found = connection.execute("SELECT uploaded, downloaded FROM statistics").fetchone()
    return Totals(*found) if found is not None else Totals()


def add_totals(connection: sqlite3.Connection, totals: Totals, *, safe: bool) -> None:
    """Add to them. ``safe`` makes a change in any case, so that the transaction has something to bring to the disk."""
    before = read_totals(connection)
    values = (
        min(MAX_INT, before.uploaded + totals.uploaded),
        min(MAX_INT, before.downloaded + totals.downloaded),
        int(safe),
    )
    connection.execute("UPDATE statistics SET uploaded = ?, downloaded = ?, safe_commits = safe_commits + ?", values)


def _bind(key: Key) -> tuple[bytes, bytes]:
    return bytes(key[0]), pack_text(key[1])


def _value(name: str, value: object) -> Value:
    """One field as its column holds it."""
    if name == "infohash" and isinstance(value, bytes):
        return bytes(value)
    if name in ("trackers", "options"):
        return json.dumps(value)
    if isinstance(value, str):
        return pack_text(value)
    if isinstance(value, int):
        return max(-MAX_INT, min(MAX_INT, int(value)))
    if value is None or isinstance(value, float):
        return 0.0 if value is not None and math.isnan(value) else value  # SQLite takes NaN for NULL
    raise TypeError(f"{name} cannot be {type(value).__name__}")


def torrent_of(values: tuple[Value, ...]) -> TorrentRow:
    """A row of the table, its values in the order of ``COLUMNS``, as a record. Raises RecordError."""
    row = dict(zip(COLUMNS, values, strict=True))
    try:
        return TorrentRow(
            infohash=_typed(row["infohash"], bytes),
            folder=unpack_text(row["folder"]),
            name=unpack_text(row["name"]),
            trackers=_tiers(row["trackers"]),
            options=_options(row["options"]),
            running=bool(_typed(row["running"], int)),
            complete=bool(_typed(row["complete"], int)),
            completed_at=None if row["completed_at"] is None else _typed(row["completed_at"], float),
            added_at=_typed(row["added_at"], float),
            active_time=_typed(row["active_time"], float),
            seeding_time=_typed(row["seeding_time"], float),
            size=_typed(row["size"], int),
            piece_count=_typed(row["piece_count"], int),
            position=_typed(row["position"], int),
            uploaded=_typed(row["uploaded"], int),
            downloaded=_typed(row["downloaded"], int),
            wasted=_typed(row["wasted"], int),
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"the row of a torrent is damaged: {error}") from error


def _typed(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def _tiers(text: Value) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(_typed(url, str) for url in _typed(tier, list)) for tier in _typed(_json(text), list))


def _options(text: Value) -> dict[str, object]:
    return _typed(_json(text), dict)


def _json(text: Value) -> object:
    return json.loads(_typed(text, str))
