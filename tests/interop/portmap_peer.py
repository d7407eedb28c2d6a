"""Our port mapping as a program: listens on a TCP port, greets whoever comes, and has the port mapped until SIGTERM.

Lines: ``listening``, then ``{"status": …}`` whenever the snapshot's state changes, and ``closed`` when all is given back.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from random import SystemRandom

from unchoke.engine.portmap import Portmap
from unchoke.engine.settings import NetworkSettings, PortmapSettings


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    writer.close()


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await asyncio.start_server(greet, None, port)
    say("listening")
    portmap = Portmap(PortmapSettings(), NetworkSettings(discovery=True), port=lambda: port, rng=SystemRandom())
    portmap.start()
    last = ""
    while not stopped.is_set():
        portmap.heartbeat(loop.time())
        snapshot = portmap.snapshot()
        if snapshot.state != last:
            last = snapshot.state
            mapped = {f"{one.family} {'TCP' if one.tcp else 'UDP'}": one.method for one in snapshot.mappings}
            port_outside, address = snapshot.external_port(True), snapshot.external_address()
            say(json.dumps({"status": snapshot.status, "mapped": mapped, "port": port_outside, "address": address}))
        try:
            await asyncio.wait_for(stopped.wait(), 0.2)
        except TimeoutError:
            continue
    await portmap.aclose()
    server.close()
    say("closed")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
