"""Who runs: for each program the words that download, that seed, that create and check. Nothing is measured here."""

from __future__ import annotations

import sys
from pathlib import Path

from interop.clients import HERE

PYTHON = sys.executable
LT_PEER = str(HERE / "lt_peer.py")
LT_TOOL = str(Path(__file__).with_name("lt_tool.py"))
LIMIT = str(Path(__file__).with_name("limit.py"))
OURS, THEIRS = "unchoke", "libtorrent"
GET_PORT = 7100
READY = {OURS: "^seeding ", THEIRS: "^serving$", "limit": "^ready$"}  # what a seeder says when it serves


def getting(name: str, torrent: Path, out: Path, address: str, peer: str, tracker: str = "") -> list[str]:
    """A program that downloads ``torrent`` into ``out`` from ``peer`` and ends when it is complete."""
    if name == OURS:
        command = [PYTHON, "-m", "unchoke", "get", str(torrent), "-d", str(out), "--peer", peer, "--no-progress", "-q"]
        return command
    if name == THEIRS:
        return [PYTHON, LT_PEER, "get", str(torrent), str(out), "--listen", f"{address}:{GET_PORT}", "--peer", peer]
    plain = [
        "no-conf=true",
        "enable-dht=false",
        "enable-dht6=false",
        "bt-enable-lpd=false",
        "enable-peer-exchange=false",
    ]
    plain += ["seed-time=0", "file-allocation=none", "quiet=true", f"interface={address}", f"listen-port={GET_PORT}"]
    plain += [f"dir={out}", f"bt-tracker={tracker}", f"torrent-file={torrent}"]
    return ["aria2c", *(f"--{option}" for option in plain)]


def seeding(name: str, torrent: Path, folder: Path, address: str, port: int) -> list[str]:
    """A program that serves what is in ``folder`` on ``address`` until SIGTERM."""
    if name == THEIRS:
        return [PYTHON, LT_PEER, "seed", str(torrent), str(folder), "--listen", f"{address}:{port}"]
    words = ["--trust", "-p", str(port), "--bind", address, "--no-progress"]
    return [PYTHON, "-m", "unchoke", "seed", str(torrent), str(folder), *words]


def creating(name: str, path: Path, out: Path) -> list[str]:
    if name == OURS:
        return [PYTHON, "-m", "unchoke", "create", str(path), "-o", str(out), "--force", "--piece-size", "1MiB", "-q"]
    return [PYTHON, LT_TOOL, "create", str(path), str(out)]


def checking(name: str, torrent: Path, folder: Path) -> list[str]:
    if name == OURS:
        return [PYTHON, "-m", "unchoke", "check", str(torrent), str(folder), "-q"]
    return [PYTHON, LT_TOOL, "check", str(torrent), str(folder)]
