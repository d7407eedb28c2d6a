"""The session's life: opening, closing, and being cancelled at any point, without leaving anything behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import FakePeer, frame, soon
from interop.torrents import bencode
from unchoke.engine.events import TorrentAdded, TorrentRemoved
from unchoke.engine.session import Session
from unchoke.engine.torrent import Torrent
from unchoke.errors import NotFoundError, PortTakenError, StoppedError, StorageError
from unchoke.policy.announce import AnnounceSettings
from unchoke.protocol.messages import Kind
from unchoke.types import InfoHash

pytestmark = pytest.mark.usefixtures("no_leaks")

WHAT = stage.sample()


def our_threads() -> list[str]:
    """Threads of ours; those of asyncio.to_thread belong to the loop."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("unchoke", "check"))]


@asynccontextmanager
async def silent_tracker() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A tracker that answers the first announce and lets all others wait; the event: it has heard ``stopped``."""
    stopped = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        if b"event=stopped" in head:
            stopped.set()
            return
        body = bencode({"interval": 1800, "peers": b""})
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/announce", stopped
    finally:
        server.close()
        for writer in writers:
            writer.close()


#: A farewell that nobody would wait for in a test: if it were waited for, the test would run out of patience.
PATIENT = stage.tuned(announce=AnnounceSettings(stop_timeout=600, http_timeout=600))


async def announced(torrent: Torrent) -> None:
    await stage.until(lambda: any(tracker.status == "working" for tracker in torrent.snapshot().trackers))


# ---------------------------------------------------------------------- opening and closing


async def test_it_listens_while_it_is_open_and_says_so() -> None:
    async with stage.session() as session:
        assert 0 < session.port() < 65536
        assert session.snapshot().port == session.port()
        assert "running" in repr(session)
        async with await FakePeer.dial(session.port(), None):
            pass
    assert "closed" in repr(session)
    with pytest.raises(OSError, match=r"."):
        await FakePeer.dial(session.port(), None)
    assert our_threads() == []


async def test_two_sessions_share_the_machine() -> None:
    async with stage.session() as one, stage.session() as other:
        assert one.port() != other.port()


async def test_a_port_that_is_taken_says_so() -> None:
    async with stage.session() as one:
        with pytest.raises(PortTakenError):
            async with stage.session(stage.tuned(network={"port": one.port()})):
                raise AssertionError("opened")


async def test_closing_twice_and_from_two_tasks(tmp_path: Path) -> None:
    session = Session(stage.SETTINGS)
    await session.aclose()  # not open yet: nothing to do
    async with session:
        await session.add(WHAT.torrent, folder=tmp_path)
        await asyncio.gather(session.aclose(), session.aclose())
        await session.aclose()
    assert session.torrents == {}


async def test_a_closed_session_takes_nothing(tmp_path: Path) -> None:
    async with stage.session() as session:
        watching = session.subscribe()
    with pytest.raises(StoppedError):
        await session.add(WHAT.torrent, folder=tmp_path)
    assert [event async for event in watching] == []
    assert [event async for event in session.subscribe()] == []


async def test_a_connection_that_comes_while_closing_is_closed() -> None:
    """The kernel had accepted it; its object is made when everything else is gone."""
    async with stage.session() as session:
        peer = session._dialer.accept()

    class Late(asyncio.Transport):
        aborted = False

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

        def get_write_buffer_size(self) -> int:
            return 0

        def abort(self) -> None:
            self.aborted = True

    late = Late({"peername": ("192.0.2.1", 1)})
    peer.connection_made(late)
    assert late.aborted
    assert session._dialer.waiting == 0


async def test_the_heartbeat_of_one_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    beats: list[Torrent] = []

    def beat(torrent: Torrent, now: float) -> None:
        beats.append(torrent)
        raise ValueError("a bug")

    async with stage.session() as session:
        await session.add(WHAT.torrent, folder=tmp_path)
        await session.add(stage.sample(100, name="other").torrent, folder=tmp_path)
        monkeypatch.setattr(Torrent, "heartbeat", beat)
        await stage.until(lambda: len(set(beats)) == 2 and len(beats) > 2)
        monkeypatch.undo()
    assert "a bug" in caplog.text


# ---------------------------------------------------------------------- adding and removing


async def test_adding_what_is_there_gives_the_same(tmp_path: Path) -> None:
    async with stage.session() as session:
        watching = session.subscribe()
        torrent = await session.add(WHAT.torrent, folder=tmp_path)
        again = await asyncio.gather(*(session.add(WHAT.torrent, folder=tmp_path) for _ in range(5)))
        assert set(again) == {torrent}
        await session.remove(torrent)
        await session.remove(torrent)
        kinds = [type(event) for event in watching._queue]
        assert (kinds.count(TorrentAdded), kinds.count(TorrentRemoved)) == (1, 1)
        fresh = await session.add(WHAT.torrent, folder=tmp_path)
        assert fresh is not torrent
        await session.remove(torrent)
        assert list(session.torrents.values()) == [fresh]


async def test_sources_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    async with stage.session() as session:
        with pytest.raises(NotFoundError, match="missing"):
            await session.add(tmp_path / "missing.torrent")
        with pytest.raises(StorageError, match="cannot read"):
            await session.add(tmp_path)
        with pytest.raises(ValueError, match="file 1 of 1"):
            await session.add(WHAT.torrent, folder=tmp_path, files=[1])
        assert session.torrents == {}


async def test_idle_torrents_own_no_task(tmp_path: Path) -> None:
    async with stage.session() as session:
        before = len(asyncio.all_tasks())
        metainfo = WHAT.metainfo
        for number in range(200):
            other = replace(metainfo, infohash_v1=InfoHash(number.to_bytes(20, "big")))
            await session.add(other, folder=tmp_path, start=False)
        assert len(session.torrents) == 200
        assert len(asyncio.all_tasks()) == before
        assert len(session.snapshot().torrents) == 200


# ---------------------------------------------------------------------- being cancelled


async def cancelled_after(work: Callable[[], Awaitable[None]], *after: int) -> None:
    """Begin ``work``, cancel it after so many turns of the loop, and again after so many more."""
    task = asyncio.ensure_future(work())
    for count in after:
        await stage.turns(count)
        task.cancel()
    try:
        await soon(task)
    except asyncio.CancelledError:
        pass


TURNS = [*range(0, 40, 3), *range(50, 200, 25), 300, 500, 800, 1300, 2000]


@pytest.mark.parametrize("again", [None, 0, 2], ids=["once", "twice at once", "twice"])
async def test_cancelled_at_any_point_of_a_life_nothing_is_left(tmp_path: Path, again: int | None) -> None:
    async with stage.session() as seed:
        await stage.seeder(seed, WHAT, tmp_path / "seed")

        theirs = {"unchoke-read_0", "unchoke-read_1"}  # the seed's, if the page cache did not serve

        async def life(folder: Path) -> None:
            async with stage.session(seed=5) as session:
                torrent = await session.add(WHAT.torrent, folder=folder, peers=[stage.address_of(seed)])
                await torrent.done()
                await torrent.verify()
                await torrent.done()
                await torrent.stop()
                await torrent.start()
                await torrent.done()
                await session.remove(torrent, data=True)

        for number, count in enumerate(TURNS):
            folder = tmp_path / f"life {number}"
            await cancelled_after(partial(life, folder), count, *([] if again is None else [again]))
            assert set(our_threads()) <= theirs, "only the seeding session's are left"
        await life(tmp_path / "whole")
        assert list((tmp_path / "whole").iterdir()) == []


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 10, 30])
async def test_a_call_that_is_cancelled_leaves_a_session_that_works(tmp_path: Path, turns: int) -> None:
    async with stage.session() as seed, stage.session(seed=2) as session:
        await stage.seeder(seed, WHAT, tmp_path / "seed")
        torrent = await session.add(WHAT.torrent, folder=tmp_path / "out", peers=[stage.address_of(seed)])
        for call in (torrent.done, torrent.stop, torrent.start, torrent.verify, torrent.stop, torrent.start):
            await cancelled_after(call, turns)
        await torrent.start()
        await soon(torrent.done())
        WHAT.assert_in(tmp_path / "out")
        await cancelled_after(lambda: session.remove(torrent, data=True), turns)
        await session.remove(torrent, data=True)
        assert session.torrents == {}


async def test_stopping_says_goodbye_and_when_cancelled_does_not_wait_for_the_answer(tmp_path: Path) -> None:
    async with silent_tracker() as (url, stopped), stage.session(PATIENT) as session:
        torrent = await stage.leecher(session, WHAT, tmp_path, trackers=[url])
        await announced(torrent)
        stopping = asyncio.create_task(torrent.stop())
        await soon(stopped.wait())
        assert not stopping.done()
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(stopping)
        assert torrent.state == "stopped"
        await torrent.start()
        await announced(torrent)
        for turns in (0, 1, 2):  # also before there is anything to wait for
            await cancelled_after(torrent.stop, turns)
        await torrent.stop()
        assert torrent.state == "stopped"


async def test_closing_that_is_cancelled_hurries_and_closes(tmp_path: Path) -> None:
    async with silent_tracker() as (url, stopped):
        session = Session(PATIENT)
        async with session:
            torrent = await stage.leecher(session, WHAT, tmp_path, trackers=[url])
            await announced(torrent)
            async with await FakePeer.dial(session.port(), torrent.infohash) as peer:
                peer.send(frame(Kind.HAVE_ALL))
                await peer.until(Kind.INTERESTED)
                closing = asyncio.create_task(session.aclose())
                await soon(stopped.wait())
                closing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await soon(closing)
                assert "closed" in repr(session)
                await peer.ended()
        assert our_threads() == []


async def test_a_torrent_that_is_being_removed_takes_no_orders(tmp_path: Path) -> None:
    async with silent_tracker() as (url, stopped), stage.session(PATIENT) as session:
        torrent = await stage.leecher(session, WHAT, tmp_path, trackers=[url])
        await announced(torrent)
        waiting = asyncio.create_task(torrent.done())
        removing = asyncio.create_task(session.remove(torrent))
        await soon(stopped.wait())
        with pytest.raises(StoppedError, match="removed"):
            await waiting
        with pytest.raises(StoppedError, match="removed"):
            await session.add(WHAT.torrent, folder=tmp_path)
        torrent.hurry()
        await soon(removing)
        for order in (torrent.start, torrent.verify, torrent.done, torrent.failed):
            with pytest.raises(StoppedError, match="removed"):
                await soon(order())
        await torrent.stop()
        assert [event async for event in torrent.events()] == []
