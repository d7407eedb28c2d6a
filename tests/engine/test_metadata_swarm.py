"""Metadata from peers by script, in a simulated network: honest, lying, slow, silent, unwilling ones, and those that claim anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from hashlib import sha1, sha256
from random import Random
from types import TracebackType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.metadata import payloads
from unchoke.engine import events
from unchoke.engine.dialer import Dialer
from unchoke.engine.metadata import MetadataSwarm
from unchoke.engine.net.transport import ReceiveBuffer
from unchoke.engine.peer import Peer, PeerOwner
from unchoke.engine.settings import NetworkSettings, Settings
from unchoke.engine.tasks import Tasks
from unchoke.errors import NetworkError
from unchoke.policy.metadata.settings import MetadataSettings
from unchoke.policy.peerlist import PeerList, Source
from unchoke.protocol import ut_metadata
from unchoke.protocol.extended import OURS, ExtendedHandshake, decode_extended_handshake
from unchoke.protocol.messages import Kind
from unchoke.testing import FakePeer, FakeServer, InlineExecutor, SimNetwork, elapsed, make_torrent, run
from unchoke.testing.fakemetadata import NUMBER, SPEAKS, answer, garbled, hello, knowing, silent
from unchoke.testing.fakepeer import Behaviour
from unchoke.types import Address, InfoHash, PeerId

#: Its info dictionary has 5 parts.
TORRENT = make_torrent(3600 * 1024, piece_length=1024, name="much metadata")
INFO = bytes(TORRENT.metainfo.info_bytes)
PARTS = ut_metadata.piece_count(len(INFO))
US = PeerId(b"-UC0000-000000000001")


class Seeker:
    """A metadata swarm with what it needs of a session: a dialer, a heartbeat, and an owner that writes down what it hears."""

    def __init__(
        self,
        *,
        seed: int = 0,
        infohash: InfoHash = TORRENT.infohash,
        infohash_v2: InfoHash | None = None,
        most: int = 100,
        **metadata: Any,
    ) -> None:
        self.network = SimNetwork(latency=0.05)
        self.host = self.network.host("10.0.0.1")
        self.settings = Settings(
            network=NetworkSettings(discovery=False, max_connections_per_torrent=most, idle_timeout=1e6),
            metadata=MetadataSettings(**metadata),
        )
        self.loop = asyncio.get_running_loop()
        self.executor = InlineExecutor()
        self.infos: list[bytes] = []
        self.count = 0
        self.needed = 0
        self.nodes: list[Address] = []
        self.votes: list[tuple[str, str]] = []
        self.published: list[events.Event] = []
        self.done = asyncio.Event()
        self.swarm = MetadataSwarm(
            self,
            infohash,
            infohash_v2,
            US,
            self.settings,
            peerlist=PeerList(Random(seed), self.settings.peerlist),
            clock=self.loop.time,
            port=lambda: 6881,
            executor=self.executor,
        )
        self.dialer = Dialer(self.host, self.settings.network, self._make_peer, self._find, lambda: 100)
        self._stack = AsyncExitStack()
        self._tasks = Tasks("seeker")
        self._buffer = ReceiveBuffer(65536, shared=True)

    def _make_peer(self, owner: PeerOwner, dialed: Address | None) -> Peer:
        return Peer(owner, self._buffer, max_message=1 << 20, dialed=dialed)

    def _find(self, infohash: InfoHash) -> MetadataSwarm | None:
        return self.swarm if infohash == self.swarm.infohash.truncated else None

    async def __aenter__(self) -> Seeker:
        self.port = await self.host.listen(self.dialer.accept)
        self._tasks.spawn(self._heartbeat(), "heartbeat")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.aclose()
        await self.swarm.aclose()
        await self.dialer.aclose()
        await self._stack.aclose()

    async def _heartbeat(self) -> None:
        while True:
            now = self.loop.time()
            room = self.settings.network.max_connections_per_torrent - len(self.swarm.peers) - self.swarm.dialing
            for address in self.swarm.peerlist.next_to_dial(room, now):
                self.swarm.dialing += 1
                self.dialer.dial(address, self.swarm)
            self.swarm.heartbeat(now)
            await asyncio.sleep(1.0)

    async def meet(self, behaviour: Behaviour, *, up: float = float("inf")) -> FakeServer:
        """One more peer, which is dialled within a second."""
        host = self.network.host(f"10.0.1.{len(self.network.hosts)}", up=up)
        server = await self._stack.enter_async_context(FakeServer(host, TORRENT, behaviour, reserved=SPEAKS))
        self.swarm.peerlist.add([server.address], Source.MAGNET, self.loop.time())
        return server

    async def visit(self, host: str = "10.9.0.1") -> FakePeer:
        """A peer that dials us."""
        there = self.network.hosts.get(host) or self.network.host(host)
        address = Address(self.host.address, self.port)
        return await FakePeer.dial(
            there, address, TORRENT.infohash, reserved=SPEAKS, peer_id=Random(host).randbytes(20)
        )

    def play(self, behaviour: Behaviour, peer: FakePeer) -> None:
        """A script in the background, until its peer is hung up on."""

        async def whole() -> None:
            try:
                await behaviour(peer)
            except ConnectionError:
                pass
            finally:
                await peer.close()

        self._tasks.spawn(whole(), "script")

    async def found(self, within: float = 600.0) -> bytes:
        """The metadata, when it is there."""
        async with asyncio.timeout(within):
            await self.done.wait()
        (info,) = self.infos
        return info

    @property
    def banned(self) -> set[str]:
        return {event.address.host for event in self.published if isinstance(event, events.PeerBanned)}

    # what the swarm tells (MetadataOwner)

    def metadata_completed(self, info: bytes) -> None:
        self.infos.append(info)
        self.done.set()

    def peers_changed(self, change: int) -> None:
        self.count += change

    def peers_needed(self) -> None:
        self.needed += 1

    def publish(self, event: events.Event) -> None:
        self.published.append(event)

    def node_found(self, address: Address) -> None:
        self.nodes.append(address)

    def seen_as(self, address: str, voter: str) -> None:
        self.votes.append((address, voter))


def requests(server: FakeServer) -> list[int]:
    """The parts that were asked of it."""
    asked = (frame for peer in server.peers for frame in peer.frames if frame.kind == Kind.EXTENDED)
    messages = [ut_metadata.decode(frame.body[1:]) for frame in asked if frame.body[0] == NUMBER]
    return [message.piece for message in messages if isinstance(message, ut_metadata.Request)]


def scenario(play: Callable[[Seeker], Any], **seeker: Any) -> Any:
    """``play`` with a seeker, on virtual time; nothing is left behind."""

    async def whole() -> Any:
        async with Seeker(**seeker) as ours:
            result = await play(ours)
        assert ours.count == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return run(whole)


# ---------------------------------------------------------------------- those that help


def test_one_peer_is_enough() -> None:
    async def play(ours: Seeker) -> None:
        server = await ours.meet(knowing(TORRENT))
        assert await ours.found() == INFO
        assert sorted(requests(server)) == list(range(PARTS))
        assert ours.swarm.progress[:3] == (len(INFO), len(INFO), 1)
        (peer,) = ours.swarm.peers
        assert peer.redundant < PARTS  # its answers are no flood
        (occupant,) = ours.swarm.occupants()
        assert occupant.moved_at > peer.connected_at
        assert elapsed() < 5

    scenario(play)


def test_several_share_the_work() -> None:
    async def play(ours: Seeker) -> None:
        servers = [await ours.meet(knowing(TORRENT, delay=0.5)) for _ in range(4)]
        assert await ours.found() == INFO
        assert all(requests(server) for server in servers)
        assert elapsed() < 4

    scenario(play)


def test_no_more_than_a_few_questions_are_open_with_one() -> None:
    async def play(ours: Seeker) -> None:
        most = 0

        async def careful(peer: FakePeer) -> None:
            """Counts the questions that lie there whenever it answers one."""
            nonlocal most
            hello(peer, len(INFO))
            waiting: list[int] = []
            while (frame := await peer.read()) is not None:
                if frame.kind != Kind.EXTENDED or frame.body[0] != NUMBER:
                    continue
                message = ut_metadata.decode(frame.body[1:])
                assert isinstance(message, ut_metadata.Request)
                waiting.append(message.piece)
                most = max(most, len(waiting))
                if len(waiting) == 3 or len(waiting) + len(peer.served) == PARTS:
                    for piece in waiting:
                        part = INFO[piece * ut_metadata.PIECE :][: ut_metadata.PIECE]
                        data = ut_metadata.Data(piece, len(INFO), part).encode()
                        peer.served.append((piece, 0, 0))
                        peer.say(Kind.EXTENDED, bytes([OURS[ut_metadata.NAME]]) + data)
                    waiting.clear()

        await ours.meet(careful)
        await asyncio.sleep(14)
        assert most == 2
        return None

    scenario(play, outstanding=2)


def test_a_peer_that_says_no_size_is_asked_all_the_same() -> None:
    async def play(ours: Seeker) -> None:
        await ours.meet(knowing(TORRENT, claim=0))
        assert await ours.found() == INFO

    scenario(play)


def test_who_has_no_metadata_yet_is_asked_when_it_has() -> None:
    async def play(ours: Seeker) -> None:
        async def late(peer: FakePeer) -> None:
            hello(peer, 0)
            said = asyncio.get_running_loop().create_task(asyncio.sleep(200))
            said.add_done_callback(lambda _: hello(peer, len(INFO)))
            while (frame := await peer.read()) is not None:
                if frame.kind == Kind.EXTENDED and frame.body[0] == NUMBER:
                    known = INFO if said.done() else b""
                    answer(peer, OURS[ut_metadata.NAME], frame.body[1:], known)

        await ours.meet(late)
        assert await ours.found() == INFO
        assert 200 < elapsed() < 202

    scenario(play)


def test_who_comes_to_us_helps_too() -> None:
    async def play(ours: Seeker) -> None:
        async with await ours.visit() as peer:
            ours.play(knowing(TORRENT), peer)
            assert await ours.found() == INFO

    scenario(play)


def test_what_it_says_of_itself() -> None:
    async def play(ours: Seeker) -> None:
        async with await ours.visit() as peer:
            said = decode_extended_handshake((await peer.until(Kind.EXTENDED)).body[1:])
            assert said.extensions == {"ut_metadata": OURS["ut_metadata"]}
            assert (said.port, said.yourip, said.metadata_size) == (6881, "10.9.0.1", None)
            assert [frame.kind for frame in peer.frames] == [Kind.HAVE_NONE, Kind.EXTENDED]
            ours_at = ExtendedHandshake(yourip="192.0.2.9", port=4000)
            peer.say(Kind.EXTENDED, b"\0" + ours_at.encode())
            peer.say(Kind.PORT, b"\x10\x01")
            peer.request(0, 0, 16384)
            assert (await peer.until(Kind.REJECT)).block == (0, 0, 16384)
            assert ours.votes == [("192.0.2.9", "10.9.0.1")]
            assert ours.nodes == [Address("10.9.0.1", 4097)]
            (met,) = ours.swarm.peers
            assert met.listen_address == Address("10.9.0.1", 4000)
            hello(peer, 0)
            peer.say(Kind.EXTENDED, bytes([OURS["ut_metadata"]]) + ut_metadata.Request(0).encode())
            peer.say(Kind.EXTENDED, bytes([OURS["ut_metadata"]]) + ut_metadata.Request(10**6).encode())
            rejects = [ut_metadata.decode(body) for body in [await metadata_of(peer) for _ in range(3)]]
            assert rejects == [ut_metadata.Request(0), ut_metadata.Reject(0), ut_metadata.Reject(10**6)]

    scenario(play)


async def metadata_of(peer: FakePeer) -> bytes:
    """Its next message of the extension."""
    while (frame := await peer.until(Kind.EXTENDED)).body[0] != NUMBER:
        pass
    return frame.body[1:]


# ---------------------------------------------------------------------- those that are slow, silent or unwilling


def test_a_silent_peer_holds_nothing_up_for_long() -> None:
    async def play(ours: Seeker) -> None:
        for _ in range(3):
            await ours.meet(knowing(TORRENT, alter=silent))
        await asyncio.sleep(5)
        await ours.meet(knowing(TORRENT))
        assert await ours.found() == INFO
        assert elapsed() < 10
        assert not ours.banned

    scenario(play)


def test_the_last_part_is_asked_of_others_when_one_is_slow() -> None:
    async def play(ours: Seeker) -> None:
        await ours.meet(knowing(TORRENT, delay=60.0))
        await asyncio.sleep(2)
        await ours.meet(knowing(TORRENT, delay=0.1))
        assert await ours.found() == INFO
        assert elapsed() < 6

    scenario(play)


def test_one_slow_peer_is_enough_too() -> None:
    """Its answers come long after we have stopped to wait for them."""

    async def play(ours: Seeker) -> None:
        await ours.meet(knowing(TORRENT, delay=25.0))
        assert await ours.found() == INFO
        assert not ours.banned

    scenario(play)


def test_one_that_rejects_is_left_alone_for_ever_longer_times() -> None:
    async def play(ours: Seeker) -> list[int]:
        server = await ours.meet(knowing(TORRENT, rejects=True))
        counts = []
        for pause in (50, 60, 120, 240, 480):
            await asyncio.sleep(pause)
            counts.append(len(requests(server)))
        assert not ours.infos
        assert len(server.peers) == 1
        return counts

    counts = scenario(play)
    assert counts[0] == 2
    assert counts[-1] <= 10
    assert counts == sorted(set(counts))


def test_who_rejects_at_first_may_give_later() -> None:
    async def play(ours: Seeker) -> None:
        answered = 0

        async def limited(peer: FakePeer) -> None:
            """Gives two parts, then rejects for a while: flood protection (BEP 9)."""
            nonlocal answered
            hello(peer, len(INFO))
            while (frame := await peer.read()) is not None:
                if frame.kind == Kind.EXTENDED and frame.body[0] == NUMBER:
                    answered += 1
                    willing = answered <= 2 or elapsed() > 100
                    answer(peer, OURS["ut_metadata"], frame.body[1:], INFO if willing else b"")

        await ours.meet(limited)
        assert await ours.found() == INFO
        assert not ours.banned

    scenario(play)


def test_a_giver_that_leaves_leaves_its_parts_behind() -> None:
    async def play(ours: Seeker) -> None:
        given = 0

        def first_two(piece: int, part: bytes) -> bytes | None:
            nonlocal given
            given += 1
            return part if given <= 2 else None

        leaver = await ours.meet(knowing(TORRENT, alter=first_two))
        await asyncio.sleep(5)
        for peer in leaver.peers:
            await peer.close()
        await asyncio.sleep(1)
        assert ours.swarm.progress.received == 2 * ut_metadata.PIECE
        assert ours.needed
        other = await ours.meet(knowing(TORRENT))
        assert await ours.found() == INFO
        assert len(requests(other)) == PARTS - 2

    scenario(play)


# ---------------------------------------------------------------------- liars


def test_who_alone_gave_it_wrong_is_banned() -> None:
    async def play(ours: Seeker) -> None:
        liar = await ours.meet(knowing(TORRENT, alter=garbled))
        await asyncio.sleep(5)
        assert ours.banned == {liar.host.address}
        assert not ours.swarm.peers
        assert ours.swarm.peerlist.is_banned(liar.host.address)
        honest = await ours.meet(knowing(TORRENT))
        assert await ours.found() == INFO
        assert honest.host.address not in ours.banned

    scenario(play)


@pytest.mark.parametrize("honest_at", [0, 4, 9])
def test_nine_liars_of_ten_do_not_win(honest_at: int) -> None:
    async def play(ours: Seeker) -> None:
        servers = []
        for number in range(10):
            # A liar changes one part only, another one each: hardly anything tells it from the honest.
            def changed(piece: int, part: bytes, number: int = number) -> bytes:
                return garbled(piece, part) if piece == number % PARTS else part

            alter = None if number == honest_at else changed
            servers.append(await ours.meet(knowing(TORRENT, alter=alter, delay=0.05 * (number % 3))))
        assert await ours.found() == INFO
        assert servers[honest_at].host.address not in ours.banned
        assert elapsed() < 30

    scenario(play)


def test_who_lied_in_company_is_banned_in_the_end() -> None:
    async def play(ours: Seeker) -> None:
        honest = [await ours.meet(knowing(TORRENT, delay=0.2)) for _ in range(3)]
        liar = await ours.meet(knowing(TORRENT, alter=garbled, delay=0.2))
        assert await ours.found() == INFO
        assert ours.banned == {liar.host.address}
        assert all(server.peers for server in honest)

    scenario(play)


def test_one_host_with_many_ports_is_one_giver() -> None:
    async def play(ours: Seeker) -> None:
        host = ours.network.host("10.7.0.1")
        for number in range(5):
            peer = await FakePeer.dial(
                host,
                Address(ours.host.address, ours.port),
                TORRENT.infohash,
                reserved=SPEAKS,
                peer_id=b"-FK0001-%012d" % number,
            )
            ours.play(knowing(TORRENT, alter=garbled, delay=0.2), peer)
        await asyncio.sleep(10)
        assert ours.banned == {"10.7.0.1"}
        assert not ours.swarm.peers
        honest = await ours.meet(knowing(TORRENT))
        assert await ours.found() == INFO
        assert honest.host.address not in ours.banned

    scenario(play)


@pytest.mark.parametrize("claim", [1, 16384, len(INFO) - 1, len(INFO) + 1, 10 * len(INFO)])
def test_sizes_may_differ(claim: int) -> None:
    """Liars in the majority claim another size, and have as many bytes as they claim."""

    async def play(ours: Seeker) -> None:
        false = (INFO * 11)[:claim]
        for _ in range(4):
            await ours.meet(knowing(TORRENT, info=false, delay=0.01))
        honest = await ours.meet(knowing(TORRENT, delay=0.3))
        assert await ours.found() == INFO
        assert honest.host.address not in ours.banned

    scenario(play)


def test_what_claims_to_be_too_large_is_not_asked_for() -> None:
    async def play(ours: Seeker) -> None:
        big = await ours.meet(knowing(TORRENT, claim=33 << 20))
        bigger = await ours.meet(knowing(TORRENT, claim=(1 << 31) - 1))
        await asyncio.sleep(120)
        assert not requests(big)
        assert not requests(bigger)
        assert not ours.swarm.fetch.picker.held
        assert "the limit is 33554432" in ours.swarm.progress.trouble
        await ours.meet(knowing(TORRENT))
        assert await ours.found() == INFO
        assert ours.swarm.progress.trouble == ""

    scenario(play)


def test_four_gigabytes_said_only_with_the_data_are_too_large_as_well() -> None:
    async def play(ours: Seeker) -> None:
        async def huge(peer: FakePeer) -> None:
            hello(peer, 0)
            while (frame := await peer.read()) is not None:
                if frame.kind == Kind.EXTENDED and frame.body[0] == NUMBER:
                    data = ut_metadata.Data(0, (1 << 32) - 1, bytes(16384)).encode()
                    peer.say(Kind.EXTENDED, bytes([OURS["ut_metadata"]]) + data)

        server = await ours.meet(huge)
        await asyncio.sleep(300)
        assert (
            len([1 for frame in server.peers[0].frames if frame.kind == Kind.EXTENDED]) == 2
        )  # our hello, and one request
        assert not ours.swarm.fetch.picker.held

    scenario(play)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (ut_metadata.Data(0, len(INFO), INFO[:16384]).encode(), "nobody asked for"),
        (ut_metadata.Data(3, len(INFO), INFO[3 * 16384 : 4 * 16384]).encode(), "nobody asked for"),
        (b"de", "without a type"),
        (b"garbage", "ut_metadata"),
        (b"d8:msg_typei1e5:piecei0e10:total_sizei0ee", "proper total_size"),
        (b"d8:msg_typei1e5:piecei0e10:total_sizei-5ee", "proper total_size"),
        (b"d8:msg_typei0e5:piecei-1ee", "proper piece"),
        (ut_metadata.Data(0, len(INFO), INFO[:16384]).encode()[:-1], "16383"),
        (b"l" * 5000, "ut_metadata"),
        (b"x" * 20000, "20000 bytes"),
    ],
)
def test_what_no_correct_peer_says_ends_the_conversation(payload: bytes, reason: str) -> None:
    async def play(ours: Seeker) -> None:
        async with await ours.visit() as peer:
            peer.say(Kind.EXTENDED, bytes([OURS["ut_metadata"]]) + payload)
            await peer.ended()
        assert reason in ours.swarm.last_refusal
        assert not ours.banned
        assert ours.swarm.peerlist.must_wait("10.9.0.1", ours.loop.time())

    scenario(play)


def test_who_contradicts_itself_is_sent_away() -> None:
    async def play(ours: Seeker) -> None:
        async with await ours.visit("10.9.0.1") as first:
            hello(first, 100)
            hello(first, 101)
            await first.ended()
        assert "another size" in ours.swarm.last_refusal
        async with await ours.visit("10.9.0.2") as second:
            hello(second, len(INFO))
            await metadata_of(second)
            data = ut_metadata.Data(0, len(INFO) + 1, INFO[:16384]).encode()
            second.say(Kind.EXTENDED, bytes([OURS["ut_metadata"]]) + data)
            await second.ended()
        assert "says that the metadata has" in ours.swarm.last_refusal

    scenario(play)


@pytest.mark.parametrize(
    "said",
    [
        (Kind.EXTENDED, bytes([OURS["ut_metadata"]]) + ut_metadata.Request(0).encode()),
        (Kind.EXTENDED, bytes([OURS["ut_metadata"]]) + ut_metadata.Reject(0).encode()),
        (Kind.EXTENDED, bytes([OURS["ut_metadata"]]) + b"d8:msg_typei9ee"),
        (Kind.EXTENDED, b"\0de"),
        (Kind.EXTENDED, b"\x63 of a kind that nobody knows"),
        (Kind.REQUEST, bytes(10) + b"\x40\0"),
        (Kind.HAVE, bytes(4)),
        (Kind.INTERESTED, b""),
        (Kind.PORT, b"\0\x01"),
    ],
)
def test_a_flood_of_anything_ends_the_conversation(said: tuple[Kind, bytes]) -> None:
    async def play(ours: Seeker) -> None:
        async with await ours.visit() as peer:
            for _ in range(2000):
                peer.say(*said)
            await peer.ended()
        assert "floods" in ours.swarm.last_refusal

    scenario(play)


def test_memory_stays_below_the_limit_whatever_liars_send() -> None:
    """Eight of them, each with a size of its own just below the limit."""

    async def play(ours: Seeker) -> None:
        most = 20 * ut_metadata.PIECE
        highest = 0
        for number in range(8):
            false = Random(number).randbytes(most - number)
            await ours.meet(knowing(TORRENT, info=false, delay=0.05 + number / 100))
        await ours.meet(knowing(TORRENT, delay=0.5))
        while not ours.infos and elapsed() < 300:
            await asyncio.sleep(0.01)
            highest = max(highest, ours.swarm.fetch.picker.held)
        assert ours.infos == [INFO]
        assert most / 2 < highest <= most

    scenario(play, max_size=20 * ut_metadata.PIECE)


# ---------------------------------------------------------------------- v2, and both


def test_metadata_of_a_v2_infohash_is_checked_with_sha256() -> None:
    async def play(ours: Seeker) -> None:
        server = await ours.meet(knowing(TORRENT, info=b"d4:name1:xe"))
        assert await ours.found() == b"d4:name1:xe"
        assert server.peers[0].handshake is not None
        assert server.peers[0].handshake.infohash == sha256(b"d4:name1:xe").digest()[:20]

    scenario(play, infohash=InfoHash(sha256(b"d4:name1:xe").digest()))


def test_both_infohashes_of_a_link_must_fit() -> None:
    async def play(ours: Seeker) -> None:
        await ours.meet(knowing(TORRENT))
        assert await ours.found() == INFO

    scenario(play, infohash_v2=InfoHash(sha256(INFO).digest()))


def test_a_link_that_contradicts_itself_is_nobodys_fault() -> None:
    async def play(ours: Seeker) -> None:
        server = await ours.meet(knowing(TORRENT))
        await asyncio.sleep(300)
        assert not ours.infos
        assert not ours.banned
        assert "different torrents" in ours.swarm.progress.trouble
        assert ours.swarm.fetch.picker.held == 0
        assert len(requests(server)) == PARTS

    scenario(play, infohash_v2=InfoHash(bytes(32)))


# ---------------------------------------------------------------------- places, and what comes after


def test_who_has_nothing_for_us_makes_room_when_it_is_full() -> None:
    async def play(ours: Seeker) -> None:
        async def mute(peer: FakePeer) -> None:
            peer.say(Kind.HAVE_ALL)
            await peer.ended()

        for _ in range(3):
            await ours.meet(mute)
        await asyncio.sleep(30)
        assert len(ours.swarm.peers) == 3
        honest = await ours.meet(knowing(TORRENT))
        await asyncio.sleep(20)
        assert not honest.peers  # they may yet tell of others
        assert await ours.found() == INFO

    scenario(play, most=3)


def test_ourselves_and_doubles_are_refused() -> None:
    async def play(ours: Seeker) -> None:
        ours.swarm.peerlist.add([Address(ours.host.address, ours.port)], Source.MAGNET, ours.loop.time())
        await asyncio.sleep(3)
        assert not ours.swarm.peers
        assert "ourselves" in ours.swarm.last_refusal
        async with await ours.visit():
            again = FakePeer(
                *await ours.network.hosts["10.9.0.1"].open_connection(Address(ours.host.address, ours.port))
            )
            again.shake(TORRENT.infohash, Random("10.9.0.1").randbytes(20), SPEAKS)
            await again.ended()
            await again.close()
            assert len(ours.swarm.peers) == 1

    scenario(play)


class Heir:
    """The swarm of the download, as far as dials and peers are concerned."""

    def __init__(self) -> None:
        self.dialing = 0
        self.refused: list[PeerId] = []
        self.failed: list[Address] = []

    def refusal(self, peer: Peer, peer_id: PeerId) -> str | None:
        self.refused.append(peer_id)
        return "not today"

    def add(self, peer: Peer) -> None:
        raise AssertionError("it was refused")

    def dial_failed(self, address: Address, reason: str) -> None:
        self.dialing -= 1
        self.failed.append(address)


def test_peers_stay_until_they_are_handed_on() -> None:
    async def play(ours: Seeker) -> None:
        servers = [await ours.meet(knowing(TORRENT)) for _ in range(3)]
        await ours.found()
        await asyncio.sleep(60)
        assert len(ours.swarm.peers) == ours.count == 3
        before = sum(len(requests(server)) for server in servers)
        late = await ours.meet(knowing(TORRENT))
        nobody = Address("10.0.0.77", 1)
        ours.swarm.peerlist.add([nobody], Source.MAGNET, ours.loop.time())
        for address in ours.swarm.peerlist.next_to_dial(2, ours.loop.time()):
            ours.swarm.dialing += 1
            ours.dialer.dial(address, ours.swarm)
        assert ours.swarm.dialing == 2
        heir = Heir()
        for server in servers:
            server.peers[0].say(Kind.PORT, b"\x10\x01")
        peers = ours.swarm.release(heir)
        assert len(peers) == 3
        assert ours.count == ours.swarm.dialing == 0
        assert heir.dialing == 2
        assert not any(peer.is_closed for peer in peers)
        await asyncio.sleep(20)
        assert heir.dialing == 0
        assert heir.refused == [late.peer_id]
        assert set(heir.failed) == {late.address, nobody}
        assert sum(len(requests(server)) for server in servers) == before
        assert not ours.nodes  # nothing is heard of them here any more
        for peer in peers:
            peer.close("end")

    scenario(play)


def test_closing_lets_everybody_and_everything_go() -> None:
    async def play(ours: Seeker) -> None:
        server = await ours.meet(knowing(TORRENT, delay=3.0))
        await asyncio.sleep(5)
        assert ours.swarm.fetch.picker.held
        ours.swarm.close()
        ours.swarm.close()
        assert ours.swarm.fetch.picker.held == 0
        assert ours.swarm.is_closed
        assert not ours.swarm.peers
        await server.peers[0].ended()
        with pytest.raises(NetworkError):
            await ours.visit()
        assert ours.needed == 0

    scenario(play)


def test_who_answers_at_last_is_forgiven() -> None:
    async def play(ours: Seeker) -> None:
        server = await ours.meet(knowing(TORRENT))
        ours.swarm.peerlist.failed(server.address, "no answer", ours.loop.time())
        await ours.found()
        known = ours.swarm.peerlist.get(server.address)
        assert known is not None
        assert (known.failures, known.connected) == (0, True)

    scenario(play)


def test_large_metadata_is_hashed_on_a_thread() -> None:
    large = Random(3).randbytes(300 * 1024)

    async def play(ours: Seeker) -> None:
        await ours.meet(knowing(TORRENT, info=large))
        assert await ours.found() == large
        assert ours.executor.calls == 1

    digest = InfoHash(sha1(large, usedforsecurity=False).digest())
    scenario(play, infohash=digest)


# ---------------------------------------------------------------------- anything at all


@settings(max_examples=25, deadline=None)
@given(
    said=st.lists(
        st.tuples(st.sampled_from([0, OURS["ut_metadata"], OURS["ut_pex"], 99]), payloads | st.binary(max_size=80)),
        max_size=12,
    ),
    size=st.integers(0, 3 * ut_metadata.PIECE),
)
def test_whatever_a_peer_says_is_read_or_ends_the_conversation(said: list[tuple[int, bytes]], size: int) -> None:
    async def play(ours: Seeker) -> None:
        async with await ours.visit() as peer:
            hello(peer, size)
            for number, payload in said:
                peer.say(Kind.EXTENDED, bytes([number]) + payload)
            await asyncio.sleep(1)
        await asyncio.sleep(1)
        assert not ours.swarm.peers
        assert not ours.infos
        await ours.meet(knowing(TORRENT))
        assert await ours.found() == INFO

    scenario(play)


def test_its_peers_can_be_seen() -> None:
    async def play(ours: Seeker) -> None:
        await ours.meet(knowing(TORRENT))
        await ours.found()
        (peer,) = ours.swarm.peer_snapshots()
        assert (peer.client, peer.incoming, peer.they_choke, peer.progress) == ("fake", False, False, 0.0)
        assert "complete | 1 peers" in repr(ours.swarm)

    scenario(play)
