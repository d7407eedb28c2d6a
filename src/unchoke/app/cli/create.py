"""``unchoke create``: a .torrent of a file or folder. The work is ``engine/create``; here are flags, progress and the file."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click

from unchoke.app.cli.common import already_there, verbose_option, write_file
from unchoke.app.cli.text import SIZE, URL, clean, format_rate, format_size

#: Stands in the list of trackers where ``--tier`` stood on the command line. No URL can look like it.
TIER = " tier"


class TierCommand(click.Command):
    """A command with ``-t/--tracker`` and ``--tier``, whose order counts: ``--tier`` goes into the list of trackers."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        args = ["--tracker=" + TIER if arg == "--tier" else arg for arg in args[:end]] + args[end:]
        return super().parse_args(ctx, args)


def _tracker(text: str) -> str:
    return text if text == TIER else URL.parser(text)


def _convert_tracker(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(_tracker(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def tracker_options(command: Any) -> Any:
    """``-t/--tracker URL`` and ``--tier``; ``tiers`` makes tiers of what comes in as ``tracker``."""
    command = click.option("--tier", is_flag=True, expose_value=False, help="The trackers that follow are a new tier.")(
        command
    )
    return click.option(
        "-t", "--tracker", multiple=True, metavar="URL", callback=_convert_tracker, help="A tracker; repeatable."
    )(command)


def tiers(trackers: tuple[str, ...]) -> list[list[str]]:
    """The tiers, empty ones left out."""
    found: list[list[str]] = [[]]
    for tracker in trackers:
        if tracker == TIER:
            found.append([])
        else:
            found[-1].append(tracker)
    return [tier for tier in found if tier]


class Hashing:
    """Progress on stderr: one line that is written over on a terminal, else a line every ten seconds."""

    def __init__(self, name: str) -> None:
        self._name = clean(name)
        self._terminal = sys.stderr.isatty()
        self._started = time.monotonic()
        self._said = self._started
        self._pause = 0.1 if self._terminal else 10.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said < self._pause and not (self._terminal and done == total):
            return
        self._said = now
        rate = format_rate(done / max(now - self._started, 1e-3))
        line = f"hashing {self._name}: {100 * done // total} % of {format_size(total)}, {rate}"
        sys.stderr.write(f"\r{line}\x1b[K" if self._terminal else f"{line}\n")
        if self._terminal and done == total:
            sys.stderr.write("\n")
        sys.stderr.flush()


@click.command(cls=TierCommand)
@click.argument("path", type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="File or folder to write to; - is standard output.")
@tracker_options
@click.option("--web-seed", "web_seeds", multiple=True, type=URL, metavar="URL", help="A web seed; repeatable.")
@click.option("--piece-size", type=SIZE, metavar="SIZE", help="A power of two from 16KiB to 256MiB; default: by size.")
@click.option(
    "--version",
    type=click.Choice(["v1", "v2", "hybrid"]),
    default="v1",
    show_default=True,
    help="Only v1 is built yet.",
)
@click.option("--private", is_flag=True, help="Peers only from its trackers.")
@click.option("--comment", metavar="TEXT", help="A comment, for people to read.")
@click.option("--source", metavar="TEXT", help="Where it belongs; gives the same files another infohash.")
@click.option("--no-date", is_flag=True, help="Leave the date out: the same input then gives the same file.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the .torrent file if it exists.")
@click.option("--no-progress", is_flag=True, help="No progress on stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@verbose_option
def create(
    path: str,
    output: str | None,
    tracker: tuple[str, ...],
    web_seeds: tuple[str, ...],
    piece_size: int | None,
    version: str,
    private: bool,
    comment: str | None,
    source: str | None,
    no_date: bool,
    force: bool,
    no_progress: bool,
    quiet: bool,
) -> None:
    """Make a .torrent of the file or folder at PATH; by default NAME.torrent in the current folder.

    Prints its infohash and where it is.
    """
    _check_piece_size(piece_size)
    if version != "v1":
        raise click.UsageError(f"--version {version} is not built yet: only v1 torrents can be made")
    name = os.path.basename(os.path.abspath(path))
    target = _target(output, name)
    if not force and target != "-" and os.path.lexists(target):
        raise already_there(target)
    from unchoke.engine.create import create_torrent
    from unchoke.protocol.metainfo import Metainfo

    data = create_torrent(
        path,
        trackers=tiers(tracker),
        web_seeds=web_seeds,
        piece_length=piece_size,
        private=private,
        comment=comment,
        source=source,
        created_at=None if no_date else int(time.time()),
        progress=None if quiet or no_progress else Hashing(name),
    )
    write_file(target, data, replace=force)
    if not quiet and target != "-":
        click.echo(f"{Metainfo.from_bytes(data).infohash}  {clean(target)}")


def _check_piece_size(size: int | None) -> None:
    if size is None:
        return
    if size & (size - 1) or not 16 * 1024 <= size <= 256 * 1024 * 1024:
        raise click.BadParameter(
            f"{size} bytes is no power of two from 16KiB to 256MiB (1Mi is 1024 x 1024, 1M is 1,000,000)",
            param_hint="--piece-size",
        )


def _target(output: str | None, name: str) -> str:
    if output is None:
        return f"{name}.torrent"
    return os.path.join(output, f"{name}.torrent") if os.path.isdir(output) else output
