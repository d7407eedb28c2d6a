"""The DHT (BEP 5) as the session has it: nodes on its sockets, torrents followed in it, items put and fetched."""

from __future__ import annotations

from unchoke.engine.dht.dht import Dht
from unchoke.engine.dht.records import DhtFamily, DhtFollower, DhtPut, DhtScrape, DhtSnapshot, DhtTold

__all__ = ["Dht", "DhtFamily", "DhtFollower", "DhtPut", "DhtScrape", "DhtSnapshot", "DhtTold"]
