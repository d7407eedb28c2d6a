"""libtorrent's own ``create PATH OUT`` and ``check TORRENT FOLDER``, as whole processes to compare ours with."""

from __future__ import annotations

import os
import sys

import libtorrent as lt


def create(path: str, out: str) -> int:
    torrent = lt.create_torrent(lt.list_files(path), 1 << 20, lt.create_torrent.v1_only)
    lt.set_piece_hashes(torrent, os.path.dirname(path))
    with open(out, "wb") as file:
        file.write(lt.bencode(torrent.generate()))
    return 0


def check(torrent: str, folder: str) -> int:
    session = lt.session(
        {
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "listen_interfaces": "",
            "alert_mask": lt.alert.category_t.status_notification,
        }
    )
    wanted = lt.add_torrent_params()
    wanted.ti = lt.torrent_info(torrent)
    wanted.save_path = folder
    handle = session.add_torrent(wanted)
    while True:
        session.wait_for_alert(1000)
        if any(isinstance(alert, lt.torrent_checked_alert) for alert in session.pop_alerts()):
            return 0 if handle.status().is_seeding else 1


if __name__ == "__main__":
    sys.exit({"create": create, "check": check}[sys.argv[1]](*sys.argv[2:]))
