"""``unchoke magnet``: the magnet link of a torrent, alone on a line."""

from __future__ import annotations

import click

from unchoke.app.cli.common import kind_of, load_torrent, verbose_option


@click.command()
@click.argument("source")
@verbose_option
def magnet(source: str) -> None:
    """Print the magnet link of SOURCE: a .torrent file, - for one on standard input, an infohash, or a link to tidy up."""
    from unchoke.protocol.magnet import Magnet, maybe_infohash

    kind = kind_of(source)
    if kind == "magnet":
        link = Magnet.parse(source)
    elif kind == "infohash":
        infohash = maybe_infohash(source)
        assert infohash is not None
        v2 = len(infohash) == 32
        link = Magnet(infohash_v1=None if v2 else infohash, infohash_v2=infohash if v2 else None)
    else:
        link = Magnet.from_metainfo(load_torrent(source))
    click.echo(str(link))
