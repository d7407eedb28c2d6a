"""One DHT of libtorrent's nodes and ours, on loopback: each finds what the other announced, and reads what the other put."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha1
from pathlib import Path

import pytest

from fakes.dht import Follower, infohash
from interop.program import Program
from unchoke.engine.dht import Dht, signing
from unchoke.engine.net.udp import UdpEndpoint
from unchoke.engine.settings import DhtSettings
from unchoke.types import Address

pytest.importorskip("libtorrent")
pytestmark = [pytest.mark.interop, pytest.mark.long]

SCRIPT = Path(__file__).parent / "lt_dht.py"
THEIRS, OURS = infohash(1), infohash(2)
PREFIX, COUNT, PORT = "127.0.5", 9, 17_700
TCP = 4321
KEY = bytes(range(32))
PATIENCE = 30.0


@pytest.fixture
def theirs() -> Iterator[Program]:
    public = signing.public_key(KEY).hex()
    ours = sha1(b"5:hello").hexdigest()
    script = [sys.executable, "-W", "ignore", str(SCRIPT), PREFIX, str(COUNT), str(PORT)]
    does = ["--announce", f"{THEIRS}:5432", "--find", str(OURS), "--put", "from libtorrent"]
    program = Program([*script, *does, "--get", ours, "--get-key", public, "--salt", "s"], "libtorrent's DHT")
    yield program
    program.stop()


@asynccontextmanager
async def our_nodes(router: str, count: int = 3) -> AsyncIterator[list[Dht]]:
    made: list[tuple[Dht, UdpEndpoint]] = []
    for number in range(1, count + 1):
        endpoint = UdpEndpoint(bind=f"127.0.6.{number}")
        dht = Dht(endpoint, DhtSettings(routers=(router,)), port=lambda: TCP)
        dht.start()
        made.append((dht, endpoint))
    dhts = [dht for dht, _ in made]
    beat = asyncio.create_task(beats(dhts))
    try:
        yield dhts
    finally:
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)
        for dht, endpoint in made:
            await dht.aclose()
            await endpoint.aclose()


async def beats(dhts: list[Dht]) -> None:
    while True:
        for dht in dhts:
            dht.heartbeat(asyncio.get_running_loop().time())
        await asyncio.sleep(0.2)


async def until(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await ask():  # noqa: ASYNC110 - libtorrent does not say when it has announced
            await asyncio.sleep(0.2)


async def test_libtorrent_and_we_find_and_read_each_other(theirs: Program, no_leaks: None) -> None:
    router = (await asyncio.to_thread(theirs.wait_line, "^ready (.*)$", PATIENCE))[1]
    target = (await asyncio.to_thread(theirs.wait_line, "^put ([0-9a-f]{40})$"))[1]
    async with our_nodes(router) as (one, two, three), asyncio.timeout(2 * PATIENCE):
        for dht in (one, two, three):
            await dht.joined()

        one.follow(OURS, Follower())
        await asyncio.to_thread(theirs.wait_line, f"^found 127.0.6.1:{TCP}$", PATIENCE)

        async def they_are_found() -> bool:
            return Address(f"{PREFIX}.2", 5432) in await two.get_peers(THEIRS)

        await until(they_are_found)
        follower = Follower()
        three.follow(THEIRS, follower)
        await follower.event.wait()
        assert Address(f"{PREFIX}.2", 5432) in follower.found

        async def their_item_is_read() -> bool:
            item = await two.get(bytes.fromhex(target))
            return item is not None and item.value == b"15:from libtorrent"

        await until(their_item_is_read)
        assert (await one.put(b"hello")).stored >= 4
        await asyncio.to_thread(theirs.wait_line, "^got hello$", PATIENCE)
        assert (await one.put(b"signed", key=KEY, seq=7, salt=b"s")).stored >= 4
        await asyncio.to_thread(theirs.wait_line, "^got-signed 7 signed$", PATIENCE)
        read = await three.get(key=signing.public_key(KEY), salt=b"s")
        assert read is not None
        assert (read.value, read.seq) == (b"6:signed", 7)
        counted = await three.scrape(THEIRS)
        assert counted.leechers
        assert counted.leechers >= 1
