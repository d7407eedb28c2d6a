"""The options that ``get`` and ``seed`` share, and what becomes of them: settings for the session, peers to dial, refusals.

A flag that turns off what is not built yet is accepted, for it is already true; one that asks for protection or for a
transport that we lack is refused with exit 2, for to ignore it would betray whoever asked.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unchoke.app.cli.common import Face, verbose_option
from unchoke.app.cli.text import RATE, URL

if TYPE_CHECKING:
    from unchoke.app.cli.keeping import Keeping
    from unchoke.engine.settings import Settings
    from unchoke.types import Address


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """What the shared options said."""

    port: int | None = None
    bind: str | None = None
    down: int | None = None
    up: int | None = None
    peers: tuple[tuple[str, int], ...] = ()
    trackers: tuple[str, ...] = ()
    progress: bool = True
    quiet: bool = False
    json: bool = False
    color: str = "auto"
    log_file: Path | None = None
    on_complete: str | None = None
    state_dir: Path | None = None
    dht: bool | None = None
    pex: bool | None = None
    lsd: bool | None = None
    port_mapping: bool | None = None

    def keeping(self, face: Face) -> Keeping:
        """Where this run keeps its records and locks."""
        from unchoke.app.cli.keeping import Keeping

        return Keeping(self.state_dir or face.directories.data)

    def settings(self, face: Face) -> Settings:
        """The session's settings: these options before environment, config.toml and defaults."""
        settings = face.settings(
            {
                "network": {"port": self.port, "bind": self.bind},
                "bandwidth": {"down": self.down, "up": self.up},
                "dht": {"enabled": self.dht},
                "pex": {"enabled": self.pex},
                "lsd": {"enabled": self.lsd},
                "portmap": {"enabled": self.port_mapping},
            }
        )
        wished = {"--dht": self.dht, "--pex": self.pex, "--lsd": self.lsd, "--port-mapping": self.port_mapping}
        if not settings.network.discovery and (flag := next((flag for flag, on in wished.items() if on), None)):
            raise click.UsageError(f"{flag} does nothing while the setting network.discovery is off")
        return settings

    def nodes_file(self, face: Face) -> Path:
        """Where DHT nodes are kept between runs."""
        return face.directories.cache / "dht-nodes"

    async def addresses(self) -> list[Address]:
        """The ``--peer`` hosts, names resolved to both families; all found are dialled, the first that answers is it."""
        from unchoke.engine.net.resolver import resolve

        found: list[Address] = []
        for host, port in self.peers:
            found += await resolve(host, port)
        return found

    def start_logging(self, face: Face) -> None:
        """``-v``: what happens; ``-vv``: every message. To stderr, or to ``--log-file``."""
        level = {0: logging.WARNING, 1: logging.INFO}.get(face.verbose, logging.DEBUG)
        if self.log_file is not None:
            level = min(level, logging.INFO)
            handler: logging.Handler = logging.FileHandler(self.log_file, encoding="utf-8", errors="backslashreplace")
        elif face.verbose:
            handler = logging.StreamHandler(sys.stderr)
        else:
            handler = logging.NullHandler()  # errors reach the user as one line, by way of exceptions
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
        logger = logging.getLogger("unchoke")
        logger.addHandler(handler)
        logger.setLevel(level)


def _peer(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    found = []
    for value in values:
        host, _colon, port = value.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise click.BadParameter(f"{value!r} is no HOST:PORT; an IPv6 address is written [::1]:51413")
        found.append((host, int(port)))
    return tuple(found)


def _bind(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return str(ipaddress.ip_address(value.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no IP address; binding to an interface by name is not built yet"
        ) from None


def _refuse(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """For flags that ask for what we lack."""
    if value:
        name = parameter.opts[0]
        raise click.UsageError(f"{name} is not built yet, and ignoring it would not do what you ask", ctx)


def _only(*allowed: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def check(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None and value not in allowed:
            name = parameter.opts[0]
            raise click.UsageError(f"{name} {value} is not built yet, and ignoring it would not do what you ask", ctx)

    return check


peer_option = click.option(
    "--peer", "peers", multiple=True, callback=_peer, metavar="HOST:PORT", help="Dial this peer; repeatable."
)
tracker_option = click.option(
    "--tracker", "trackers", multiple=True, type=URL, metavar="URL", help="Ask this tracker too; repeatable."
)

_OPTIONS: list[Callable[[Any], Any]] = [
    peer_option,
    tracker_option,
    click.option("-p", "--port", type=click.IntRange(1, 65535), metavar="N", help="Listen on this port (TCP and UDP)."),
    click.option("--bind", callback=_bind, metavar="ADDRESS", help="Listen on and dial from this address only."),
    click.option("--down", type=RATE, metavar="RATE", help="Download limit, like 2M or 500k (bytes/s)."),
    click.option("--up", type=RATE, metavar="RATE", help="Upload limit."),
    click.option("--no-progress", is_flag=True, help="No progress on stderr."),
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors."),
    click.option("--json", is_flag=True, help="One JSON object per line on stdout."),
    click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Colours of the live display; NO_COLOR is honoured too.",
    ),
    click.option(
        "--log-file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the log there."
    ),
    click.option(
        "--on-complete", metavar="CMD", help="Run this when a torrent is complete (UNCHOKE_NAME, _PATH, _INFOHASH)."
    ),
    click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Where resume records go; default: the data folder of --home.",
    ),
    click.option(
        "--transport", expose_value=False, callback=_only("tcp"), metavar="tcp", help="Only TCP is built yet."
    ),
    click.option(
        "--encryption",
        expose_value=False,
        callback=_only("disable", "prefer"),
        metavar="prefer|disable",
        help="No encryption is built yet: 'require' is refused.",
    ),
    click.option("--proxy", expose_value=False, callback=_refuse, metavar="URL", hidden=True),
    click.option("--dht/--no-dht", default=None, help="Find peers in the distributed hash table."),
    click.option("--pex/--no-pex", default=None, help="Let peers tell of peers."),
    click.option("--lsd/--no-lsd", default=None, help="Find peers on the local network."),
    click.option("--port-mapping/--no-port-mapping", default=None, help="Ask the router to let peers in."),
    verbose_option,
]


def network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options; the command gets them as ``network: NetworkOptions``."""

    @functools.wraps(command)
    def wrapped(*args: Any, **given: Any) -> Any:
        network = NetworkOptions(
            port=given.pop("port"),
            bind=given.pop("bind"),
            down=given.pop("down"),
            up=given.pop("up"),
            peers=given.pop("peers"),
            trackers=given.pop("trackers"),
            progress=not given.pop("no_progress"),
            quiet=given.pop("quiet"),
            json=given.pop("json"),
            color=given.pop("color"),
            log_file=given.pop("log_file"),
            on_complete=given.pop("on_complete"),
            state_dir=given.pop("state_dir"),
            dht=given.pop("dht"),
            pex=given.pop("pex"),
            lsd=given.pop("lsd"),
            port_mapping=given.pop("port_mapping"),
        )
        return command(*args, network=network, **given)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


refused = _refuse
