"""The crank of a DHT node on both loops: a timer that is due at once is none that uvloop can be asked about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from fakes.peer import soon
from unchoke.engine.dht.crank import Crank
from unchoke.engine.net.udp import UdpEndpoint


class Impatient:
    """A node that always wants its timer now, and counts how often it came."""

    def __init__(self) -> None:
        self.ticks = 0
        self.enough = asyncio.Event()

    def get_timer(self) -> float | None:
        return None if self.enough.is_set() else 0.0

    def handle_timer(self, now: float) -> None:
        self.ticks += 1
        if self.ticks == 3:
            self.enough.set()

    def datagrams_to_send(self, now: float) -> list[object]:
        return []

    def events(self) -> list[object]:
        return []

    def receive_datagram(self, *packet: object) -> bool:
        return True


def loops() -> list[Any]:
    try:
        import uvloop
    except ImportError:
        return [asyncio.new_event_loop]
    return [asyncio.new_event_loop, pytest.param(uvloop.new_event_loop, id="uvloop")]


@pytest.mark.parametrize("loop_factory", loops())
def test_packets_come_while_the_timer_is_due(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scenario() -> None:
        node = Impatient()
        crank = Crank(cast(Any, node), 4, UdpEndpoint(), lambda crank, event: None)
        for _ in range(5):
            assert crank.receive(b"de", cast(Any, None), crank.now())
        assert node.ticks == 0, "one timer is set, however many packets come"
        await soon(node.enough.wait())
        crank.close()
        assert node.ticks == 3

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())
