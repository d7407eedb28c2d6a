"""A user without a plan: calls of the library in any order, all at once and cancelled at any point, and what holds nevertheless.

A torrent that shall run runs, whoever waits hears of the end, nothing but documented errors is raised, and in the end all
data is there, recorded, and nobody is left. A seed that fails is replayed by itself.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from unchoke.engine.resume import MemoryStore
from unchoke.engine.session import Session
from unchoke.engine.settings import DiskSettings, NetworkSettings, Settings
from unchoke.engine.torrent import Torrent
from unchoke.errors import UnchokeError
from unchoke.policy.queue import QueueSettings
from unchoke.protocol.magnet import Magnet
from unchoke.testing import InlineExecutor, RamDisk, SimNetwork, SlowExecutor, TinyTorrent, make_torrent, run
from unchoke.types import Address

#: Virtual seconds after which a torrent that shall run, and can, has everything.
PATIENCE = 300.0
#: States from which a torrent that shall run goes nowhere by itself.
HALTED = ("error", "no space")


class User:
    """Gives orders to one session, all of them drawn from ``rng``."""

    def __init__(
        self, session: Session, what: TinyTorrent, folder: Path, giver: Address, rng: Random, *, link: bool = False
    ) -> None:
        self.session = session
        self.what = what
        self.link = link  # only magnet links are given
        self.folder = folder
        self.giver = giver
        self.rng = rng
        self.orders = ("start", "stop", "verify", "select", "select", "limit", "peers", "remove", "add", "add", "queue")

    async def add(self) -> Torrent:
        metainfo = self.what.metainfo
        source = Magnet(infohash_v1=metainfo.infohash_v1) if self.link else metainfo
        return await self.session.add(source, folder=self.folder, peers=[self.giver], overwrite=True)

    async def order(self, name: str, torrent: Torrent) -> None:
        rng, files = self.rng, range(len(self.what.metainfo.layout.files))
        match name:
            case "select":
                await torrent.select([file for file in files if rng.random() < 0.5] or None, high=[rng.choice(files)])
            case "limit":
                torrent.limit(down=rng.choice((0, 50_000)), up=rng.choice((0, 1000)))
            case "peers":
                torrent.add_peers([self.giver])
            case "remove":
                await self.session.remove(torrent, data=rng.random() < 0.5)
            case "add":
                await self.add()
            case "queue":
                if not self.session.settings.queue.is_unlimited:
                    await torrent.queue()
                    self.session.rearrange()
            case _:
                await {"start": torrent.start, "stop": torrent.stop, "verify": torrent.verify, "done": torrent.done}[
                    name
                ]()
        torrent.snapshot().why()

    async def obey(self, name: str) -> None:
        """One order; half of them are cancelled, after some turns of the loop or some time."""
        torrent = self.session.torrents.get(self.what.metainfo.infohash)
        task = asyncio.ensure_future(self.order(name, torrent) if torrent is not None else self.add())
        if self.rng.random() < 0.5:
            for _ in range(self.rng.randint(0, 40)):
                await asyncio.sleep(0)
            await asyncio.sleep(self.rng.choice((0.0, 0.001, 0.03, 0.5)))
            task.cancel()
        with suppress(UnchokeError, asyncio.CancelledError):
            await task

    async def play(self) -> None:
        acts, waits = [], []
        for _ in range(self.rng.randint(3, 14)):
            acts.append(asyncio.ensure_future(self.obey(self.rng.choice(self.orders))))
            waits.append(asyncio.ensure_future(self.obey("done")))
            await asyncio.sleep(self.rng.choice((0.0, 0.005, 0.1, 1.0, 3.0)))
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*acts)
        torrent = await self.add()
        torrent.limit(down=0, up=0)
        async with asyncio.timeout(PATIENCE):
            while torrent.running and torrent.state not in ("seeding", *HALTED):  # noqa: ASYNC110
                await asyncio.sleep(1.0)
            while torrent.state != "seeding" or torrent.options.files is not None:
                with suppress(UnchokeError):
                    await torrent.select(None)
                    await torrent.start()
                    await torrent.done()
                await asyncio.sleep(1.0)
            await asyncio.gather(*waits)


def settings_of(rng: Random, root: Path) -> Settings:
    disk = DiskSettings(
        threads=1,
        check_threads=1,
        write_buffer=rng.choice((32 << 10, 1 << 20)),
        incomplete_suffix=rng.choice(("", ".part")),
        incomplete_dir=str(root / "incoming") if rng.random() < 0.3 else "",
    )
    queue = QueueSettings(active_downloads=1, active_seeds=1) if rng.random() < 0.3 else QueueSettings()
    return Settings(network=NetworkSettings(discovery=False), disk=disk, queue=queue)


def draw_torrent(rng: Random) -> TinyTorrent:
    files = {f"{number}.bin": rng.randint(1, 60_000) for number in range(rng.randint(1, 5))}
    return make_torrent(files=files, piece_length=32 << 10, seed=rng.getrandbits(32), name="set")


async def scenario(seed: int, what: TinyTorrent, root: Path, *, link: bool = False) -> None:
    rng = Random(seed)
    network, store = SimNetwork(latency=0.01, rng=Random(seed)), MemoryStore()
    giver = Session(
        Settings(network=NetworkSettings(discovery=False), disk=DiskSettings(threads=1, check_threads=1)),
        network=network.host("10.0.0.1", up=rng.choice((20_000, 200_000))),
        rng=Random(seed),
        executor=InlineExecutor(),
        storage=RamDisk(what.data).open,
        secret=Random(1).getrandbits,
    )
    taker = Session(
        settings_of(rng, root),
        network=network.host("10.0.0.2"),
        rng=Random(seed),
        executor=SlowExecutor(rng.choice((0.001, 0.01, 0.05)), threads=rng.choice((1, 2))),
        state=store,
        secret=Random(2).getrandbits,
    )
    async with giver, taker:
        await giver.add(what.metainfo, folder="/", trust=True)
        address = Address("10.0.0.1", giver.port())
        user = User(taker, what, root / "data", address, rng, link=link)
        await user.play()
        (torrent,) = taker.torrents.values()
        key = torrent.key
    row = store.load(key)
    assert row is not None
    assert (row.open.any(), row.have.all(), row.durable.all()) == (False, True, True)
    assert asyncio.all_tasks() == {asyncio.current_task()}


#: Those that the fast suite plays too.
FAST = range(30)
SEEDS = [pytest.param(seed, marks=[pytest.mark.long] if seed not in FAST else []) for seed in range(400)]


@pytest.mark.parametrize("seed", SEEDS)
def test_any_order_of_calls(seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    played(seed, tmp_path, caplog)


@pytest.mark.parametrize("seed", SEEDS[10:150])
def test_any_order_of_calls_with_a_magnet_link(seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    played(seed, tmp_path, caplog, link=True)


def played(seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, link: bool = False) -> None:
    what = draw_torrent(Random(seed))
    run(lambda: scenario(seed, what, tmp_path, link=link), seed=seed, limit=20_000.0)
    found = {
        str(path.relative_to(tmp_path / "data")): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert found == what.files()
    bugs = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert not bugs
