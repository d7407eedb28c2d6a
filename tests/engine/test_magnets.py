"""Magnet links through a whole session: listed at once, metadata fetched from peers, kept, chosen from, gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import soon
from unchoke.engine.create import create_torrent
from unchoke.engine.events import MetadataReceived, TorrentRenamed
from unchoke.engine.resume import TorrentRow
from unchoke.engine.session import Session
from unchoke.engine.torrent import Torrent
from unchoke.errors import MetainfoError, NotFoundError, StoppedError, StorageError, UnchokeError, UnsupportedError
from unchoke.policy.peerlist import Source
from unchoke.protocol.magnet import Magnet
from unchoke.protocol.metainfo import Metainfo
from unchoke.types import Address

FILES = {"a.bin": 40_000, "b/c.bin": 70_000, "d.bin": 30_000}


@pytest.fixture
def what() -> stage.Sample:
    return stage.sample(files=FILES, name="film")


@pytest.fixture
async def sessions() -> object:
    """Makes sessions that are closed at the end."""
    async with AsyncExitStack() as stack:
        numbers = iter(range(1, 10))

        async def make(state: Path | None = None) -> Session:
            return await stack.enter_async_context(stage.session(seed=next(numbers), state=state))

        yield make


def link(what: stage.Sample | Metainfo, *peers: Session, more: str = "") -> str:
    metainfo = what if isinstance(what, Metainfo) else what.metainfo
    assert metainfo.infohash_v1 is not None
    named = "".join(f"&x.pe=127.0.0.1:{peer.port()}" for peer in peers)
    return f"magnet:?xt=urn:btih:{metainfo.infohash_v1.hex()}&dn=what%20it%20says{named}{more}"


async def test_a_link_alone_becomes_a_download(sessions, what: stage.Sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    giver, taker = await sessions(), await sessions()
    await stage.seeder(giver, what, tmp_path / "from")
    events = taker.subscribe()
    torrent = await taker.add(link(what, giver), folder=tmp_path / "to")
    assert taker.torrents == {what.metainfo.infohash: torrent}
    assert (torrent.state, torrent.name) == ("metadata", "what it says")
    metainfo = await soon(torrent.metadata())
    assert metainfo.info_bytes == what.metainfo.info_bytes
    assert torrent.name == "film"
    await soon(torrent.done())
    what.assert_in(tmp_path / "to")
    assert await stage.next_event(events, MetadataReceived) == MetadataReceived(torrent.infohash, "film")
    assert torrent.snapshot().progress == 1.0
    assert torrent.path == tmp_path / "to" / "film"


async def test_the_peers_of_the_metadata_give_the_data(sessions, what: stage.Sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    giver, taker = await sessions(), await sessions()
    await stage.seeder(giver, what, tmp_path / "from")
    torrent = await taker.add(link(what), folder=tmp_path / "to")
    torrent.add_peers([stage.address_of(giver)])
    came = giver.subscribe()
    await soon(torrent.done())
    connected = [event for event in _waiting(came) if type(event).__name__ == "PeerConnected"]
    assert len(connected) == 1


def _waiting(subscription: object) -> list[object]:
    return list(subscription._queue)  # type: ignore[attr-defined]


async def test_until_then_it_says_where_it_has_looked(sessions, what: stage.Sample) -> None:  # type: ignore[no-untyped-def]
    session = await sessions()
    torrent = await session.add(str(what.metainfo.infohash_v1))
    snapshot = torrent.snapshot()
    assert (snapshot.state, snapshot.progress, snapshot.metadata) == ("metadata", 0.0, (0, 0))
    assert snapshot.why() == "no peers yet: no tracker, no DHT and no address to ask; give one with --peer or --tracker"
    assert torrent.file_progress() == []
    with pytest.raises(NotFoundError, match="has not come yet"):
        torrent.metainfo  # noqa: B018
    await torrent.verify()
    assert torrent.state == "metadata"


async def test_it_is_there_again_before_and_after_its_metadata(sessions, what: stage.Sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async with stage.session(state=tmp_path / "state") as first:
        await first.add(link(what, more="&so=1&ws=http://127.0.0.1:1/"), folder=tmp_path / "to", start=False)
    giver = await sessions()
    await stage.seeder(giver, what, tmp_path / "from")
    async with stage.session(state=tmp_path / "state") as second:
        (torrent,) = second.torrents.values()
        assert (torrent.name, torrent.state, torrent.has_metainfo) == ("what it says", "stopped", False)
        await torrent.start()
        torrent.add_peers([stage.address_of(giver)])
        await soon(torrent.done())
        assert torrent.options.files == frozenset({1})
    await giver.aclose()
    async with stage.session(state=tmp_path / "state") as third:  # nobody is left to ask
        (torrent,) = third.torrents.values()
        await soon(torrent.done())
        assert torrent.metainfo.info_bytes == what.metainfo.info_bytes
        assert torrent.metainfo.web_seeds == ("http://127.0.0.1:1/",)
    assert [path.name for path in (tmp_path / "to").rglob("*.bin")] == ["c.bin"]


async def test_metadata_that_was_fetched_once_is_kept_for_other_folders(  # type: ignore[no-untyped-def]
    sessions, what: stage.Sample, tmp_path: Path
) -> None:
    async with stage.session(state=tmp_path / "state") as session:
        giver = await sessions()
        await stage.seeder(giver, what, tmp_path / "from")
        torrent = await session.add(link(what, giver), folder=tmp_path / "to")
        await soon(torrent.done())
        await giver.aclose()
        await session.remove(torrent)
        torrent = await session.add(what.torrent, folder=tmp_path / "to")
        await soon(torrent.done())
        again = await session.add(link(what), folder=tmp_path / "elsewhere")
        assert again is torrent


@pytest.mark.parametrize(("so", "files"), [("0", {0}), ("1-9", {1, 2}), ("0,2", {0, 2})])
async def test_a_link_may_choose_files(sessions, what: stage.Sample, so: str, files: set[int], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    giver, taker = await sessions(), await sessions()
    await stage.seeder(giver, what, tmp_path / "from")
    torrent = await taker.add(link(what, giver, more=f"&so={so}"), folder=tmp_path / "to")
    await soon(torrent.done())
    names = sorted(path.name for path in (tmp_path / "to").rglob("*.bin"))
    assert names == [name for index, name in enumerate(("a.bin", "c.bin", "d.bin")) if index in files]


async def test_files_may_be_chosen_when_they_are_known(sessions, what: stage.Sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    giver, taker, other = await sessions(), await sessions(), await sessions()
    await stage.seeder(giver, what, tmp_path / "from")

    def choose(metainfo: Metainfo) -> Collection[int]:
        return [number for number, file in enumerate(metainfo.layout.files) if file.length < 35_000]

    torrent = await taker.add(link(what, giver, more="&so=0"), folder=tmp_path / "to", files=choose)
    await soon(torrent.done())
    assert [path.name for path in (tmp_path / "to").rglob("*.bin")] == ["d.bin"]

    def refuse(metainfo: Metainfo) -> Collection[int]:
        raise UnchokeError("none of these")

    torrent = await other.add(link(what, giver), folder=tmp_path / "not", files=refuse)
    with pytest.raises(UnchokeError, match="none of these"):
        await soon(torrent.done())
    assert not (tmp_path / "not").exists()


async def test_a_choice_that_does_not_fit_is_an_error_in_words(sessions, what: stage.Sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    giver, taker = await sessions(), await sessions()
    await stage.seeder(giver, what, tmp_path / "from")
    torrent = await taker.add(link(what), folder=tmp_path / "to", files=[7])
    torrent.add_peers([stage.address_of(giver)])
    with pytest.raises(UnchokeError, match="file 7 of 3"):
        await soon(torrent.done())
    await torrent.select([0])
    await torrent.start()
    await soon(torrent.done())


async def test_the_metadata_alone(sessions, what: stage.Sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    giver, taker = await sessions(), await sessions()
    await stage.seeder(giver, what, tmp_path / "from")
    torrent = await taker.add(link(what, giver), folder=tmp_path / "to", metadata_only=True)
    assert (await soon(torrent.metadata())).name == "film"
    await stage.until(lambda: torrent.state == "stopped")
    assert not (tmp_path / "to").exists()


async def test_a_torrent_file_ends_the_search(sessions, what: stage.Sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    session = await sessions()
    torrent = await session.add(link(what, more="&tr=http://127.0.0.1:1/announce"), folder=tmp_path / "to")
    waiting = asyncio.ensure_future(torrent.metadata())
    await stage.turns(3)
    assert await session.add(what.torrent) is torrent
    assert (await soon(waiting)).name == "film"
    await stage.until(lambda: torrent.state == "downloading")


async def test_a_link_to_what_is_there_brings_its_trackers_and_peers(  # type: ignore[no-untyped-def]
    sessions, what: stage.Sample, tmp_path: Path
) -> None:
    giver, taker = await sessions(), await sessions()
    await stage.seeder(giver, what, tmp_path / "from")
    torrent = await stage.leecher(taker, what, tmp_path / "to")
    url = "http://127.0.0.1:1/announce"
    assert await taker.add(link(what, giver, more=f"&tr={url}")) is torrent
    assert [tracker.url for tracker in torrent.snapshot().trackers] == [url]
    await soon(torrent.done())


async def test_stopped_and_started_while_it_seeks(sessions, what: stage.Sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    giver, taker = await sessions(), await sessions()
    await stage.seeder(giver, what, tmp_path / "from")
    torrent = await taker.add(link(what), folder=tmp_path / "to")
    waiting = asyncio.ensure_future(torrent.metadata())
    await stage.turns(3)
    await torrent.stop()
    with pytest.raises(StoppedError):
        await soon(waiting)
    with pytest.raises(StoppedError):
        await torrent.metadata()
    await torrent.start()
    torrent.add_peers([stage.address_of(giver)])
    await soon(torrent.done())
    await taker.remove(torrent, data=True)
    assert list((tmp_path / "to").iterdir()) == []


async def test_removed_while_it_seeks(sessions, what: stage.Sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    session = await sessions()
    torrent = await session.add(link(what), folder=tmp_path / "to")
    await session.remove(torrent, data=True)
    assert session.torrents == {}
    assert not (tmp_path / "to").exists()


async def test_one_link_given_twice_at_once_is_one_torrent(sessions, what: stage.Sample, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    giver, taker = await sessions(), await sessions()
    await stage.seeder(giver, what, tmp_path / "from")
    adding = (taker.add(link(what, giver), folder=tmp_path / "to") for _ in range(3))
    first, *others = await soon(asyncio.gather(*adding))
    assert all(other is first for other in others)
    await soon(first.done())
    what.assert_in(tmp_path / "to")


async def test_a_link_given_while_the_session_closes_is_refused(what: stage.Sample, tmp_path: Path) -> None:
    async with stage.session(state=tmp_path / "state") as session:
        adding = asyncio.ensure_future(session.add(link(what), folder=tmp_path / "to"))
        await stage.turns(1)  # it looks whether an earlier run knew the link
    with pytest.raises(StoppedError, match="not open"):
        await soon(adding)
    assert session.torrents == {}


@pytest.mark.parametrize("order", ["verify", "select"])
async def test_an_order_given_while_the_metadata_is_being_kept(  # type: ignore[no-untyped-def]
    sessions, what: stage.Sample, order: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = await sessions()
    torrent = await session.add(link(what), folder=tmp_path / "to")
    await stage.until(lambda: torrent.seeker)
    waiting = asyncio.ensure_future(torrent.metadata())
    reached, may_go_on, add = asyncio.Event(), asyncio.Event(), session.resume.add

    async def slow(row: TorrentRow, metainfo: bytes) -> None:
        reached.set()
        await may_go_on.wait()
        await add(row, metainfo)

    monkeypatch.setattr(session.resume, "add", slow)
    torrent.learned(Metainfo.from_info(what.metainfo.info_bytes))
    await soon(reached.wait())
    ordered = asyncio.ensure_future(torrent.verify() if order == "verify" else torrent.select([1]))
    await stage.turns(5)
    may_go_on.set()
    assert (await soon(waiting)).name == "film"
    await soon(ordered)
    assert torrent.options.files == (frozenset({1}) if order == "select" else None)
    await stage.until(lambda: torrent.state == "downloading")


async def test_records_that_cannot_be_read_stop_nothing(  # type: ignore[no-untyped-def]
    sessions, what: stage.Sample, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    giver, taker = await sessions(), await sessions()
    await stage.seeder(giver, what, tmp_path / "from")

    async def fails(key: object) -> bytes:
        raise StorageError("the disk is full")

    monkeypatch.setattr(taker.resume, "metainfo", fails)
    torrent = await taker.add(link(what, giver), folder=tmp_path / "to")
    await soon(torrent.done())
    what.assert_in(tmp_path / "to")


async def test_what_is_no_torrent_is_said(sessions, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    session = await sessions()
    torrent = await session.add("magnet:?xt=urn:btih:" + "ab" * 20)
    torrent.unusable(MetainfoError("no name"))
    with pytest.raises(MetainfoError, match="it is no torrent: no name"):
        await torrent.done()


def make(folder: Path, flags: str) -> tuple[stage.Sample, Metainfo]:
    """Made by libtorrent: ours makes v1 alone."""
    lt = pytest.importorskip("libtorrent")
    what = stage.sample(files=FILES, name="film")
    what.write_to(folder)
    files = lt.list_files(str(folder / "film"))
    maker = lt.create_torrent(files, 32768, getattr(lt.create_torrent, flags) if flags else 0)
    lt.set_piece_hashes(maker, str(folder))
    return what, Metainfo.from_bytes(lt.bencode(maker.generate()))


async def test_a_hybrid_by_its_v2_infohash_goes_on_as_v1(sessions, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    giver, taker = await sessions(), await sessions()
    what, metainfo = make(tmp_path / "from", "")
    seed = await giver.add(metainfo, folder=tmp_path / "from")
    await soon(seed.done())
    assert metainfo.infohash_v2 is not None
    giver.torrents[metainfo.infohash_v2.truncated] = seed  # it answers to that name, as clients of v2 do
    seed.target().infohash = metainfo.infohash_v2.truncated
    events = taker.subscribe()
    torrent = await taker.add(Magnet(infohash_v2=metainfo.infohash_v2), folder=tmp_path / "to")
    torrent.add_peers([stage.address_of(giver)])
    assert (await soon(torrent.metadata())).infohash_v1 == metainfo.infohash_v1
    renamed = await stage.next_event(events, TorrentRenamed)
    assert renamed == TorrentRenamed(metainfo.infohash_v2.truncated, metainfo.infohash)
    assert taker.torrents == {metainfo.infohash: torrent}
    del giver.torrents[metainfo.infohash_v2.truncated]
    seed.target().infohash = metainfo.infohash
    torrent.add_peers([stage.address_of(giver)])
    await soon(torrent.done())
    for path, data in what.files:
        assert (tmp_path / "to" / path).read_bytes() == data


async def test_a_v2_only_one_is_kept_and_says_what_it_waits_for(tmp_path: Path) -> None:
    _, metainfo = make(tmp_path / "from", "v2_only")
    assert metainfo.infohash_v2 is not None
    async with stage.session(state=tmp_path / "state") as session:
        torrent = await session.add(Magnet(infohash_v2=metainfo.infohash_v2), folder=tmp_path / "to")
        torrent.learned(Metainfo.from_info(metainfo.info_bytes))
        with pytest.raises(UnsupportedError, match="it is kept, and waits"):
            await soon(torrent.done())
        assert torrent.state == "error"
    async with stage.session(state=tmp_path / "state") as session:
        (torrent,) = session.torrents.values()
        with pytest.raises(UnsupportedError, match="it is kept, and waits"):
            await soon(torrent.done())
        assert torrent.metainfo.name == "film"


async def test_a_private_torrent_forgets_whom_it_was_not_to_know(sessions, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    session = await sessions()
    what = stage.sample(files=FILES, name="film")
    what.write_to(tmp_path / "from")
    metainfo = Metainfo.from_bytes(create_torrent(tmp_path / "from" / "film", private=True))
    torrent: Torrent = await session.add(link(metainfo), folder=tmp_path / "to")
    given = {
        source: Address(f"127.0.0.{source.value}", 1) for source in (Source.DHT, Source.PEX, Source.LSD, Source.TRACKER)
    }
    await stage.until(lambda: torrent.seeker)
    for source, address in given.items():
        torrent.addresses_found([address], source)
    torrent.learned(Metainfo.from_info(metainfo.info_bytes))
    await stage.until(lambda: torrent.swarm)
    peerlist = stage.swarm_of(torrent).peerlist
    assert {source for source, address in given.items() if peerlist.get(address)} == {Source.TRACKER}
    assert torrent.options.private
