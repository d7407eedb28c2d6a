"""``unchoke get``: download torrents. A thin face on the library: ``Session.add``, ``Torrent.done``, snapshots.

With several sources each goes its own way; at the end there is one line each, and the exit code is that of the first that
failed, in the order given.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unchoke.app.cli.common import Face, already_there, read_torrent, write_file
from unchoke.app.cli.loading import fetch_metainfo, load
from unchoke.app.cli.network import NetworkOptions, network_options
from unchoke.app.cli.text import DURATION, SELECTION, clean, format_duration, format_rate, format_size, selected
from unchoke.errors import (
    NoSpaceError,
    StoppedError,
    TimedOutError,
    UnchokeError,
)
from unchoke.protocol.magnet import Magnet

if TYPE_CHECKING:
    from unchoke.app.cli.progress import Reporter
    from unchoke.engine.session import Session
    from unchoke.engine.torrent import Torrent
    from unchoke.protocol.metainfo import Metainfo
    from unchoke.types import Address


class BadChoiceError(UnchokeError):
    """-s, --match or --exclude do not fit the torrent, as turned out when its files were known."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Wish:
    """What ``get`` was asked for, apart from the network."""

    sources: tuple[str, ...]
    folder: Path
    numbers: tuple[range, ...] | None
    match: tuple[str, ...]
    exclude: tuple[str, ...]
    seed: bool
    ratio: float | None
    seed_time: float | None
    timeout: float | None
    sequential: bool
    overwrite: bool
    save_torrent: str | None

    @property
    def seeds(self) -> bool:
        return self.seed or self.ratio is not None or self.seed_time is not None


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "-d",
    "--dir",
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    default=".",
    help="Folder to download to; default: the current one.",
)
@click.option("-l", "--list", "only_list", is_flag=True, help="Print the files and stop.")
@click.option("-s", "--select", "numbers", type=SELECTION, metavar="1-3,5", help="Only these files (counting from 1).")
@click.option(
    "--match", multiple=True, metavar="GLOB", help="Only files whose path matches (case matters); repeatable."
)
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Not files whose path matches (case matters); repeatable."
)
@click.option("--seed", is_flag=True, help="Go on seeding until stopped.")
@click.option("--ratio", type=click.FloatRange(0), metavar="R", help="Seed until R times its size was given.")
@click.option("--seed-time", type=DURATION, metavar="TIME", help="Seed for so long, like 30m.")
@click.option("--sequential", is_flag=True, help="Fetch the pieces first to last.")
@click.option(
    "--timeout",
    type=DURATION,
    metavar="TIME",
    help="Give up after so long without progress (exit 8; 9: no room).",
)
@click.option("--overwrite", is_flag=True, help="Write over files that are not ours.")
@click.option(
    "--save-torrent", type=click.Path(dir_okay=False), metavar="FILE", help="Keep the .torrent (of one SOURCE)."
)
@network_options
@click.pass_obj
def get(face: Face, /, network: NetworkOptions, only_list: bool, **wish: Any) -> int:
    """Download SOURCE: a .torrent file, its http(s) URL, a magnet link, an infohash, or - for a .torrent on standard input.

    Resumes what is there. Exits when everything is complete and verified; with --seed it goes on.
    """
    wanted = Wish(**wish)
    if wanted.save_torrent is not None and len(wanted.sources) > 1:
        raise click.UsageError("--save-torrent keeps one .torrent: give it with a single SOURCE")
    from unchoke.app.cli.running import run_async

    network.start_logging(face)
    if only_list:
        return run_async(_list(wanted, network, face))
    return run_async(Getting(face, network, wanted).run())


async def _list(wish: Wish, network: NetworkOptions, face: Face) -> int:
    for source in wish.sources:
        found = await load(source)
        if isinstance(found, Magnet):
            metainfo = await fetch_metainfo(found, network, face, timeout=wish.timeout)
        else:
            metainfo = found
        if wish.save_torrent is not None:
            _save(wish.save_torrent, metainfo.data, overwrite=wish.overwrite)
        chosen = set(choose(metainfo, wish))
        if network.json:
            import json

            from unchoke.app.cli.show import file_path

            files = [
                {
                    "number": index + 1,
                    "path": file_path(metainfo, index),
                    "size": file.length,
                    "selected": index in chosen,
                }
                for index, file, _ in _shown(metainfo)
            ]
            click.echo(json.dumps({"name": metainfo.name, "files": files}))
            continue
        click.echo(f"{clean(metainfo.name)}  {format_size(metainfo.layout.payload_length)}")
        for index, file, path in _shown(metainfo):
            mark = " " if index in chosen else "-"
            click.echo(f"{index + 1:5}{mark} {format_size(file.length):>10}  {'/'.join(path)}")
    return 0


