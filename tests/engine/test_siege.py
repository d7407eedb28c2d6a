"""What one stranger can do to everybody else: hold places, fill the list of peers, flood, or delete files under us."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import FakePeer, frame, new_id
from fakes.stage import swarm_of
from unchoke.engine.contents import Contents, TorrentOptions
from unchoke.engine.events import PeerConnected, PeerDisconnected
from unchoke.engine.settings import DiskSettings
from unchoke.errors import StorageError
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


def test_lost_files(tmp_path: Path) -> None:
    what = stage.sample()
    contents = Contents(what.metainfo, tmp_path, TorrentOptions(), DiskSettings(), FilePool())
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
