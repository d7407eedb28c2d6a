"""What one stranger can do to everybody else: hold places, fill the list of peers, flood, or delete files under us."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import FakePeer, frame, new_id
from fakes.stage import swarm_of
from unchoke.engine.contents import Contents
from unchoke.engine.events import PeerConnected, PeerDisconnected
from unchoke.engine.options import TorrentOptions
from unchoke.engine.record import Record
from unchoke.engine.resume import MemoryStore, Resume
from unchoke.engine.session import Session
from unchoke.engine.settings import DiskSettings
from unchoke.engine.tasks import Inline
from unchoke.engine.torrent import Torrent
from unchoke.engine.upload import STUCK
from unchoke.errors import StorageError
from unchoke.policy.bandwidth import BandwidthSettings
from unchoke.policy.peerlist import Source
from unchoke.protocol import messages as m
from unchoke.protocol.extended import ExtendedHandshake
from unchoke.protocol.handshake import Handshake, Reserved
from unchoke.protocol.messages import Kind
from unchoke.storage.handles import FilePool


async def test_one_address_cannot_hold_all_places(tmp_path: Path) -> None:
    async with stage.session(stage.tuned(network={"bind": "127.0.0.1", "max_connections_per_host": 2})) as session:
        torrent = await stage.leecher(session, stage.sample(), tmp_path)
        watching = torrent.events()
        peers = [await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.2") for _ in range(2)]
        await stage.next_event(watching, PeerConnected)
        await stage.next_event(watching, PeerConnected)
        third = await FakePeer.dial(session.port(), None, host="127.0.0.2")
        third.send(Handshake(torrent.infohash, new_id(), Reserved.FAST).encode())
        await third.ended()
        other = await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.3")
        await stage.next_event(watching, PeerConnected)
        assert len(swarm_of(torrent).peers) == 3
        for peer in (*peers, third, other):
            await peer.close()


async def test_a_peer_that_changes_its_port_all_the_time_does_not_fill_the_list(tmp_path: Path) -> None:
    async with stage.session() as session:
        torrent = await stage.leecher(session, stage.sample(), tmp_path)
        watching = torrent.events()
        async with await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.2") as peer:
            for port in range(1001, 1101):
                peer.send(m.encode_extended(0, ExtendedHandshake(port=port).encode()))
            peer.send(m.CHOKE * 3)
            await stage.until(lambda: any(one.redundant >= 100 for one in swarm_of(torrent).peers))
            assert len(swarm_of(torrent).peerlist) == 1
        await stage.next_event(watching, PeerDisconnected)


@pytest.mark.parametrize(
    "message",
    [
        m.UNCHOKE,
        m.encode_extended(77, b"?"),
        m.encode_cancel((0, 0, 16384)),
        m.encode_extended(0, b"d1:v60000:" + b"x" * 60000 + b"e"),
    ],
)
async def test_a_flood_of_anything_ends_the_conversation(tmp_path: Path, message: bytes) -> None:
    async with stage.session() as session:
        torrent = await stage.leecher(session, stage.sample(), tmp_path)
        watching = torrent.events()
        async with await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.2") as peer:
            peer.send(message * (1100 if len(message) < 1000 else 10))
            gone = await stage.next_event(watching, PeerDisconnected)
        assert "floods us" in gone.reason


def delete_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


async def test_files_deleted_under_a_download_are_missed_at_its_end(tmp_path: Path) -> None:
    what = stage.sample()
    async with stage.session() as session:
        torrent = await stage.leecher(session, what, tmp_path)
        async with await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.2") as peer:
            peer.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
            blocks = -(-len(what.data) // 16384)
            await peer.serve(what.data, what.piece_length, most=blocks - 1)
            await stage.until(lambda: torrent.snapshot().pieces_done)
            delete_files(tmp_path)
            await peer.serve(what.data, what.piece_length)
            with pytest.raises(StorageError, match="changed or deleted"):
                await torrent.done()
        assert torrent.state == "error"


async def test_lost_files(tmp_path: Path) -> None:
    what = stage.sample()
    record = Record(Resume(MemoryStore(), Inline()), (what.metainfo.infohash, str(tmp_path)))
    contents = Contents(what.metainfo, tmp_path, TorrentOptions(), DiskSettings(), FilePool(), record)
    assert contents.lost_files() == []  # nothing was opened yet
    storage = contents._open()
    assert contents.lost_files()
    what.write_to(tmp_path)
    assert contents.lost_files() == []
    storage.close()


def test_the_list_stays_bounded_for_those_who_come_in() -> None:
    from random import Random

    from unchoke.policy.peerlist import PeerList, PeerListSettings
    from unchoke.types import Address

    known = PeerList(Random(1), PeerListSettings(most=20))
    for port in range(1, 100):
        known.connected(Address("10.0.0.1", port), Source.INCOMING, 0.0)
    assert len(known) <= 20


async def seeded(opened: Session, folder: Path) -> Torrent:
    return await stage.seeder(opened, stage.sample(), folder)


async def reason_after(torrent: Torrent, port: int, *messages: bytes, host: str = "127.0.0.2") -> str:
    """Why a peer that sends this is closed."""
    watching = torrent.events()
    async with await FakePeer.dial(port, torrent.infohash, host=host) as peer:
        peer.send(*messages)
        return (await stage.next_event(watching, PeerDisconnected)).reason


KEEP_ALIVE = bytes(4)
UNKNOWN = frame(222, b"what?")
ASK = m.encode_requests([(0, 0, 16384)])


@pytest.mark.parametrize(
    "flood",
    [
        KEEP_ALIVE * 1200,
        UNKNOWN * 1200,
        (KEEP_ALIVE + m.encode_have(0)) * 700,
        (ASK + m.encode_cancel((0, 0, 16384))) * 1200,
        ASK * 1200,
        m.INTERESTED + ASK * 4000,
    ],
    ids=["keep-alives", "unknown", "mixed", "request and cancel", "requests while choked", "more than we queue"],
)
async def test_floods_that_ask_for_nothing_end_the_conversation(tmp_path: Path, flood: bytes) -> None:
    async with stage.session(stage.tuned(bandwidth=BandwidthSettings(up=1))) as session:
        torrent = await seeded(session, tmp_path)
        assert "floods us" in await reason_after(torrent, session.port(), flood)


async def test_who_broke_the_protocol_waits_before_it_comes_in_again(tmp_path: Path) -> None:
    async with stage.session() as session:
        torrent = await seeded(session, tmp_path)
        assert "broke the protocol" in await reason_after(torrent, session.port(), b"\xff" * 8)
        swarm = swarm_of(torrent)
        assert swarm.peerlist.must_wait("127.0.0.2", session.now())
        again = await FakePeer.dial(session.port(), None, host="127.0.0.2")
        again.send(Handshake(torrent.infohash, new_id(), Reserved.FAST).encode())
        await again.ended()
        await again.close()
        async with await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.3") as other:
            await other.until(Kind.HAVE_ALL)


async def test_one_that_sips_is_closed_when_others_wait_for_the_memory(tmp_path: Path) -> None:
    async with stage.session() as session:
        torrent = await seeded(session, tmp_path)
        async with await FakePeer.dial(session.port(), torrent.infohash) as peer:
            await peer.until(Kind.HAVE_ALL)
            (ours,) = swarm_of(torrent).peers
            upload, now = ours.upload, session.now()
            upload._sending.append(bytearray())
            upload.rate.add(10**6, now)
            unsent = [500_000]
            session.disk._waiting_to_read[lambda: None] = None
            ours.__class__ = type("Slow", (type(ours),), {"__slots__": (), "unsent": property(lambda _: unsent[0])})
            for _ in range(int(STUCK)):
                now += 1
                unsent[0] -= 2000
                assert not upload.is_stuck(now), "2 kB/s is slow, and honest"
            stuck = []
            for _ in range(int(2 * STUCK)):
                now += 1
                unsent[0] -= 10
                stuck.append(upload.is_stuck(now))
            assert any(stuck)
            session.disk._waiting_to_read.clear()
            assert not upload.is_stuck(now), "nobody needs the memory, and it does take"
            assert upload.is_stuck(now + STUCK + 1), "but nothing is too little"
            ours.__class__ = type(ours).__bases__[0]
            upload._sending.clear()
