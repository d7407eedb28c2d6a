"""``unchoke check``: does the data on disk match the torrent? Says which files are missing, short, longer or damaged.

It writes nothing. Exit 0: all of it is there; 32: it is not; 3: nothing of it is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import click

from unchoke.app.cli.common import Face, find_data, load_torrent, verbose_option
from unchoke.app.cli.create import Hashing
from unchoke.app.cli.text import clean, format_size
from unchoke.errors import DataMismatchError, UnsupportedError

if TYPE_CHECKING:
    from unchoke.bitfield import Bitfield
    from unchoke.layout import TorrentLayout
    from unchoke.protocol.metainfo import Metainfo
    from unchoke.storage.files import FileStorage

#: Files printed without ``--json``.
FEW_FILES = 20


class Finding(NamedTuple):
    """What is wrong with one file. ``found`` is its size on disk, None if it is missing.

    ``state``: "missing", "short", "longer", "damaged", or "unverified" (all its bad pieces reach into a file that is
    missing or short, so it may be whole).
    """

    path: str
    size: int
    found: int | None
    state: str


@click.command()
@click.argument("torrent")
@click.argument("path", type=click.Path())
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object; its files are those with something wrong."
)
@click.option("--no-progress", is_flag=True, help="No progress on stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors; the exit code tells.")
@verbose_option
@click.pass_context
def check(ctx: click.Context, torrent: str, path: str, as_json: bool, no_progress: bool, quiet: bool) -> None:
    """Verify the data of TORRENT at PATH, the folder that holds the torrent's file or folder."""
    from unchoke.engine.checker import check_blocking

    metainfo = load_torrent(torrent)
    layout = metainfo.layout
    if layout.piece_count and not metainfo.piece_hashes:
        raise UnsupportedError(f"{metainfo.name}: a v2-only torrent; this version of unchoke checks v1 and hybrid ones")
    settings = ctx.ensure_object(Face).settings()
    storage = find_data(metainfo, path, settings)
    say = None if quiet or no_progress else Hashing(metainfo.name)

    def progress(done: int) -> None:
        if say is not None:
            say(min(done * layout.piece_length, layout.total_length), layout.total_length)

    try:
        have = check_blocking(
            storage,
            layout,
            metainfo.piece_hashes,
            threads=settings.disk.check_threads,
            progress=progress if say is not None and layout.total_length else None,
        )
        findings = judge(storage, have)
    finally:
        storage.close()
    if as_json:
        click.echo(json.dumps(_as_dict(metainfo, storage, have, findings), indent=2))
    elif not quiet:
        _print(metainfo, have, findings)
    if findings or not have.all():
        raise DataMismatchError(_verdict(metainfo, have, findings))


def judge(storage: FileStorage, have: Bitfield) -> list[Finding]:
    """Everything that is wrong, in the torrent's order, given the pieces that verify. Empty: all is well."""
    layout = storage.layout
    sizes = storage.sizes()
    incomplete = [
        not file.pad and (size is None or size < file.length) for file, size in zip(layout.files, sizes, strict=True)
    ]
    # Pieces that are bad for sure because of a file that is not whole say nothing about their other files.
    excused: dict[int, bool] = {}
    findings = []
    for index, (file, size) in enumerate(zip(layout.files, sizes, strict=True)):
        if file.pad:
            continue
        state = ""
        if size is None:
            state = "missing"
        elif size != file.length:
            state = "short" if size < file.length else "longer"
        elif bad := _bad_pieces(layout, index, have):
            state = "unverified" if all(_excused(layout, piece, incomplete, excused) for piece in bad) else "damaged"
        if state:
            findings.append(Finding("/".join(storage.parts(index)), file.length, size, state))
    return findings


def _bad_pieces(layout: TorrentLayout, file: int, have: Bitfield) -> set[int]:
    """The first and the last piece of a file if they are bad, and one bad piece between them: those are enough to judge."""
    pieces = layout.file_pieces(file)
    if not pieces:
        return set()
    bad = {piece for piece in (pieces[0], pieces[-1]) if not have[piece]}
    inner = have.bits.find(0, pieces.start + 1, pieces.stop - 1) if len(pieces) > 2 else -1
    return bad if inner < 0 else {*bad, inner}


def _excused(layout: TorrentLayout, piece: int, incomplete: list[bool], known: dict[int, bool]) -> bool:
    """Does the piece reach into a file that is missing or short?"""
    if piece not in known:
        known[piece] = any(incomplete[span.file] for span in layout.piece_spans(piece))
    return known[piece]


def _as_dict(metainfo: Metainfo, storage: FileStorage, have: Bitfield, findings: list[Finding]) -> dict[str, object]:
    return {
        "name": metainfo.name,
        "infohash": metainfo.infohash.hex(),
        "folder": storage.folder,
        "ok": not findings and have.all(),
        "pieces": len(have),
        "pieces_ok": have.count(),
        "pieces_bad": len(have) - have.count(),
        "files": [finding._asdict() for finding in findings],
    }


def _print(metainfo: Metainfo, have: Bitfield, findings: list[Finding]) -> None:
    size = format_size(metainfo.layout.payload_length)
    click.echo(f"{clean(metainfo.name)}: {have.count()} of {len(have)} pieces are good ({size} in all)")
    for finding in findings[:FEW_FILES]:
        found = "" if finding.state in ("missing", "damaged", "unverified") else f"{finding.found} of "
        click.echo(f"{finding.state:<10}  {clean(finding.path)} ({found}{finding.size} bytes)")
    if len(findings) > FEW_FILES:
        click.echo(f"and {len(findings) - FEW_FILES} more files; --json lists all")


def _verdict(metainfo: Metainfo, have: Bitfield, findings: list[Finding]) -> str:
    bad = len(have) - have.count()
    files = f"{len(findings)} file{'s' if len(findings) > 1 else ''}"
    if not bad:
        return f"{metainfo.name}: every piece is good, but {files} missing or longer than the torrent says"
    return (
        f"{metainfo.name}: {bad} of {len(have)} pieces {'do' if bad > 1 else 'does'} not match, in {files};"
        " `unchoke get` fetches what is missing"
    )
