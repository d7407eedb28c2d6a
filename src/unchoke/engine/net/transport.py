"""Network: the streams the engine uses, as an interface. ``tcp`` is the real one; a simulator can be another.

A conversation is an ``asyncio.BufferedProtocol`` on an ``asyncio.Transport``: the standard library's pair is the seam, so
that TCP, uTP and a simulated link look alike to a peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from unchoke.types import Address

#: Makes the protocol object of a new connection.
Factory = Callable[[], asyncio.BufferedProtocol]


class Network(Protocol):
    """Where connections come from."""

    async def listen(self, accept: Factory, *, port: int, bind: str) -> int:
        """Accept on both families (or on the family of the literal address ``bind``); returns the port.

        Port 0 means a usual one. Raises PortTakenError for a port that was named and is in use, else NetworkError.
        """
        ...

    async def connect(self, factory: Factory, address: Address, *, bind: str, timeout: float) -> None:
        """Dial. Raises NetworkError (also after ``timeout`` seconds)."""
        ...

    async def aclose(self) -> None:
        """Stop listening."""
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
