"""``unchoke magnet``: the magnet link of a torrent, alone on a line."""

from __future__ import annotations

import click

from unchoke.app.cli.common import kind_of, load_torrent, magnet_of, verbose_option


@click.command()
@click.argument("source")
@verbose_option
def magnet(source: str) -> None:
    """Print the magnet link of SOURCE: a .torrent file, - for one on standard input, an infohash, or a link to tidy up."""
    from unchoke.protocol.magnet import Magnet

    is_link = kind_of(source) in ("magnet", "infohash")
    link = magnet_of(source) if is_link else Magnet.from_metainfo(load_torrent(source))
    click.echo(str(link))
