"""Folders with known bytes and v1 torrents of them, made without the code under test.

The writer below knows only what a BEP 3 torrent needs; it is the second opinion against ``unchoke create``.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

Bencodable = int | str | bytes | Sequence["Bencodable"] | dict[str, "Bencodable"]
MIB = 1 << 20


def payload(size: int, seed: int = 0) -> bytes:
    """The same ``size`` random bytes for the same ``seed``, on every machine."""
    return random.Random(seed).randbytes(size)


def write_file(path: Path, size: int, seed: int = 0) -> None:
    """Write ``payload``-like bytes a MiB at a time, so that a GiB needs no GiB of memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = random.Random(seed)
    with path.open("wb") as file:
        for done in range(0, size, MIB):
            file.write(source.randbytes(min(MIB, size - done)))


def write_album(folder: Path, size: int, seed: int = 0) -> None:
    """About ``size`` bytes in files of odd sizes, one empty, some with names that are not ASCII, one in a subfolder."""
    shares = {"01 – Früh.bin": 0.55, "disc 2/Žluť.bin": 0.3, "disc 2/日本語.txt": 0.1}
    for number, (name, share) in enumerate(shares.items()):
        write_file(folder / name, int(size * share) | 1, seed + number)
    (folder / "empty.nfo").touch()
    write_file(folder / "tiny.md", 7, seed + 9)


def contents(folder: Path, ignore: Iterable[str] = ()) -> dict[str, str]:
    """Relative path → size and SHA-1 of every file below; equal dictionaries mean equal bytes."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in ignore:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha1").hexdigest()
            found[str(path.relative_to(folder))] = f"{path.stat().st_size} {digest}"
    return found


def bencode(value: Bencodable) -> bytes:
    """Bencoding of BEP 3, keys sorted."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, dict):
        pairs = sorted((key.encode(), item) for key, item in value.items())
        return b"d" + b"".join(bencode(key) + bencode(item) for key, item in pairs) + b"e"
    return b"l" + b"".join(map(bencode, value)) + b"e"


def _piece_hashes(files: Iterable[Path], piece_length: int) -> bytes:
    hashes, pending = [], bytearray()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(piece_length - len(pending)):
                pending += chunk
                if len(pending) == piece_length:
                    hashes.append(hashlib.sha1(pending).digest())
                    pending.clear()
    if pending:
        hashes.append(hashlib.sha1(pending).digest())
    return b"".join(hashes)


def build_torrent(
    source: Path,
    out: Path,
    *,
    trackers: Sequence[str] = (),
    web_seeds: Sequence[str] = (),
    piece_length: int = 1 << 16,
    private: bool = False,
) -> Path:
    """Write a v1 torrent of a file or folder to ``out``; files in the order of their paths, one tier per tracker."""
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    info: dict[str, Bencodable] = {"name": source.name, "piece length": piece_length}
    info["pieces"] = _piece_hashes(files, piece_length)
    if source.is_dir():
        info["files"] = [
            {"length": path.stat().st_size, "path": list(path.relative_to(source).parts)} for path in files
        ]
    else:
        info["length"] = source.stat().st_size
    if private:
        info["private"] = 1
    torrent: dict[str, Bencodable] = {"info": info}
    if trackers:
        torrent["announce"] = trackers[0]
        torrent["announce-list"] = [[url] for url in trackers]
    if web_seeds:
        torrent["url-list"] = list(web_seeds)
    out.write_bytes(bencode(torrent))
    return out


def infohash_of(torrent: Path) -> str:
    """The v1 infohash of a torrent that ``build_torrent`` wrote: its info dictionary stands last."""
    data = torrent.read_bytes()
    return hashlib.sha1(data[data.index(b"4:info") + 6 : -1]).hexdigest()
