"""Network: the streams and datagrams the engine uses, as an interface. ``tcp`` is the real one, ``unchoke.testing`` another.

A conversation is an ``asyncio.BufferedProtocol`` on an ``asyncio.Transport``, packets go through an ``asyncio.DatagramProtocol``
and its transport: the standard library's pairs are the seam, so that TCP, uTP and a simulated link look alike to a peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from unchoke.types import Address

#: Makes the protocol object of a new connection.
Factory = Callable[[], asyncio.BufferedProtocol]
#: Makes the protocol object of a socket for datagrams.
DatagramFactory = Callable[[], asyncio.DatagramProtocol]


class Datagrams(Protocol):
    """Where sockets for datagrams come from."""

    async def open_datagrams(self, factory: DatagramFactory, *, port: int, host: str) -> asyncio.DatagramTransport:
        """A socket of one family: ``host`` is a literal address of ours, or that family's unspecified one.

        If ``port`` is taken another is chosen; the transport's ``sockname`` says which. Raises OSError.
        """
        ...


class Network(Datagrams, Protocol):
    """Where connections and packets come from."""

    async def listen(self, accept: Factory, *, port: int, bind: str) -> int:
        """Accept on both families (or on the family of the literal address ``bind``); returns the port.

        Port 0 means a usual one. Raises PortTakenError for a port that was named and is in use, else NetworkError.
        """
        ...

    async def connect(self, factory: Factory, address: Address, *, bind: str, timeout: float) -> None:
        """Dial. Raises NetworkError (also after ``timeout`` seconds)."""
        ...

    async def aclose(self) -> None:
        """Stop listening. Sockets for datagrams belong to whoever opened them."""
        ...


class ReceiveBuffer:
    """The one buffer that all peers of a loop receive into.

    On selector loops and uvloop ``get_buffer``, the read and ``buffer_updated`` are one synchronous step, so a thousand peers
    need one buffer. Where they are not (Windows' Proactor), each peer is given its own.
    """

    __slots__ = ("_shared", "_size")

    def __init__(self, size: int, *, shared: bool) -> None:
        self._size = size
        self._shared = memoryview(bytearray(size)) if shared else None

    def get(self) -> memoryview:
        return self._shared if self._shared is not None else memoryview(bytearray(self._size))
