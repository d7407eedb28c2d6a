"""Resume over its stores: what is recorded when, and what becomes of it when the database fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event

import pytest
from bitarray import bitarray

from fakes.records import COUNT, KEY, load, metainfo, pieces, torrent
from unchoke.engine.changes import Batch
from unchoke.engine.resume import MANY_PIECES, RETRY, MemoryStore, Resume, SqliteStore
from unchoke.engine.tasks import Inline
from unchoke.errors import StorageError
from unchoke.storage.base import FileStatus

pytestmark = pytest.mark.usefixtures("no_leaks")


def _files(text: str) -> bitarray:
    return bitarray(text, endian="big")


class _Failing(MemoryStore):
    """Fails while ``words`` says why; holds every call while ``gate`` is closed. Remembers its transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self.error: type[Exception] = StorageError
        self.gate = Event()
        self.gate.set()
        self.entered = Event()
        self.applied: list[tuple[Batch, bool]] = []
        self.tries = 0

    def apply(self, batch: Batch, boot_id: str, sync: bool) -> None:
        self.tries += 1
        self.entered.set()
        self.gate.wait(10)
        if self.words:
            raise self.error(self.words)
        self.applied.append((batch, sync or batch.safe))
        super().apply(batch, boot_id, sync)


@pytest.fixture(params=["sqlite", "sqlite inline", "memory"])
async def resume(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Resume]:
    kind: str = request.param
    store = MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "state" / "session.sqlite")
    resume = Resume(store, Inline() if "inline" in kind else None, boot="this")
    assert await resume.open() == []
    yield resume
    await resume.aclose()


async def _again(resume: Resume, boot: str = "this") -> Resume:
    """The same store after a clean end of the one before."""
    await resume.aclose()
    store = resume._store
    later = Resume(store, boot=boot)
    await later.open()
    return later


# over every store


async def test_torrents_come_back_with_their_files(resume: Resume) -> None:
    rows = [torrent(number, position=number, options={"files": [1]}, trackers=(("http://a",),)) for number in range(3)]
    assert all([await resume.add(row, metainfo(number)) for number, row in enumerate(rows)])
    later = await _again(resume)
    assert await later.open() == rows
    assert await later.metainfo(rows[1].key) == metainfo(1)
    assert await later.metainfo((bytes(20), "/data")) is None
    assert await later.load(KEY) is None
    await later.aclose()


async def test_a_row_is_recorded_as_it_was_when_it_was_added(resume: Resume) -> None:
    row = torrent(options={"list": [1]})
    adding = asyncio.ensure_future(resume.add(row, b""))
    await asyncio.sleep(0)
    row.name = "changed"
    row.options["list"] = "changed"
    await adding
    later = await _again(resume)
    assert await later.open() == [torrent(options={"list": [1]})]
    await later.aclose()


async def test_fields_change_and_the_last_value_counts(resume: Resume) -> None:
    await resume.add(torrent(), metainfo())
    resume.update(KEY, uploaded=1, running=False)
    resume.update(KEY, uploaded=2**70, completed_at=3.5)
    resume.update((bytes(20), "/nowhere"), uploaded=5)
    later = await _again(resume)
    (row,) = await later.open()
    assert (row.running, row.completed_at) == (False, 3.5)
    assert row.uploaded >= 2**63 - 1
    await later.aclose()


