"""Joining the DHT for the length of one command: a socket, a node that asks and answers nobody, a heartbeat, and an end.

Only here is decided whom such a node asks first: the ``--node`` hosts alone if there are any (a private DHT stays private: nothing
saved is used, and nothing is saved), else the nodes of earlier runs and the routers, which ``network.discovery`` has to allow.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unchoke.app.cli.common import Face, verbose_option
from unchoke.app.cli.text import DURATION, Parsed, clean, format_duration
from unchoke.errors import NetworkError, PortTakenError, TimedOutError

if TYPE_CHECKING:
    from unchoke.engine.dht import Dht
    from unchoke.engine.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Join:
    """How one command joins. ``port`` None: any. ``timeout`` in seconds, for all of it."""

    settings: Settings
    nodes: tuple[tuple[str, int], ...]
    nodes_file: Path | None
    port: int | None
    bind: str
    timeout: float
    read_only: bool = True

    async def run(self, work: Callable[[Dht], Awaitable[T]]) -> T:
        """Join, do ``work`` when there are nodes, and leave.

        Raises NetworkError (nobody to ask, in words), TimedOutError, and what ``work`` raises.
        """
        async with self.open() as dht:
            try:
                async with asyncio.timeout(self.timeout):
                    await dht.joined()
                    return await work(dht)
            except TimeoutError:
                if dht.trouble:
                    raise NetworkError(clean(dht.trouble)) from None
                wait = format_duration(self.timeout)
                raise TimedOutError(f"not done within {wait}; --timeout allows more") from None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Dht]:
        """A DHT that runs. Raises PortTakenError, NetworkError (``network.discovery`` is off, and no node was given)."""
        from unchoke.engine.dht import Dht
        from unchoke.engine.net.udp import UdpEndpoint

        if not self.nodes and not self.settings.network.discovery:
            raise NetworkError(
                "network.discovery is off, so nobody is asked for DHT nodes; name one yourself with --node HOST:PORT"
            )
        if self.port is not None:
            try:
                check_udp_port(self.port, self.bind)
            except PortTakenError as error:
                raise PortTakenError(f"{error}; choose another with -p/--port") from None
        routers = tuple(f"[{host}]:{port}" for host, port in self.nodes) or self.settings.dht.routers
        endpoint = UdpEndpoint(port=self.port or 0, bind=self.bind)
        dht = Dht(
            endpoint,
            replace(self.settings.dht, routers=routers, read_only=self.read_only),
            port=lambda: endpoint.port,
            nodes_file=None if self.nodes else self.nodes_file,
        )
        beat = asyncio.ensure_future(_beat(dht))
        try:
            dht.start()
            yield dht
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)
            await dht.aclose()
            await endpoint.aclose()


def log_to_stderr(verbose: int) -> None:
    """``-v``: what happens; ``-vv``: every message. Without it errors reach the user as one line, by way of exceptions."""
    logger = logging.getLogger("unchoke")
    handler: logging.Handler = logging.StreamHandler(sys.stderr) if verbose else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG))


async def _beat(dht: Dht) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(1.0)
        dht.heartbeat(loop.time())


def check_udp_port(port: int, bind: str) -> None:
    """Can packets leave from this port? An endpoint would quietly take another one. Raises PortTakenError, NetworkError."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((bind, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortTakenError(f"UDP port {port} is taken ({error.strerror})") from None
            raise NetworkError(f"cannot use {bind or 'any address'} port {port}: {error.strerror or error}") from None


def parse_host(text: str) -> tuple[str, int]:
    """``HOST:PORT``, an IPv6 address in brackets. Raises ValueError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port[:6]) < 65536:
        raise ValueError(f"{clean(text)!r} is no HOST:PORT; an IPv6 address is written [::1]:6881")
    return host, int(port)


def parse_address(text: str) -> str:
    """A literal address of ours to send from. Raises ValueError."""
    from unchoke.engine.net.resolver import maybe_literal

    literal = maybe_literal(text)
    if literal is None:
        raise ValueError(f"{clean(text)!r} is no IP address")
    return literal


_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--node",
        "nodes",
        multiple=True,
        type=Parsed("host:port", parse_host),
        metavar="HOST:PORT",
        help="Begin at this node, and ask neither routers nor nodes of earlier runs; repeatable.",
    ),
    click.option("-p", "--port", type=click.IntRange(1, 65535), metavar="N", help="Send from this UDP port."),
    click.option(
        "--bind",
        type=Parsed("address", parse_address),
        metavar="ADDRESS",
        help="Send from this address only.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    verbose_option,
]


def joining_options(timeout: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options by which a command joins; it gets ``join: Join``. ``timeout``: the default."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        @click.pass_context
        def wrapped(ctx: click.Context, /, *args: Any, **given: Any) -> Any:
            face = ctx.ensure_object(Face)
            settings = face.settings()
            log_to_stderr(face.verbose)
            join = Join(
                settings=settings,
                nodes=given.pop("nodes"),
                nodes_file=face.directories.cache / "dht-nodes",
                port=given.pop("port"),
                bind=given.pop("bind") or settings.network.bind,
                timeout=given.pop("timeout"),
            )
            return command(*args, join=join, **given)

        result: Callable[..., Any] = wrapped
        limit = click.option(
            "--timeout",
            type=DURATION,
            default=timeout,
            show_default=True,
            metavar="TIME",
            help="Give up after so long.",
        )
        for option in [*reversed(_OPTIONS), limit]:
            result = option(result)
        return result

    return decorate
