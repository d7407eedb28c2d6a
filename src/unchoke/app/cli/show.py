"""``unchoke show``: what a .torrent file or a magnet link says, for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from unchoke.app.cli.common import Face, kind_of, load_torrent, magnet_of, verbose_option, write_file
from unchoke.app.cli.network import peer_option, tracker_option
from unchoke.app.cli.text import DURATION, clean, format_size

if TYPE_CHECKING:
    from unchoke.protocol.magnet import Magnet
    from unchoke.protocol.metainfo import Metainfo

#: Files printed without ``--files``.
FEW_FILES = 20


@click.command()
@click.argument("source")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--files", "all_files", is_flag=True, help=f"List all files, not only the first {FEW_FILES}.")
@click.option(
    "-o", "--output", metavar="FILE", help="Write the .torrent there; that of a magnet link is asked of peers."
)
@click.option("--force", is_flag=True, help="Overwrite it.")
@click.option("--timeout", type=DURATION, metavar="TIME", help="Ask peers no longer than that (exit 8).")
@peer_option
@tracker_option
@verbose_option
@click.pass_obj
def show(
    face: Face,
    /,
    source: str,
    as_json: bool,
    all_files: bool,
    output: str | None,
    force: bool,
    timeout: float | None,
    **network: Any,
) -> None:
    """Print what SOURCE says: a .torrent file, its http(s) URL, - for one on standard input, or a magnet link.

    A magnet link or infohash itself says little; with -o its torrent is asked of peers.
    """
    if kind_of(source) in ("magnet", "infohash") and output is None:
        link = magnet_of(source)
        _print_json(magnet_as_dict(link)) if as_json else _print_rows(_magnet_rows(link))
        return
    metainfo = _find(source, face, network, timeout)
    if output is not None:
        write_file(output, metainfo.data, replace=force)
        if output == "-":
            return
    if as_json:
        _print_json(metainfo_as_dict(metainfo))
    else:
        _print_rows(_rows(metainfo))
        _print_files(metainfo, None if all_files else FEW_FILES)


def _find(source: str, face: Face, network: dict[str, Any], timeout: float | None) -> Metainfo:
    """The torrent, wherever it is."""
    if kind_of(source) in ("path", "stdin"):
        return load_torrent(source)
    from unchoke.app.cli.loading import fetch_metainfo, load
    from unchoke.app.cli.network import NetworkOptions
    from unchoke.app.cli.running import run_async
    from unchoke.protocol.magnet import Magnet

    async def find() -> Metainfo:
        found = await load(source)
        if isinstance(found, Magnet):
            return await fetch_metainfo(found, NetworkOptions(**network), face, timeout=timeout)
        return found

    return run_async(find())


def _print_json(values: dict[str, object]) -> None:
    # ASCII: what is no text stays the lone surrogates it was read as, and nothing can reach a terminal raw.
    click.echo(json.dumps(values, indent=2))


def _print_rows(rows: Iterator[tuple[str, str]]) -> None:
    for label, value in rows:
        click.echo(f"{label:<13} {clean(value)}".rstrip())


def file_path(metainfo: Metainfo, file: int) -> str:
    """Where the file lands below the download folder, as the torrent names it, parts joined by ``/``."""
    return "/".join((metainfo.name, *metainfo.layout.files[file].path))


def metainfo_as_dict(metainfo: Metainfo) -> dict[str, object]:
    """The object of ``show --json``. Sizes are bytes without pad files, ``created_at`` Unix seconds."""
    layout = metainfo.layout
    files = [
        {"path": file_path(metainfo, number), "size": file.length}
        for number, file in enumerate(layout.files)
        if not file.pad
    ]
    return {
        "name": metainfo.name,
        "infohash_v1": metainfo.infohash_v1.hex() if metainfo.infohash_v1 else None,
        "infohash_v2": metainfo.infohash_v2.hex() if metainfo.infohash_v2 else None,
        "size": layout.payload_length,
        "piece_length": layout.piece_length,
        "piece_count": layout.piece_count,
        "file_count": len(files),
        "files": files,
        "trackers": [list(tier) for tier in metainfo.trackers],
        "web_seeds": list(metainfo.web_seeds),
        "private": metainfo.private,
        "comment": metainfo.comment,
        "created_by": metainfo.created_by,
        "created_at": metainfo.created_at,
        "source": metainfo.source,
        "version": metainfo.version,
    }


def magnet_as_dict(link: Magnet) -> dict[str, object]:
    """As ``metainfo_as_dict`` as far as a link goes; each tracker is a tier of its own. ``select`` counts from 0 (BEP 53)."""
    return {
        "name": link.name,
        "infohash_v1": link.infohash_v1.hex() if link.infohash_v1 else None,
        "infohash_v2": link.infohash_v2.hex() if link.infohash_v2 else None,
        "size": link.size,
        "trackers": [[url] for url in link.trackers],
        "web_seeds": list(link.web_seeds),
        "sources": list(link.sources),
        "peers": [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in link.peers],
        "select": None if link.select is None else [[part[0], part[-1]] for part in link.select],
    }


def _rows(metainfo: Metainfo) -> Iterator[tuple[str, str]]:
    layout = metainfo.layout
    size = layout.payload_length
    count = sum(not file.pad for file in layout.files)
    yield "Name", metainfo.name
    if metainfo.infohash_v1:
        yield "Infohash", metainfo.infohash_v1.hex()
    if metainfo.infohash_v2:
        yield "Infohash v2", metainfo.infohash_v2.hex()
    yield "Size", f"{format_size(size)} ({size:,} bytes) in {count:,} file{'s' * (count != 1)}"
    yield "Pieces", f"{layout.piece_count:,} of {format_size(layout.piece_length)}, {metainfo.version}"
    if metainfo.private:
        yield "Private", "yes: peers only from its trackers"
    if metainfo.created_by or metainfo.created_at is not None:
        by = f"by {metainfo.created_by}" if metainfo.created_by else ""
        yield "Created", f"{_date(metainfo.created_at)} {by}".strip()
    if metainfo.comment:
        yield "Comment", metainfo.comment
    if metainfo.source:
        yield "Source", metainfo.source
    for number, tier in enumerate(metainfo.trackers, 1):
        for url in tier:
            yield f"Tracker {number}" if len(metainfo.trackers) > 1 else "Tracker", url
    for url in metainfo.web_seeds:
        yield "Web seed", url
    for host, port in metainfo.nodes:
        yield "DHT node", f"{host} port {port}"


def _date(seconds: int | None) -> str:
    if seconds is None:
        return ""
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{seconds} seconds after 1970"


def _print_files(metainfo: Metainfo, limit: int | None) -> None:
    """Numbered from 1 in the torrent's own order; pad files keep their number and are not shown."""
    files = [(number, file) for number, file in enumerate(metainfo.layout.files) if not file.pad]
    if not metainfo.multi_file:
        return
    click.echo("Files")
    shown = files if limit is None else files[:limit]
    width = len(str(shown[-1][0] + 1)) if shown else 1
    for number, file in shown:
        click.echo(f"  {number + 1:>{width}}  {format_size(file.length):>10}  {clean(file_path(metainfo, number))}")
    if len(shown) < len(files):
        click.echo(f"  and {len(files) - len(shown):,} more (--files lists them all)")


def _magnet_rows(link: Magnet) -> Iterator[tuple[str, str]]:
    if link.name is not None:
        yield "Name", link.name
    if link.infohash_v1:
        yield "Infohash", link.infohash_v1.hex()
    if link.infohash_v2:
        yield "Infohash v2", link.infohash_v2.hex()
    if link.size is not None:
        yield "Size", f"{format_size(link.size)} ({link.size:,} bytes)"
    for label, urls in (("Tracker", link.trackers), ("Web seed", link.web_seeds), ("From", link.sources)):
        for url in urls:
            yield label, url
    for host, port in link.peers:
        yield "Peer", f"{host} port {port}"
    if link.select is not None:
        yield (
            "Files",
            ", ".join(f"{part[0] + 1}-{part[-1] + 1}" if len(part) > 1 else f"{part[0] + 1}" for part in link.select),
        )
