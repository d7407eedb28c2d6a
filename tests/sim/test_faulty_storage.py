"""A victim among honest peers whose ``FaultyStorage`` fills, fails and loses power with its page cache, run after run.

Whatever happens: no unverified piece is uploaded, what is recorded was written, nothing is durable before its flush, the data
is whole in the end, and no task is left. (Real files, and more that can happen to them: ``test_fault_seeds``.)
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from unchoke.engine import events, resume
from unchoke.engine.resume import MemoryStore
from unchoke.testing import Faults, FaultyStorage, Member, RamDisk, SimSwarm, TinyTorrent, make_torrent, run, swarm

if TYPE_CHECKING:
    from unchoke.engine.changes import Batch
    from unchoke.protocol.metainfo import Metainfo

PIECE = 32768


class Machine:
    """The victim's: a disk, records, and power for as long as it lasts."""

    def __init__(self, torrent: TinyTorrent, dice: Random) -> None:
        self.torrent = torrent
        self.dice = dice
        self.ram = RamDisk()
        self.storage: FaultyStorage | None = None
        self.faults = Faults()
        self.boots = 1
        self.store = WatchedStore(self)

    def open(self, metainfo: Metainfo, folder: Path, wanted: frozenset[int] | None) -> FaultyStorage:
        inner = self.ram.open(metainfo, folder, wanted)
        made = FaultyStorage(inner, self.torrent.size, self.faults, rng=self.dice)
        if self.storage is not None:
            made.keep_history(self.storage)
        self.storage = made
        return made

    def next_faults(self) -> Faults:
        """Of each kind some."""
        dice = self.dice
        return Faults(
            room=dice.choice([None, None, dice.randrange(0, self.torrent.size)]),
            failing_writes={dice.randrange(1, 40)} if dice.random() < 0.3 else (),
            failing_reads={dice.randrange(1, 40)} if dice.random() < 0.2 else (),
            crash_at=dice.randrange(1, 40) if dice.random() < 0.6 else None,
            survive=dice.choice([0.0, 0.5, 0.9]),
        )

    @property
    def is_dead(self) -> bool:
        return self.storage is not None and self.storage.crashed


class WatchedStore(MemoryStore):
    """Looks at every record as it is made: it may lag behind the data and never run ahead of it."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self.looks = 0
        self.wrong: list[str] = []  # a store that raises is one that fails, which the engine bears

    def apply(self, batch: Batch, boot_id: str, sync: bool) -> None:
        if self.machine.is_dead:
            return  # no power, no record
        super().apply(batch, boot_id, sync)
        storage, torrent = self.machine.storage, self.machine.torrent
        for key in batch.changes:
            row = self.load(key)
            if row is None or storage is None:
                continue
            self.looks += 1
            for piece in range(torrent.piece_count):
                start, length = piece * PIECE, len(torrent.piece(piece))
                if row.have[piece] and not storage.is_written(start, length):
                    self.wrong.append(f"piece {piece} is recorded and was not written")
                if row.durable[piece] and not storage.is_durable(start, length):
                    self.wrong.append(f"piece {piece} is called durable before its flush")


async def _live_through(world: SimSwarm, victim: Member, machine: Machine) -> None:
    """Some runs with faults, then one without."""
    for number in range(3):
        machine.faults = machine.next_faults()
        await victim.start()
        await world.add(f"late{number}", up=60_000)  # takes from the victim too
        for _ in range(20):
            await asyncio.sleep(0.5)
            if machine.is_dead or victim.torrent.error is not None or victim.finished_at is not None:
                break
        await victim.stop()
        if machine.is_dead:
            machine.store.lose_unsynced()
            machine.boots += 1
    machine.faults = Faults()
    await victim.start()
    await victim.torrent.done()  # again, if it was complete before a crash took some of it


def live(seed: int) -> int:
    """One life. How many records were looked at."""
    dice = Random(seed)
    torrent = make_torrent(20 * PIECE + 123, seed=seed)
    machine = Machine(torrent, dice)

    async def scenario() -> int:
        async with swarm(torrent, leechers=2, up=120_000, seed=seed) as world:
            victim = await world.add("victim", up=60_000, storage=machine.open, state=machine.store, start=False)
            await _live_through(world, victim, machine)
            await world.finished(within=3600)
            assert not machine.store.wrong
            (storage,) = machine.ram.storages.values()
            assert bytes(storage.data or b"") == torrent.data
            assert all(member.data == torrent.data for member in world.leechers if member is not victim)
            lies = [line for line in world.log if isinstance(line.event, events.PieceFailed | events.PeerBanned)]
            assert not lies, "an unverified piece was uploaded"
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        return machine.store.looks

    def boot_id() -> str:
        return f"boot {machine.boots}"

    with patch.object(resume, "boot_id", boot_id):
        return run(scenario, seed=seed, limit=7200)


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_bad_disk_loses_nothing_and_invents_nothing(seed: int) -> None:
    assert live(seed) > 0


@pytest.mark.long  # half a minute
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, 200, 20))
def test_200_bad_disks(first: int) -> None:
    for seed in range(first, first + 20):
        assert live(seed) > 0, f"seed {seed}"
