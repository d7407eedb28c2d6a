"""A DHT of libtorrent nodes on addresses of loopback, as a program of its own: it does what its options say, until SIGTERM.

Nodes are PREFIX.1 to PREFIX.COUNT on one port; nobody outside is asked. Lines: ``ready HOST:PORT`` (a node to begin with),
``put TARGET``, ``found HOST:PORT`` for peers of ``--find``, ``got TEXT`` and ``got-signed SEQ TEXT`` for items of ``--get`` and
``--get-key``. All of it is done again and again.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time

import libtorrent as lt

AGAIN = 0.5


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def node(host: str, port: int) -> lt.session:
    alerts = lt.alert.category_t
    return lt.session(
        {
            "listen_interfaces": f"{host}:{port}",
            "enable_dht": True,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "dht_bootstrap_nodes": "",
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
            "dht_ignore_dark_internet": False,
            "dht_prefer_verified_node_ids": False,
            "dht_upload_rate_limit": 1_000_000,
            "dht_block_ratelimit": 1000,
            "alert_mask": alerts.dht_notification | alerts.dht_operation_notification | alerts.error_notification,
        }
    )


class Nodes:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        hosts = [f"{args.prefix}.{number}" for number in range(1, args.count + 1)]
        self.sessions = [node(host, args.port) for host in hosts]
        for session in self.sessions:
            for host in hosts:
                session.add_dht_node((host, args.port))
        self.said: set[str] = set()
        self.asked = 0.0

    def act(self) -> None:
        """All of it, each time: what is announced or put before the nodes know each other reaches nobody."""
        last = self.sessions[-1]
        if self.args.announce:
            infohash, _, port = self.args.announce.partition(":")
            self.sessions[1].dht_announce(lt.sha1_hash(bytes.fromhex(infohash)), int(port), 0)
        if self.args.put:
            self.tell(f"put {self.sessions[2].dht_put_immutable_item(self.args.put.encode())}")
        if self.args.find:
            last.dht_get_peers(lt.sha1_hash(bytes.fromhex(self.args.find)))
        if self.args.get:
            last.dht_get_immutable_item(lt.sha1_hash(bytes.fromhex(self.args.get)))
        if self.args.get_key:
            last.dht_get_mutable_item(bytes.fromhex(self.args.get_key), self.args.salt.encode())

    def hear(self, alert: object) -> None:
        if isinstance(alert, lt.dht_get_peers_reply_alert):
            for host, port in alert.peers():
                self.tell(f"found {host}:{port}")
        elif isinstance(alert, lt.dht_immutable_item_alert) and isinstance(alert.item, bytes):
            self.tell(f"got {alert.item.decode()}")
        elif isinstance(alert, lt.dht_mutable_item_alert) and isinstance(alert.item, bytes):
            self.tell(f"got-signed {alert.seq} {alert.item.decode()}")

    def tell(self, line: str) -> None:
        if line not in self.said:
            self.said.add(line)
            say(line)

    def run(self, stopped: threading.Event) -> None:
        say(f"ready {self.args.prefix}.1:{self.args.port}")
        while not stopped.is_set():
            if time.monotonic() - self.asked >= AGAIN:
                self.asked = time.monotonic()
                self.act()
            self.sessions[-1].wait_for_alert(100)
            for session in self.sessions:
                for alert in session.pop_alerts():
                    self.hear(alert)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("prefix", help="like 127.0.5")
    parser.add_argument("count", type=int)
    parser.add_argument("port", type=int)
    parser.add_argument("--announce", help="INFOHASH:PORT")
    parser.add_argument("--find", help="INFOHASH")
    parser.add_argument("--put", help="TEXT")
    parser.add_argument("--get", help="TARGET")
    parser.add_argument("--get-key", help="PUBLIC KEY")
    parser.add_argument("--salt", default="")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda signum, frame: stopped.set())
    Nodes(parser.parse_args()).run(stopped)
    return 0


if __name__ == "__main__":
    sys.exit(main())
