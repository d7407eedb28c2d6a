"""A libtorrent client with every way to find peers turned on, as a program of its own: any number of torrents, talk in lines.

Argument: ``{"listen": "ADDRESS:PORT", "nodes": ["ADDRESS:PORT"], "seed": [[TORRENT, FOLDER]], "get": [[MAGNET, FOLDER, RATE]]}``
in JSON; RATE in bytes a second, 0: no limit; with ``"bare": true`` it gives no metadata, and knows no PEX. Lines, each with an
infohash: ``serving``, ``metadata``, ``finished``; until SIGTERM.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from typing import Any

import libtorrent as lt


def session_on(listen: str, nodes: list[str], *, bare: bool) -> lt.session:
    alerts = lt.alert.category_t
    session = lt.session(
        {
            "listen_interfaces": listen,
            "enable_dht": True,
            "dht_restrict_routing_ips": False,  # all of the town lives in one /24
            "dht_restrict_search_ips": False,
            "dht_bootstrap_nodes": ",".join(nodes),
            "enable_lsd": True,
            "enable_upnp": False,
            "enable_natpmp": False,
            "allow_multiple_connections_per_ip": True,
            "alert_mask": alerts.status_notification | alerts.error_notification | alerts.storage_notification,
        },
        flags=0 if bare else lt.session_flags_t.add_default_plugins,
    )
    everybody = lt.ip_filter()  # by default limits are not for private networks, where the tests are
    everybody.add_rule("0.0.0.0", "255.255.255.255", 1 << lt.session.global_peer_class_id)
    session.set_peer_class_filter(everybody)
    return session


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def add(session: lt.session, wanted: Any, folder: str, rate: int = 0) -> None:
    wanted.save_path = folder
    wanted.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = session.add_torrent(wanted)
    if rate:
        handle.set_download_limit(rate)


def of_file(path: str) -> Any:
    wanted = lt.add_torrent_params()
    wanted.ti = lt.torrent_info(path)
    return wanted


def hear(alert: Any) -> None:
    if isinstance(alert, lt.metadata_received_alert):
        say("metadata", alert.handle.info_hash())
    elif isinstance(alert, lt.torrent_checked_alert):
        if alert.handle.status().is_seeding:
            say("serving", alert.handle.info_hash())
    elif isinstance(alert, lt.torrent_finished_alert):
        alert.handle.flush_cache()  # complete, but blocks may still wait to be written
    elif isinstance(alert, lt.cache_flushed_alert):
        if alert.handle.status().is_seeding:
            say("finished", alert.handle.info_hash())
    elif isinstance(alert, lt.listen_failed_alert | lt.torrent_error_alert | lt.file_error_alert):
        say("failed", alert.message())


def main(jobs: dict[str, Any]) -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda signum, frame: stopped.set())
    session = session_on(jobs["listen"], jobs["nodes"], bare=jobs.get("bare", False))
    for torrent, folder in jobs["seed"]:
        add(session, of_file(torrent), folder)
    for magnet, folder, rate in jobs["get"]:
        add(session, lt.parse_magnet_uri(magnet), folder, rate)
    say("ready")
    while not stopped.is_set():
        session.wait_for_alert(100)  # a signal is seen between two waits
        for alert in session.pop_alerts():
            hear(alert)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
