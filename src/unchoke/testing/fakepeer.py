"""FakePeer: a peer that a script plays by hand, over simulated streams: any bytes, right or wrong, at any speed.

It knows the wire as bytes (BEP 3, 6, 10) and nothing of the engine, so it is a second opinion and can break every rule.
``FakeServer`` listens, and plays one behaviour with everybody who dials it: ``seeding`` gives, rightly, wrongly or slowly.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import NamedTuple

from unchoke.engine.tasks import Tasks
from unchoke.errors import NetworkError
from unchoke.protocol import messages as m
from unchoke.protocol.handshake import HANDSHAKE_LENGTH, Handshake, Reserved
from unchoke.protocol.messages import Kind
from unchoke.testing.network import SimHost
from unchoke.testing.torrents import TinyTorrent
from unchoke.types import Address, InfoHash, PeerId

#: Messages that ``FakePeer.frames`` remembers.
MOST_FRAMES = 1000


class Frame(NamedTuple):
    """One message as it came. ``kind`` None: a keep-alive."""

    kind: int | None
    body: bytes = b""

    @property
    def block(self) -> tuple[int, int, int]:
        """Piece, begin and length of a request, cancel, reject or piece message."""
        if self.kind == Kind.PIECE:
            piece, begin = struct.unpack_from(">II", self.body)
            return piece, begin, len(self.body) - 8
        piece, begin, length = struct.unpack(">III", self.body)
        return piece, begin, length

    @property
    def number(self) -> int:
        """The number that a have, suggest or allowed-fast message carries."""
        return int.from_bytes(self.body[:4], "big")


class FakePeer:
    """One conversation. ``handshake``: theirs, once it was read; ``frames``: their last messages; ``served``: blocks given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.handshake: Handshake | None = None
        self.frames: deque[Frame] = deque(maxlen=MOST_FRAMES)
        self.served: list[tuple[int, int, int]] = []
        self.address = Address(*writer.get_extra_info("peername"))

    @classmethod
    async def dial(
        cls, host: SimHost, address: Address, infohash: InfoHash, *, peer_id: bytes = b"", reserved: int = Reserved.FAST
    ) -> FakePeer:
        """Connect from ``host`` and shake hands. Raises NetworkError, also when they hang up instead."""
        peer = cls(*await host.open_connection(address))
        peer.shake(infohash, peer_id or _id_of(host), reserved)
        if await peer.read_handshake() is None:
            await peer.close()
            raise NetworkError(f"{address} hung up before its handshake")
        return peer

    # ------------------------------------------------------------------ what it says

    def send(self, *data: bytes) -> None:
        """Any bytes."""
        self._writer.write(b"".join(data))

    def shake(self, infohash: InfoHash, peer_id: bytes, reserved: int = Reserved.FAST) -> None:
        self.send(Handshake(infohash, PeerId(peer_id), Reserved(reserved)).encode())

    def say(self, kind: int, body: bytes = b"") -> None:
        """One message."""
        self.send(struct.pack(">IB", 1 + len(body), kind), body)

    def request(self, piece: int, begin: int, length: int) -> None:
        self.say(Kind.REQUEST, struct.pack(">III", piece, begin, length))

    def give(self, piece: int, begin: int, data: bytes) -> None:
        """A block."""
        self.served.append((piece, begin, len(data)))
        self.send(m.encode_piece_header(piece, begin, len(data)), data)

    async def drain(self) -> None:
        """Wait until the line has taken most of what was said. Raises ConnectionError."""
        await self._writer.drain()

    # ------------------------------------------------------------------ what it hears

    async def read_handshake(self) -> Handshake | None:
        """None: they hung up."""
        try:
            data = await self._reader.readexactly(HANDSHAKE_LENGTH)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        reserved = Reserved(int.from_bytes(data[20:28], "big"))
        self.handshake = Handshake(InfoHash(data[28:48]), PeerId(data[48:68]), reserved)
        return self.handshake

    async def read(self) -> Frame | None:
        """Their next message, keep-alives left out; None at the end."""
        while True:
            try:
                length = int.from_bytes(await self._reader.readexactly(4), "big")
                data = await self._reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            if data:
                self.frames.append(Frame(data[0], data[1:]))
                return self.frames[-1]

    async def until(self, kind: int) -> Frame:
        """Their next message of this kind, others passed over. Raises ConnectionError at the end."""
        while (frame := await self.read()) is not None:
            if frame.kind == kind:
                return frame
        raise ConnectionError(f"they hung up before a message of kind {kind}; the last were {list(self.frames)[-5:]}")

    async def ended(self) -> None:
        """Wait until they hang up."""
        while await self.read() is not None:
            pass

    async def close(self) -> None:
        """Hang up. Safe to call twice."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            pass  # they were faster

    async def __aenter__(self) -> FakePeer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<FakePeer with {self.address} [{len(self.frames)} messages heard | {len(self.served)} blocks given]>"


#: Plays one conversation, from after the handshakes to its end.
Behaviour = Callable[[FakePeer], Awaitable[None]]
#: What is sent in place of a block: piece, begin and the right bytes in, the bytes to send out; None: no answer.
Alter = Callable[[int, int, bytes], "bytes | None"]


def seeding(
    torrent: TinyTorrent, *, alter: Alter | None = None, delay: float = 0.0, most: int | None = None
) -> Behaviour:
    """Has everything, unchokes, and answers requests: after ``delay`` seconds each, with what ``alter`` makes of it, and
    with silence after ``most`` blocks."""

    async def play(peer: FakePeer) -> None:
        peer.say(Kind.HAVE_ALL)
        peer.say(Kind.UNCHOKE)
        while (frame := await peer.read()) is not None:
            if frame.kind != Kind.REQUEST or (most is not None and len(peer.served) >= most):
                continue
            if delay:
                await asyncio.sleep(delay)
            piece, begin, length = frame.block
            data: bytes | None = torrent.block(piece, begin, length)
            if alter is not None and data is not None:
                data = alter(piece, begin, data)
            if data is not None:
                peer.give(piece, begin, data)
                await peer.drain()

    return play


def wrong(piece: int, begin: int, data: bytes) -> bytes:
    """For ``seeding(alter=...)``: a block with its first byte changed."""
    return bytes([data[0] ^ 0xFF]) + data[1:] if data else data


class FakeServer:
    """Listens at ``host`` and plays ``behaviour`` with everybody who dials it for ``torrent``; ``async with`` opens and ends it."""

    def __init__(
        self,
        host: SimHost,
        torrent: TinyTorrent,
        behaviour: Behaviour,
        *,
        peer_id: bytes = b"",
        reserved: int = Reserved.FAST,
    ) -> None:
        self.host = host
        self.torrent = torrent
        self.behaviour = behaviour
        self.peer_id = PeerId(peer_id or _id_of(host))
        self.reserved = reserved
        self.peers: list[FakePeer] = []
        self.address = Address(host.address, 0)
        self._tasks = Tasks(f"fake peer {host.address}")

    async def __aenter__(self) -> FakeServer:
        self.address = Address(self.host.address, await self.host.start_server(self._accepted))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.host.aclose()
        await self._tasks.aclose()
        for peer in self.peers:
            await peer.close()

    async def dial(self, address: Address) -> None:
        """Begin a conversation ourselves, and play the same behaviour in it. Raises NetworkError."""
        peer = await FakePeer.dial(
            self.host, address, self.torrent.infohash, peer_id=self.peer_id, reserved=self.reserved
        )
        self.peers.append(peer)
        self._tasks.spawn(self._play(peer), f"with {address}")

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = FakePeer(reader, writer)
        self.peers.append(peer)
        self._tasks.spawn(self._answer(peer), f"with {peer.address}")

    async def _answer(self, peer: FakePeer) -> None:
        handshake = await peer.read_handshake()
        if handshake is not None:
            peer.shake(handshake.infohash, self.peer_id, self.reserved)
            await self._play(peer)

    async def _play(self, peer: FakePeer) -> None:
        try:
            await self.behaviour(peer)
        except ConnectionError:
            pass  # they hung up in the middle of it, which is how most conversations end
        finally:
            await peer.close()

    def __repr__(self) -> str:
        return f"<FakeServer {self.address} [{len(self.peers)} conversations]>"


def _id_of(host: SimHost) -> bytes:
    """A peer id that says which host it is."""
    return f"-FK0001-{host.address[-12:]:>12}".encode()
