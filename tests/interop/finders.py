"""BitTorrent programs with every way to find peers turned on, each one process that seeds some torrents and gets others by magnet link.

What is used is decided on our side, whose processes have one way each. ``CANNOT`` says what a program cannot do.
"""

from __future__ import annotations

import functools
import json
import shutil
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from interop.program import Program
from interop.torrents import bencode
from interop.town import HERE, Parcel, Town

#: What cannot be tried, and why: (program, way, who gets).
CANNOT: dict[tuple[str, str, str], str] = {
    ("aria2", "x.pe", "they"): "it passes over x.pe in a magnet link",
    ("transmission", "x.pe", "they"): "it passes over x.pe in a magnet link",
    (
        "aria2",
        "pex",
        "we",
    ): "it tells peers of peers after a minute for the first time, longer than all of these tests may take",
    ("transmission", "pex", "we"): "it tells peers of peers after a minute and a half for the first time",
}


class Finder(ABC):
    """``start`` begins; then each parcel is waited for. ``at`` is where it can be dialled."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    creates_empty_files: ClassVar[bool] = True

    def __init__(self, town: Town) -> None:
        self.town = town
        self.host = town.there
        self.address = (
            town.there.address
        )  # from there aria2 and Transmission speak to the local network, whatever they are bound to
        self.port = town.port()
        self.home = town.home(self.name)
        self.program: Program | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Why this program cannot be started here; None when it can."""
        absent = [program for program in cls.needs if shutil.which(program) is None]
        return f"not installed: {', '.join(absent)}" if absent else None

    @property
    def at(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def running(self) -> Program:
        assert self.program is not None, "start it first"
        return self.program

    def folder(self, parcel: Parcel) -> Path:
        """Where this program puts what it gets."""
        return self.town.folder / f"{self.name}-got-{parcel.name}"

    def _start(self, argv: Sequence[str]) -> Program:
        self.program = self.host.start(argv, self.name, env={"HOME": str(self.home)}, cwd=self.home)
        return self.program

    @abstractmethod
    def start(self, seeds: Sequence[Parcel], gets: Sequence[Parcel]) -> None:
        """Seed some and get others; returns when whoever connects is answered."""

    @abstractmethod
    def has(self, parcel: Parcel) -> bool:
        """Has this one been got, every byte of it?"""

    def wait(self, parcel: Parcel, timeout: float) -> None:
        """Until it has got this one. HostError with its output otherwise."""
        self.running.wait_until(lambda: self.has(parcel), f"get {parcel.name}", timeout)
        parcel.assert_in(self.folder(parcel), without_empty=not self.creates_empty_files)

    def stop(self) -> None:
        if self.program is not None:
            self.program.stop()


class LibtorrentFinder(Finder):
    """See ``lt_finder.py``."""

    name = "libtorrent"

    @classmethod
    def missing(cls) -> str | None:
        try:
            import libtorrent  # noqa: F401
        except ImportError as error:
            return f"the Python package libtorrent: {error}"
        return None

    def start(self, seeds: Sequence[Parcel], gets: Sequence[Parcel]) -> None:
        jobs = {
            "listen": self.at,
            "nodes": self.town.nodes[:1],
            "seed": [[str(parcel.file), str(parcel.source)] for parcel in seeds],
            "get": [[parcel.magnet, str(self.folder(parcel)), parcel.rate] for parcel in gets],
        }
        program = self._start([sys.executable, str(HERE / "lt_finder.py"), json.dumps(jobs)])
        for parcel in seeds:
            program.wait_line(f"^serving {parcel.infohash}$")

    def has(self, parcel: Parcel) -> bool:
        return f"finished {parcel.infohash}" in self.running.lines

    def wait_metadata(self, parcel: Parcel) -> None:
        """Until it knows what this one is, and so somebody who has it."""
        self.running.wait_line(f"^metadata {parcel.infohash}$")


class Aria2Finder(Finder):
    """aria2c with a list of work."""

    name = "aria2"
    needs = ("aria2c",)

    def start(self, seeds: Sequence[Parcel], gets: Sequence[Parcel]) -> None:
        hook = self.home / "complete.sh"
        hook.write_text(f"#!/bin/sh\necho \"$3\" >> '{self.home}/complete'\n")
        hook.chmod(0o755)
        work = [f"{parcel.file}\n  dir={parcel.source}\n" for parcel in seeds]
        work += [f"{parcel.magnet}\n  dir={self.folder(parcel)}\n" for parcel in gets]
        (self.home / "work").write_text("".join(work))
        options = {
            "no-conf": "true",
            "input-file": self.home / "work",
            "max-concurrent-downloads": 30,
            "listen-port": self.port,
            "interface": self.address,
            "enable-dht": "true",
            "dht-listen-port": self.port,
            "dht-entry-point": self.town.nodes[0],
            "dht-file-path": self.home / "dht.dat",
            "bt-enable-lpd": "true",
            "enable-peer-exchange": "true",
            "bt-tracker-interval": 1,
            "check-integrity": "true",
            "bt-hash-check-seed": "true",
            "bt-enable-hook-after-hash-check": "true",
            "on-bt-download-complete": hook,
            "seed-ratio": "0.0",
            "file-allocation": "none",
            "enable-color": "false",
            "summary-interval": 0,
            "console-log-level": "notice",
        }
        self._start(["aria2c", *(f"--{key}={value}" for key, value in options.items())]).wait_listening(self.port)
        for parcel in seeds:
            self.running.wait_until(functools.partial(self._has_verified, parcel), "verify", 20)

    def _has_verified(self, parcel: Parcel) -> bool:
        return str(parcel.source) in self._complete()

    def _complete(self) -> str:
        path = self.home / "complete"
        return path.read_text() if path.exists() else ""

    def has(self, parcel: Parcel) -> bool:
        return f"{self.folder(parcel)}/" in self._complete()

    def stop(self) -> None:
        if self.program is not None:
            self.program.stop(signal.SIGINT)


class TransmissionFinder(Finder):
    """transmission-daemon; it reads where its DHT begins from ``dht.bootstrap`` in its folder."""

    name = "transmission"
    needs = ("transmission-daemon", "transmission-remote")
    creates_empty_files = False  # 3.00 does not
    RPC = 9191

    def start(self, seeds: Sequence[Parcel], gets: Sequence[Parcel]) -> None:
        settings = {
            "bind-address-ipv4": self.address,
            "peer-port": self.port,
            "rpc-bind-address": "127.0.0.1",
            "rpc-port": self.RPC,
            "rpc-whitelist-enabled": False,
            "rpc-host-whitelist-enabled": False,
            "dht-enabled": True,
            "lpd-enabled": True,
            "pex-enabled": True,
            "utp-enabled": False,
            "port-forwarding-enabled": False,
            "preallocation": 0,
            "cache-size-mb": 0,
        }
        (self.home / "settings.json").write_text(json.dumps(settings))
        (self.home / "dht.bootstrap").write_text("".join(node.replace(":", " ") + "\n" for node in self.town.nodes))
        # It asks those of an earlier run every two seconds, those of dht.bootstrap every fifteen.
        (self.home / "dht.dat").write_bytes(bencode({"id": bytes(range(20)), "nodes": self._compact(self.town.nodes)}))
        daemon = ["transmission-daemon", "--foreground", "--config-dir", str(self.home), "--log-debug"]
        self._start(daemon).wait_listening(self.RPC)
        for parcel in seeds:
            self._remote("--add", str(parcel.file), "--download-dir", str(parcel.source))
        for parcel in gets:
            self._remote("--add", parcel.magnet, "--download-dir", str(self.folder(parcel)))

    def wait_hearing(self) -> None:
        """What it hears of the local network in its first seconds it counts as too much."""
        self.running.wait_line("LPD announce message away")

    @staticmethod
    def _compact(nodes: Sequence[str]) -> bytes:
        pairs = (node.rpartition(":") for node in nodes)
        return b"".join(socket.inet_aton(host) + int(port).to_bytes(2, "big") for host, _, port in pairs)

    def _remote(self, *args: str) -> str:
        return self.host.run(["transmission-remote", f"127.0.0.1:{self.RPC}", *args])

    def has(self, parcel: Parcel) -> bool:
        said = self._remote("--torrent", parcel.infohash, "--info")
        return "Percent Done: 100%" in said and any(f"State: {s}" in said for s in ("Idle", "Seeding"))