@pytest.mark.parametrize(
    "changed", [{"colour": 1}, {"infohash": b""}, {"options": {"x": object()}}, {"name": object()}]
)
async def test_a_field_that_cannot_be_is_refused_at_once(resume: Resume, changed: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        resume.update(KEY, **changed)
    assert await resume.flush()


async def test_forgetting_leaves_other_folders_alone(resume: Resume) -> None:
    other = torrent(folder="/other")
    await resume.add(torrent(), metainfo())
    await resume.add(other, metainfo())
    resume.note(KEY, pieces(1))
    await resume.forget(KEY)
    assert await resume.metainfo(other.key) == metainfo()
    assert await resume.load(KEY) is None
    assert await resume.forget(other.key)
    assert await resume.metainfo(other.key) is None
    later = await _again(resume)
    assert await later.open() == []
    await later.aclose()


async def test_what_is_recorded_is_what_was_true_at_the_call(resume: Resume) -> None:
    have = pieces(1)
    resume.note(KEY, have)
    have[2] = 1
    assert (await load(resume)).have == pieces(1)


async def test_a_run_from_open_to_close(resume: Resume) -> None:
    resume.note(KEY, pieces())
    assert await resume.mark_open(KEY, _files("100"), device=7)
    resume.note(KEY, pieces(1, 2, 3))
    resume.durable(KEY, pieces(1, 9))
    assert await resume.mark_open(KEY, _files("010"))
    row = await load(resume)
    assert (row.have, row.durable, row.open) == (pieces(1, 2, 3), pieces(1), _files("110"))
    assert (row.boot_id, row.device, row.files) == ("this", 7, [])
    files = [FileStatus(5, 6), None, None]
    assert await resume.settle(KEY, pieces(1, 2, 3), files, {4: b"\x80"})
    later = await _again(resume)
    row = await load(later)
    assert (row.have, row.durable, row.open) == (pieces(1, 2, 3), pieces(1, 2, 3), _files("000"))
    assert (row.files, row.partial, row.device) == (files, {4: b"\x80"}, 7)
    await later.aclose()


async def test_bits_of_either_order_are_the_same_bits(resume: Resume) -> None:
    resume.note(KEY, bitarray(pieces(3), endian="little"))
    assert (await load(resume)).have == pieces(3)


async def test_a_piece_that_is_lost_is_durable_no_more_even_if_it_comes_back_at_once(resume: Resume) -> None:
    await resume.settle(KEY, pieces(1, 2), [])
    later = await _again(resume)
    assert (await load(later)).durable == pieces(1, 2)
    later.note(KEY, pieces(1))
    later.note(KEY, pieces(1, 2))
    row = await load(later)
    assert (row.have, row.durable) == (pieces(1, 2), pieces(1))
    await later.aclose()


async def test_lost_pieces_of_a_torrent_that_was_not_loaded_are_not_durable_either(resume: Resume) -> None:
    await resume.settle(KEY, pieces(1, 2), [])
    resume.note(KEY, pieces(1))
    resume.note(KEY, pieces(1, 2))
    assert (await load(resume)).durable == pieces(1)


async def test_a_new_boot_forgets_what_was_not_durable_unless_it_was_verified(resume: Resume) -> None:
    resume.note(KEY, pieces(1, 2))
    resume.durable(KEY, pieces(1))
    await resume.mark_open(KEY, _files("1"))
    later = await _again(resume, boot="next")
    row = await load(later)
    assert (row.boot_id, row.have) == ("this", pieces(1, 2))
    await later.mark_open(KEY, _files("1"))
    row = await load(later)
    assert (row.boot_id, row.have) == ("next", pieces(1))
    await later.aclose()


async def test_totals_add_up_over_runs(resume: Resume) -> None:
    resume.count(1, 2)
    resume.count(10, 20)
    later = await _again(resume)
    later.count(100, 200)
    await later.flush()
    totals = await later.totals()
    assert (totals.uploaded, totals.downloaded) == (111, 222)
    await later.aclose()


async def test_after_the_end_nothing_is_taken(resume: Resume) -> None:
    await resume.aclose()
    await resume.aclose()
    resume.note(KEY, pieces(1))
    resume.update(KEY, name="x")
    resume.heartbeat(1.0)
    assert not await resume.flush()
    assert not await resume.add(torrent(), b"")
    assert await resume.load(KEY) is None
    with pytest.raises(StorageError, match="closed"):
        await resume.open()
    assert "closed" in repr(resume)


# when it is written


async def _idle(resume: Resume) -> None:
    """Until the write under way, if there is one, has ended."""
    while resume._writer is not None and not resume._writer.done():
        await asyncio.wait([resume._writer])


@pytest.fixture
async def store() -> _Failing:
    return _Failing()


@pytest.fixture
async def watched(store: _Failing) -> AsyncIterator[Resume]:
    resume = Resume(store, boot="this")
    yield resume
    store.words = ""
    store.gate.set()
    await resume.aclose()


async def test_notes_wait_for_the_heartbeat_and_go_together(watched: Resume, store: _Failing) -> None:
    for piece in range(MANY_PIECES // 2):
        watched.note(KEY, pieces(*range(piece)))
        watched.note(torrent(1).key, pieces(piece))
    await _idle(watched)
    assert store.applied == []
    watched.heartbeat(1.0)
    await _idle(watched)
    assert [len(batch.changes) for batch, _ in store.applied] == [2]
    watched.heartbeat(2.0)
    await _idle(watched)
    assert len(store.applied) == 1, "nothing was said since"


async def test_many_pieces_do_not_wait(watched: Resume, store: _Failing) -> None:
    watched.note(KEY, pieces())
    for piece in range(MANY_PIECES):
        assert store.tries == 0
        watched.note(KEY, pieces(*range(piece + 1)))
    await _idle(watched)
    assert [batch.changes[KEY].have for batch, _ in store.applied] == [pieces(*range(MANY_PIECES))]


async def test_what_is_said_during_a_write_goes_into_the_next(watched: Resume, store: _Failing) -> None:
    store.gate.clear()
    watched.note(KEY, pieces(1))
    watched.heartbeat(1.0)
    await asyncio.to_thread(store.entered.wait, 10)
    marks = [asyncio.ensure_future(watched.mark_open(KEY, _files("1"))) for _ in range(20)]
    watched.note(KEY, pieces(1, 2))
    await asyncio.sleep(0)
    store.gate.set()
    assert all(await asyncio.gather(*marks))
    assert [batch.changes[KEY].have for batch, _ in store.applied] == [pieces(1), pieces(1, 2)]


async def test_what_must_outlive_a_power_cut_does_when_it_returns(watched: Resume, store: _Failing) -> None:
    watched.note(KEY, pieces(1))
    await watched.mark_open(KEY, _files("1"))
    watched.note(KEY, pieces(1, 2))
    watched.durable(KEY, pieces(1))
    watched.heartbeat(1.0)
    await _idle(watched)
    assert [safe for _, safe in store.applied] == [True, False]
    store.lose_unsynced()
    row = store.load(KEY)
    assert row is not None
    assert (row.have, row.open) == (pieces(1), _files("1"))
    await watched.settle(KEY, pieces(1, 2), [])
    watched.note(KEY, pieces(1))
    watched.heartbeat(2.0)
    await _idle(watched)
    assert [safe for _, safe in store.applied] == [True, False, True, True], "a piece that is lost is not claimed again"


async def test_added_torrents_outlive_a_power_cut_from_the_next_heartbeat_on(watched: Resume, store: _Failing) -> None:
    for number in range(3):
        await watched.add(torrent(number), b"")
    assert [safe for _, safe in store.applied] == [False] * 3
    watched.heartbeat(1.0)
    await _idle(watched)
    store.lose_unsynced()
    assert len(store.open()) == 3
    watched.heartbeat(2.0)
    await _idle(watched)
    assert len(store.applied) == 4


# a database that fails


async def test_a_failing_store_stops_nothing_and_loses_nothing(
    watched: Resume, store: _Failing, caplog: pytest.LogCaptureFixture
) -> None:
    store.words = "the disk is full"
    watched.note(KEY, pieces(1))
    assert not await watched.mark_open(KEY, _files("10"))
    assert watched.problem == "the disk is full"
    tries = store.tries
    assert not await watched.mark_open(KEY, _files("01"))
    for piece in range(COUNT):
        watched.note(KEY, pieces(*range(piece)))
    for now in range(int(RETRY)):
        watched.heartbeat(float(now))
    await _idle(watched)
    assert store.tries == tries, "it is not tried at every word"
    watched.heartbeat(RETRY)
    await _idle(watched)
    assert store.tries == tries + 1
    assert not await watched.flush()
    store.words = ""
    assert await watched.flush()
    assert watched.problem == ""
    row = store.load(KEY)
    assert row is not None
    assert (row.have, row.open) == (pieces(*range(COUNT - 1)), _files("11"))
    assert caplog.text.count("the disk is full") == 1
    assert "records are kept again" in caplog.text


async def test_a_torrent_file_is_there_before_it_is_written(watched: Resume, store: _Failing) -> None:
    store.words = "no"
    assert not await watched.add(torrent(), metainfo())
    assert await watched.metainfo(KEY) == watched.metainfo_now(KEY) == metainfo()
    assert watched.metainfo_now(torrent(1).key) is None
    store.words = ""
    store.entered.clear()
    store.gate.clear()
    watched.heartbeat(RETRY)
    await asyncio.to_thread(store.entered.wait, 10)
    assert watched.metainfo_now(KEY) == metainfo()
    store.gate.set()
    await _idle(watched)
    assert watched.metainfo_now(KEY) == metainfo()
    await watched.aclose()
    with pytest.raises(StorageError, match="closed"):
        watched.metainfo_now(KEY)


async def test_a_mistake_of_ours_in_the_store_stops_nothing(watched: Resume, store: _Failing) -> None:
    store.words, store.error = "a bug", ZeroDivisionError
    assert not await watched.add(torrent(), b"")
    assert watched.problem == "a bug"
    store.words = ""
    watched.heartbeat(RETRY)
    await _idle(watched)
    assert watched.problem == ""
    assert store.open() == [torrent()]


async def test_what_could_not_be_written_at_the_end_is_said(
    watched: Resume, store: _Failing, caplog: pytest.LogCaptureFixture
) -> None:
    store.words = "no"
    watched.note(KEY, pieces(1))
    await watched.aclose()
    assert "records of 1 torrents are lost: no" in caplog.text


# cancelling and closing


async def test_a_cancelled_caller_does_not_cancel_the_write(watched: Resume, store: _Failing) -> None:
    store.gate.clear()
    marking = asyncio.ensure_future(watched.mark_open(KEY, _files("1")))
    await asyncio.to_thread(store.entered.wait, 10)
    marking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await marking
    store.gate.set()
    await _idle(watched)
    assert len(store.applied) == 1
    assert await watched.mark_open(KEY, _files("1"))


async def test_closing_while_writes_queue_writes_them_all(watched: Resume, store: _Failing) -> None:
    store.gate.clear()
    watched.note(KEY, pieces(1))
    watched.heartbeat(1.0)
    await asyncio.to_thread(store.entered.wait, 10)
    waiting = asyncio.ensure_future(watched.add(torrent(), b""))
    await asyncio.sleep(0)
    watched.note(KEY, pieces(1, 2))
    closing_ = [asyncio.ensure_future(watched.aclose()) for _ in range(2)]
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(*closing_)
    assert await waiting
    row = store.load(KEY)
    assert row is not None
    assert row.have == pieces(1, 2)
    assert store.open() == [torrent()]


async def test_closing_goes_on_when_cancelled(watched: Resume, store: _Failing) -> None:
    store.gate.clear()
    watched.note(KEY, pieces(1))
    ending = asyncio.ensure_future(watched.aclose())
    await asyncio.to_thread(store.entered.wait, 10)
    ending.cancel()
    await asyncio.sleep(0)
    store.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert store.load(KEY) is not None
