"""BitTorrent programs, each behind the same five verbs: ``seed``, ``start_get``, ``wait_complete``, ``get``, ``stop``.

One object is one process on one ``Host``, listening on the host's address. All are asked to speak TCP in the clear and to
find nobody by themselves: peers come from the torrent's tracker, or by address where ``dials`` says the program can be told.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from interop.hosts import Host
from interop.program import HostError, Program

HERE = Path(__file__).parent
Peer = tuple[str, int]


class Client(ABC):
    """``home`` is a private folder for the program's own files; it must exist."""

    name: ClassVar[str]
    dials: ClassVar[bool] = True
    creates_empty_files: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, host: Host, home: Path, port: int = 7000) -> None:
        self.host = host
        self.home = home
        self.port = port
        self.program: Program | None = None
        self.extra: list[str] = []  # more words for the command line of ``seed`` and ``start_get``

    @classmethod
    def missing(cls) -> str | None:
        """Why this program cannot be started here; None when it can."""
        absent = [program for program in cls.needs if shutil.which(program) is None]
        return f"not installed: {', '.join(absent)}" if absent else None

    @property
    def address(self) -> Peer:
        return (self.host.address, self.port)

    @property
    def running(self) -> Program:
        assert self.program is not None, "start it first"
        return self.program

    @abstractmethod
    def seed(self, torrent: Path, folder: Path) -> None:
        """Serve what is in ``folder``; returns when a peer that connects will be served."""

    @abstractmethod
    def start_get(self, torrent: Path, folder: Path, peers: list[Peer]) -> None:
        """Begin to download into ``folder``. The program goes on seeding when it is done (except where it cannot)."""

    @abstractmethod
    def wait_complete(self, timeout: float) -> None:
        """Until every byte is verified and written; HostError with the program's output otherwise."""

    def get(self, torrent: Path, folder: Path, peer: Peer, timeout: float = 45.0) -> None:
        """Download to the end."""
        self.start_get(torrent, folder, [peer] if self.dials else [])
        self.wait_complete(timeout)

    def stop(self) -> int:
        """Ask politely, by process id; the exit status."""
        return self.program.stop() if self.program is not None else 0

    def _start(self, argv: list[str], env: dict[str, str] | None = None, stdin: Path | None = None) -> Program:
        # A private HOME: no program reads, or writes, the settings of whoever runs the tests.
        private = {"HOME": str(self.home), **(env or {})}
        self.program = self.host.start([*argv, *self.extra], self.name, env=private, cwd=self.home, stdin=stdin)
        return self.program

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host.address}:{self.port} [{self.program!r}]>"


class Unchoke(Client):
    """Ours, by the commands a user types."""

    name = "unchoke"

    def _command(self, *args: str) -> list[str]:
        command = [sys.executable, "-m", "unchoke", *args, "--no-progress", "-v", "-p", str(self.port)]
        return [*command, "--bind", self.host.address]

    def _run(self, argv: list[str], stdin: Path | None = None) -> None:
        self._start(argv, {"UNCHOKE_HOME": str(self.home), "UNCHOKE_NETWORK__DISCOVERY": "0"}, stdin)

    def seed(self, torrent: Path, folder: Path) -> None:
        self._run(self._command("seed", str(torrent), str(folder)))
        self.running.wait_line(r"^seeding .* on port")

    def start_get(self, torrent: Path, folder: Path, peers: list[Peer]) -> None:
        told = [word for host, port in peers for word in ("--peer", f"{host}:{port}")]
        self._run(self._command("get", str(torrent), "-d", str(folder), *told))

    def start_get_from_stdin(self, torrent: Path, folder: Path) -> None:
        """``cat TORRENT | unchoke get - -d FOLDER``: the peers are the tracker's."""
        self._run(self._command("get", "-", "-d", str(folder)), stdin=torrent)

    def wait_complete(self, timeout: float) -> None:
        """``get`` ends by itself; exit 0 is its word that the data is verified and on disk."""
        status = self.running.wait(timeout)
        if status:
            raise HostError(f"{self.name} ended with {status}:\n{self.running.tail()}")


class Libtorrent(Client):
    """The library, in a process of its own (see ``lt_peer.py``)."""

    name = "libtorrent"

    @classmethod
    def missing(cls) -> str | None:
        try:
            import libtorrent  # noqa: F401
        except ImportError as error:
            return f"the Python package libtorrent: {error}"
        return None

    def _run(self, job: str, torrent: Path, folder: Path, *rest: str) -> None:
        script = [sys.executable, str(HERE / "lt_peer.py"), job, str(torrent), str(folder)]
        self._start([*script, "--listen", f"{self.host.address}:{self.port}", *rest])

    def seed(self, torrent: Path, folder: Path) -> None:
        self._run("seed", torrent, folder)
        self.running.wait_line("^serving$")

    def start_get(self, torrent: Path, folder: Path, peers: list[Peer]) -> None:
        self._run("get", torrent, folder, "--stay", *(f"--peer={host}:{port}" for host, port in peers))

    def wait_complete(self, timeout: float) -> None:
        self.running.wait_line("^finished$", timeout)

    def wait_sent(self, size: int, timeout: float = 30.0) -> None:
        """Until at least ``size`` payload bytes have been sent."""
        self.running.wait_until(lambda: self._sent() >= size, f"send {size} bytes", timeout)

    def _sent(self) -> int:
        said = [line for line in self.running.lines if line.startswith("sent ")]
        return int(said[-1].split()[1]) if said else 0

    def uploaded(self) -> int:
        """Payload bytes sent to peers; ends the program."""
        self.stop()
        return int(self.running.wait_line(r"^uploaded (\d+)")[1])


