"""The database file: its schema and migrations, two ways to open it, and what can happen to it."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from unchoke.errors import NoSpaceError, StorageError
from unchoke.storage import tables
from unchoke.storage.database import APPLICATION_ID, MIGRATIONS, Database
from unchoke.storage.dialect import UnreadableError, choose_journal, set_aside
from unchoke.storage.records import RecordError, TorrentRow

_NEWER = (*MIGRATIONS, ("ALTER TABLE torrents ADD COLUMN colour TEXT", "UPDATE torrents SET position = position + 1"))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "session.sqlite")


@pytest.fixture
def database(path: str) -> Iterator[Database]:
    database = Database(path, busy_timeout=0.05)
    database.open()
    yield database
    database.close()


def _torrent(number: int = 1, **values: object) -> TorrentRow:
    row = TorrentRow(infohash=bytes([number]) * 20, folder="/data")
    for name, value in values.items():
        setattr(row, name, value)
    return row


def _add(database: Database, *rows: TorrentRow) -> None:
    with database.transaction() as connection:
        for row in rows:
            tables.write_torrent(connection, row)


def _torrents(database: Database) -> list[TorrentRow]:
    with database.reading() as connection:
        return tables.read_torrents(connection)


def _filled(path: str, **values: object) -> None:
    """A database with a torrent in it, closed."""
    database = Database(path)
    database.open()
    _add(database, _torrent(1, **values))
    database.close()


# opening


def test_a_new_one_is_ours_alone_and_needs_no_shared_memory(database: Database, path: str) -> None:
    _add(database, _torrent())
    assert database.fresh
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert sorted(os.listdir(os.path.dirname(path))) == ["session.sqlite", "session.sqlite-wal"]
    assert "exclusive, wal" in repr(database)


def test_an_exclusive_one_is_refused_to_a_second(database: Database, path: str) -> None:
    for shared in (False, True):
        second = Database(path, shared=shared, busy_timeout=0.05)
        with pytest.raises(StorageError, match="another process is using it"):
            second.open()
        assert not second.is_open


def test_a_shared_one_is_everybodys(path: str) -> None:
    first, second = Database(path, shared=True), Database(path, shared=True)
    first.open()
    second.open()
    _add(first, _torrent(1))
    _add(second, _torrent(2))
    assert len(_torrents(first)) == 2
    first.close()
    second.close()
    first.close()


def test_many_processes_make_a_shared_one_at_once(path: str) -> None:
    code = (
        "import sys; from unchoke.storage.database import Database; d = Database(sys.argv[1], shared=True);"
        "sys.stdin.read(); d.open()\n"
        "with d.transaction() as c: c.execute('UPDATE statistics SET uploaded = uploaded + 1')\n"
        "d.close()"
    )
    command = [sys.executable, "-c", code, path]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    for process in processes:
        with process:
            assert process.wait() == 0, process.stderr.read() if process.stderr else ""
    database = Database(path, shared=True)
    database.open()
    with database.reading() as connection:
        assert tables.read_totals(connection).uploaded == 4
    database.close()


def test_where_the_log_is_refused_a_journal_takes_its_place(tmp_path: Path) -> None:
    with closing(sqlite3.connect(f"file:{tmp_path}/x?nolock=1", uri=True, isolation_level=None)) as connection:
        assert choose_journal(connection) == "truncate"


def test_with_a_journal_everything_works_too(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(connection: sqlite3.Connection, patience: float) -> str:
        return str(connection.execute("PRAGMA journal_mode=TRUNCATE").fetchone()[0])

    monkeypatch.setattr("unchoke.storage.database.choose_journal", refused)
    _filled(path)
    database = Database(path)
    database.open()
    assert _torrents(database) == [_torrent()]
    assert "a journal takes its place" in caplog.text
    database.close()


# schema


def test_a_migration_keeps_a_copy_and_the_rows(path: str) -> None:
    _filled(path, position=3)
    database = Database(path, migrations=_NEWER)
    database.open()
    assert not database.fresh
    with database.reading() as connection:
        assert connection.execute("SELECT position, colour FROM torrents").fetchall() == [(4, None)]
    database.close()
    copy = Database(f"{path}.schema-1")
    copy.open()
    assert _torrents(copy) == [_torrent(position=3)]
    copy.close()


def test_a_migration_that_fails_changes_nothing_and_the_next_one_works(path: str) -> None:
    _filled(path, position=3)
    database = Database(path, migrations=(*MIGRATIONS, (*_NEWER[1], "INSERT INTO nowhere VALUES (1)")))
    with pytest.raises(StorageError, match="nowhere"):
        database.open()
    _filled(path, position=5)
    assert sorted(name for name in os.listdir(os.path.dirname(path)) if "-wal" not in name) == [
        "session.sqlite",
        "session.sqlite.schema-1",
    ]
    database = Database(path)
    database.open()
    assert [row.position for row in _torrents(database)] == [5]
    database.close()


def test_two_migrate_at_once_and_it_is_done_once(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _filled(path, position=3)
    first = Database(path, shared=True, migrations=_NEWER)
    second = Database(path, shared=True, migrations=_NEWER)
    keep_copy = Database._keep_copy

    def be_overtaken(self: Database, version: int) -> None:
        keep_copy(self, version)
        if self is first:
            second.open()

    monkeypatch.setattr(Database, "_keep_copy", be_overtaken)
    first.open()
    with first.reading() as connection:
        assert connection.execute("SELECT position FROM torrents").fetchall() == [(4,)]
    first.close()
    second.close()


def test_a_newer_schema_is_refused_and_not_touched(path: str) -> None:
    database = Database(path, migrations=_NEWER)
    database.open()
    database.close()
    before = Path(path).read_bytes()
    with pytest.raises(StorageError, match=r"newer unchoke \(schema 2, this one knows 1\)"):
        Database(path).open()
    assert Path(path).read_bytes() == before
    assert os.listdir(os.path.dirname(path)) == ["session.sqlite"]


def test_a_database_of_another_program_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE visits (url TEXT)")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="of another program") as caught:
        Database(str(path)).open()
    assert not isinstance(caught.value, UnreadableError)
    assert path.read_bytes() == before


# what happens to files


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"not a database at all" * 1000, id="garbage"),
        pytest.param(lambda data: b"\0" * len(data), id="zeros"),
        pytest.param(lambda data: b"xx" + data[2:], id="header"),
        pytest.param(lambda data: data[: len(data) // 2], id="truncated"),
        pytest.param(lambda data: data[:50], id="header alone"),
        pytest.param(lambda data: data[:100] + b"\xff" * 3996 + data[4096:], id="first page"),
    ],
)
def test_a_damaged_file_is_unreadable_and_not_touched(path: str, damage: object) -> None:
    _filled(path)
    assert callable(damage)
    Path(path).write_bytes(damage(Path(path).read_bytes()))
    before = Path(path).read_bytes()
    with pytest.raises(UnreadableError):
        Database(path).open()
    assert Path(path).read_bytes() == before


def test_an_empty_file_whose_log_is_not_is_unreadable(path: str) -> None:
    _filled(path)
    os.truncate(path, 0)
    Path(f"{path}-wal").write_bytes(b"what is left of everything")
    with pytest.raises(UnreadableError):
        Database(path).open()
    assert Path(f"{path}-wal").read_bytes() == b"what is left of everything"


def test_tables_that_are_missing_are_damage(path: str) -> None:
    os.mkdir(os.path.dirname(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE torrents (x)")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("PRAGMA user_version=1")
    with pytest.raises(UnreadableError, match="lacks tables"):
        Database(path).open()


def test_setting_aside_takes_the_log_along_and_overwrites_nothing(tmp_path: Path) -> None:
    for round_ in ("first", "second"):
        (tmp_path / "x").write_text(round_)
        (tmp_path / "x-wal").write_text(f"log of the {round_}")
        set_aside(str(tmp_path / "x"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "x.unreadable": "first",
        "x.unreadable-wal": "log of the first",
        "x.unreadable-2": "second",
        "x.unreadable-2-wal": "log of the second",
    }


def test_a_full_disk_undoes_the_transaction_and_it_goes_on_later(database: Database) -> None:
    pages = database.connection.execute("PRAGMA page_count").fetchone()[0]
    database.connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(NoSpaceError, match="the disk is full"):
        _add(database, _torrent(1), _torrent(3, name="x" * 100_000))
    assert _torrents(database) == []
    database.connection.execute("PRAGMA max_page_count=1000000")
    _add(database, _torrent(2))
    assert _torrents(database) == [_torrent(2)]


def test_a_file_that_cannot_be_written_is_said(database: Database) -> None:
    database.connection.execute("PRAGMA query_only=ON")
    with pytest.raises(StorageError, match="cannot be written"):
        _add(database, _torrent())
    assert not database.is_open  # to be opened anew
    database.open()
    _add(database, _torrent())


def test_a_long_transaction_of_another_process_is_said(path: str) -> None:
    database, other = (Database(path, shared=True, busy_timeout=0.02) for _ in range(2))
    database.open()
    other.open()
    with other.transaction(), pytest.raises(StorageError, match="another process is using it"):
        _add(database, _torrent())
    _add(database, _torrent())
    assert len(_torrents(other)) == 1
    database.close()
    other.close()


def test_a_place_that_is_no_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "x.sqlite", tmp_path):
        with pytest.raises(StorageError, match="cannot open the database"):
            Database(str(place)).open()
    with pytest.raises(StorageError, match="cannot open the database"):
        Database(str(tmp_path / "vanished" / "x.sqlite")).open(make_folder=False)
    assert not (tmp_path / "vanished").exists()


def test_deleted_under_us_it_is_written_anew(database: Database, path: str) -> None:
    _add(database, _torrent(1))
    assert not database.is_gone()
    os.unlink(path)
    assert database.is_gone()
    database.bring_back()
    _add(database, _torrent(2))
    database.close()
    again = Database(path)
    again.open()
    assert len(_torrents(again)) == 2
    again.close()


def test_replaced_under_us_the_new_file_is_left_alone(database: Database, path: str) -> None:
    os.unlink(path)
    Path(path).write_text("somebody's backup")
    assert database.is_gone()
    with pytest.raises(StorageError, match="replaced while in use"):
        database.bring_back()
    assert Path(path).read_text() == "somebody's backup"


def test_gone_with_its_folder_it_is_said_and_no_folder_is_made(tmp_path: Path, database: Database, path: str) -> None:
    os.rename(os.path.dirname(path), tmp_path / "elsewhere")
    assert database.is_gone()
    with pytest.raises(StorageError):
        database.bring_back()
    assert not os.path.exists(os.path.dirname(path))


def test_a_closed_one_says_so(database: Database) -> None:
    database.close()
    with pytest.raises(StorageError, match="is closed"), database.transaction():
        pass


# rows


def test_a_torrent_comes_back_whatever_its_names(database: Database) -> None:
    row = TorrentRow(
        infohash=bytes(range(32)),
        folder="/data/\udcff\udcfe",
        name="a\0b\ud800 \U0001f3b5",
        size=2**80,
        trackers=(("http://a/\udcff", "udp://b"), ()),
        options={"files": [1, 2], "sequential": True, "ratio": 1.5, "none": None},
        running=False,
        complete=True,
        added_at=1.5,
        completed_at=2.5,
        seeding_time=float("nan"),
        position=-1,
    )
    _add(database, row)
    row.size, row.seeding_time = 2**63 - 1, 0.0  # what SQLite cannot hold
    with database.reading() as connection:
        assert tables.read_torrent(connection, row.key) == row
        assert tables.read_torrents(connection) == [row]
        assert tables.read_torrent(connection, (row.infohash, "/other")) is None


def test_torrents_come_in_the_order_of_their_positions(database: Database) -> None:
    _add(database, _torrent(1, position=2), _torrent(2, position=1, added_at=5), _torrent(3, position=1, added_at=4))
    assert [row.infohash[0] for row in _torrents(database)] == [3, 2, 1]


@pytest.mark.parametrize(
    "damage",
    [
        "trackers = '[[1]]'",
        "options = '{'",
        "size = 'many'",
        "name = 7",
        "folder = x'ff'",
        "options = '[]'",
        "added_at = ''",
    ],
)
def test_a_damaged_row_is_a_record_error(database: Database, damage: str) -> None:
    _add(database, _torrent())
    database.connection.execute(f"UPDATE torrents SET {damage}")
    with pytest.raises(RecordError):
        _torrents(database)


@pytest.mark.parametrize(
    "changed", [{"infohash": b"x"}, {"folder": "/"}, {"colour": 1}, {"name": b"x"}, {"options": {1, 2}}]
)
def test_a_field_that_cannot_change_is_a_mistake(changed: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        tables.check_fields(changed)
