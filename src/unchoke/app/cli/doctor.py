"""``unchoke doctor``: what on this machine and its network keeps torrents from moving, and what to do about it.

All checks run side by side, within 15 seconds. Exit 0: nothing is bad; 6: only the network is; 1: something else is. What cannot be
known from here is said to be so. With ``network.discovery`` off nobody is asked who was not named on the command line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unchoke.app.cli import checkup, checkup_network
from unchoke.app.cli.checkup import Finding
from unchoke.app.cli.checkup_network import Tracker
from unchoke.app.cli.common import Face, kind_of, load_torrent, magnet_of, verbose_option
from unchoke.app.cli.joining import log_to_stderr
from unchoke.app.cli.running import run_briefly
from unchoke.app.cli.text import URL, clean

if TYPE_CHECKING:
    from unchoke.engine.settings import Settings

#: Seconds that a check may take, and then is given up.
LONGEST = 13.0
_MARKS = {"ok": "ok   ", "warn": "look ", "bad": "BAD  ", "skipped": "-    "}
_COLORS = {"ok": "green", "warn": "yellow", "bad": "red", "skipped": "bright_black"}


@click.command()
@click.argument("sources", nargs=-1, metavar="[TORRENT|MAGNET]...")
@click.option("--tracker", "urls", multiple=True, type=URL, metavar="URL", help="Ask this tracker too; repeatable.")
@click.option(
    "-d",
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    metavar="DIR",
    help="Where downloads go; default: the current folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@verbose_option
@click.pass_context
def doctor(ctx: click.Context, sources: tuple[str, ...], urls: tuple[str, ...], folder: Path, as_json: bool) -> int:
    """Look at this machine and its network, and say what is wrong and what to do; with TORRENTs, ask their trackers too."""
    face = ctx.ensure_object(Face)
    log_to_stderr(face.verbose)
    listed = _trackers(sources, urls)
    if not as_json and sys.stderr.isatty():
        click.echo("looking around; this takes up to 15 seconds", err=True)
    findings = run_briefly(examine(face.settings(), face, folder, listed))
    if as_json:
        click.echo(json.dumps(as_dict(findings), indent=2))
    else:
        _print(findings)
    return exit_code(findings)


def _trackers(sources: Sequence[str], urls: Sequence[str]) -> list[Tracker]:
    """Those of the command line, then those of torrents and magnet links. Raises what reading these does."""
    found = {url: Tracker(url, None, True) for url in urls}
    for source in sources:
        if kind_of(source) in ("magnet", "infohash"):
            link = magnet_of(source)
            listed, infohash = link.trackers, link.infohash_v1 or link.infohash_v2
        else:
            metainfo = load_torrent(source)
            listed, infohash = tuple(url for tier in metainfo.trackers for url in tier), metainfo.infohash
        for url in listed:
            found[url] = Tracker(url, infohash, url in urls)
    return list(found.values())


async def examine(settings: Settings, face: Face, folder: Path, listed: Sequence[Tracker]) -> list[Finding]:
    """Everything, side by side. Findings come in the order of the checks."""
    from unchoke.app.cli.checkup_port import check_port

    directories = face.directories
    local: list[tuple[str, Callable[[], Finding | list[Finding]]]] = [
        ("python", lambda: checkup.python(checkup.loop_name())),
        ("open files", lambda: checkup.open_files(settings)),
        ("download folder", lambda: checkup.folder("download folder", folder)),
        ("state folder", lambda: checkup.folder("state folder", directories.data)),
        ("cache folder", lambda: checkup.folder("cache folder", directories.cache)),
        ("clock", checkup.clock),
        ("proxies", lambda: checkup.proxies(os.environ)),
        ("routes", lambda: checkup_network.routes(settings.network.bind)),
    ]
    waiting = [
        *(_bounded(name, asyncio.to_thread(check)) for name, check in local),
        _bounded("DNS", checkup_network.names(_hosts(settings, listed)), network=True),
        _bounded("port", check_port(settings, directories.cache / "dht-nodes"), network=True),
        _bounded("trackers", checkup_network.trackers(listed, settings, show=face.verbose > 1), network=True),
    ]
    return [finding for found in await asyncio.gather(*waiting) for finding in found]


async def _bounded(
    name: str, check: Coroutine[Any, Any, Finding | list[Finding]], *, network: bool = False
) -> list[Finding]:
    """Its findings, or one that it took too long, or failed by itself."""
    try:
        async with asyncio.timeout(LONGEST):
            found = await check
    except TimeoutError:
        return [Finding(name, "bad", f"no answer within {LONGEST:g} s", network=network)]
    except Exception as error:  # noqa: BLE001 - one check that fails must not hide what the others found
        return [
            Finding(name, "bad", f"this check failed: {clean(str(error)) or type(error).__name__}", network=network)
        ]
    return found if isinstance(found, list) else [found]


def _hosts(settings: Settings, listed: Iterable[Tracker]) -> list[str]:
    """Whose names should resolve: the trackers', and the DHT's routers if they may be asked."""
    from urllib.parse import urlsplit

    from unchoke.engine.dht.bootstrap import parse_routers

    hosts = [host for tracker in listed if (host := _host(urlsplit, tracker.url))]
    if settings.network.discovery and settings.dht.enabled:
        hosts += [host for host, _ in parse_routers(settings.dht.routers)]
    return hosts


def _host(split: Callable[[str], Any], url: str) -> str:
    try:
        return split(url).hostname or ""
    except ValueError:
        return ""


def exit_code(findings: Iterable[Finding]) -> int:
    """0: nothing is bad; 6: the network is; 1: something of this machine is."""
    bad = [finding for finding in findings if finding.level == "bad"]
    return 0 if not bad else 6 if all(finding.network for finding in bad) else 1


def as_dict(findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "ok": not any(finding.level == "bad" for finding in findings),
        "findings": [
            {"name": one.name, "level": one.level, "words": one.words, "advice": one.advice or None} for one in findings
        ],
    }


def _print(findings: Sequence[Finding]) -> None:
    for finding in findings:
        click.echo(f"{click.style(_MARKS[finding.level], _COLORS[finding.level])} {finding.name}: {finding.words}")
        if finding.advice and finding.level in ("warn", "bad"):
            click.echo(f"        {finding.advice}")
    bad = sum(finding.level == "bad" for finding in findings)
    click.echo("nothing is wrong that could be seen from here" if not bad else f"{bad} bad: see above for what to do")
