"""What a received block costs above the kernel: ``python -m benchmarks.receive``. docs/decisions/0002 has the figures.

First the framer alone, in the shape we have (runs of borrowed views) and in three that we do not; then the whole way through
the real objects: peer, wire, swarm, picker, disk buffer. No socket; hashing and writing happen outside the clock. Microseconds
a block of 16 KiB, the median of several rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha1
from random import Random
from struct import Struct
from typing import Any, cast

from unchoke.engine.disk import Disk
from unchoke.engine.events import Event
from unchoke.engine.net.transport import ReceiveBuffer
from unchoke.engine.peer import Peer
from unchoke.engine.settings import DiskSettings, Settings
from unchoke.engine.swarm import Swarm
from unchoke.errors import StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.policy.bandwidth import TokenBucket
from unchoke.policy.picker import PiecePicker
from unchoke.protocol import messages as m
from unchoke.protocol.handshake import Handshake
from unchoke.protocol.wire import PeerWire
from unchoke.storage.memory import MemoryStorage
from unchoke.types import BLOCK_SIZE, Address, Block, InfoHash, PeerId

ROUNDS = 7
BUFFER = 64 * 1024
PIECE = 1024 * 1024
PIECES = 64
HASH, THEM, US = InfoHash(bytes(20)), PeerId(b"-XX0000-" + bytes(12)), PeerId(b"-UK0000-" + bytes(12))

_HEAD = Struct(">IBII").unpack_from


@dataclass(frozen=True, slots=True)
class Frozen:
    piece: int
    begin: int
    payload: memoryview | bytes


class Slots:
    __slots__ = ("begin", "payload", "piece")

    def __init__(self, piece: int, begin: int, payload: memoryview) -> None:
        self.piece, self.begin, self.payload = piece, begin, payload


def cut(data: memoryview, make: Callable[[int, int, memoryview], object]) -> Iterator[object]:
    position = 0
    while len(data) - position >= 13:
        length, _kind, piece, begin = _HEAD(data, position)
        stop = position + 4 + length
        yield make(piece, begin, data[position + 13 : stop])
        position = stop


def framers(data: memoryview) -> dict[str, Callable[[], object]]:
    """One wake-up's bytes, cut: ours is the whole of ``PeerWire.receive``, the others are without its checks."""
    wire = ready_wire()
    return {
        "runs of views (ours)": lambda: wire.receive(data),
        "a record with slots each": lambda: list(cut(data, Slots)),
        "a frozen dataclass each": lambda: list(cut(data, Frozen)),
        "a frozen dataclass, payload copied": lambda: list(cut(data, lambda p, b, view: Frozen(p, b, bytes(view)))),
    }


def ready_wire() -> PeerWire:
    wire = PeerWire()
    wire.receive(memoryview(Handshake(HASH, THEM).encode()))
    wire.begin(layout())
    return wire


def layout() -> TorrentLayout:
    return TorrentLayout(PIECE, [FileEntry((), PIECES * PIECE)])


def message(block: Block) -> bytes:
    piece, begin, length = block
    return m.encode_piece_header(piece, begin, length) + bytes(length)


def framing(name: str) -> float:
    """Seconds a block."""
    blocks = [Block(1, number * BLOCK_SIZE, BLOCK_SIZE) for number in range(4)]
    work, times = framers(memoryview(b"".join(map(message, blocks))))[name], 5_000
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times / len(blocks)


class Line:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()

    def set_write_buffer_limits(self, high: int, low: int) -> None: ...

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 6881) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, data: list[bytes]) -> None:
        self.written += b"".join(data)

    def abort(self) -> None: ...


class Later:
    """An executor whose jobs run when told, outside the clock."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], object]] = []

    def submit(self, job: Callable[[], object], /) -> object:
        self.jobs.append(job)
        return None

    def shutdown(self, wait: bool = True) -> None: ...

    async def run(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()
            await asyncio.sleep(0)


class Nobody:
    """The swarm's owner, and the peer's before the handshake."""

    def publish(self, event: Event) -> None: ...
    def piece_completed(self, piece: int) -> None: ...
    def download_completed(self) -> None: ...
    def peers_needed(self) -> None: ...
    def node_found(self, address: Address) -> None: ...
    def seen_as(self, address: str, voter: str) -> None: ...
    def peers_changed(self, change: int) -> None: ...
    def peer_connected(self, peer: Peer) -> None: ...
    def peer_rests(self, peer: Peer) -> None: ...

    def storage_failed(self, error: StorageError) -> None:
        raise error

    def peer_shook_hands(self, peer: Peer, handshake: Handshake) -> None:
        pass


async def path() -> float:
    """Seconds a block, from the filled receive buffer to the requests that its wake-up wrote."""
    loop, settings, later = asyncio.get_running_loop(), Settings(), Later()
    shape, rng, free = layout(), Random(1), TokenBucket(0)
    hashes = sha1(bytes(PIECE), usedforsecurity=False).digest() * PIECES
    disk = Disk(DiskSettings(), executor=cast(Any, later))
    swarm = Swarm(
        Nobody(), shape, HASH, US, disk.torrent(MemoryStorage(shape), shape, hashes), PiecePicker(shape, rng), settings, rng,
        down=free, up=free, clock=loop.time, port=lambda: 0, call_later=loop.call_later,
    )  # fmt: skip
    line, nobody = Line(), cast(Any, Nobody())
    peer = Peer(nobody, ReceiveBuffer(BUFFER, shared=True), dialed=Address("127.0.0.1", 6881), max_message=1 << 20)
    peer.connection_made(cast(Any, line))

    def hear(data: bytes) -> float:
        peer.get_buffer(-1)[: len(data)] = data
        began = time.perf_counter()
        peer.buffer_updated(len(data))
        return time.perf_counter() - began

    hear(Handshake(HASH, THEM).encode())
    swarm.dialing += 1
    swarm.add(peer)
    hear(m.HAVE_ALL + m.UNCHOKE)
    line.written.clear()
    stream, spent = bytearray(b"".join(map(message, outstanding(peer)))), 0.0
    while stream:
        spent += hear(bytes(stream[:BUFFER]))
        del stream[:BUFFER]
        stream += b"".join(map(message, asked(line)))
        await later.run()
    assert swarm.picker.is_done, swarm
    peer.close("done")
    await disk.aclose()
    return spent / (PIECES * PIECE // BLOCK_SIZE)


def outstanding(peer: Peer) -> list[Block]:
    return [Block(piece, begin, length) for (piece, begin), length in peer.download.outstanding.items()]


def asked(line: Line) -> list[Block]:
    """The requests written since the last look."""
    wire = ready_wire()
    items = wire.receive(memoryview(bytes(line.written)))
    line.written.clear()
    return [block for item in items if isinstance(item, m.Requests) for block in item]


def main() -> None:
    print("framing, four blocks a wake-up; in µs a block")
    for name in framers(memoryview(b"")):
        print(f"{statistics.median(framing(name) for _ in range(ROUNDS)) * 1e6:8.2f}  {name}")
    whole = statistics.median(asyncio.run(path()) for _ in range(ROUNDS))
    print(f"\nthe whole way, {PIECES * PIECE >> 20} MiB from one seed, 64 KiB a wake-up; in µs a block")
    print(f"{whole * 1e6:8.2f}  peer, wire, swarm, picker, copy, requests")


if __name__ == "__main__":
    main()
