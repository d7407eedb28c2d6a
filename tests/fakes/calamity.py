"""Calamity: machines with drives, records and sessions that are killed, cut off from power, filled up and started again.

Everything that is promised is watched while it happens: at each write, each commit of a record, each block that is sent, each
start, each close. What is broken is gathered in ``World.broken``, since the engine would take an exception for its disk's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest

from fakes.drives import WatchedOs
from unchoke.engine.changes import Batch
from unchoke.engine.intake import Intake
from unchoke.engine.stores import MemoryStore
from unchoke.engine.upload import Upload
from unchoke.errors import StorageError
from unchoke.storage.parts import PartMap
from unchoke.storage.records import Key, ResumeRow
from unchoke.testing import SimNetwork, SimTracker, TinyTorrent, elapsed

if TYPE_CHECKING:
    from fakes.machine import Machine


class Truth:
    """A torrent, and where each byte of it belongs in the files of a machine."""

    def __init__(self, torrent: TinyTorrent) -> None:
        self.torrent = torrent
        self.layout = torrent.metainfo.layout
        map_ = PartMap(self.layout)
        self.part = bytearray((len(map_.borders) + self.layout.piece_count) * self.layout.piece_length)
        self.runs = []
        for index, file in enumerate(self.layout.files):
            runs = map_.whole(index) if file.length else []
            self.runs.append(runs)
            for run in runs:
                start = self.layout.file_start(index) + run.offset
                self.part[run.at : run.at + run.length] = torrent.data[start : start + run.length]

    def of_file(self, file: int) -> bytes:
        start = self.layout.file_start(file)
        return self.torrent.data[start : start + self.layout.files[file].length]


class WatchedStore(MemoryStore):
    """Records that are looked at as they are committed. ``refusals``: so many commits to come are refused."""

    def __init__(self, *, shared: bool = False) -> None:
        super().__init__()
        self.shared = shared
        self.refusals = 0
        self.refused: set[str] = set()  # folders whose record may lack what it was told
        self.machines: dict[str, Machine] = {}

    def apply(self, batch: Batch, boot_id: str, sync: bool) -> None:
        machine = next((self.machines[folder] for _, folder in batch.changes), None)
        if machine is None:
            return super().apply(batch, boot_id, sync)
        if machine.drive.dead:
            raise StorageError("the machine stands still")
        if self.refusals:
            self.refusals -= 1
            self.refused.update(folder for _, folder in batch.changes)
            raise StorageError("database or disk is full")
        if not machine.drive.counts():
            return self._commit(machine, batch, boot_id, sync)
        if machine.drive.rng.random() < 0.5:
            self._commit(machine, batch, boot_id, sync)
        try:
            machine.drive.die()
        except OSError as error:
            raise StorageError(str(error)) from error

    def _commit(self, machine: Machine, batch: Batch, boot_id: str, sync: bool) -> None:
        before = dict(self._resume)
        super().apply(batch, boot_id, sync)
        for key in batch.changes:
            if (row := self._resume.get(key)) is not None:
                machine.recorded(row, before.get(key))

    def resume_of(self, key: Key, *, safe: bool = False) -> ResumeRow | None:
        return (self._safe[2] if safe else self._resume).get(key)


class World:
    """One simulation. ``broken``: promises that were; ``log``: what happened, line by line. ``honest``: nobody lies."""

    def __init__(self, torrent: TinyTorrent, network: SimNetwork, drives: WatchedOs, folder: Path, rng: Random) -> None:
        self.truth = Truth(torrent)
        self.torrent = torrent
        self.network = network
        self.drives = drives
        self.folder = folder
        self.rng = rng
        self.broken: list[str] = []
        self.log: list[str] = []
        self.honest = True
        self.machines: list[Machine] = []
        self.tracker = SimTracker(network.host("10.255.255.1"), interval=30, rng=Random(rng.getrandbits(32)))

    def note(self, who: str, what: object) -> None:
        self.log.append(f"{elapsed():.6f} {who} {what}")

    def breach(self, who: str, what: str) -> None:
        self.broken.append(f"{elapsed():.6f} {who}: {what}")
        self.note(who, f"BROKEN {what}")

    def machine_of(self, swarm: object) -> Machine:
        return next(machine for machine in self.machines if swarm in machine.swarms)

    @contextmanager
    def watching(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """Stand between the engine's parts, and listen to its log for bugs."""
        send, sent, ears = Upload._send, Intake.sent, _Ears(self)

        def watched_send(upload: Upload, batch: Any, buffer: bytearray, view: memoryview, now: float) -> None:
            self._served(upload, batch, view)
            send(upload, batch, buffer, view, now)

        def watched_sent(intake: Intake, peer: Any, blocks: Any) -> None:
            machine = self.machine_of(intake.owner)
            for piece, begin, payload in blocks:
                machine.came(piece, begin, payload)
            sent(intake, peer, blocks)

        patch.setattr(Upload, "_send", watched_send)
        patch.setattr(Intake, "sent", watched_sent)
        logging.getLogger("unchoke").addHandler(ears)
        try:
            yield
        finally:
            logging.getLogger("unchoke").removeHandler(ears)
            patch.undo()

    def _served(self, upload: Upload, batch: Any, view: memoryview) -> None:
        intake = cast("Intake", upload._disk.owner)
        for piece, begin, length in batch:
            at = begin - batch[0].begin
            if not intake.picker.have[piece]:
                self.breach(self.machine_of(intake.owner).name, f"serves piece {piece}, which it does not have")
            if bytes(view[at : at + length]) != self.torrent.block(piece, begin, length):
                self.breach(self.machine_of(intake.owner).name, f"serves rubbish: piece {piece}, {begin} + {length}")


class _Ears(logging.Handler):
    """A failure that is no StorageError is a bug."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, StorageError):
            self.world.breach("log", f"{record.getMessage()}: {error!r}")
