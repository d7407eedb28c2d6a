"""A peer that a test plays by hand, over real TCP: it sends any bytes, reads frames, and serves data when told to.

It knows the wire only as bytes (BEP 3, 6, 10), so that it is a second opinion and can break every rule. Nothing waits
longer than ``PATIENCE``; what it waits for is always something the other side does.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

from unchoke.protocol import messages as m
from unchoke.protocol.handshake import Handshake, Reserved
from unchoke.protocol.messages import Kind
from unchoke.testing import Frame
from unchoke.types import Address, InfoHash, PeerId

#: Seconds after which a test counts as stuck.
PATIENCE = 20.0
PLAIN = Reserved(0)  # neither BEP 6 nor BEP 10
FAST = Reserved.FAST

_ids = itertools.count(1)
T = TypeVar("T")


def new_id() -> PeerId:
    return PeerId(b"-FK0001-%012d" % next(_ids))


async def soon(work: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await work


def frame(kind: int, body: bytes = b"") -> bytes:
    return struct.pack(">IB", 1 + len(body), kind) + body


def request(piece: int, begin: int, length: int) -> bytes:
    return m.encode_requests([(piece, begin, length)])


def block(piece: int, begin: int, data: bytes) -> bytes:
    return m.encode_piece_header(piece, begin, len(data)) + data


class FakePeer:
    """One conversation. ``handshake`` is the other side's, once it was read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.handshake: Handshake | None = None
        self.frames: list[Frame] = []  # all that came
        self.served: list[tuple[int, int, int]] = []

    @classmethod
    async def dial(
        cls,
        port: int,
        infohash: InfoHash | None,
        *,
        host: str = "127.0.0.2",
        reserved: Reserved = FAST,
        peer_id: PeerId | None = None,
    ) -> FakePeer:
        """Connect from ``host`` to a session on 127.0.0.1; with an infohash, shake hands too."""
        streams = await soon(asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0)))
        peer = cls(*streams)
        if infohash is not None:
            peer.send(Handshake(infohash, peer_id or new_id(), reserved).encode())
            await peer.read_handshake()
        return peer

    async def read_handshake(self) -> Handshake:
        data = await soon(self._reader.readexactly(68))
        reserved = Reserved(int.from_bytes(data[20:28], "big"))
        self.handshake = Handshake(InfoHash(data[28:48]), PeerId(data[48:68]), reserved)
        return self.handshake

    # what it says

    def send(self, *data: bytes) -> None:
        self._writer.write(b"".join(data))

    def answer(self, data: bytes, piece_length: int, asked: tuple[int, int, int]) -> None:
        """Give the block that was asked for, out of the torrent's whole ``data``."""
        piece, begin, length = asked
        start = piece * piece_length + begin
        self.served.append(asked)
        self.send(block(piece, begin, data[start : start + length]))

    async def serve(self, data: bytes, piece_length: int, most: int = 1 << 30) -> None:
        """Answer requests until ``most`` were answered, or the connection ends."""
        while len(self.served) < most and (got := await self.read()) is not None:
            if got.kind == Kind.REQUEST:
                self.answer(data, piece_length, got.block)

    # what it hears

    async def read(self) -> Frame | None:
        """The next message, keep-alives left out; None at the end."""
        while True:
            try:
                length = int.from_bytes(await soon(self._reader.readexactly(4)), "big")
                data = await soon(self._reader.readexactly(length))
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            if data:
                self.frames.append(Frame(data[0], data[1:]))
                return self.frames[-1]

    async def until(self, kind: int) -> Frame:
        """Skip to the next message of this kind."""
        while (got := await self.read()) is not None:
            if got.kind == kind:
                return got
        raise AssertionError(f"closed while waiting for {Kind(kind).name}; came: {self.frames[-8:]}")

    async def take(self, kind: int, count: int) -> list[Frame]:
        """The next ``count`` messages of this kind."""
        return [await self.until(kind) for _ in range(count)]

    async def ended(self) -> None:
        """Wait until the other side has closed."""
        while await self.read() is not None:
            pass

    async def close(self) -> None:
        self._writer.close()
        try:
            await soon(self._writer.wait_closed())
        except ConnectionError:
            pass  # it was reset, which is an end too

    async def __aenter__(self) -> FakePeer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class FakeListener:
    """Somebody that the session dials: ``accept`` gives the next conversation, hands shaken."""

    def __init__(
        self, infohash: InfoHash, *, host: str, reserved: Reserved = FAST, peer_id: PeerId | None = None
    ) -> None:
        self.infohash = infohash
        self.host = host
        self.reserved = reserved
        self.peer_id = peer_id or new_id()
        self.address = Address(host, 0)
        self.peers: list[FakePeer] = []
        self._came: asyncio.Queue[FakePeer] = asyncio.Queue()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> FakeListener:
        self._server = await asyncio.start_server(self._accepted, self.host, 0)
        self.address = Address(self.host, self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self.peers:
            await peer.close()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = FakePeer(reader, writer)
        self.peers.append(peer)
        self._came.put_nowait(peer)

    async def accept(self, *, shake: bool = True) -> FakePeer:
        peer = await soon(self._came.get())
        if shake:
            await peer.read_handshake()
            peer.send(Handshake(self.infohash, self.peer_id, self.reserved).encode())
        return peer

    @property
    def is_waiting(self) -> bool:
        """Nobody dialled since the last ``accept``."""
        return self._came.empty()


Behaviour = Callable[[FakePeer], Awaitable[None]]
