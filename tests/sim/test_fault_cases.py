"""Single cases that the fault seeds have found, each as short as it can be told; and any crash of a bare download."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from bitarray import bitarray
from bitarray.util import ones, zeros
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.calamity import WatchedStore, World
from fakes.drives import Drive, WatchedOs, watching
from fakes.machine import Machine
from unchoke.engine.changes import Batch, Change, Settled
from unchoke.engine.checker import check_blocking
from unchoke.engine.events import PieceCompleted
from unchoke.engine.settings import DiskSettings, NetworkSettings, Settings
from unchoke.engine.stores import MemoryStore
from unchoke.engine.verdict import judge
from unchoke.errors import StorageError
from unchoke.storage.files import FileStorage
from unchoke.testing import SimNetwork, TinyTorrent, make_torrent, run

PIECE = 16384
#: Two large files, and a small one between them that lies in a piece of theirs altogether.
TORRENT = make_torrent(files={"a": 8 * PIECE + 100, "small": 50, "b": 6 * PIECE}, piece_length=PIECE, name="set")

Story = Callable[[World, Machine], Awaitable[None]]


def tell(
    folder: Path,
    story: Story,
    *,
    disk: DiskSettings | None = None,
    torrent: TinyTorrent = TORRENT,
    files: frozenset[int] | None = None,
    refusals: int = 0,
) -> None:
    """A seed and a leecher that has just begun; afterwards no promise is broken."""

    async def scenario(drives: WatchedOs, patch: pytest.MonkeyPatch) -> World:
        network = SimNetwork(latency=0.02)
        world = World(torrent, network, drives, folder, Random(7))
        await world.tracker.start()
        with world.watching(patch):
            quiet = NetworkSettings(discovery=False)
            one = DiskSettings(threads=1, check_threads=1)
            seed = Machine(world, "seed", network.host("10.0.0.1", up=30_000), Settings(disk=one), WatchedStore())
            torrent.write_to(seed.folder)
            seed.options = {"trust": True}
            await seed.start()
            chosen = Settings(disk=disk or one, network=quiet)
            leech = Machine(world, "leech", network.host("10.0.0.2", up=30_000), chosen, WatchedStore())
            leech.wanted = [files]
            leech.store.refusals = refusals
            await leech.start()
            await story(world, leech)
            for machine in (leech, seed):
                await machine.close()
            await world.tracker.aclose()
        return world

    with watching() as drives, pytest.MonkeyPatch.context() as patch:
        world = run(lambda: scenario(drives, patch), limit=3600.0)
    assert not world.broken, "\n".join([*world.broken, *world.log[-30:]])


async def done(machine: Machine) -> None:
    assert machine.torrent is not None
    await machine.torrent.start()
    await machine.torrent.done()
    assert machine.torrent.state == "seeding"


async def almost_done(machine: Machine) -> None:
    """All but one piece is there."""
    assert machine.session is not None
    left = TORRENT.piece_count - 1
    async for event in machine.session.subscribe():
        left -= isinstance(event, PieceCompleted)
        if not left:
            return


def in_folder(machine: Machine) -> dict[str, bytes]:
    root = Path(machine.folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# ---------------------------------------------------------------------- cases


def test_what_a_killed_run_wrote_is_brought_to_rest_before_it_is_called_durable(tmp_path: Path) -> None:
    """The run after it writes to one file alone, and syncs them both."""

    async def story(world: World, leech: Machine) -> None:
        assert leech.torrent is not None
        await almost_done(leech)
        await leech.wreck(power=False)
        assert not leech.pieces(safe=True).any()
        await leech.start()
        await done(leech)
        await leech.close()
        assert leech.pieces(safe=True).all()
        row = leech.store.resume_of(leech.key)
        assert row is not None
        assert row.durable.all()
        await leech.wreck(power=True)
        assert leech.pieces().all()

    tell(tmp_path, story, disk=DiskSettings(threads=1, check_threads=1, preallocate="off"))


def test_a_torrent_added_again_while_records_are_refused_has_a_record_when_they_are_kept_again(tmp_path: Path) -> None:
    async def story(world: World, leech: Machine) -> None:
        await done(leech)
        assert leech.session is not None
        assert leech.torrent is not None
        leech.store.refusals = 2
        await leech.session.remove(leech.torrent)
        await leech.add()
        await done(leech)
        await asyncio.sleep(30)
        assert not leech.session.resume.problem
        row = leech.store.resume_of(leech.key)
        assert row is not None
        assert row.have.all()
        assert not row.open.any()

    tell(tmp_path, story)


@pytest.mark.parametrize("how", ["suffix", "folder"])
def test_a_kill_between_the_last_piece_and_the_final_names_leaves_them_to_the_next_start(
    how: str, tmp_path: Path
) -> None:
    disk = DiskSettings(
        threads=1,
        check_threads=1,
        incomplete_suffix=".part" if how == "suffix" else "",
        incomplete_dir=str(tmp_path.resolve() / "leech/incoming") if how == "folder" else "",
    )

    async def story(world: World, leech: Machine) -> None:
        assert leech.torrent is not None
        await almost_done(leech)
        real = leech.drive.changed_names

        def dies(path: str, undo: Callable[[], None], inode: int = 0) -> None:
            real(path, undo, inode)
            leech.drive.changed_names = real  # type: ignore[method-assign]
            leech.drive.die()

        leech.drive.changed_names = dies  # type: ignore[method-assign]
        await leech.down.wait()
        await leech.wreck(power=False)
        assert in_folder(leech) != TORRENT.files()
        await leech.start()
        await asyncio.sleep(2)
        assert in_folder(leech) == TORRENT.files()

    tell(tmp_path, story, disk=disk)


def test_a_file_chosen_later_whose_bytes_are_all_there_gets_its_own_name_at_once(tmp_path: Path) -> None:
    async def story(world: World, leech: Machine) -> None:
        await done(leech)
        assert leech.torrent is not None
        assert "set/small" not in in_folder(leech)
        leech.wanted.append(None)
        await leech.torrent.select(None)
        assert in_folder(leech) == TORRENT.files()
        row = leech.store.resume_of(leech.key)
        assert row is not None
        assert not row.open.any()
        assert row.files == [*row.files[:3], None]
        assert None not in row.files[:3]

    suffix = DiskSettings(threads=1, check_threads=1, incomplete_suffix=".part")
    tell(tmp_path, story, disk=suffix, files=frozenset((0, 2)))


def test_a_start_during_the_check_of_a_stopped_torrent_is_heard(tmp_path: Path) -> None:
    async def story(world: World, leech: Machine) -> None:
        assert leech.torrent is not None
        await asyncio.sleep(3)
        await leech.torrent.stop()
        await leech.torrent.verify()
        await leech.torrent.start()
        await done(leech)

    tell(tmp_path, story)


def test_files_chosen_while_a_download_is_being_completed_stay_marked_open(tmp_path: Path) -> None:
    """The end of a download may take a while on a slow disk; what is chosen meanwhile must not be noted as closed."""

    async def story(world: World, leech: Machine) -> None:
        assert leech.torrent is not None
        contents = leech.torrent.contents
        choosing: list[asyncio.Task[None]] = []
        assert contents is not None
        settle = contents.settle

        async def slow_settle(*args: Any) -> None:
            if not choosing:
                assert leech.torrent is not None
                leech.wanted.append(None)
                choosing.append(asyncio.create_task(leech.torrent.select(None)))
                await asyncio.sleep(1)
            await settle(*args)

        contents.settle = slow_settle  # type: ignore[method-assign,assignment]
        await done(leech)
        await asyncio.gather(*choosing)
        await done(leech)

    tell(tmp_path, story, files=frozenset((0,)))


# ---------------------------------------------------------------------- a bare download


class Download:
    """What an engine does with a storage and a record, without peers: the steps of docs/decisions/0007 and nothing else."""

    def __init__(self, folder: Path, rng: Random) -> None:
        self.drive = Drive(folder, rng, lambda: 1.0)
        self.layout = TORRENT.metainfo.layout
        self.store = MemoryStore()
        self.key = (bytes(TORRENT.infohash), str(folder))
        self.boot = 1

    def commit(self, **change: object) -> None:
        self.drive.alive()
        batch = Batch({self.key: Change(**change)})  # type: ignore[arg-type]
        dies = self.drive.counts()
        if not dies or self.drive.rng.random() < 0.5:
            self.store.apply(batch, str(self.boot), False)
        if dies:
            self.drive.die()

    def found(self, storage: FileStorage) -> bitarray:
        """What a start takes for there."""
        row = self.store.load(self.key)
        if row is None:
            return zeros(self.layout.piece_count, "big")
        verdict = judge(row, self.layout, storage.status(), storage.gaps, str(self.boot))
        assert not (verdict.trusted & verdict.check).any()
        checked = check_blocking(
            storage, self.layout, TORRENT.metainfo.piece_hashes, threads=1, pieces=verdict.check.search(1)
        )
        return verdict.trusted | checked.bits

    def run(self, order: list[int], syncs: set[int], *, ends: bool) -> None:
        """Until the machine stands still, or all is written."""
        storage = FileStorage(f"{self.drive.root}/data", "set", self.layout, multi_file=True, portable=False)
        try:
            have = self.found(storage)
            self.commit(open=ones(len(self.layout.files) + 1, "big"), have=have.copy(), revoked=~have)
            everything = True
            storage.prepare()
            for step, piece in enumerate(order):
                if not have[piece]:
                    storage.write(piece * PIECE, TORRENT.piece(piece))
                    have[piece] = 1
                    self.commit(have=have.copy())
                if step in syncs:
                    storage.flush(everything=everything)
                    everything = False
                    self.commit(durable=have.copy())
            if ends:
                storage.flush(everything=everything)
                self.commit(settled=Settled(have.copy(), list(storage.status()), {}))
        except (OSError, StorageError):
            assert self.drive.dead
        finally:
            storage.close()

    def restart(self, *, power: bool) -> None:
        if power:
            self.boot += 1
            self.drive.power_cut()
            if self.drive.rng.random() < 0.5:
                self.store.lose_unsynced()
        self.drive.dead, self.drive.crash_at = False, None


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1 << 20))
def test_whenever_a_download_ends_the_next_start_knows_what_is_there(data: st.DataObject, seed: int) -> None:
    """No wrong piece is ever taken for there; and with every piece that is there nothing has to be fetched again."""
    count = TORRENT.piece_count
    with tempfile.TemporaryDirectory() as folder, watching() as drives:
        download = Download(Path(folder, "disk"), Random(seed))
        drives.drives.append(download.drive)
        for _ in range(data.draw(st.integers(1, 4), label="runs")):
            order = data.draw(st.permutations(range(count)), label="order")[: data.draw(st.integers(0, count))]
            syncs = data.draw(st.sets(st.integers(0, count), max_size=3), label="syncs")
            if data.draw(st.booleans(), label="crashes"):
                download.drive.crash_at = download.drive.changes + data.draw(st.integers(1, 60), label="at")
            download.run(order, syncs, ends=data.draw(st.booleans(), label="ends"))
            download.restart(power=data.draw(st.booleans(), label="power"))
            storage = FileStorage(
                f"{download.drive.root}/data", "set", download.layout, multi_file=True, portable=False
            )
            have = download.found(storage)
            for piece in range(count):
                assert have[piece] == _is_there(storage, piece), piece
            storage.close()


def _is_there(storage: FileStorage, piece: int) -> bool:
    buffer = bytearray(storage.layout.piece_size(piece))
    try:
        storage.read_into(piece * PIECE, memoryview(buffer))
    except StorageError:
        return False
    return bytes(buffer) == TORRENT.piece(piece)
