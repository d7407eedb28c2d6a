"""Swarms in which machines are killed, lose power, fill up and refuse to read or write, from two hundred seeds.

Each seed draws a torrent, settings and what happens to whom; at the end the trouble is over and everybody has everything. What is
promised all the while stands in ``fakes.machine``. A seed that fails is replayed by

    python -m pytest -m "" "tests/sim/test_fault_seeds.py::test_fault_seeds[7]"
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from bitarray.util import ones

from fakes.calamity import WatchedStore, World
from fakes.drives import WatchedOs, watching
from fakes.machine import Machine
from unchoke.engine.life import Life
from unchoke.engine.settings import DiskSettings, NetworkSettings, Settings
from unchoke.errors import GoneError, UnchokeError
from unchoke.testing import (
    FakeServer,
    SimNetwork,
    SlowExecutor,
    TinyTorrent,
    elapsed,
    make_torrent,
    run,
    seeding,
    wrong,
)
from unchoke.testing.clock import virtual_loop

#: Virtual seconds until everybody must have everything, after the trouble is over.
PATIENCE = 1800.0


def draw_torrent(rng: Random) -> TinyTorrent:
    length = rng.choice((16, 32, 64)) << 10
    size = rng.randint(8, 40 if length < 65536 else 24) * length - rng.choice((0, 1, length // 2))
    if rng.random() < 0.3:
        return make_torrent(size, piece_length=length, seed=rng.getrandbits(32), name="one.bin")
    cuts = sorted(rng.randint(0, size) for _ in range(rng.randint(1, 6)))
    ends = [*cuts, size]
    files = {
        f"{'deep/' * rng.randint(0, 1)}{index}.bin": end - start
        for index, (start, end) in enumerate(zip([0, *cuts], ends, strict=True))
    }
    return make_torrent(files=files, piece_length=length, seed=rng.getrandbits(32), name="set")


def draw_settings(rng: Random, root: Path) -> Settings:
    disk = DiskSettings(
        write_buffer=rng.choice((32 << 10, 128 << 10, 16 << 20)),
        threads=rng.choice((1, 2)),
        check_threads=1,
        open_files=rng.choice((1, 3, 128)),
        preallocate=rng.choice(("off", "sparse", "full")),
        incomplete_dir=str(root.resolve() / "incoming") if rng.random() < 0.3 else "",
        incomplete_suffix=rng.choice(("", ".part")),
        sync_interval=rng.choice((1.0, 4.0, 30.0)),
        look_interval=rng.choice((2.0, 15.0)),
    )
    return Settings(disk=disk, network=NetworkSettings(discovery=False))


def _scribble(path: str, rng: Random) -> None:
    with open(path, "r+b") as file:
        file.seek(rng.randint(0, os.path.getsize(path)) // 2)
        file.write(b"not ours")
    os.utime(path, ns=(1, rng.getrandbits(40)))


class Trouble:
    """What happens to one machine, and how it comes back."""

    def __init__(self, machine: Machine, rng: Random) -> None:
        self.machine = machine
        self.rng = rng
        self.files = len(machine.world.truth.layout.files)
        self.kinds: list[Callable[[], Awaitable[None]]] = [
            self.crash,
            self.crash,
            self.crash_at_some_change,
            self.crash_at_some_change,
            self.crash_while_stopping,
            self.crash_while_checking,
            self.full,
            self.refuse_one,
            self.refuse_records,
            self.stop_and_start,
            self.verify,
            self.select,
            self.select,
            self.remove_and_add,
            self.tamper,
            self.lose_a_file,
            self.away,
            self.vanish,
        ]

    async def all(self) -> None:
        for _ in range(self.rng.randint(1, 5)):
            await self.sleep(self.rng.uniform(0.1, 5.0))
            kind = self.rng.choice(self.kinds)
            self.machine.world.note(self.machine.name, f"--> {kind.__name__}")
            try:
                await kind()
            except UnchokeError as error:
                self.machine.world.note(self.machine.name, f"    {error}")
            await self.revive()

    async def sleep(self, seconds: float) -> None:
        """Unless it dies meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self.machine.down.wait()
        except TimeoutError:
            pass
        await self.revive()

    async def revive(self) -> None:
        """If it has died: a power cut or a kill, and it is started again (and may die in that)."""
        machine = self.machine
        while machine.drive.dead or machine.session is None:
            if machine.drive.dead:
                await machine.wreck(power=self.power)
                if self.rng.random() < 0.2:
                    machine.drive.crash_at = machine.drive.changes + self.rng.randint(1, 12)
            try:
                await machine.start()
            except UnchokeError as error:
                machine.world.note(machine.name, f"    {error}")

    @property
    def power(self) -> bool:
        return not self.machine.store.shared and self.rng.random() < 0.6

    def die_soon(self, most: int) -> None:
        self.machine.drive.crash_at = self.machine.drive.changes + self.rng.randint(1, most)

    async def crash(self) -> None:
        await self.machine.wreck(power=self.power)

    async def crash_at_some_change(self) -> None:
        self.die_soon(60)
        await self.sleep(10.0)

    async def crash_while_stopping(self) -> None:
        self.die_soon(8)
        assert self.machine.torrent is not None
        await self.machine.torrent.stop()
        await self.machine.torrent.start()

    async def crash_while_checking(self) -> None:
        machine, executor = self.machine, self.machine.executor
        await machine.close()
        machine.executor = SlowExecutor(0.05)
        await machine.start()
        assert machine.torrent is not None
        if self.rng.random() < 0.5:
            await machine.torrent.verify()
        await self.sleep(self.rng.uniform(0.01, 1.0))
        await machine.wreck(power=self.power)
        machine.executor = executor

    async def full(self) -> None:
        drive = self.machine.drive
        drive.capacity = drive.used + self.rng.randint(0, self.machine.world.torrent.size // 2)
        await self.sleep(self.rng.uniform(1.0, 12.0))
        drive.capacity = None

    async def refuse_one(self) -> None:
        self.machine.drive.fail[self.rng.choice(("write", "read", "sync", "name"))] = self.rng.randint(1, 20)
        await self.sleep(self.rng.uniform(0.5, 8.0))

    async def refuse_records(self) -> None:
        self.machine.store.refusals = self.rng.randint(1, 4)
        await self.sleep(self.rng.uniform(0.5, 8.0))

    async def stop_and_start(self) -> None:
        torrent = self.machine.torrent
        assert torrent is not None
        await torrent.stop()
        await self.sleep(self.rng.uniform(0.0, 2.0))
        if self.machine.torrent is torrent:
            await torrent.start()

    async def verify(self) -> None:
        assert self.machine.torrent is not None
        await self.machine.torrent.verify()

    async def select(self) -> None:
        chosen = frozenset(file for file in range(self.files) if self.rng.random() < 0.5)
        await self.choose(chosen or None)

    async def choose(self, files: frozenset[int] | None) -> None:
        machine = self.machine
        assert machine.torrent is not None
        machine.wanted.append(files)
        machine.wanted = machine.wanted[-3:]  # a choice that was not recorded may come back
        await machine.torrent.select(files)

    async def remove_and_add(self) -> None:
        machine = self.machine
        assert machine.session is not None
        assert machine.torrent is not None
        await machine.session.remove(machine.torrent)
        if machine.drive.dead:
            return
        await machine.add(overwrite=True)

    async def tamper(self) -> None:
        """Somebody else writes into a file while we are not there."""
        for path in await self.meddle():
            _scribble(path, self.rng)

    async def lose_a_file(self) -> None:
        for path in await self.meddle():
            os.unlink(path)

    async def meddle(self) -> list[str]:
        """End its session; a file that somebody else may change then, if it was an orderly end and it will look at it again."""
        machine = self.machine
        assert machine.torrent is not None
        seeds = machine.torrent.is_complete
        machine.store.refusals, machine.drive.crash_at = 0, None
        await machine.close()
        row = machine.store.resume_of(machine.key)
        files = machine.drive.files()
        if seeds or row is None or row.open.any() or not files or machine.folder in machine.store.refused:
            return []
        machine.meddled, machine.again = True, None
        return [self.rng.choice(files)]

    async def away(self) -> None:
        world = self.machine.world
        world.network.partition([self.machine.host])
        await self.sleep(self.rng.uniform(1.0, 20.0))
        world.network.heal()

    async def vanish(self) -> None:
        await self.machine.wreck(power=self.power)
        await asyncio.sleep(self.rng.uniform(1.0, 10.0))

    async def calm(self) -> None:
        """All is well from now on: the user wants everything, and sees to it that it runs."""
        machine = self.machine
        await self.revive()
        machine.drive.capacity = machine.drive.crash_at = None
        machine.drive.fail.clear()
        machine.store.refusals = 0
        end = elapsed() + PATIENCE
        while elapsed() < end:
            assert machine.torrent is not None
            torrent = machine.torrent
            try:
                if torrent.options.files is not None:
                    await self.choose(None)
                if isinstance(torrent.error, GoneError):
                    await torrent.verify()
                await torrent.start()
                async with asyncio.timeout(end - elapsed()):
                    return await torrent.done()
            except UnchokeError as error:
                machine.world.note(machine.name, f"    {error}")
            except TimeoutError:
                break
            await asyncio.sleep(5.0)
        assert machine.torrent is not None
        machine.world.breach(machine.name, f"does not finish: {machine.torrent} {machine.torrent.snapshot().why()}")


async def scenario(seed: int, folder: Path, drives: WatchedOs, patch: pytest.MonkeyPatch) -> World:
    rng = Random(seed)
    torrent = draw_torrent(rng)
    network = SimNetwork(
        latency=0.02, jitter=rng.choice((0.0, 0.01)), loss=rng.choice((0.0, 0.0, 0.03)), rng=Random(rng.getrandbits(64))
    )
    world = World(torrent, network, drives, folder, rng)
    await world.tracker.start()
    with world.watching(patch):
        up = torrent.size / rng.uniform(3, 10)
        seeder = Machine(world, "seed", network.host("10.0.0.1", up=up), Settings(), WatchedStore())
        seeder.settings = replace(seeder.settings, disk=DiskSettings(threads=1, check_threads=1))
        torrent.write_to(seeder.folder)
        seeder.options = {"trust": True}
        await seeder.start()
        shared = WatchedStore(shared=True) if rng.random() < 0.2 else None
        leechers = []
        for number in range(rng.randint(2, 4)):
            name = f"leech{number}"
            host = network.host(f"10.0.1.{number + 1}", up=up)
            machine = Machine(world, name, host, draw_settings(rng, folder / name), shared or WatchedStore())
            if rng.random() < 0.2:
                machine.executor = SlowExecutor(rng.choice((0.005, 0.05)), threads=rng.choice((1, 2)))
            leechers.append(machine)
            await machine.start()
        liar = None
        if rng.random() < 0.15:
            world.honest = False
            liar = FakeServer(network.host("10.0.2.1", up=up), torrent, seeding(torrent, alter=wrong))
            await liar.__aenter__()
            world.tracker.register(torrent.infohash, liar.peer_id, liar.address)
        troubles = [Trouble(machine, Random(rng.getrandbits(64))) for machine in leechers]
        await asyncio.gather(*(trouble.all() for trouble in troubles))
        network.heal()
        await asyncio.gather(*(trouble.calm() for trouble in troubles))
        for machine in world.machines:
            await machine.close()
        if liar is not None:
            await liar.__aexit__(None, None, None)
        await world.tracker.aclose()
        ends(world)
    return world


def ends(world: World) -> None:
    """Everything is there under its own name, and nothing else; nothing of ours waits or runs."""
    right = world.torrent.files()
    for machine in world.machines:
        root = Path(machine.folder)
        found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for path in sorted(found.keys() | right.keys()):
            if found.get(path) != right.get(path):
                state = "should not be" if path not in right else "is missing" if path not in found else "differs"
                world.breach(machine.name, f"at the end {path} {state}")
        row = machine.store.resume_of(machine.key)
        if machine.options or not machine.has_run:
            continue  # it trusts its user, or sleeps, and keeps no record
        if row is None or row.open.any() or not row.durable.all():
            world.breach(machine.name, f"at the end its record is {row}")
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        world.breach("loop", f"{task} is left")
    for timer in virtual_loop()._scheduled:  # type: ignore[attr-defined]
        if not timer.cancelled():
            world.breach("loop", f"{timer} is left")


def play(seed: int, folder: Path) -> World:
    """One seed, from its beginning to its end."""
    with watching() as drives, pytest.MonkeyPatch.context() as patch:
        return run(lambda: scenario(seed, folder, drives, patch), seed=seed, limit=86400.0)


def must_hold(world: World, seed: int) -> None:
    replay = f'python -m pytest -m "" "tests/sim/test_fault_seeds.py::test_fault_seeds[{seed}]"'
    if world.broken:
        pytest.fail(
            "\n".join([f"seed {seed}; again: {replay}", *world.broken[:20], "--", *world.log[-60:]]), pytrace=False
        )


#: Those that the fast suite plays too.
FAST = range(10)
SEEDS = [pytest.param(seed, marks=[pytest.mark.long] if seed not in FAST else []) for seed in range(200)]


@pytest.mark.parametrize("seed", SEEDS)
def test_fault_seeds(seed: int, tmp_path: Path) -> None:
    must_hold(play(seed, tmp_path), seed)


@pytest.mark.parametrize("seed", [1, 4])
def test_a_seed_is_the_same_every_time(seed: int, tmp_path: Path) -> None:
    logs = []
    for run_ in ("a", "b"):
        world = play(seed, tmp_path / run_)
        logs.append([line.replace(str(tmp_path / run_), "") for line in world.log])
    assert len(logs[0]) > 20
    assert logs[0] == logs[1]


def test_a_broken_promise_is_told_with_its_seed(tmp_path: Path) -> None:
    """The instrument itself: a record that runs ahead of the data is noticed, and so is rubbish that is sent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Life, "piece_completed", _claims_too_much)
        world = play(1, tmp_path)
    assert any("recorded piece" in words for words in world.broken)
    with pytest.raises(pytest.fail.Exception, match=r'seed 1; again: python -m pytest .*::test_fault_seeds\[1\]"'):
        must_hold(world, 1)


def _claims_too_much(life: Life, piece: int) -> None:
    assert life.contents is not None
    life.contents.record.written(ones(len(life.contents.wanted), "big"))
