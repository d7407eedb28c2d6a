"""A DHT of ours on addresses of loopback, with real sockets, in a thread of its own: for commands, which bring their own loop."""

from __future__ import annotations

import asyncio
import threading

from fakes.dht import Follower, infohash
from unchoke.engine.dht import Dht
from unchoke.engine.net.udp import UdpEndpoint
from unchoke.engine.settings import DhtSettings

#: One more than a lookup wants, so that none has to wait for commands that have gone.
COUNT = 9
TCP = 4321


class Table:
    """``node``: one to begin with, as HOST:PORT; ``peer``: who has announced ``infohash(1)`` there, as a seed."""

    def __init__(self) -> None:
        self.node = ""
        self.peer = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()), daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(20)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    async def _run(self) -> None:
        made: list[tuple[Dht, UdpEndpoint]] = []
        for number in range(COUNT):
            endpoint = UdpEndpoint(bind=f"127.0.4.{number + 1}")
            await endpoint.open()
            self.node = self.node or f"127.0.4.1:{endpoint.port}"
            routers = (self.node,) if made else ()
            dht = Dht(endpoint, DhtSettings(routers=routers), port=lambda: TCP)
            dht.start()
            if made:
                await dht.joined()
            made.append((dht, endpoint))
        announcer = made[4][0]
        announcer.follow(infohash(1), Follower(seed=True))
        self.peer = f"127.0.4.5:{TCP}"
        while (told := announcer.told(infohash(1))) is None or not told.nodes:
            announcer.heartbeat(self._loop.time())
            await asyncio.sleep(0.02)
        self._ready.set()
        await self._stop.wait()
        for dht, endpoint in made:
            await dht.aclose()
            await endpoint.aclose()
