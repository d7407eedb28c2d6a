"""``unchoke edit``: change what stands around the info dictionary, never in it, so the infohash stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from unchoke.app.cli.common import load_torrent, verbose_option, write_file
from unchoke.app.cli.create import TierCommand, tiers, tracker_options
from unchoke.app.cli.text import URL, clean

if TYPE_CHECKING:
    from unchoke.protocol.metainfo import Metainfo


@click.command(cls=TierCommand)
@click.argument("torrent", type=click.Path(allow_dash=True))
@tracker_options
@click.option(
    "-a", "--add-tracker", multiple=True, type=URL, metavar="URL", help="Add a tracker, as a tier of its own."
)
@click.option("-d", "--delete-tracker", multiple=True, metavar="URL", help="Take a tracker out.")
@click.option("--no-trackers", is_flag=True, help="Take all trackers out.")
@click.option("--web-seed", "web_seeds", multiple=True, type=URL, metavar="URL", help="Add a web seed.")
@click.option("--delete-web-seed", multiple=True, metavar="URL", help="Take a web seed out.")
@click.option("--comment", metavar="TEXT", help="Set the comment; '' takes it out.")
@click.option("--created-by", metavar="TEXT", help="Set who made it; '' takes it out.")
@click.option("--no-date", is_flag=True, help="Take the date out.")
@click.option("-o", "--output", type=click.Path(), help="Write here, not in place; - is standard output.")
@click.option("-f", "--force", is_flag=True, help="With -o: overwrite the file if it exists.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@verbose_option
def edit(torrent: str, output: str | None, force: bool, quiet: bool, **flags: Any) -> None:
    """Change the trackers, comment and the like of the .torrent file TORRENT, in place or with -o elsewhere.

    -t/--tracker replaces all trackers by those given. The files and the infohash never change.
    """
    if not any(value or value == "" for value in flags.values()):
        raise click.UsageError("nothing to change: say what, for example --comment TEXT or --add-tracker URL")
    if torrent == "-" and output is None:
        output = "-"
    metainfo = load_torrent(torrent)
    data = metainfo.edited(**_changes(metainfo, flags))
    write_file(output or torrent, data, replace=output is None or force)
    if not quiet and output != "-":
        click.echo(f"{metainfo.infohash}  {clean(output or torrent)}")


def _changes(metainfo: Metainfo, flags: dict[str, Any]) -> dict[str, Any]:
    """What to give to ``Metainfo.edited``; usage errors for what is not there to take out."""
    changes: dict[str, Any] = {}
    if flags["tracker"] or flags["add_tracker"] or flags["delete_tracker"] or flags["no_trackers"]:
        changes["trackers"] = _trackers(metainfo, flags)
    if flags["web_seeds"] or flags["delete_web_seed"]:
        left = _without(metainfo.web_seeds, flags["delete_web_seed"], "web seed")
        changes["web_seeds"] = list(dict.fromkeys([*left, *flags["web_seeds"]]))
    for name in ("comment", "created_by"):
        if flags[name] is not None:
            changes[name] = flags[name]
    if flags["no_date"]:
        changes["created_at"] = None
    return changes


def _trackers(metainfo: Metainfo, flags: dict[str, Any]) -> list[list[str]]:
    if flags["tracker"] and flags["no_trackers"]:
        raise click.UsageError("--no-trackers and -t/--tracker at once: -t alone replaces all trackers")
    kept = tiers(flags["tracker"])
    if not kept and not flags["no_trackers"]:
        kept = [list(tier) for tier in metainfo.trackers]
    known = [url for tier in kept for url in tier]
    left = set(_without(known, flags["delete_tracker"], "tracker"))
    kept = [[url for url in tier if url in left] for tier in kept]
    return [tier for tier in kept if tier] + [[url] for url in flags["add_tracker"] if url not in left]


def _without(urls: Any, gone: tuple[str, ...], what: str) -> list[str]:
    for url in gone:
        if url not in urls:
            raise click.UsageError(f"the torrent has no {what} {clean(url)}")
    return [url for url in urls if url not in gone]