def _shown(metainfo: Metainfo) -> list[tuple[int, Any, tuple[str, ...]]]:
    """The files but for pad files: index, entry, clean path."""
    return [
        (index, file, tuple(clean(part) for part in file.path) or (clean(metainfo.name),))
        for index, file in enumerate(metainfo.layout.files)
        if not file.pad
    ]


def choose(metainfo: Metainfo, wish: Wish) -> list[int]:
    """The file indexes that -s, --match and --exclude leave.

    Patterns look at the whole path, with and without the torrent's name in front, and at the file's name.
    """
    files = metainfo.layout.files
    if wish.numbers is None:
        chosen = list(range(len(files)))
    else:
        try:
            chosen = selected(wish.numbers, len(files))
        except ValueError as error:
            raise click.BadParameter(f"{clean(metainfo.name)}: {error}", param_hint="--select") from None

    def matches(index: int, globs: tuple[str, ...]) -> bool:
        parts = files[index].path or (metainfo.name,)
        texts = ("/".join(parts), "/".join((metainfo.name, *files[index].path)), parts[-1])
        return any(fnmatch.fnmatchcase(text, glob) for glob in globs for text in texts)

    if wish.match:
        chosen = [index for index in chosen if matches(index, wish.match)]
    if wish.exclude:
        chosen = [index for index in chosen if not matches(index, wish.exclude)]
    chosen = [index for index in chosen if not files[index].pad]
    if not chosen and files:
        raise click.UsageError(f"{clean(metainfo.name)}: no file is left to download; `get --list` shows them")
    return chosen


def _save(path: str, data: bytes, *, overwrite: bool) -> None:
    """Write the .torrent. An existing file is StorageError, but for one that says the same: a command may be repeated."""
    if not overwrite and path != "-" and os.path.lexists(path):
        if os.path.isfile(path) and os.path.getsize(path) == len(data) and read_torrent(path) == data:
            return
        raise already_there(path, "--overwrite")
    write_file(path, data, replace=overwrite)


