"""Who gets a place when all are taken, seen by those who come and those who go."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import FAST, FakeListener, FakePeer, frame, new_id
from fakes.stage import PIECE, swarm_of
from unchoke.engine.admission import Places
from unchoke.engine.events import PeerConnected
from unchoke.policy.eviction import EvictionSettings
from unchoke.protocol import messages as m
from unchoke.protocol.handshake import Handshake
from unchoke.protocol.messages import Kind
from unchoke.types import InfoHash

pytestmark = pytest.mark.usefixtures("no_leaks")

WHAT = stage.sample(8 * PIECE)


async def knock(port: int, infohash: InfoHash, host: str) -> FakePeer:
    peer = await FakePeer.dial(port, None, host=host)
    peer.send(Handshake(infohash, new_id(), FAST).encode())
    return peer


async def test_a_full_torrent_keeps_newcomers_and_gives_up_the_useless(tmp_path: Path) -> None:
    async with stage.session(stage.tuned(network={"max_connections_per_torrent": 2})) as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        watching, swarm = torrent.events(), swarm_of(torrent)
        giver = await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.2")
        idler = await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.3")
        for _ in range(2):
            await stage.next_event(watching, PeerConnected)
        refused = await knock(session.port(), torrent.infohash, "127.0.0.4")
        await refused.ended()
        giver.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
        giver.answer(WHAT.data, PIECE, (await giver.until(Kind.REQUEST)).block)
        await stage.until(lambda: swarm.intake.rate.total)
        later = session.now() + session.settings.eviction.idle + 1
        for ours in swarm.peers:
            ours.note_traffic(ours.download.pipeline.rate.total + ours.upload.rate.total, later)
        swarm.admission._places = Places(swarm.occupants, session.settings.eviction, lambda: later)
        welcome = await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.5")
        await idler.ended()
        assert sorted(peer.address.host for peer in swarm.peers) == ["127.0.0.2", "127.0.0.5"]
        for peer in (giver, idler, refused, welcome):
            await peer.close()


async def test_a_full_session_gives_up_the_useless_of_any_torrent(tmp_path: Path) -> None:
    settings = stage.tuned(network={"max_connections": 2}, eviction=EvictionSettings(idle=0.0))
    async with stage.session(settings) as session:
        first = await stage.leecher(session, WHAT, tmp_path / "a")
        second = await stage.leecher(session, stage.sample(PIECE, name="other"), tmp_path / "b")
        swarms = [swarm_of(first), swarm_of(second)]
        places = Places(
            lambda: (each for swarm in swarms for each in swarm.occupants()), settings.eviction, session.now
        )
        session._dialer._make_room = places.make_room
        peers = [await FakePeer.dial(session.port(), first.infohash, host=f"127.0.0.{n}") for n in (2, 3)]
        await stage.until(lambda: len(swarms[0].peers) == 2)
        welcome = await FakePeer.dial(session.port(), second.infohash, host="127.0.0.4")
        await peers[0].ended()
        assert [len(swarm.peers) for swarm in swarms] == [1, 1]
        for peer in (*peers, welcome):
            await peer.close()


async def test_a_full_torrent_turns_over_for_those_that_wait_to_be_dialled(tmp_path: Path) -> None:
    settings = stage.tuned(network={"max_connections_per_torrent": 1}, eviction=EvictionSettings(idle=0.0))
    async with stage.session(settings) as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        swarm = swarm_of(torrent)
        async with await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.2") as idler:
            await idler.until(Kind.HAVE_NONE)
            swarm.admission.turn_over(session.now())
            assert len(swarm.peers) == 1, "nobody else is known"
            async with FakeListener(torrent.infohash, host="127.0.0.3") as other:
                torrent.add_peers([other.address])
                assert other.is_waiting
                swarm.admission.turn_over(session.now())
                await idler.ended()
                torrent.add_peers([other.address])
                await other.accept()
                await stage.until(lambda: len(swarm.peers) == 1)
