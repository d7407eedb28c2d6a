"""Limits: connections of strangers, conversations, rates and memory stay within their bounds, and honest peers get in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import FakeListener, FakePeer, frame, soon
from fakes.stage import PIECE, swarm_of
from unchoke.engine.dialer import MOST_WAITING
from unchoke.engine.events import PeerConnected, PeerDisconnected
from unchoke.engine.settings import DiskSettings
from unchoke.policy.bandwidth import BandwidthSettings
from unchoke.policy.pipeline import PipelineSettings
from unchoke.protocol import messages as m
from unchoke.protocol.messages import Kind
from unchoke.types import BLOCK_SIZE, Address

pytestmark = pytest.mark.usefixtures("no_leaks")

WHAT = stage.sample(8 * PIECE)
HAVE_ALL = frame(Kind.HAVE_ALL)


async def test_300_that_never_shake_hands_keep_nobody_out(tmp_path: Path) -> None:
    async with stage.session() as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        port = session.port()
        silent = [await FakePeer.dial(port, None, host=f"127.0.1.{number % 250 + 1}") for number in range(300)]
        dialer = session._dialer
        await stage.until(lambda: dialer.waiting == MOST_WAITING)
        async with await FakePeer.dial(port, torrent.infohash) as honest:
            honest.send(HAVE_ALL, m.UNCHOKE)
            await honest.serve(WHAT.data, PIECE, most=16)
            await soon(torrent.done())
            assert dialer.waiting <= MOST_WAITING
        dialer.heartbeat(session.now() + session.settings.network.handshake_timeout + 1)
        assert dialer.waiting == 0
        for peer in silent:
            await peer.ended()
            await peer.close()


async def test_no_more_conversations_than_allowed(tmp_path: Path) -> None:
    async with stage.session(stage.tuned(network={"max_connections": 3})) as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        watching = torrent.events()
        peers = [
            await FakePeer.dial(session.port(), torrent.infohash, host=f"127.0.0.{number}") for number in (2, 3, 4)
        ]
        for _ in peers:
            await stage.next_event(watching, PeerConnected)
        async with await FakePeer.dial(session.port(), None, host="127.0.0.9") as surplus:
            await surplus.ended()
        torrent.add_peers([Address("127.0.0.10", 9)])
        assert session.snapshot().half_open == 0, "none is dialled either"
        await peers[0].close()
        await stage.next_event(watching, PeerDisconnected)
        async with await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.9"):
            pass
        for peer in peers[1:]:
            await peer.close()


async def test_no_more_in_one_torrent_than_allowed(tmp_path: Path) -> None:
    async with stage.session(stage.tuned(network={"max_connections_per_torrent": 1})) as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        watching = torrent.events()
        async with await FakePeer.dial(session.port(), torrent.infohash) as first:
            await stage.next_event(watching, PeerConnected)
            async with FakeListener(torrent.infohash, host="127.0.0.3") as other:
                torrent.add_peers([other.address])
                swarm_of(torrent).heartbeat(session.now())
                assert swarm_of(torrent).dialing == 0
                assert other.is_waiting
            first.send(HAVE_ALL)
            await first.until(Kind.INTERESTED)


async def test_dials_are_tried_a_few_at_a_time(tmp_path: Path) -> None:
    async with stage.session(stage.tuned(network={"max_half_open": 2})) as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        torrent.add_peers([Address("127.0.0.1", port) for port in range(1, 8)])
        assert session.snapshot().half_open == 2
        swarm = swarm_of(torrent)
        await stage.until(lambda: session.snapshot().half_open == 0)
        assert swarm.dialing == 0
        assert "refused" in swarm.last_refusal


async def test_the_download_limit_holds_back_requests(tmp_path: Path) -> None:
    """A byte a second: one block may be asked for, and then none for hours, however often we wake up."""
    async with stage.session(stage.tuned(bandwidth=BandwidthSettings(down=1))) as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        async with await FakePeer.dial(session.port(), torrent.infohash) as peer:
            peer.send(HAVE_ALL, m.UNCHOKE)
            peer.answer(WHAT.data, PIECE, (await peer.until(Kind.REQUEST)).block)
            peer.send(m.encode_suggest(0) * 20)
            (ours,) = swarm_of(torrent).peers
            await stage.until(lambda: ours.redundant >= 20)
            swarm_of(torrent).refill_all()
            assert ours.download.pipeline.rate.total == BLOCK_SIZE
            assert not ours.download.outstanding
            assert torrent.snapshot().limited
            session.limit(down=0)
            swarm_of(torrent).refill_all()
            await peer.serve(WHAT.data, PIECE, most=16)
            await soon(torrent.done())


async def test_a_limit_is_lifted_by_time(tmp_path: Path) -> None:
    """With a real limit the session itself lets those go on that wait: nothing else happens here."""
    limit = BandwidthSettings(down=40 * len(WHAT.data), up=40 * len(WHAT.data), burst=0.01)
    async with (
        stage.session(stage.tuned(bandwidth=limit)) as seed,
        stage.session(stage.tuned(bandwidth=limit), seed=2) as leech,
    ):
        await stage.seeder(seed, WHAT, tmp_path / "a")
        torrent = await leech.add(WHAT.torrent, folder=tmp_path / "b", peers=[stage.address_of(seed)])
        await soon(torrent.done())
    WHAT.assert_in(tmp_path / "b")


async def test_memory_for_pieces_is_bounded_and_those_who_idle_race_those_who_hold_it(tmp_path: Path) -> None:
    """Room for two pieces; two peers were asked for one each and fall silent: the third still completes the torrent."""
    settings = stage.tuned(disk=DiskSettings(write_buffer=2 * PIECE), pipeline=PipelineSettings(least=2))
    async with stage.session(settings) as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        silent = []
        for host in ("127.0.0.2", "127.0.0.3"):
            peer = await FakePeer.dial(session.port(), torrent.infohash, host=host)
            peer.send(HAVE_ALL, m.UNCHOKE)
            await peer.take(Kind.REQUEST, 2)
            silent.append(peer)
        assert session.disk.reserved == 2 * PIECE
        async with await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.4") as quick:
            quick.send(HAVE_ALL, m.UNCHOKE)
            serving = asyncio.create_task(quick.serve(WHAT.data, PIECE, most=16))
            picker = swarm_of(torrent).picker
            await stage.until(lambda: session.disk.reserved > 2 * PIECE or picker.is_done)
            assert session.disk.reserved <= 2 * PIECE
            await soon(torrent.done())
            await soon(serving)
            assert len(set(quick.served)) == 16
        for peer in silent:
            await peer.take(Kind.CANCEL, 2)
            await peer.close()
        assert session.disk.reserved == 0


async def test_what_is_half_received_is_given_back_when_a_torrent_stops(tmp_path: Path) -> None:
    async with stage.session() as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        async with await FakePeer.dial(session.port(), torrent.infohash) as peer:
            peer.send(HAVE_ALL, m.UNCHOKE)
            peer.answer(WHAT.data, PIECE, (await peer.until(Kind.REQUEST)).block)
            picker = swarm_of(torrent).picker
            await stage.until(lambda: any(255 in piece.states for piece in picker.open.values()))
            assert session.disk.reserved
            await torrent.stop()
            await peer.ended()
        assert session.disk.reserved == 0
