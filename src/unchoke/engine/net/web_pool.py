"""WebPool: connections to web servers: dialled past the guard, secured, and kept for a while once an answer was read to its end."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from unchoke.engine.net.guard import Guard
from unchoke.engine.net.http_words import os_words
from unchoke.engine.net.names import Names
from unchoke.engine.net.resolver import family_of
from unchoke.engine.net.transport import Network
from unchoke.engine.net.web import WebConnection
from unchoke.errors import NetworkError
from unchoke.protocol.webseed.answer import Answer
from unchoke.types import Address

if TYPE_CHECKING:
    import yarl

#: Seconds until a connection must stand (and once more its TLS), and that one without work is kept.
CONNECT_TIMEOUT = 10.0
KEEP_ALIVE = 15.0
#: Addresses of one name that are tried, and idle connections that are kept, of all servers together.
MOST_ADDRESSES = 4
MOST_IDLE = 16


class WebPool:
    """``guard`` judges each address; ``bind``: literal address that requests leave from (it fixes the family). ``names`` and
    ``network``: the session's, and left to it. All failures are NetworkError."""

    def __init__(self, guard: Guard, *, names: Names, network: Network, bind: str = "") -> None:
        self._guard = guard
        self._names = names
        self._network = network
        self._bind = bind
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[WebConnection, tuple[str, asyncio.TimerHandle]] = {}
        self.is_closed = False

    async def exchange(self, target: yarl.URL, request: bytes) -> tuple[WebConnection, Answer]:
        """Send a request and wait for the head of its answer; over a connection that is kept, if one is.

        If the server closed that meanwhile, over another. The connection is given back with ``take_back``.
        """
        key = _key(target)
        while True:
            connection = self._kept(key) or await self._connect(target)
            try:
                return connection, await connection.ask(request)
            except NetworkError:
                if not connection.served:
                    raise
            except BaseException:
                connection.abort()
                raise

    def _kept(self, key: str) -> WebConnection | None:
        for connection, (its_key, timer) in list(self._idle.items()):
            if its_key == key or not connection.is_open:
                timer.cancel()
                del self._idle[connection]
                if connection.is_open:
                    return connection
        return None

    async def _connect(self, target: yarl.URL) -> WebConnection:
        host, port = target.host or "", target.port or 0
        if self.is_closed:
            raise NetworkError("the client is closed")
        family = family_of(self._bind) if self._bind else 0
        addresses = self._guard.choose(host, await self._names.resolve(host, port, family))
        connection = await self._dial(host, _key(target), addresses)
        if target.scheme == "https":
            try:
                await connection.secure(await self._context(), host, timeout=CONNECT_TIMEOUT)
            except ssl.SSLError as error:
                connection.abort()
                why = getattr(error, "verify_message", "") or error.reason or error
                raise NetworkError(f"no secure connection to {host}: {why}", "tls") from None
            except (OSError, ValueError) as error:
                connection.abort()
                raise NetworkError(f"no secure connection to {host}: {os_words(error) or error}", "tls") from None
            except BaseException:
                connection.abort()
                raise
        return connection

    async def _dial(self, host: str, key: str, addresses: Sequence[Address]) -> WebConnection:
        problem: NetworkError | None = None
        for address in addresses[:MOST_ADDRESSES]:
            connection = WebConnection(host, key, direct=sys.platform != "win32")
            try:
                await self._network.connect(lambda: connection, address, bind=self._bind, timeout=CONNECT_TIMEOUT)  # noqa: B023
            except NetworkError as error:
                problem = error
                continue
            except BaseException:
                connection.abort()
                raise
            return connection
        raise NetworkError(f"cannot connect to {host}: {problem or 'no address'}", "connect")

    async def _context(self) -> ssl.SSLContext:
        """Made on a thread: reading the machine's certificates takes a while."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        return self._tls

    def take_back(self, connection: WebConnection) -> None:
        """Keep it for the next request, if it is good for one."""
        if not connection.is_reusable or self.is_closed or len(self._idle) >= MOST_IDLE:
            connection.abort()
            return
        connection.rest()
        timer = asyncio.get_running_loop().call_later(KEEP_ALIVE, self._forget, connection)
        self._idle[connection] = connection.key, timer

    def _forget(self, connection: WebConnection) -> None:
        self._idle.pop(connection, None)
        connection.abort()

    async def aclose(self) -> None:
        """Close what is kept. Connections at work are their users' to close."""
        self.is_closed = True
        idle, self._idle = self._idle, {}
        for connection, (_, timer) in idle.items():
            timer.cancel()
            connection.abort()

    def __repr__(self) -> str:
        return f"<WebPool [{'closed' if self.is_closed else f'{len(self._idle)} connections kept'}]>"


def _key(target: yarl.URL) -> str:
    """Requests of the same key may share a connection."""
    return f"{target.scheme}://{target.host}:{target.port}"
