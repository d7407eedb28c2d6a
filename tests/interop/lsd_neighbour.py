"""A neighbour that announces one torrent by LSD, ours or libtorrent's, as a program of its own: ``found HOST PORT`` for each it hears.

Ours is only ``Lsd`` with a heartbeat; libtorrent is a session with everything else off. Until it is ended.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from random import Random

INFOHASH = bytes(range(20))


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def ours(port: int) -> None:
    from unchoke.engine.lsd import Lsd
    from unchoke.engine.settings import LsdSettings
    from unchoke.types import Address, InfoHash

    def found(addresses: Sequence[Address]) -> None:
        for address in addresses:
            say("found", *address)

    rng = Random()
    lsd = Lsd(LsdSettings(), port=lambda: port, rng=rng, secret=rng.getrandbits)
    lsd.start()
    lsd.follow(InfoHash(INFOHASH), found)
    told = False
    while True:
        lsd.heartbeat(asyncio.get_running_loop().time())
        if not told and lsd.packets_sent:
            told = True
            say("announced")
        await asyncio.sleep(0.2)


def libtorrents(port: int) -> None:
    import libtorrent as lt

    session = lt.session(
        {
            "listen_interfaces": f"0.0.0.0:{port},[::]:{port}",
            "enable_dht": False,
            "enable_lsd": True,
            "enable_upnp": False,
            "enable_natpmp": False,
            "alert_mask": lt.alert.category_t.all_categories,
        }
    )
    wanted = lt.parse_magnet_uri(f"magnet:?xt=urn:btih:{INFOHASH.hex()}")
    wanted.save_path = "."
    wanted.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    session.add_torrent(wanted)
    say("announced")
    while True:
        session.wait_for_alert(200)
        for alert in session.pop_alerts():
            heard = re.search(r"<== LSD: (\S+):(\d+) ih: " + INFOHASH.hex(), str(alert))
            if heard:
                say("found", heard[1], heard[2])


if __name__ == "__main__":
    if sys.argv[1] == "ours":
        asyncio.run(ours(int(sys.argv[2])))
    else:
        libtorrents(int(sys.argv[2]))
