"""Fixtures of the interop tests: a network, and a ``Stage`` on which a test puts programs, torrents and a tracker."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from interop.clients import Client, Tracker
from interop.hosts import Host, Network, missing
from interop.torrents import build_torrent, contents, write_album, write_file

AnyClient = TypeVar("AnyClient", bound=Client)
_ports = itertools.count(7000)


class Stage:
    """What one test has started on the hosts of one network; all of it ends with the test."""

    def __init__(self, hosts: list[Host], folder: Path) -> None:
        self.hosts = hosts
        self.folder = folder
        self.source = folder / "source"
        self._homes = itertools.count(1)

    def _home(self, name: str) -> Path:
        home = self.folder / f"home-{next(self._homes)}-{name}"
        home.mkdir()
        return home

    def client(self, kind: type[AnyClient], host: int) -> AnyClient:
        """A program of this kind, not yet started, on the n-th host (from 0). Skips the test when it is not installed."""
        if (why := kind.missing()) is not None:
            pytest.skip(why)
        return kind(self.hosts[host], self._home(kind.name), next(_ports))

    def tracker(self, *, mini: bool = False) -> Tracker:
        return Tracker(self.hosts[0], self._home("tracker"), next(_ports), mini=mini)

    def torrent(self, shape: str, size: int, *trackers: str) -> Path:
        """``single``: one file of odd size. ``album``: folders, an empty file, names that are not ASCII."""
        if shape == "single":
            made = self.source / "one file.bin"
            write_file(made, size + 4321, seed=size)
        else:
            made = self.source / "Älbum – 日本"
            write_album(made, size, seed=size)
        return build_torrent(made, self.folder / "x.torrent", trackers=trackers)

    def assert_same(self, folder: Path, *, without_empty: bool = False) -> None:
        """Every file, byte for byte. ``without_empty``: Transmission 3.00 does not create files of no bytes."""
        wanted = contents(self.source)
        if without_empty:
            wanted = {path: what for path, what in wanted.items() if not what.startswith("0 ")}
        assert contents(folder, ignore={".aria2"}) == wanted


@pytest.fixture(scope="session")
def pair() -> Iterator[list[Host]]:
    """Two hosts that see each other and nobody else."""
    if (why := missing()) is not None:
        pytest.skip(why)
    with Network(2) as network:
        yield network.hosts


@pytest.fixture
def stage(pair: list[Host], tmp_path: Path) -> Iterator[Stage]:
    yield Stage(pair, tmp_path)
    for host in pair:
        host.stop_all()


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Stage]:
    """A stage with five hosts."""
    if (why := missing()) is not None:
        pytest.skip(why)
    with Network(5) as network:
        yield Stage(network.hosts, tmp_path)
