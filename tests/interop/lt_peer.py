"""A libtorrent peer as a program of its own: ``seed`` or ``get`` one torrent, talk in lines, end on SIGTERM.

Only TCP in the clear and only the peers it is told of: DHT, LSD, UPnP, NAT-PMP, uTP and encryption are off, everything
else is at libtorrent's defaults. ``get`` ends when the torrent is complete and on disk (``--stay`` goes on seeding).
Lines: ``listening PORT``, ``serving``, ``finished``, ``sent BYTES`` (while it changes, ten times a second with ``--up``),
and at the end ``uploaded BYTES downloaded BYTES``.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

import libtorrent as lt


def session_on(listen: str, up: int) -> lt.session:
    alerts = lt.alert.category_t
    session = lt.session(
        {
            "listen_interfaces": listen,
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            "out_enc_policy": int(lt.enc_policy.pe_disabled),
            "in_enc_policy": int(lt.enc_policy.pe_disabled),
            "upload_rate_limit": up,
            "alert_mask": alerts.status_notification | alerts.error_notification | alerts.storage_notification,
        }
    )
    everybody = lt.ip_filter()  # by default the limit is not for private networks, where the tests are
    everybody.add_rule("0.0.0.0", "255.255.255.255", 1 << lt.session.global_peer_class_id)
    session.set_peer_class_filter(everybody)
    return session


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def add(session: lt.session, args: argparse.Namespace) -> lt.torrent_handle:
    wanted = lt.add_torrent_params()
    wanted.ti = lt.torrent_info(args.torrent)
    wanted.save_path = args.folder
    wanted.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = session.add_torrent(wanted)
    for peer in args.peer:
        host, _, port = peer.rpartition(":")
        handle.connect_peer((host.strip("[]"), int(port)))
    return handle


def run(session: lt.session, handle: lt.torrent_handle, args: argparse.Namespace, stopped: threading.Event) -> int:
    """Until SIGTERM, or until the download is complete and flushed when we were not asked to stay."""
    sent = 0
    while not stopped.is_set():
        session.wait_for_alert(100)  # a signal is seen between two waits
        if args.up and handle.status().total_payload_upload != sent:
            sent = handle.status().total_payload_upload
            say(f"sent {sent}")
        for alert in session.pop_alerts():
            if isinstance(alert, lt.listen_succeeded_alert):
                say(f"listening {alert.port}")
            elif isinstance(alert, lt.listen_failed_alert | lt.torrent_error_alert | lt.file_error_alert):
                say(f"failed {alert.message()}")
                return 1
            elif isinstance(alert, lt.torrent_checked_alert) and handle.status().is_seeding:
                say("serving")
            elif isinstance(alert, lt.torrent_finished_alert) and args.job == "get":
                handle.flush_cache()  # complete, but blocks may still wait to be written
            elif isinstance(alert, lt.cache_flushed_alert) and args.job == "get":
                say("finished")
                if not args.stay:
                    return 0
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=("seed", "get"))
    parser.add_argument("torrent")
    parser.add_argument("folder")
    parser.add_argument("--listen", required=True, help="ADDRESS:PORT")
    parser.add_argument("--peer", action="append", default=[], help="HOST:PORT")
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--up", type=int, default=0, help="bytes a second; 0: no limit")
    args = parser.parse_args()

    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda signum, frame: stopped.set())
    session = session_on(args.listen, args.up)
    handle = add(session, args)
    status = run(session, handle, args, stopped)
    counted = handle.status()
    say(f"uploaded {counted.total_payload_upload} downloaded {counted.total_payload_download}")
    return status


if __name__ == "__main__":
    sys.exit(main())
