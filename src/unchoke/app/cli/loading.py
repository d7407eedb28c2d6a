"""Loading what a SOURCE names: read from a file or standard input, fetched from a URL; or, of a magnet link, asked of peers for a
command that only wants to look at it: then no data is asked for, and nothing is kept.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from unchoke.app.cli.common import Face, kind_of, magnet_of, parse_torrent, read_torrent
from unchoke.app.cli.network import NetworkOptions
from unchoke.app.cli.text import clean, format_duration
from unchoke.errors import NetworkError, NotFoundError, StoppedError, TimedOutError
from unchoke.protocol.magnet import Magnet

if TYPE_CHECKING:
    from unchoke.engine.session import Session
    from unchoke.engine.torrent import Torrent
    from unchoke.protocol.metainfo import Metainfo


async def load(source: str) -> Metainfo | Magnet:
    """The torrent a SOURCE names, or what is known of it; a URL is fetched. Errors name the source."""
    kind = kind_of(source)
    if kind in ("magnet", "infohash"):
        return magnet_of(source)
    if kind != "url":
        return await asyncio.to_thread(
            lambda: parse_torrent(read_torrent(source), "standard input" if source == "-" else source)
        )
    if not source.lower().startswith(("http://", "https://")):
        raise click.BadParameter(f"{clean(source)}: only http and https URLs can be fetched", param_hint="SOURCE")
    from unchoke.engine.net.http import HttpClient
    from unchoke.engine.parsing import MOST_METAINFO

    client = HttpClient()
    try:
        reply = await client.fetch(source, max_size=MOST_METAINFO, timeout=60.0)
    except NetworkError as error:
        raise NetworkError(f"{clean(source)}: {error}") from None
    finally:
        await client.aclose()
    if reply.status in (404, 410):
        raise NotFoundError(f"{clean(source)}: not found (HTTP {reply.status})")
    if reply.status != 200:
        raise NetworkError(f"{clean(source)}: HTTP {reply.status}")
    return parse_torrent(reply.body, source)


async def fetch_metainfo(
    magnet: Magnet, network: NetworkOptions, face: Face, *, timeout: float | None = None
) -> Metainfo:
    """Ask peers for it, and say on stderr how that goes. Raises TimedOutError after so many seconds, StoppedError on Ctrl-C."""
    from unchoke.app.cli.progress import make_reporter
    from unchoke.app.cli.running import run_session
    from unchoke.engine.resume import MemoryStore

    found: list[Metainfo] = []

    async def work(session: Session) -> None:
        torrent = await session.add(
            magnet, metadata_only=True, trackers=network.trackers, peers=await network.addresses()
        )
        found.append(await _within(torrent, timeout))

    reporter = make_reporter(progress=network.progress, quiet=network.quiet, json=False, color=network.color)
    settings = network.settings(face)
    await run_session(settings, reporter, work, MemoryStore(), nodes_file=network.nodes_file(face))
    if not found:
        raise StoppedError("stopped before the metadata came")
    return found[0]


async def _within(torrent: Torrent, timeout: float | None) -> Metainfo:
    try:
        async with asyncio.timeout(timeout):
            return await torrent.metadata()
    except TimeoutError:
        why = torrent.snapshot().why()
        raise TimedOutError(
            f"{clean(torrent.name)}: no metadata within {format_duration(timeout or 0.0)} ({clean(why)})"
        ) from None
