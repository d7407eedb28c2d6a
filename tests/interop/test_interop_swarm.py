"""One swarm of everybody: four programs begin with nothing, one has the data, all end with the same bytes."""

from __future__ import annotations

import pytest

from interop.clients import FOREIGN, Client, Libtorrent, Unchoke
from interop.conftest import Stage
from interop.torrents import MIB

pytestmark = [pytest.mark.interop, pytest.mark.long, pytest.mark.timeout(180)]

EVERYBODY: tuple[type[Client], ...] = (*FOREIGN, Unchoke)


@pytest.mark.parametrize("seeds", [Libtorrent, Unchoke], ids=lambda kind: kind.name)
def test_everybody_completes_from_one_seeder(crowd: Stage, seeds: type[Client]) -> None:
    torrent = crowd.torrent("album", 8 * MIB, crowd.tracker().url)
    crowd.client(seeds, 0).seed(torrent, crowd.source)
    leechers = [crowd.client(kind, number) for number, kind in enumerate(EVERYBODY, 1)]
    for leecher in leechers:
        if isinstance(leecher, Unchoke):
            leecher.extra = ["--seed-time", "15s"]  # stay a while: to serve the slower ones is half of the swarm
        leecher.start_get(torrent, crowd.folder / leecher.name, [])
    for leecher in leechers:
        leecher.wait_complete(120)
        crowd.assert_same(crowd.folder / leecher.name, without_empty=not leecher.creates_empty_files)