class Aria2(Client):
    """aria2c. It meets peers by a tracker only, and asks the tracker again every second here."""

    name = "aria2"
    dials = False
    needs = ("aria2c",)

    def _run(self, torrent: Path, folder: Path, *rest: str) -> None:
        hook = self.home / "complete.sh"
        hook.write_text(f"#!/bin/sh\ntouch '{self.home}/complete'\n")
        hook.chmod(0o755)
        options = {
            "no-conf": "true",
            "dir": folder,
            "listen-port": self.port,
            "interface": self.host.address,
            "enable-dht": "false",
            "enable-dht6": "false",
            "bt-enable-lpd": "false",
            "enable-peer-exchange": "false",
            "bt-tracker-interval": 1,
            "bt-request-peer-speed-limit": "500M",
            "bt-enable-hook-after-hash-check": "true",
            "on-bt-download-complete": hook,
            "check-integrity": "true",
            "bt-hash-check-seed": "true",
            "seed-ratio": "0.0",
            "file-allocation": "none",
            "follow-torrent": "false",
            "enable-color": "false",
            "summary-interval": 0,
            "console-log-level": "notice",
        }
        self._start(
            ["aria2c", *(f"--{key}={value}" for key, value in options.items()), *rest, f"--torrent-file={torrent}"]
        )

    def seed(self, torrent: Path, folder: Path) -> None:
        self._run(torrent, folder)
        self.wait_complete(30)
        self.running.wait_listening(self.port)

    def start_get(self, torrent: Path, folder: Path, peers: list[Peer]) -> None:
        assert not peers, "aria2 takes no peer addresses"
        self._run(torrent, folder)

    def wait_complete(self, timeout: float) -> None:
        self.running.wait_until((self.home / "complete").exists, "complete", timeout)

    def stop(self) -> int:
        return self.program.stop(signal.SIGINT) if self.program is not None else 0


class Transmission(Client):
    """transmission-daemon and its remote. It meets peers by a tracker only; settings come from a file of ours."""

    name = "transmission"
    dials = False
    creates_empty_files = False  # 3.00 does not
    needs = ("transmission-daemon", "transmission-remote")
    RPC = 9191

    def _run(self, torrent: Path, folder: Path) -> None:
        settings = {
            "bind-address-ipv4": self.host.address,
            "peer-port": self.port,
            "rpc-bind-address": "127.0.0.1",
            "rpc-port": self.RPC,
            "rpc-whitelist-enabled": False,
            "rpc-host-whitelist-enabled": False,
            "dht-enabled": False,
            "lpd-enabled": False,
            "pex-enabled": False,
            "utp-enabled": False,
            "port-forwarding-enabled": False,
            "encryption": 0,
            "download-dir": str(folder),
            "incomplete-dir-enabled": False,
            "rename-partial-files": False,
            "preallocation": 0,
            "trash-original-torrent-files": False,
            "cache-size-mb": 0,
        }
        (self.home / "settings.json").write_text(json.dumps(settings))
        folder.mkdir(parents=True, exist_ok=True)
        daemon = ["transmission-daemon", "--foreground", "--config-dir", str(self.home), "--log-info"]
        self._start(daemon).wait_listening(self.RPC)
        self._remote("--add", str(torrent))

    def _remote(self, *args: str) -> str:
        return self.host.run(["transmission-remote", f"127.0.0.1:{self.RPC}", *args])

    def _is_complete(self) -> bool:
        said = self._remote("--torrent", "1", "--info")
        return "Percent Done: 100%" in said and any(f"State: {s}" in said for s in ("Idle", "Seeding"))

    def seed(self, torrent: Path, folder: Path) -> None:
        self._run(torrent, folder)  # data that is there already is verified at once
        self.wait_complete(30)
        self.running.wait_until(self._has_announced, "announce itself", 20)

    def _has_announced(self) -> bool:
        """So that whoever asks the tracker from now on is told of us. True where there is no tracker."""
        said = self._remote("--torrent", "1", "--info-trackers")
        return "Got a list of" in said or "Tracker 0" not in said

    def start_get(self, torrent: Path, folder: Path, peers: list[Peer]) -> None:
        assert not peers, "transmission takes no peer addresses"
        self._run(torrent, folder)

    def wait_complete(self, timeout: float) -> None:
        self.running.wait_until(self._is_complete, "complete", timeout)


class Tracker:
    """``unchoke tracker`` on a host, or with ``mini`` the tracker that shares no code with us."""

    def __init__(self, host: Host, home: Path, port: int = 6969, *, mini: bool = False) -> None:
        self.url = f"http://{host.address}:{port}/announce"
        argv = [sys.executable, "-m", "unchoke", "tracker", "-p", str(port), "--bind", host.address, "--interval", "5"]
        if mini:
            argv = [sys.executable, str(HERE / "mini_tracker.py"), host.address, str(port)]
        env = {"UNCHOKE_HOME": str(home), "HOME": os.fspath(home)}
        self.program = host.start(argv, "tracker", env=env, cwd=home)
        self.program.wait_line("^ready$")

    def stop(self) -> int:
        return self.program.stop()


FOREIGN: tuple[type[Client], ...] = (Libtorrent, Aria2, Transmission)
