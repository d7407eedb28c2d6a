"""What a swarm gives, seen by its peers over real TCP or on virtual time: slots over several torrents, super-seeding, suggestions,
free riders, and partial seeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from fakes import stage
from fakes.peer import FAST, FakePeer, frame, request, soon
from fakes.stage import PIECE, swarm_of
from unchoke.bitfield import Bitfield
from unchoke.engine.events import PeerDisconnected
from unchoke.policy.choker import ChokerSettings
from unchoke.policy.superseed import SuperSeedSettings
from unchoke.protocol import messages as m
from unchoke.protocol.extended import ExtendedHandshake, decode_extended_handshake
from unchoke.protocol.handshake import Reserved
from unchoke.protocol.messages import Kind
from unchoke.testing import FakePeer as ScriptedPeer
from unchoke.testing import Frame, Member, elapsed, make_torrent, run, seeding, swarm
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


SHOWN = make_torrent(8 * 32768)


@asynccontextmanager
async def super_seed(*names: str) -> AsyncIterator[tuple[Member, list[ScriptedPeer]]]:
    """One in a simulated world, and scripted peers that lack everything and want it."""
    async with swarm(SHOWN, seeds=0, leechers=0) as world, AsyncExitStack() as stack:
        seed = await world.add("seed", complete=True, super_seed=True)
        peers = []
        for number, name in enumerate(names):
            host = world.network.host(f"10.9.0.{number + 1}")
            dialed = await ScriptedPeer.dial(
                host, seed.address, SHOWN.infohash, reserved=EXTENDED, peer_id=name.encode().ljust(20, b"-")
            )
            peers.append(await stack.enter_async_context(dialed))
            peers[-1].say(Kind.HAVE_NONE)
            peers[-1].say(Kind.INTERESTED)
        yield seed, peers


def piece_in(shown: Frame) -> int:
    """The piece of a ``have`` or ``suggest``."""
    return int.from_bytes(shown.body)


def test_a_super_seed_shows_one_piece_and_gives_no_other() -> None:
    async def scenario() -> None:
        async with super_seed("first", "second") as (_, (first, second)):
            await first.until(Kind.HAVE_NONE)
            hello = decode_extended_handshake((await first.until(Kind.EXTENDED)).body[1:])
            assert not hello.upload_only, "it passes for one that has nothing"
            shown = piece_in(await first.until(Kind.HAVE))
            others = piece_in(await second.until(Kind.HAVE))
            assert shown != others
            assert any(got.kind == Kind.UNCHOKE for got in first.frames)
            first.request(others, 0, BLOCK_SIZE)
            first.request(shown, 0, BLOCK_SIZE)
            assert (await first.until(Kind.REJECT)).block == (others, 0, BLOCK_SIZE)
            assert (await first.until(Kind.PIECE)).block[:2] == (shown, 0)
            for peer in (first, second):  # it was given on
                peer.say(Kind.HAVE, shown.to_bytes(4))
            assert piece_in(await first.until(Kind.HAVE)) not in (shown, others)
            assert not [frame for frame in first.frames if frame.kind == Kind.SUGGEST]

    run(scenario)


def test_a_super_seed_becomes_an_ordinary_one_when_nothing_moves() -> None:
    async def scenario() -> float:
        async with super_seed("idle") as (seed, (peer,)):
            shown: set[int] = set()
            while len(shown) < 8:
                shown.add(piece_in(await peer.until(Kind.HAVE)))
            ended = elapsed()
            hello = decode_extended_handshake((await peer.until(Kind.EXTENDED)).body[1:])
            assert hello.upload_only
            for piece in (7, 0):
                peer.request(piece, 0, BLOCK_SIZE)
                assert (await peer.until(Kind.PIECE)).block[:2] == (piece, 0)
            assert seed.uploaded == 2 * BLOCK_SIZE
            return ended

    assert run(scenario) > SuperSeedSettings().patience


def test_sessions_complete_from_a_super_seed() -> None:
    async def scenario() -> None:
        async with swarm(SHOWN, seeds=0, leechers=2) as world:
            await world.add("seed", complete=True, super_seed=True)
            await world.finished(within=120)
            assert all(member.data == SHOWN.data for member in world.leechers)

    run(scenario)


# ---------------------------------------------------------------------- suggestions (BEP 6)


async def test_a_seed_suggests_to_each_pieces_of_its_own_and_the_next_when_one_is_asked_for(tmp_path: Path) -> None:
    what = stage.sample(32 * PIECE)
    async with stage.session() as session:
        torrent = await stage.seeder(session, what, tmp_path)
        told: list[list[int]] = []
        async with (
            await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.2") as first,
            await FakePeer.dial(session.port(), torrent.infohash, host="127.0.0.3") as second,
        ):
            for peer in (first, second):
                peer.send(frame(Kind.HAVE_NONE), m.INTERESTED)
                await peer.until(Kind.UNCHOKE)
                told.append([got.number for got in peer.frames if got.kind == Kind.SUGGEST])
            second.send(request(told[1][0], 0, BLOCK_SIZE))
            following = (await second.until(Kind.SUGGEST)).number
        assert len(told[0]) == len(told[1]) > 0
        assert len({*told[0], *told[1], following}) == 2 * len(told[0]) + 1


async def test_nothing_is_suggested_to_a_peer_without_the_fast_extension(tmp_path: Path) -> None:
    async with stage.session() as session:
        torrent = await stage.seeder(session, WHAT, tmp_path)
        async with await FakePeer.dial(session.port(), torrent.infohash, reserved=Reserved(0)) as peer:
            peer.send(m.INTERESTED)
            await peer.until(Kind.UNCHOKE)
            peer.send(request(0, 0, BLOCK_SIZE), request(5, 0, BLOCK_SIZE))
            await peer.take(Kind.PIECE, 2)
            assert not [got for got in peer.frames if got.kind == Kind.SUGGEST]


async def test_a_suggestion_is_followed(tmp_path: Path) -> None:
    """By the engine as a leecher; what it does not have itself, or what was no piece, it does not ask for."""
    async with stage.session() as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        async with await FakePeer.dial(session.port(), torrent.infohash) as peer:
            peer.send(frame(Kind.HAVE_ALL), *[m.encode_suggest(piece) for piece in (6, 3)], m.UNCHOKE)
            asked = [got.block[0] for got in await peer.take(Kind.REQUEST, 3)]
            assert list(dict.fromkeys(asked))[:2] == [6, 3]


async def test_thousands_of_suggestions_end_the_conversation(tmp_path: Path) -> None:
    async with stage.session() as session:
        torrent = await stage.leecher(session, WHAT, tmp_path)
        async with await FakePeer.dial(session.port(), torrent.infohash) as peer:
            peer.send(frame(Kind.HAVE_ALL), *[m.encode_suggest(number % 8) for number in range(3000)])
            await peer.ended()


# ---------------------------------------------------------------------- free riders


def test_who_chokes_us_gets_a_piece_on_credit_and_no_more() -> None:
    async def scenario() -> int:
        torrent = make_torrent(16 * 32768)
        async with swarm(torrent, seeds=0, leechers=0) as world:
            ours = await world.add("ours", up=64 * 1024)
            mine = await world.fake(seeding(torrent, most=16), announce=False)
            ours.torrent.add_peers([mine.address])
            await asyncio.sleep(5)  # virtual ones
            assert ours.snapshot().pieces_done == 8
            host = world.network.host("10.9.0.9")
            async with await ScriptedPeer.dial(host, ours.address, torrent.infohash) as rider:
                rider.say(Kind.HAVE_ALL)
                rider.say(Kind.INTERESTED)
                await rider.until(Kind.UNCHOKE)
                (field,) = [got.body for got in rider.frames if got.kind == Kind.BITFIELD]
                pieces = [piece for piece in range(16) if field[piece // 8] >> (7 - piece % 8) & 1]
                for piece in pieces:
                    for begin in (0, BLOCK_SIZE):
                        rider.request(piece, begin, BLOCK_SIZE)
                await rider.until(Kind.CHOKE)
                return ours.uploaded

    assert 32768 < run(scenario) <= 4 * 32768


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
