"""Neighbours without a global address: their scope must not be lost, neither when they are dialled nor when they come."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from unchoke.engine.net.tcp import TcpNetwork
from unchoke.engine.net.transport import ReceiveBuffer
from unchoke.engine.peer import Peer
from unchoke.errors import NetworkError
from unchoke.types import Address


class Caller(asyncio.BufferedProtocol):
    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(1)


def loops() -> list[Any]:
    found: list[Any] = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    try:
        import uvloop
    except ImportError:
        return found
    return [*found, pytest.param(uvloop.new_event_loop, id="uvloop")]


@pytest.mark.parametrize("new_loop", loops())
def test_an_address_with_a_scope_is_dialled(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET6) as listener:
            try:
                listener.bind(("::1", 0))
            except OSError:
                pytest.skip("no IPv6 here")
            listener.listen()
            network, index = TcpNetwork(), socket.if_nametoindex("lo")
            there = Address(f"::1%{index}", listener.getsockname()[1])
            caller = Caller()
            await network.connect(lambda: caller, there, bind="", timeout=5)
            assert caller.transport is not None
            caller.transport.abort()
            listener.close()
            with pytest.raises(NetworkError):
                await network.connect(Caller, there, bind="", timeout=5)
            with pytest.raises(NetworkError):
                await network.connect(Caller, Address("::1%nonsense", there.port), bind="", timeout=5)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


class Line(asyncio.Transport):
    """A connection from somewhere."""

    def __init__(self, name: tuple[Any, ...]) -> None:
        super().__init__({"peername": name})

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Part of what a peer calls."""


class Owner:
    def peer_connected(self, peer: Peer) -> None:
        """Part of PeerOwner."""


@pytest.mark.parametrize(
    ("name", "host"),
    [
        (("fe80::1", 7, 0, 3), "fe80::1%3"),
        (("fe80::1%eth0", 7, 0, 3), "fe80::1%eth0"),
        (("2001:db8::1", 7, 0, 0), "2001:db8::1"),
        (("10.0.0.1", 7), "10.0.0.1"),
    ],
)
async def test_a_peer_that_comes_has_the_scope_it_comes_from(name: tuple[Any, ...], host: str) -> None:
    peer = Peer(cast(Any, Owner()), ReceiveBuffer(64, shared=True), max_message=1000)
    peer.connection_made(Line(name))
    assert peer.address == Address(host, 7)
