"""SqliteStore under Resume: databases that are damaged, deleted, full, shared, killed; and their copies."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fakes.records import KEY, load, metainfo, pieces, torrent
from unchoke.engine.changes import Batch
from unchoke.engine.resume import Resume, ResumeRow, SqliteStore
from unchoke.engine.tasks import Inline
from unchoke.errors import StorageError
from unchoke.storage.base import FileStatus
from unchoke.storage.database import Database

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "session.sqlite"


async def _open(path: Path, shared: bool = False) -> Resume:
    resume = Resume(SqliteStore(path, shared), boot="this")
    await resume.open()
    return resume


async def _fill(path: Path) -> None:
    """Two torrents, one with a record, and a third that was forgotten."""
    resume = await _open(path)
    await resume.add(torrent(0, "/data/\udcff", options={"a": 1}), metainfo(0))
    await resume.add(torrent(1), metainfo(1))
    await resume.add(torrent(2), metainfo(2))
    await resume.forget(torrent(2).key)
    resume.update(torrent(1).key, running=False, uploaded=5)
    await resume.settle(torrent(1).key, pieces(1), [FileStatus(1, 2)] * 1000)
    await resume.aclose()


def _damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "row":
        _execute(path, "UPDATE torrents SET trackers = 'x'")
    elif how == "behind the first page":
        path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    else:
        path.write_bytes({"garbage": b"x" * 5000, "truncated": data[: len(data) // 2], "emptied": b""}[how])


def _execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "emptied", "deleted", "row"])
async def test_a_lost_database_is_rebuilt_from_its_copies(path: Path, damage: str) -> None:
    await _fill(path)
    _damage(path, damage)
    resume = Resume(SqliteStore(path), boot="this")
    rows = await resume.open()
    assert {row.key: (row.options, row.running) for row in rows} == {
        torrent(0, "/data/\udcff").key: ({"a": 1}, True),
        torrent(1).key: ({}, False),
    }
    assert "2 torrents were rebuilt" in resume.notice
    assert await resume.metainfo(torrent(1).key) == metainfo(1)
    assert await resume.load(torrent(1).key) is None, "what is not known is checked"
    aside = path.with_name("session.sqlite.unreadable")
    assert aside.exists() == (damage not in ("deleted", "emptied"))
    await resume.aclose()
    resume = await _open(path)
    assert resume.notice == ""
    await resume.aclose()


def _damage_copies(copies: Path) -> None:
    """The .torrent file of one is another's, and six lines of the journal are nothing."""
    (copies / f"{torrent(1).infohash.hex()}.torrent").write_bytes(metainfo(7))
    with open(copies / "rows.jsonl", "ab") as file:
        file.write(b'\n{"infohash": "zz"}\n[1]\n{"forgotten": [[], {}]}\n' + b"[" * 100_000 + b"\n\xff\n{")


