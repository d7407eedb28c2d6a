"""TCP: one listening socket for each family on one port, and dials bounded in time.

Both families listen apart (``IPV6_V6ONLY``), so that an IPv4 peer is never seen as a mapped IPv6 one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys

from unchoke.engine.net.transport import DatagramFactory, Factory
from unchoke.engine.net.udp import open_datagrams
from unchoke.errors import NetworkError, PortTakenError
from unchoke.types import Address

#: The ports tried when none is named: Transmission's default and the nine after it; routers and users know them.
USUAL_PORTS = range(51413, 51423)

#: Connections the kernel holds for us between two turns of the loop.
BACKLOG = 256


class TcpNetwork:
    """The kernel's network. ``socket_buffer``: SO_RCVBUF of streams in bytes; 0 leaves it to the kernel's own tuning."""

    def __init__(self, *, socket_buffer: int = 0) -> None:
        self._socket_buffer = socket_buffer
        self._servers: list[asyncio.Server] = []

    async def listen(self, accept: Factory, *, port: int, bind: str) -> int:
        sockets = bind_pair(port, bind)
        loop = asyncio.get_running_loop()
        bound: int = sockets[0].getsockname()[1]
        try:
            while sockets:
                self._tune(sockets[0])
                # Without start_serving the server is ours before the first await, so that ``aclose`` finds its socket.
                server = await loop.create_server(accept, sock=sockets[0], backlog=BACKLOG, start_serving=False)
                self._servers.append(server)
                del sockets[0]
                await server.start_serving()
        except OSError as error:
            raise NetworkError(f"cannot listen: {error.strerror or error}") from None
        finally:
            for sock in sockets:
                sock.close()
        return bound

    async def connect(self, factory: Factory, address: Address, *, bind: str, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        local = (bind, 0) if bind and (":" in bind) == (family == socket.AF_INET6) else None
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            self._tune(sock)
            if local is not None:
                sock.bind(local)
            async with asyncio.timeout(timeout):
                await _connect(sock, address)
            await loop.create_connection(factory, sock=sock)
        except TimeoutError:
            sock.close()
            raise NetworkError(f"no answer within {timeout:g} s") from None
        except (OSError, ValueError) as error:
            sock.close()
            number = getattr(error, "errno", None)  # asyncio's own text shows a tuple
            raise NetworkError(os.strerror(number) if number else str(error)) from None
        except BaseException:
            sock.close()
            raise

    async def open_datagrams(self, factory: DatagramFactory, *, port: int, host: str) -> asyncio.DatagramTransport:
        return await open_datagrams(factory, port=port, host=host)

    def _tune(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._socket_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._socket_buffer)

    async def aclose(self) -> None:
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()


def _sockaddr(address: Address) -> tuple[str, int] | tuple[str, int, int, int]:
    host, _, scope = address.host.partition("%")
    if not scope:
        return (host, address.port)
    return (host, address.port, 0, int(scope) if scope.isdigit() else socket.if_nametoindex(scope))


async def _connect(sock: socket.socket, address: Address) -> None:
    loop = asyncio.get_running_loop()
    if "%" not in address.host or sys.platform == "win32":
        await loop.sock_connect(sock, _sockaddr(address))
        return
    try:  # uvloop's sock_connect drops the scope, without which a link-local address is invalid
        sock.connect(_sockaddr(address))
        return
    except BlockingIOError:
        connected = asyncio.Event()
        loop.add_writer(sock, connected.set)
    try:
        await connected.wait()
    finally:
        loop.remove_writer(sock)
    if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(number, os.strerror(number))


def bind_pair(port: int, bind: str) -> list[socket.socket]:
    """TCP sockets bound to one port, for both families unless ``bind`` is an address of one.

    A machine without IPv6 gets one socket. Raises PortTakenError, NetworkError.
    """
    if port:
        return _bind(port, bind)
    for usual in USUAL_PORTS:
        try:
            return _bind(usual, bind)
        except PortTakenError:
            continue
    for attempt in range(20):  # the kernel's choice for one family may be taken in the other
        try:
            return _bind(0, bind)
        except PortTakenError:
            if attempt == 19:
                raise
    raise AssertionError("unreachable")


def _bind(port: int, bind: str) -> list[socket.socket]:
    hosts = [bind] if bind else ["0.0.0.0", "::"]
    bound: list[socket.socket] = []
    try:
        for host in hosts:
            sock = _bind_one(host, port, optional=not bind and bool(bound))
            if sock is not None:
                bound.append(sock)
                port = sock.getsockname()[1]
    except BaseException:
        for sock in bound:
            sock.close()
        raise
    return bound


def _bind_one(host: str, port: int, *, optional: bool) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if optional:
            return None
        raise NetworkError(f"cannot listen on {host}: {error.strerror}") from None
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if _reuse_is_safe():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((host, port))
        sock.listen(BACKLOG)  # two listeners may be bound with SO_REUSEADDR; the second listen is what fails
        return sock
    except OSError as error:
        sock.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise PortTakenError(f"port {port} is taken ({error.strerror})") from None
        if optional and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return None
        raise NetworkError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None


def _reuse_is_safe() -> bool:
    """On Windows SO_REUSEADDR lets two programs listen on one port."""
    return not hasattr(socket, "SO_EXCLUSIVEADDRUSE")
