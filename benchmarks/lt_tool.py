"""libtorrent's own ``create PATH OUT``, ``check TORRENT FOLDER`` and ``idle TORRENTS FOLDER``, as processes to compare ours with."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import libtorrent as lt


def create(path: str, out: str) -> int:
    torrent = lt.create_torrent(lt.list_files(path), 1 << 20, lt.create_torrent.v1_only)
    lt.set_piece_hashes(torrent, os.path.dirname(path))
    with open(out, "wb") as file:
        file.write(lt.bencode(torrent.generate()))
    return 0


def _session() -> lt.session:
    return lt.session(
        {
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "listen_interfaces": "",
            "alert_mask": lt.alert.category_t.status_notification,
        }
    )


def check(torrent: str, folder: str) -> int:
    session = _session()
    wanted = lt.add_torrent_params()
    wanted.ti = lt.torrent_info(torrent)
    wanted.save_path = folder
    handle = session.add_torrent(wanted)
    while True:
        session.wait_for_alert(1000)
        if any(isinstance(alert, lt.torrent_checked_alert) for alert in session.pop_alerts()):
            return 0 if handle.status().is_seeding else 1


def idle(torrents: str, folder: str) -> int:
    """Seed all torrents of a folder on trust, without trackers, until somebody ends the process."""
    session = _session()
    base = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    began = time.perf_counter()
    for path in sorted(Path(torrents).iterdir()):
        wanted = lt.add_torrent_params()
        wanted.ti = lt.torrent_info(str(path))
        wanted.save_path = folder
        wanted.trackers = []
        wanted.flags |= lt.torrent_flags.seed_mode
        wanted.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        session.add_torrent(wanted)
    print("idle", json.dumps({"added": time.perf_counter() - began, "base": base}), flush=True)
    while True:
        session.wait_for_alert(1000)
        session.pop_alerts()


if __name__ == "__main__":
    sys.exit({"create": create, "check": check, "idle": idle}[sys.argv[1]](*sys.argv[2:]))
