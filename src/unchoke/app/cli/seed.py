"""``unchoke seed``: serve data that is already there. It never downloads, and writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from unchoke.app.cli.common import Face, find_data, load_torrent
from unchoke.app.cli.network import NetworkOptions, network_options
from unchoke.app.cli.text import clean, format_size

if TYPE_CHECKING:
    from unchoke.engine.session import Session


@click.command()
@click.argument("torrent")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--trust", is_flag=True, help="Do not verify the data first.")
@click.option("--super-seed", is_flag=True, help="Show each peer one piece at a time, until others have them (BEP 16).")
@network_options
@click.pass_obj
def seed(face: Face, network: NetworkOptions, torrent: str, path: Path, trust: bool, super_seed: bool) -> int:
    """Serve the data of TORRENT (a .torrent file) below PATH, the folder that holds the torrent's file or folder."""
    from unchoke.app.cli.progress import make_reporter
    from unchoke.app.cli.running import run_async, run_hook, run_session

    network.start_logging(face)
    metainfo = load_torrent(torrent)
    settings = network.settings(face)
    storage = find_data(metainfo, str(path), settings)
    folder = Path(storage.folder)
    storage.close()
    reporter = make_reporter(progress=network.progress, quiet=network.quiet, json=network.json, color=network.color)
    keeping = network.keeping(face)

    async def work(session: Session) -> None:
        serving = await session.add(
            metainfo,
            folder=folder,
            trust=trust,
            seed_only=True,
            super_seed=super_seed,
            trackers=network.trackers,
            peers=await network.addresses(),
        )
        await serving.done()
        size, port = format_size(serving.snapshot().wanted), session.port()
        reporter.happened("seeding", serving.snapshot(), port=port)
        reporter.say(f"seeding {clean(serving.name)} ({size}) on port {port}")
        if network.on_complete:
            await run_hook(network.on_complete, serving.name, serving.path, serving.infohash.hex())
        await serving.failed()

    with keeping.use(metainfo.infohash, folder, metainfo.name):
        run_async(run_session(settings, reporter, work, keeping.store(), nodes_file=network.nodes_file(face)))
    return 0
