"""A town: two hosts on one cable, with an address for each program, a private DHT, and clients with every way to find peers turned on.

    ours 10.99.0.1, .101 … — eth0 | eth0 — theirs 10.99.0.2, .150 … (clients), .200 … (the nodes of the DHT)

Multicast goes over the cable; nothing leads further. What of it our own processes use is said by flags (``Ours``).
"""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from interop.clients import Tracker
from interop.hosts import SUBNET, Host, Network
from interop.program import Program
from interop.torrents import build_torrent, contents, infohash_of, write_album

HERE = Path(__file__).parent
#: Transmission thinks nothing of a DHT with fewer than nine nodes.
NODES = 10
DHT_PORT = 6881
WAYS = ("tracker", "x.pe", "dht", "pex", "lsd")
ALL = "all"


@dataclass
class Parcel:
    """A torrent with known bytes, made without the code under test. ``hints`` stand in its magnet link; ``rate``: to be fetched so
    slowly (bytes a second; 0: at once)."""

    name: str
    file: Path
    source: Path
    infohash: str
    hints: list[str] = field(default_factory=list)
    rate: int = 0

    @property
    def magnet(self) -> str:
        return f"magnet:?xt=urn:btih:{self.infohash}" + "".join(f"&{hint}" for hint in self.hints)

    def told(self, *hints: str, rate: int = 0) -> Parcel:
        """The same, with more hints where to begin."""
        return replace(self, hints=[*self.hints, *hints], rate=rate)

    def assert_in(self, folder: Path, *, without_empty: bool = False) -> None:
        """Every file, byte for byte, below ``folder``, where there may be others beside."""
        wanted = contents(self.source)
        if without_empty:
            wanted = {path: what for path, what in wanted.items() if not what.startswith("0 ")}
        found = contents(folder / self.name)
        assert {f"{self.name}/{path}": what for path, what in found.items()} == wanted

    def assert_nothing_in(self, folder: Path) -> None:
        """No byte of it was fetched."""
        found = contents(folder / self.name).values()
        assert not set(found) & {what for what in contents(self.source).values() if not what.startswith("0 ")}


class Town(Network):
    """``with Town(folder) as town``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(2)
        self.folder = folder
        self.here, self.there = self.hosts
        self._ports = itertools.count(7000)
        self._ours = itertools.count(101)
        self._theirs = itertools.count(150)
        self._parcels = itertools.count(1)
        self.nodes: list[str] = []

    def __enter__(self) -> Town:
        super().__enter__()
        for host in self.hosts:
            host.run(["ip", "route", "add", "224.0.0.0/4", "dev", "eth0"])
        return self

    def address(self, host: Host) -> str:
        """One more address on this host, for one program."""
        number = next(self._ours if host is self.here else self._theirs)
        return self._add(host, f"{SUBNET}.{number}")

    @staticmethod
    def _add(host: Host, address: str) -> str:
        host.run(["ip", "addr", "add", f"{address}/24", "dev", "eth0"])
        return address

    def port(self) -> int:
        return next(self._ports)

    def home(self, name: str) -> Path:
        home = self.folder / f"home-{name}"
        home.mkdir()
        return home

    def parcel(self, name: str, size: int = 300_000, *, tracker: str = "", private: bool = False) -> Parcel:
        """``tracker`` stands in the .torrent file, and in the link."""
        source = self.folder / f"source-{name}"
        write_album(source / name, size, seed=next(self._parcels))
        file = self.folder / f"{name}.torrent"
        build_torrent(source / name, file, trackers=[tracker] if tracker else (), private=private)
        return Parcel(name, file, source, infohash_of(file), [f"tr={tracker}"] if tracker else [])

    def tracker(self, name: str) -> Tracker:
        """One that shares no code with us, and tells everybody of everybody: aria2 asks for a magnet link's peers as a seed would."""
        return Tracker(self.here, self.home(name), self.port(), mini=True)

    def start_dht(self, *others: str) -> Program:
        """The nodes; their program says who announces what. ``others``: nodes of other programs, known to ours from the start."""
        addresses = [self._add(self.there, f"{SUBNET}.{200 + number}") for number in range(NODES)]
        self.nodes = [f"{address}:{DHT_PORT}" for address in addresses]
        argv = [sys.executable, str(HERE / "dht_nodes.py"), *self.nodes, "--meet", *others]
        program = self.there.start(argv, "dht nodes")
        program.wait_line("^ready$")
        return program

    def ours(self, name: str, way: str, command: str, *words: str | Path) -> Ours:
        """``unchoke COMMAND`` that finds peers in this one way (of ``WAYS``, or ``ALL``), as a user would tell it."""
        return Ours(self, name, way, [command, *map(str, words)])


class Ours:
    """One ``unchoke`` process at an address of its own."""

    def __init__(self, town: Town, name: str, way: str, words: list[str]) -> None:
        self.address = town.address(town.here)
        self.port = town.port()
        flags = [f"--{'' if way in (one, ALL) else 'no-'}{one}" for one in ("dht", "pex", "lsd")]
        argv = [sys.executable, "-m", "unchoke", *words, *flags, "--no-port-mapping", "--no-progress", "-v"]
        home = town.home(name)
        env = {
            "HOME": str(home),
            "UNCHOKE_HOME": str(home),
            "UNCHOKE_NETWORK__DISCOVERY": "1",
            "UNCHOKE_DHT__ROUTERS": json.dumps(town.nodes[:1]),
        }
        at = ["--bind", self.address, "-p", str(self.port)]
        self.program = town.here.start([*argv, *at], f"unchoke {name}", env=env, cwd=home)

    @property
    def at(self) -> str:
        return f"{self.address}:{self.port}"

    def wait_seeding(self) -> None:
        self.program.wait_line(r"^seeding .* on port")

    def wait_completed(self, parcel: Parcel, timeout: float) -> None:
        """A ``get --json`` has this one, verified and on disk."""
        self.program.wait_line(rf'"completed".*{parcel.infohash}', timeout)
