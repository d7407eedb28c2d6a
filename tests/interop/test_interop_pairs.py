"""Each real program as our seeder and as our leecher, and against each other to prove the harness itself."""

from __future__ import annotations

import pytest

from interop.clients import FOREIGN, Aria2, Client, Libtorrent, Transmission, Unchoke
from interop.conftest import Stage
from interop.torrents import MIB

pytestmark = pytest.mark.interop

QUICK = [pytest.param(kind, "album", MIB, id=f"{kind.name}-album") for kind in FOREIGN]
MATRIX = [
    pytest.param(kind, shape, 8 * MIB, id=f"{kind.name}-{shape}-8MiB", marks=pytest.mark.long)
    for kind in FOREIGN
    for shape in ("single", "album")
]
HARNESS = [(Libtorrent, Aria2), (Aria2, Libtorrent), (Libtorrent, Transmission), (Transmission, Libtorrent)]


@pytest.mark.parametrize(("other", "shape", "size"), QUICK + MATRIX)
def test_they_seed_we_get(stage: Stage, other: type[Client], shape: str, size: int) -> None:
    torrent = stage.torrent(shape, size, stage.tracker().url)
    theirs, ours = stage.client(other, 0), stage.client(Unchoke, 1)
    theirs.seed(torrent, stage.source)
    ours.get(torrent, stage.folder / "got", theirs.address)
    stage.assert_same(stage.folder / "got")


@pytest.mark.parametrize(("other", "shape", "size"), QUICK + MATRIX)
def test_we_seed_they_get(stage: Stage, other: type[Client], shape: str, size: int) -> None:
    torrent = stage.torrent(shape, size, stage.tracker().url)
    ours, theirs = stage.client(Unchoke, 0), stage.client(other, 1)
    ours.seed(torrent, stage.source)
    theirs.get(torrent, stage.folder / "got", ours.address)
    stage.assert_same(stage.folder / "got", without_empty=not theirs.creates_empty_files)


@pytest.mark.long
@pytest.mark.parametrize("other", FOREIGN, ids=lambda kind: kind.name)
def test_torrent_from_standard_input_and_peers_from_the_tracker(stage: Stage, other: type[Client]) -> None:
    torrent = stage.torrent("album", MIB, stage.tracker().url)
    theirs, ours = stage.client(other, 0), stage.client(Unchoke, 1)
    theirs.seed(torrent, stage.source)
    ours.start_get_from_stdin(torrent, stage.folder / "got")
    ours.wait_complete(50)
    stage.assert_same(stage.folder / "got")


@pytest.mark.long
@pytest.mark.parametrize(("seeds", "gets"), HARNESS, ids=lambda kind: kind.name)
def test_harness_without_us(stage: Stage, seeds: type[Client], gets: type[Client]) -> None:
    """When this fails too, the fault is not ours."""
    torrent = stage.torrent("album", MIB, stage.tracker(mini=True).url)
    seeder, leecher = stage.client(seeds, 0), stage.client(gets, 1)
    seeder.seed(torrent, stage.source)
    leecher.get(torrent, stage.folder / "got", seeder.address)
    stage.assert_same(stage.folder / "got", without_empty=not leecher.creates_empty_files)