class Getting:
    """One run of ``get``."""

    def __init__(self, face: Face, network: NetworkOptions, wish: Wish) -> None:
        self._face = face
        self._network = network
        self._wish = wish
        self._outcomes: list[UnchokeError | None] = [None] * len(wish.sources)
        self._torrents: dict[int, Torrent] = {}
        self._in_use: set[bytes] = set()
        self._before: dict[int, tuple[int, float]] = {}  # bytes taken and seconds of downloading by earlier runs
        self._hooks: set[asyncio.Task[None]] = set()
        self._keeping = network.keeping(face)
        self._locks = contextlib.ExitStack()

    async def run(self) -> int:
        from unchoke.app.cli.progress import make_reporter
        from unchoke.app.cli.running import run_session

        network = self._network
        settings = network.settings(self._face)
        reporter = make_reporter(progress=network.progress, quiet=network.quiet, json=network.json, color=network.color)
        with self._locks:
            await run_session(
                settings,
                reporter,
                lambda session: self._get_all(session, reporter),
                self._keeping.store(),
                lambda session, stopped: self._report(reporter, stopped=stopped),
                network.nodes_file(self._face),
            )
        return next((error.exit_code for error in self._outcomes if error is not None), 0)

    async def _get_all(self, session: Session, reporter: Reporter) -> None:
        addresses = await self._network.addresses()
        await asyncio.gather(
            *(
                self._get_one(number, source, session, addresses, reporter)
                for number, source in enumerate(self._wish.sources)
            )
        )
        if self._hooks:
            await asyncio.gather(*self._hooks)

    async def _get_one(
        self, number: int, source: str, session: Session, addresses: list[Address], reporter: Reporter
    ) -> None:
        wish = self._wish
        self._outcomes[number] = StoppedError(f"{clean(source)}: stopped")
        try:
            found = await load(source)
            if wish.save_torrent is not None and not isinstance(found, Magnet):
                _save(wish.save_torrent, found.data, overwrite=wish.overwrite)
            if found.infohash not in self._in_use:  # the same one named twice is no other process
                self._in_use.add(found.infohash)
                name = found.name or found.infohash.hex()
                self._locks.enter_context(self._keeping.use(found.infohash, wish.folder, name))
            torrent = await session.add(
                found,
                folder=wish.folder,
                files=self._chooser(found),
                overwrite=wish.overwrite,
                start_over=True,
                sequential=wish.sequential,
                trackers=self._network.trackers,
                peers=addresses,
            )
            self._torrents[number] = torrent
            self._before[number] = _spent(torrent)
            reporter.happened("added", torrent.snapshot())
            saving = asyncio.ensure_future(self._save_later(torrent, found))
            try:
                await self._within(torrent, session)
                await saving
            finally:
                saving.cancel()
                await asyncio.gather(saving, return_exceptions=True)
        except UnchokeError as error:
            self._outcomes[number] = error
            reporter.happened("failed", None, source=clean(source), error=clean(str(error)), code=error.exit_code)
            return
        self._outcomes[number] = None
        reporter.happened("completed", torrent.snapshot(), path=str(torrent.path))
        if self._network.on_complete:
            from unchoke.app.cli.running import run_hook

            hook = run_hook(self._network.on_complete, torrent.name, torrent.path, torrent.infohash.hex())
            self._hooks.add(asyncio.ensure_future(hook))
        if wish.seeds:
            try:
                await self._seed(torrent)
            except UnchokeError as error:
                self._outcomes[number] = error

    async def _save_later(self, torrent: Torrent, found: Metainfo | Magnet) -> None:
        """--save-torrent of a magnet link: as soon as its metadata is there."""
        if self._wish.save_torrent is not None and isinstance(found, Magnet):
            metainfo = await torrent.metadata()
            _save(self._wish.save_torrent, metainfo.data, overwrite=self._wish.overwrite)

    def _chooser(self, found: Metainfo | Magnet) -> list[int] | Callable[[Metainfo], list[int]] | None:
        """The files that are asked for; of a magnet link, what will choose them."""
        wish = self._wish
        if not (wish.numbers or wish.match or wish.exclude):
            return None
        if not isinstance(found, Magnet):
            return choose(found, wish)

        def later(metainfo: Metainfo) -> list[int]:
            try:
                return choose(metainfo, wish)
            except click.UsageError as error:
                raise BadChoiceError(error.format_message()) from None

        return later

    async def _within(self, torrent: Torrent, session: Session) -> None:
        """Wait for the torrent, but no longer than ``--timeout`` without progress."""
        limit = self._wish.timeout
        if limit is None:
            await torrent.done()
            return
        done = asyncio.ensure_future(_done_or_room(torrent))
        try:
            furthest, since = -1.0, session.now()
            while not done.done():
                await asyncio.wait([done], timeout=min(0.5, limit))
                snapshot = torrent.snapshot()
                reached = snapshot.checked + snapshot.downloaded - snapshot.wasted
                if reached > furthest:
                    furthest, since = reached, session.now()
                elif session.now() - since >= limit:
                    if isinstance(torrent.error, NoSpaceError):
                        raise torrent.error
                    why = snapshot.why() or "no data came"
                    await torrent.stop()
                    raise TimedOutError(
                        f"{clean(torrent.name)}: no progress for {format_duration(limit)} ({clean(why)})"
                    )
        finally:
            done.cancel()
            await asyncio.gather(done, return_exceptions=True)
        done.result()

    async def _seed(self, torrent: Torrent) -> None:
        """Until a limit is reached; without one, until we are stopped."""
        ratio, seed_time = self._wish.ratio, self._wish.seed_time
        while torrent.error is None:
            snapshot = torrent.snapshot()
            if ratio is not None and snapshot.ratio >= ratio:
                return
            if seed_time is not None and snapshot.seeding_time >= seed_time:
                return
            await asyncio.sleep(0.5)
        raise torrent.error

    def _report(self, reporter: Reporter, *, stopped: bool) -> None:
        """One line each, on stderr as all progress."""
        for number, error in enumerate(self._outcomes):
            torrent = self._torrents.get(number)
            if error is None and torrent is not None:
                snapshot = torrent.snapshot()
                if self._wish.seeds:
                    reporter.happened("finished", snapshot, path=str(torrent.path))
                taken, took = (now - before for now, before in zip(_spent(torrent), self._before[number], strict=True))
                size = format_size(snapshot.wanted)
                if not taken:
                    reporter.say(f"already complete: {clean(str(torrent.path))} ({size})")
                    continue
                part = f", {format_size(taken)} of it now" if taken < 0.99 * snapshot.wanted else ""
                average = format_rate(taken / max(took, 1e-3))
                reporter.say(f"done: {clean(str(torrent.path))} ({size}{part} in {format_duration(took)}, {average})")
            elif isinstance(error, StoppedError) and torrent is not None and stopped:
                snapshot = torrent.snapshot()
                path = torrent.path if torrent.has_metainfo else torrent.folder
                reporter.happened("stopped", snapshot, path=str(path), code=error.exit_code)
                where = f"at {100 * snapshot.progress:.1f} %" if torrent.has_metainfo else "before its metadata came"
                reporter.say(f"stopped: {clean(torrent.name)} {where}; the same command goes on from there")
            elif error is not None:
                sys.stderr.write(f"unchoke: {clean(str(error))}\n")


async def _done_or_room(torrent: Torrent) -> None:
    """``torrent.done()``, but a full disk is waited for."""
    while True:
        with torrent.events() as events:
            try:
                await torrent.done()
                return
            except NoSpaceError:
                pass
            while isinstance(torrent.error, NoSpaceError):  # also while it leaves the swarm to begin again
                await anext(events)


def _spent(torrent: Torrent) -> tuple[int, float]:
    """Bytes taken and seconds of downloading, over all runs."""
    snapshot = torrent.snapshot()
    return snapshot.downloaded, snapshot.active_time - snapshot.seeding_time
