"""Ctrl-C in the middle of a download from a real seeder, many small files, and what the seeder counted."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from interop.clients import Libtorrent, Unchoke
from interop.conftest import Stage
from interop.torrents import MIB, build_torrent, contents, write_file

pytestmark = [pytest.mark.interop, pytest.mark.long]

UNFINISHED = 7


def test_stopped_at_half_and_resumed_fetches_nothing_twice(stage: Stage) -> None:
    tracker = stage.tracker(mini=True)
    torrent = stage.torrent("single", 16 * MIB, tracker.url)
    size = (stage.source / "one file.bin").stat().st_size
    seeder, ours = stage.client(Libtorrent, 0), stage.client(Unchoke, 1)
    seeder.extra = ["--up", str(4 * MIB)]
    seeder.seed(torrent, stage.source)

    ours.start_get(torrent, stage.folder / "got", [seeder.address])
    seeder.wait_sent(size // 2)
    assert ours.running.stop(signal.SIGINT) == UNFINISHED
    tracker.program.wait_line(rf"announce {ours.host.address}:{ours.port} stopped")
    assert contents(stage.folder / "got") != contents(stage.source)

    ours.get(torrent, stage.folder / "got", seeder.address)
    stage.assert_same(stage.folder / "got")
    assert seeder.uploaded() <= 1.05 * size


def test_three_thousand_files_arrive(stage: Stage, tmp_path: Path) -> None:
    folder = stage.source / "viele – 多"
    for number in range(3000):
        write_file(folder / f"{number % 40:02}" / f"Stück {number}.bin", number * 7 % 5000, seed=number)
    torrent = build_torrent(folder, tmp_path / "many.torrent", piece_length=1 << 15)
    theirs, ours = stage.client(Libtorrent, 0), stage.client(Unchoke, 1)
    theirs.seed(torrent, stage.source)
    ours.get(torrent, stage.folder / "got", theirs.address)
    stage.assert_same(stage.folder / "got")
