"""A private DHT of libtorrent nodes in one program, each at its own address, and what they see: ``announce INFOHASH HOST PORT``.

Arguments: the nodes' ``ADDRESS:PORT``, then ``--meet`` and those of other programs, which are greeted until they have certainly
begun: an infant DHT of somebody else waits for more nodes than it would find in time. ``asked INFOHASH`` for each one looked for.
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from typing import Any

import libtorrent as lt

ROUNDS = 15


def node(address: str, first: str) -> lt.session:
    return lt.session(
        {
            "listen_interfaces": address,
            "enable_dht": True,
            "dht_restrict_routing_ips": False,  # all of the town lives in one /24
            "dht_restrict_search_ips": False,
            "dht_bootstrap_nodes": "" if address == first else first,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "alert_mask": lt.alert.category_t.dht_notification,
        }
    )


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def hear(alert: Any) -> None:
    if isinstance(alert, lt.dht_announce_alert):
        say("announce", alert.info_hash, alert.ip, alert.port)
    elif isinstance(alert, lt.dht_get_peers_alert):
        say("asked", alert.info_hash)


def greet(nodes: list[lt.session], addresses: list[str]) -> None:
    for address in addresses:
        host, _, port = address.rpartition(":")
        for one in nodes:
            one.add_dht_node((host, int(port)))


def main(addresses: list[str], others: list[str]) -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda signum, frame: stopped.set())
    nodes = [node(address, addresses[0]) for address in addresses]
    greet(nodes, addresses)
    say("ready")
    for turn in itertools.count():
        if turn % 20 == 0 and turn < 20 * ROUNDS:
            greet(nodes, others)
        for one in nodes:
            for alert in one.pop_alerts():
                hear(alert)
        if stopped.wait(0.05):
            return


if __name__ == "__main__":
    split = sys.argv.index("--meet")
    main(sys.argv[1:split], sys.argv[split + 1 :])
