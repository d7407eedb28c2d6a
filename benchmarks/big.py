"""Torrents that are large in some way: ``python -m benchmarks big``. Does the loop ever stand still?

*size*: as many bytes as the disk allows, in sparse files. *pieces*: 500,000 of them. *files*: 100,000 of them. Everything that
happens to a torrent happens to each, one thing after the other, while a heartbeat of five milliseconds looks how late the
loop is. What is downloaded is ones, from a process that needs no disk for them; what is there at the start is one big hole.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bitarray import bitarray

from benchmarks.contenders import PYTHON
from benchmarks.heartbeat import Heartbeat
from benchmarks.measure import BenchError
from interop.program import Program
from unchoke.app.cli.running import run_async
from unchoke.engine.session import Session
from unchoke.engine.settings import NetworkSettings, Settings
from unchoke.engine.torrent import Torrent
from unchoke.policy.bandwidth import BandwidthSettings
from unchoke.protocol.bencode import Encodable, encode
from unchoke.protocol.handshake import Handshake
from unchoke.protocol.messages import Kind
from unchoke.types import Address, PeerId

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
#: Bytes/s of the downloads: what is measured is the loop, and zeros that came take room.
DOWN = 40 * MIB
PEERS = 20
PORT = 51999  # of the seeder
NETWORK = NetworkSettings(bind="127.0.0.1", discovery=False, max_connections_per_host=4 * PEERS)
SETTINGS = Settings(network=NETWORK, bandwidth=BandwidthSettings(down=DOWN))

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """A torrent of ones: ``files`` of ``size`` bytes."""

    name: str
    files: int
    size: int
    piece: int

    @property
    def total(self) -> int:
        return self.files * self.size

    @property
    def pieces(self) -> int:
        return -(-self.total // self.piece)

    def make(self, folder: Path) -> Path:
        """The .torrent file."""
        whole = hashlib.sha1(b"\x01" * self.piece).digest()
        hashes = whole * (self.total // self.piece)
        if rest := self.total % self.piece:
            hashes += hashlib.sha1(b"\x01" * rest).digest()
        info: dict[bytes, Encodable] = {b"name": self.name.encode(), b"piece length": self.piece, b"pieces": hashes}
        if self.files == 1:
            info[b"length"] = self.size
        else:
            paths = [[b"%03d" % (number // 1000), b"%06d" % number] for number in range(self.files)]
            info[b"files"] = [{b"length": self.size, b"path": path} for path in paths]
        torrent = folder / f"{self.name}.torrent"
        torrent.write_bytes(encode({b"info": info}))
        return torrent


def _hole(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def cases(folder: Path) -> list[Case]:
    room = shutil.disk_usage(folder).free
    return [
        Case("size", 1, (room - room // 10) // (4 * MIB) * (4 * MIB), 4 * MIB),
        Case("pieces", 1, 500_000 * 16 * KIB, 16 * KIB),
        Case("files", 100_000, 3000, 16 * KIB),
    ]


class Steps:
    """What was done, how long it took, and how late the loop was meanwhile."""

    def __init__(self, case: Case, heartbeat: Heartbeat, say: Progress) -> None:
        self.rows: list[str] = []
        self.worst: list[tuple[float, str]] = []
        self._case = case
        self._heartbeat = heartbeat
        self._say = say

    async def do(self, what: str, work: Awaitable[object], most: float = 0.0) -> None:
        """``most``: seconds it may take."""
        self._heartbeat.forget()
        began = time.perf_counter()
        await work
        took = time.perf_counter() - began
        await asyncio.sleep(0.02)  # what it left to the loop
        late = self._heartbeat.worst()
        self.worst += [(seconds, what) for seconds in late]
        verdict = "  TOO LATE" if late[0] > 0.05 else ""
        verdict += "  TOO LONG" if most and took > most else ""
        row = f"{self._case.name:<8}{what:<40}{took:9.2f} s{late[0] * 1e3:9.1f} ms{verdict}"
        self._say(row)
        self.rows.append(row)

    def table(self) -> str:
        worst = ", ".join(f"{late * 1e3:.1f} ({what})" for late, what in sorted(self.worst, reverse=True)[:10])
        return "\n".join([*self.rows, f"the worst ten, in ms: {worst}", ""])


def big(say: Progress, only: frozenset[str] = frozenset()) -> list[str]:
    """A table for each case."""
    found = []
    folder = Path(tempfile.mkdtemp(prefix="unchoke-big-"))
    try:
        for case in cases(folder):
            if only and case.name not in only:
                continue
            here = folder / case.name
            here.mkdir()
            torrent = case.make(here)
            say(f"{case.name}: {case.total / GIB:,.1f} GiB, {case.pieces:,} pieces, {case.files:,} files")
            with _seeder(torrent) as seeder:
                found.append(run_async(_case(case, torrent, here, seeder, say)))
            shutil.rmtree(here)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


@contextmanager
def _seeder(torrent: Path) -> Iterator[Address]:
    here = Path(__file__).resolve().parent.parent
    program = Program([PYTHON, "-m", "benchmarks.ones", str(torrent), str(PORT)], "seeder", cwd=here)
    try:
        program.wait_line("^seeding$", 120)
        yield Address("127.0.0.1", PORT)
    finally:
        program.stop()


# ---------------------------------------------------------------------- what happens to each


async def _case(case: Case, source: Path, folder: Path, seeder: Address, say: Progress) -> str:
    state, out = folder / "state" / "session.sqlite", folder / "out"
    out.mkdir()
    _hole_of(case, out)  # begun, and nothing in it: its check is all holes
    async with Heartbeat() as heartbeat:
        steps = Steps(case, heartbeat, say)
        session = Session(SETTINGS, state=state)
        await steps.do("open", session.__aenter__())
        try:
            await _first_run(case, steps, session, source, out, seeder)
        finally:
            await steps.do("leave", session.aclose())
        session = Session(SETTINGS, state=state)
        await steps.do("open with records", session.__aenter__(), 3.0)
        try:
            (torrent,) = session.torrents.values()
            await steps.do("restart from the record", running(torrent))
            torrent.add_peers([seeder])
            await steps.do("go on downloading", progress(torrent))
            await steps.do("verify all", verified(torrent))
            await steps.do("remove with data", session.remove(torrent, data=True))
        finally:
            await steps.do("leave", session.aclose())
    if list(out.iterdir()):
        raise BenchError(f"left in {out}: {list(out.iterdir())[:3]}")
    return steps.table()


def _hole_of(case: Case, out: Path) -> None:
    if case.files == 1:
        _hole(out / case.name, case.size)


async def _first_run(case: Case, steps: Steps, session: Session, source: Path, out: Path, seeder: Address) -> None:
    few = frozenset(range(min(10, case.files)))
    added = asyncio.get_running_loop().create_task(session.add(source, folder=out, files=few))
    await steps.do("add", added, 2.0)
    torrent = added.result()
    await steps.do("look at the sparse file, join", running(torrent))
    async with crowd(torrent, case) as come:
        await steps.do(f"{2 * PEERS} peers with bitfields", come(session.port()))
        torrent.add_peers([seeder])
        await steps.do("download", progress(torrent))
        await steps.do("select all files", torrent.select(None))
        await steps.do("go on", progress(torrent))
        every_other = range(0, case.files, 2)
        await steps.do("select every other file", torrent.select(every_other, low=range(0, case.files, 4)))
        await steps.do("select all files again", torrent.select(None, high=every_other))
        await steps.do("snapshot, progress of files, path", look(session, torrent))
    await steps.do("stop", torrent.stop())
    await steps.do("start", started(torrent))
    torrent.add_peers([seeder])
    await steps.do("download more", progress(torrent))


async def running(torrent: Torrent) -> None:
    async with asyncio.timeout(300):
        while torrent.swarm is None:
            if torrent.error is not None:
                raise BenchError(str(torrent.error))
            await asyncio.sleep(0.01)


async def started(torrent: Torrent) -> None:
    await torrent.start()
    await running(torrent)


async def verified(torrent: Torrent) -> None:
    await torrent.verify()
    await running(torrent)


async def progress(torrent: Torrent) -> None:
    """Two seconds of download, or all there is to get; something must have come."""
    before = torrent.snapshot().downloaded
    deadline = time.monotonic() + 30
    while torrent.snapshot().downloaded == before and torrent.state == "downloading":
        if time.monotonic() > deadline:
            raise BenchError(f"nothing comes: {torrent.snapshot().why()}")
        await asyncio.sleep(0.05)
    await asyncio.sleep(2.0)


async def look(session: Session, torrent: Torrent) -> None:
    """What a front end asks for."""
    for call in (session.snapshot, torrent.file_progress, lambda: torrent.path):
        call()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def crowd(torrent: Torrent, case: Case) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Peers with all pieces, and with a random half of them, that let nobody have any; they come when they are called."""
    rng = random.Random(1)
    writers: list[asyncio.StreamWriter] = []
    hellos: list[bytes] = []
    for number in range(2 * PEERS):
        bits = bitarray(endian="big")
        bits.frombytes(rng.randbytes(case.pieces // 8 + 1))
        del bits[case.pieces :]
        if number % 2:
            bits.setall(1)
        body = bytes([Kind.BITFIELD]) + bits.tobytes()
        peer_id = PeerId(b"-XX0001-%012d" % number)
        hellos.append(Handshake(torrent.infohash, peer_id).encode() + len(body).to_bytes(4, "big") + body)

    async def come(port: int) -> None:
        for hello in hellos:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
            writer.write(hello)
        async with asyncio.timeout(60):
            while torrent.swarm is None or len(torrent.swarm.peers) < len(hellos):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)

    try:
        yield come
    finally:
        for writer in writers:
            writer.close()


if __name__ == "__main__":
    for text in big(lambda line: print(line, file=sys.stderr, flush=True), frozenset(sys.argv[1:])):
        print(text)
