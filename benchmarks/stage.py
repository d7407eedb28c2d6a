"""Where it runs: a folder with the payload and its torrent, two hosts, the seeders; all of it gone afterwards."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote_from_bytes

from benchmarks import contenders
from benchmarks.contenders import LIMIT, PYTHON
from benchmarks.measure import MIB, BenchError, Run, assert_same, run
from interop.clients import HERE
from interop.hosts import Host, Network, missing
from interop.program import Program
from interop.torrents import build_torrent, write_file

_PIECE = MIB


class Stage:
    """``with Stage(size) as stage:``; the first host seeds, the second downloads."""

    def __init__(self, size: int, timeout: float) -> None:
        if (why := missing()) is not None:
            raise BenchError(f"cannot make a network: {why}")
        self.size = size
        self.timeout = timeout
        self.folder = Path(tempfile.mkdtemp(prefix="unchoke-bench-"))
        self.payload = self.folder / "source" / "payload.bin"
        self.torrent = self.folder / "payload.torrent"
        self._network = Network(2)
        self._seeders: dict[str, tuple[Program, int]] = {}
        self._ports = itertools.count(7001)
        self._numbers = itertools.count(1)

    def __enter__(self) -> Stage:
        try:
            if shutil.disk_usage(self.folder).free < 3 * self.size:
                raise BenchError(f"{self.folder} has no room for three times the payload; set TMPDIR")
            self._network.__enter__()
            write_file(self.payload, self.size, seed=self.size)
            build_torrent(self.payload, self.torrent, piece_length=_PIECE)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._network.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def hosts(self) -> list[Host]:
        """The first one serves, the second one downloads."""
        return self._network.hosts

    def seeder(self, name: str) -> tuple[Program, str]:
        """The one seeder of this name (started, and ready, at the first call) and its HOST:PORT."""
        host = self._network.hosts[0]
        if name not in self._seeders:
            port = next(self._ports)
            argv = contenders.seeding(name, self.torrent, self.payload.parent, host.address, port)
            if name == "limit":
                argv = [PYTHON, LIMIT, "serve", str(self.payload), host.address, str(port)]
            program = host.start(argv, name, env=self._private("seeder"))
            program.wait_line(contenders.READY[name], 120)  # it has read and hashed all of the payload
            self._seeders[name] = (program, port)
        program, port = self._seeders[name]
        return program, f"{host.address}:{port}"

    def end_seeder(self, name: str) -> None:
        program, _ = self._seeders.pop(name)
        program.stop()

    def download(self, name: str, seeder: str) -> Run:
        """One run of ``name`` from the seeder, checked byte for byte, its output deleted."""
        _, peer = self.seeder(seeder)
        host = self._network.hosts[1]
        out = self.folder / f"out-{next(self._numbers)}"
        out.mkdir()
        argv = contenders.getting(name, self.torrent, out, host.address, peer, self._tracker(name, peer))
        if name == "limit":
            address, _, port = peer.rpartition(":")
            argv = [PYTHON, LIMIT, "get", address, port, str(self.size), str(out / self.payload.name)]
        try:
            took = self.measure([*host.argv, *argv])
            assert_same(self.payload, out / self.payload.name)
        finally:
            shutil.rmtree(out)  # and the page cache of it: every run begins with the same free memory
        return took

    def measure(self, argv: list[str]) -> Run:
        return run(argv, self.folder, env=self._private("get"), timeout=self.timeout)

    def _private(self, name: str) -> dict[str, str]:
        home = self.folder / f"home-{name}-{next(self._numbers)}"
        home.mkdir()
        return {
            "UNCHOKE_HOME": str(home),
            "HOME": str(home),
            "UNCHOKE_NETWORK__DISCOVERY": "0",
            "PYTHONDONTWRITEBYTECODE": "",  # what is installed has its bytecode
        }

    def _tracker(self, name: str, peer: str) -> str:
        """aria2 meets peers by a tracker only: one that knows the seeder, in a swarm nobody else announces to."""
        if name != "aria2":
            return ""
        host = self._network.hosts[0]
        url = f"http://{host.address}:6969/announce"
        if "tracker" not in self._seeders:
            argv = [sys.executable, str(HERE / "mini_tracker.py"), host.address, "6969"]
            program = host.start(argv, "tracker")
            program.wait_line("^ready$")
            self._seeders["tracker"] = (program, 6969)
        torrent = self.torrent.read_bytes()
        info = torrent[torrent.index(b"4:info") + 6 : -1]  # the last key of a torrent without anything else
        digest = quote_from_bytes(hashlib.sha1(info).digest(), safe="")
        told = f"{url}?info_hash={digest}&port={peer.rpartition(':')[2]}&left=0"
        host.run([PYTHON, "-c", f"import urllib.request as u; u.urlopen({told!r}).read()"])
        return url


def settle() -> None:
    """Let the file system finish what an earlier run left to write, outside the timed part."""
    os.sync()
    time.sleep(0.2)
