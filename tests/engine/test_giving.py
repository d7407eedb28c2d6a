"""What a swarm gives, seen by its peers over real TCP: slots over several torrents, super-seeding, and partial seeds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import FAST, FakePeer, frame, request, soon
from fakes.stage import PIECE, swarm_of
from unchoke.bitfield import Bitfield
from unchoke.engine.events import PeerDisconnected
from unchoke.policy.choker import ChokerSettings
from unchoke.protocol import messages as m
from unchoke.protocol.extended import ExtendedHandshake, decode_extended_handshake
from unchoke.protocol.handshake import Reserved
from unchoke.protocol.messages import Kind
from unchoke.types import BLOCK_SIZE

pytestmark = pytest.mark.usefixtures("no_leaks")

WHAT = stage.sample(8 * PIECE)
EXTENDED = FAST | Reserved.EXTENDED


async def hello_of(peer: FakePeer) -> ExtendedHandshake:
    """The next extended handshake."""
    return decode_extended_handshake((await peer.until(Kind.EXTENDED)).body[1:])


# ---------------------------------------------------------------------- slots


async def test_torrents_share_the_slots_of_the_session(tmp_path: Path) -> None:
    other = stage.sample(PIECE, name="other")
    async with stage.session(stage.tuned(choker=ChokerSettings(total_slots=3))) as session:
        torrents = [
            await stage.seeder(session, WHAT, tmp_path / "a"),
            await stage.seeder(session, other, tmp_path / "b"),
        ]
        swarms = [swarm_of(torrent) for torrent in torrents]
        peers = []
        for number, torrent in enumerate([torrents[0]] * 5 + [torrents[1]] * 5):
            peer = await FakePeer.dial(session.port(), torrent.infohash, host=f"127.0.0.{number + 2}")
            peer.send(m.INTERESTED)
            peers.append(peer)
        await stage.until(lambda: all(sum(p.wire.they_interested for p in swarm.peers) == 5 for swarm in swarms))

        def served() -> list[int]:
            return [sum(not peer.wire.we_choke for peer in swarm.peers) for swarm in swarms]

        assert sum(served()) == 3
        minute = (session.now() // 60 + 1) * 60  # the odd slot goes round once in a minute
        for number in range(1, 4):
            for swarm in swarms:
                swarm.giving.rechoke(minute + 10 * number)
            assert sum(served()) <= 3
        assert sorted(served()) == [1, 2], "an even share, once the first has given back"
        for peer in peers:
            await peer.close()


async def test_slots_of_one_torrent_can_be_changed(tmp_path: Path) -> None:
    async with stage.session() as session:
        swarm = swarm_of(await stage.seeder(session, WHAT, tmp_path))
        swarm.limit(slots=1)
        peers = [await FakePeer.dial(session.port(), swarm.infohash, host=f"127.0.0.{n}") for n in (2, 3)]
        for peer in peers:
            peer.send(m.INTERESTED)
        await stage.until(lambda: sum(peer.wire.they_interested for peer in swarm.peers) == 2)
        assert sum(not peer.wire.we_choke for peer in swarm.peers) == 1
        swarm.limit(slots=2)
        swarm.giving.rechoke(session.now())
        assert not any(peer.wire.we_choke for peer in swarm.peers)
        for peer in peers:
            await peer.close()


# ---------------------------------------------------------------------- super-seeding


async def test_a_super_seed_shows_one_piece_and_gives_no_other(tmp_path: Path) -> None:
    async with stage.session() as session:
        WHAT.write_to(tmp_path)
        torrent = await session.add(WHAT.torrent, folder=tmp_path, super_seed=True)
        await soon(torrent.done())
        async with (
            await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.2", reserved=EXTENDED) as first,
            await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.3") as second,
        ):
            await first.until(Kind.HAVE_NONE)
            assert not (await hello_of(first)).upload_only, "it passes for one that has nothing"
            for peer in (first, second):
                peer.send(frame(Kind.HAVE_NONE), m.INTERESTED)
            shown = (await first.until(Kind.HAVE)).number
            swarm = swarm_of(torrent)
            await stage.until(lambda: not any(peer.wire.we_choke for peer in swarm.peers))
            others = (await second.until(Kind.HAVE)).number
            assert shown != others
            first.send(request(others, 0, BLOCK_SIZE), request(shown, 0, BLOCK_SIZE))
            assert (await first.until(Kind.REJECT)).block == (others, 0, BLOCK_SIZE)
            assert (await first.until(Kind.PIECE)).block == (shown, 0, BLOCK_SIZE)
            first.send(m.encode_have(shown))
            second.send(m.encode_have(shown))  # it was given on
            following = (await first.until(Kind.HAVE)).number
            assert following not in (shown, others)


async def test_a_super_seed_becomes_an_ordinary_one_when_nothing_moves(tmp_path: Path) -> None:
    async with stage.session() as session:
        WHAT.write_to(tmp_path)
        torrent = await session.add(WHAT.torrent, folder=tmp_path, super_seed=True)
        await soon(torrent.done())
        swarm = swarm_of(torrent)
        async with await FakePeer.dial(session.port(), torrent.infohash, reserved=EXTENDED) as peer:
            peer.send(frame(Kind.HAVE_NONE), m.INTERESTED)
            shown = {(await peer.until(Kind.HAVE)).number}
            later = session.now() + session.settings.superseed.patience + 1
            swarm.heartbeat(later)
            swarm.heartbeat(later + 1)
            while len(shown) < 8:
                shown.add((await peer.until(Kind.HAVE)).number)
            assert swarm.giving.super_seed is None
            hellos = [decode_extended_handshake(got.body[1:]) for got in peer.frames if got.kind == Kind.EXTENDED]
            hellos += [await hello_of(peer)] if len(hellos) < 2 else []
            assert [hello.upload_only for hello in hellos] == [False, True]
            peer.send(request(7, 0, BLOCK_SIZE), request(0, 0, BLOCK_SIZE))
            assert {got.block[0] for got in await peer.take(Kind.PIECE, 2)} == {0, 7}


async def test_sessions_complete_from_a_super_seed(tmp_path: Path) -> None:
    async with stage.session() as seed, stage.session(seed=2) as left, stage.session(seed=3) as right:
        WHAT.write_to(tmp_path / "seed")
        await seed.add(WHAT.torrent, folder=tmp_path / "seed", super_seed=True)
        at = [stage.address_of(each) for each in (seed, left, right)]
        torrents = [
            await each.add(WHAT.torrent, folder=tmp_path / name, peers=at)
            for each, name in ((left, "left"), (right, "right"))
        ]
        await soon(asyncio.gather(*(torrent.done() for torrent in torrents)))
    WHAT.assert_in(tmp_path / "left")
    WHAT.assert_in(tmp_path / "right")


# ---------------------------------------------------------------------- partial seeds (BEP 21)


async def test_who_wants_nothing_more_says_so_when_it_changes(tmp_path: Path) -> None:
    what = stage.sample(PIECE, name="one")
    async with stage.session() as session:
        torrent = await stage.leecher(session, what, tmp_path)
        async with await FakePeer.dial(session.port(), torrent.infohash, reserved=EXTENDED) as peer:
            assert not (await hello_of(peer)).upload_only
            peer.send(frame(Kind.HAVE_NONE))
            async with await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.3") as giver:
                giver.send(frame(Kind.HAVE_ALL), m.UNCHOKE)
                await giver.serve(what.data, PIECE, most=2)
                assert (await hello_of(peer)).upload_only
            await soon(torrent.done())


async def test_two_that_download_nothing_part(tmp_path: Path) -> None:
    async with stage.session() as session:
        torrent = await stage.seeder(session, WHAT, tmp_path)
        watching = torrent.events()
        async with await FakePeer.dial(session.port(), torrent.infohash, reserved=EXTENDED) as peer:
            peer.send(m.encode_bitfield(half()), m.encode_extended(0, ExtendedHandshake(upload_only=True).encode()))
            await peer.ended()
        assert "neither of us downloads" in (await stage.next_event(watching, PeerDisconnected)).reason


async def test_a_partial_seed_is_asked_while_we_download(tmp_path: Path) -> None:
    async with stage.session() as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        async with await FakePeer.dial(session.port(), torrent.infohash, reserved=EXTENDED) as peer:
            peer.send(m.encode_bitfield(half()), m.encode_extended(0, ExtendedHandshake(upload_only=True).encode()))
            peer.send(m.UNCHOKE)
            await peer.until(Kind.REQUEST)
            (seen,) = torrent.peers()
            assert seen.upload_only


def half() -> Bitfield:
    field = Bitfield(8)
    for piece in range(4):
        field[piece] = 1
    return field
