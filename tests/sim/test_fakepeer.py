"""Scripted peers against a whole engine in a simulated network."""

from __future__ import annotations

import asyncio

import pytest

from unchoke.engine import events
from unchoke.errors import NetworkError
from unchoke.protocol.messages import Kind
from unchoke.testing import FakePeer, FakeServer, Member, SimSwarm, elapsed, make_torrent, run, seeding, swarm, wrong

TORRENT = make_torrent(10 * 32768 + 100)


def events_of(world: SimSwarm, member: Member, kind: type[events.Event]) -> list[events.Event]:
    return [line.event for line in world.log if line.member == member.name and isinstance(line.event, kind)]


def test_a_script_takes_a_block_from_an_engine() -> None:
    async def scenario() -> bytes:
        async with swarm(TORRENT, leechers=0) as world:
            seed = world.seeds[0]
            host = world.network.host("10.9.0.1")
            async with await FakePeer.dial(host, seed.address, TORRENT.infohash) as peer:
                assert peer.handshake is not None
                assert peer.handshake.infohash == TORRENT.infohash
                peer.say(Kind.INTERESTED)
                await peer.until(Kind.UNCHOKE)
                assert any(frame.kind == Kind.HAVE_ALL for frame in peer.frames)
                peer.request(3, 16384, 16384)
                block = await peer.until(Kind.PIECE)
                assert block.block == (3, 16384, 16384)
                return block.body[8:]

    assert run(scenario) == TORRENT.block(3, 16384, 16384)


def test_garbage_is_hung_up_on() -> None:
    async def scenario() -> None:
        async with swarm(TORRENT, leechers=0) as world:
            host = world.network.host("10.9.0.1")
            async with await FakePeer.dial(host, world.seeds[0].address, TORRENT.infohash) as peer:
                peer.send(b"\xff" * 100)
                await peer.ended()
                with pytest.raises(ConnectionError, match="hung up before"):
                    await peer.until(Kind.UNCHOKE)
            with pytest.raises(NetworkError, match="hung up before its handshake"):
                await FakePeer.dial(host, world.seeds[0].address, make_torrent(seed=99).infohash)
            assert elapsed() < 15

    run(scenario)


def test_an_engine_downloads_from_a_scripted_seed() -> None:
    async def scenario() -> None:
        async with swarm(TORRENT, seeds=0, leechers=1) as world:
            server = await world.fake(seeding(TORRENT), announce=False)
            world.leechers[0].torrent.add_peers([server.address])
            await world.finished()
            (peer,) = server.peers
            given = {block[:2] for block in peer.served}
            assert len(given) == 21  # two blocks a piece, and one in the last
            assert world.leechers[0].data == TORRENT.data

    run(scenario)


def test_a_scripted_seed_that_dials_is_used_too() -> None:
    async def scenario() -> None:
        async with (
            swarm(TORRENT, seeds=0, leechers=1) as world,
            FakeServer(world.network.host("10.9.0.1", reachable=False), TORRENT, seeding(TORRENT)) as server,
        ):
            await server.dial(world.leechers[0].address)
            await world.finished()

    run(scenario)


def test_the_tracker_tells_of_scripted_peers() -> None:
    async def scenario() -> int:
        async with swarm(TORRENT, seeds=0, leechers=0) as world:
            server = await world.fake(seeding(TORRENT))
            await world.add("late")
            await world.finished()
            return len(server.peers)

    assert run(scenario) == 1


def test_a_slow_seed_takes_its_time() -> None:
    async def scenario() -> float:
        async with swarm(TORRENT, seeds=0, leechers=0) as world:
            await world.fake(seeding(TORRENT, delay=2.0))
            await world.add("patient")
            await world.finished()
            return elapsed()

    assert 42 <= run(scenario) < 60


def test_a_seed_that_falls_silent_is_given_up_for_another() -> None:
    async def scenario() -> tuple[int, int]:
        async with swarm(TORRENT, seeds=0, leechers=0) as world:
            silent = await world.fake(seeding(TORRENT, most=3))
            await world.add("patient")
            await asyncio.sleep(60)
            assert world.leechers[0].finished_at is None
            helper = await world.fake(seeding(TORRENT), announce=False)
            world.leechers[0].torrent.add_peers([helper.address])
            await world.finished()
            return sum(len(peer.served) for peer in silent.peers), sum(len(peer.served) for peer in helper.peers)

    few, many = run(scenario)
    assert few == 3
    assert many >= 18


def test_who_alone_gives_a_wrong_piece_is_banned() -> None:
    async def scenario() -> None:
        async with swarm(TORRENT, seeds=0, leechers=0) as world:
            liar = await world.fake(
                seeding(TORRENT, alter=lambda piece, begin, data: wrong(piece, begin, data) if piece == 4 else data)
            )
            victim = await world.add("victim")
            honest = await world.fake(seeding(TORRENT, delay=0.5), announce=False)
            await asyncio.sleep(30)
            victim.torrent.add_peers([honest.address])
            await world.finished()
            banned = events_of(world, victim, events.PeerBanned)
            assert [event.address.host for event in banned if isinstance(event, events.PeerBanned)] == [
                liar.address.host
            ]
            assert victim.data == TORRENT.data

    run(scenario)


def test_wrong_is_never_right() -> None:
    assert wrong(0, 0, b"abc") != b"abc"
    assert len(wrong(0, 0, b"abc")) == 3
    assert wrong(0, 0, b"") == b""
