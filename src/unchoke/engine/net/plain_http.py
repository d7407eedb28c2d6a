"""One HTTP request to a machine on the local network: connect, ask, read the answer within bounds, close.

For UPnP, whose servers are too sloppy for a proper client, and whose addresses are link-local ones at times. What is read and what
is forgiven is ``protocol/portmap/http``'s.
"""

from __future__ import annotations

import asyncio
from typing import cast

from unchoke.engine.net.transport import Network
from unchoke.errors import NetworkError, ProtocolError
from unchoke.protocol.portmap.http import MAX_BODY, ReplyReader
from unchoke.types import Address

#: Bytes read at a time.
_BUFFER = 16 * 1024


async def exchange(
    network: Network, address: Address, request: bytes, *, bind: str = "", timeout: float, max_size: int = MAX_BODY
) -> tuple[int, bytes]:
    """Send ``request`` to ``address`` (its host with a scope, if it needs one); give the answer's status and body.

    ``timeout``: seconds for all of it. Raises NetworkError, also for what is no answer.
    """
    ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    conversation = _Conversation(request, ReplyReader(max_size), ends)
    try:
        async with asyncio.timeout(timeout):
            await network.connect(lambda: conversation, address, bind=bind, timeout=timeout)
            await ends
    except TimeoutError:
        raise NetworkError(f"no complete answer from {address.host} within {timeout:g} s") from None
    except ProtocolError as error:
        raise NetworkError(f"{address.host}: {error}") from None
    finally:
        conversation.stop()
    return conversation.reader.status, conversation.reader.body


class _Conversation(asyncio.BufferedProtocol):
    def __init__(self, request: bytes, reader: ReplyReader, ends: asyncio.Future[None]) -> None:
        self.reader = reader
        self._request = request
        self._ends = ends
        self._buffer = bytearray(_BUFFER)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        if self._ends.done():
            self._transport.abort()  # nobody waits any more
        else:
            self._transport.write(self._request)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._ends.done():
            return
        try:
            self.reader.feed(bytes(self._buffer[:nbytes]))
        except ProtocolError as error:
            self._ends.set_exception(error)
        else:
            if self.reader.done:
                self._ends.set_result(None)

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if self._ends.done():
            return
        try:
            self.reader.end()
        except ProtocolError as error:
            self._ends.set_exception(error)
        else:
            self._ends.set_result(None)

    def stop(self) -> None:
        """Let go of the connection, whatever its state."""
        if not self._ends.done():
            self._ends.cancel()
        elif not self._ends.cancelled():
            self._ends.exception()  # seen
        if self._transport is not None:
            self._transport.abort()