async def test_damaged_copies_are_counted_and_the_others_rebuilt(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await _fill(path)
    _damage(path, "deleted")
    _damage_copies(path.parent / "torrents")
    resume = Resume(SqliteStore(path))
    assert [row.name for row in await resume.open()] == ["song 0"]
    assert "the copies of 1 are damaged" in resume.notice
    assert "of another torrent" in caplog.text
    assert "6 damaged lines" in caplog.text
    await resume.aclose()


async def test_the_copies_cannot_grow_without_end(path: Path) -> None:
    resume = await _open(path)
    await resume.add(torrent(), metainfo())
    for number in range(60):
        resume.update(KEY, options={"number": number, "long": "x" * 30_000})
        await resume.flush()
    await resume.aclose()
    journal = path.parent / "torrents" / "rows.jsonl"
    assert journal.stat().st_size < 1_100_000
    _damage(path, "deleted")
    resume = Resume(SqliteStore(path))
    assert [row.options["number"] for row in await resume.open()] == [59]
    await resume.aclose()


async def test_counters_do_not_write_the_copies_anew(path: Path) -> None:
    resume = await _open(path)
    await resume.add(torrent(), metainfo())
    resume.update(KEY, uploaded=1, running=True, options={})
    assert await resume.flush()
    await resume.aclose()
    assert (path.parent / "torrents" / "rows.jsonl").read_text().count("song 0") == 1


async def test_copies_that_cannot_be_written_stop_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    (path.parent / "torrents").write_text("a file in the way")
    resume = await _open(path)
    assert await resume.add(torrent(), metainfo())
    resume.update(KEY, running=False)
    assert await resume.flush()
    await resume.aclose()
    assert resume.problem == ""
    assert "no copy of a .torrent file" in caplog.text


async def test_damage_found_in_the_middle_is_healed_and_work_goes_on(path: Path) -> None:
    await _fill(path)
    store = SqliteStore(path)
    resume = Resume(store, boot="this")
    await resume.open()
    await resume.aclose()
    _damage(path, "behind the first page")
    store._database.open()  # as if it had been opened before: the first page is good
    assert await _closed_load(store) is None
    store.apply(Batch(), "this", False)
    resume = Resume(store, boot="this")
    resume.note(torrent(1).key, pieces(5))
    assert await resume.flush()
    assert "2 torrents were rebuilt" in resume.notice
    assert (await load(resume, torrent(1).key)).have == pieces(5)
    await resume.aclose()


async def _closed_load(store: SqliteStore) -> ResumeRow | None:
    resume = Resume(store, Inline())
    return await resume.load(torrent(1).key)


async def test_a_damaged_record_is_as_good_as_none(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await _fill(path)
    _execute(path, "UPDATE files SET files = x'00'")
    resume = await _open(path)
    assert await resume.load(torrent(1).key) is None
    assert resume.problem == ""
    assert "damaged" in caplog.text
    await resume.settle(torrent(1).key, pieces(3), [])
    assert (await load(resume, torrent(1).key)).have == pieces(3)
    await resume.aclose()


async def test_deleted_under_us_it_comes_back_with_all_that_was_said(path: Path) -> None:
    await _fill(path)
    resume = await _open(path)
    _damage(path, "deleted")
    resume.note(KEY, pieces(4))
    assert await resume.flush()
    await resume.aclose()
    resume = await _open(path)
    assert (await load(resume)).have == pieces(4)
    assert (await load(resume, torrent(1).key)).have == pieces(1)
    await resume.aclose()


async def test_its_folder_moved_away_and_back(path: Path) -> None:
    await _fill(path)
    resume = await _open(path)
    away = path.parent.with_name("away")
    path.parent.rename(away)
    resume.note(KEY, pieces(4))
    assert not await resume.flush()
    assert resume.problem
    assert not path.parent.exists(), "an empty tree in its place would hide it"
    away.rename(path.parent)
    assert await resume.flush()
    assert resume.problem == ""
    await resume.aclose()
    resume = await _open(path)
    assert (await load(resume)).have == pieces(4)
    await resume.aclose()


async def test_a_database_that_cannot_be_used_is_said_at_the_start(path: Path) -> None:
    first = await _open(path)
    second = Resume(SqliteStore(path, database=Database(str(path), busy_timeout=0.05)))
    with pytest.raises(StorageError, match="another process is using it"):
        await second.open()
    await second.aclose()
    await first.aclose()
    other = path.with_name("history.sqlite")
    _execute(other, "CREATE TABLE visits (url TEXT)")
    third = Resume(SqliteStore(other))
    with pytest.raises(StorageError, match="of another program"):
        await third.open()
    await third.aclose()
    assert other.exists()


async def test_a_full_disk_is_waited_for(path: Path) -> None:
    store = SqliteStore(path)
    resume = Resume(store)
    await resume.open()
    store._database.connection.execute("PRAGMA max_page_count=1")
    assert not await resume.add(torrent(), bytes(100_000))
    assert "the disk is full" in resume.problem
    store._database.connection.execute("PRAGMA max_page_count=1000000")
    assert await resume.flush()
    assert await resume.metainfo(KEY) == bytes(100_000)
    await resume.aclose()


async def test_a_shared_database_keeps_records_of_many_and_no_copies(path: Path) -> None:
    one, two = await _open(path, shared=True), await _open(path, shared=True)
    one.note(KEY, pieces(1))
    two.note(torrent(folder="/other").key, pieces(2))
    assert await one.flush()
    assert await two.flush()
    assert (await load(two)).have == pieces(1)
    assert await one.add(torrent(), metainfo())
    assert not (path.parent / "torrents").exists()
    await one.aclose()
    await two.aclose()


async def test_a_shared_database_set_aside_by_another_is_left_for_the_new_one(path: Path) -> None:
    one = await _open(path, shared=True)
    await one.add(torrent(), b"")
    for suffix in ("", "-wal", "-shm"):
        os.rename(f"{path}{suffix}", f"{path}.unreadable{suffix}")
    two = await _open(path, shared=True)
    one.note(KEY, pieces(1))
    assert await one.flush()
    assert (await load(two)).have == pieces(1)
    await one.aclose()
    await two.aclose()


async def test_a_damaged_shared_database_is_set_aside_once(path: Path) -> None:
    await (await _open(path, shared=True)).aclose()
    _damage(path, "garbage")
    resumes = [Resume(SqliteStore(path, True), boot="this") for _ in range(2)]
    for resume in resumes:
        assert await resume.open() == []
        resume.note(KEY, pieces(1))
        assert await resume.flush()
    assert "set aside" in resumes[0].notice
    assert resumes[1].notice == ""
    for resume in resumes:
        await resume.aclose()
    assert [name for name in sorted(os.listdir(path.parent)) if name.startswith("session")] == [
        "session.sqlite",
        "session.sqlite.unreadable",
    ]


_WRITER = """
import asyncio, sys
from bitarray.util import zeros
from unchoke.engine.resume import Resume, SqliteStore
async def main():
    resume = Resume(SqliteStore(sys.argv[1]))
    await resume.open()
    have = zeros(200, "big")
    for piece in range(200):
        have[piece] = 1
        resume.note((bytes(20), "/"), have)
        if await resume.flush():
            print(piece, flush=True)
asyncio.run(main())
"""


def _write_and_kill(path: Path) -> None:
    """A process that records a piece at a time, killed after some."""
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 20:
                break
        process.send_signal(signal.SIGKILL)


async def test_what_was_written_outlives_a_kill(path: Path) -> None:
    _write_and_kill(path)
    resume = await _open(path)
    row = await load(resume, (bytes(20), "/"))
    count = row.have.count(1)
    assert count > 20
    assert row.have[:count].all(), "in the order it was said"
    await resume.aclose()
