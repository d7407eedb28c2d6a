"""Tiny torrents whose bytes are known: made from a seed, the same every time, without touching a disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from random import Random

from unchoke.protocol.bencode import Encodable, encode
from unchoke.protocol.metainfo import Metainfo
from unchoke.types import InfoHash


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TinyTorrent:
    """``metainfo``, and ``data``: the torrent's one stream of bytes, all files one after the other."""

    metainfo: Metainfo
    data: bytes

    @property
    def infohash(self) -> InfoHash:
        return self.metainfo.infohash

    @property
    def name(self) -> str:
        return self.metainfo.name

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    @property
    def piece_count(self) -> int:
        return self.metainfo.layout.piece_count

    def piece(self, index: int) -> bytes:
        """The bytes of one piece."""
        layout = self.metainfo.layout
        if not 0 <= index < layout.piece_count:
            raise IndexError(f"piece {index} of {layout.piece_count}")
        return self.data[index * layout.piece_length : (index + 1) * layout.piece_length]

    def block(self, piece: int, begin: int, length: int) -> bytes:
        """The bytes a request asks for; fewer where it reaches beyond the end."""
        start = piece * self.metainfo.layout.piece_length + begin
        return self.data[start : start + length]

    def files(self) -> dict[str, bytes]:
        """The bytes of every file by its path (with slashes), as the torrent names it."""
        layout, found = self.metainfo.layout, {}
        for number, file in enumerate(layout.files):
            if not file.pad:
                start = layout.file_start(number)
                found["/".join((self.name, *file.path))] = self.data[start : start + file.length]
        return found

    def write_to(self, folder: str | Path) -> None:
        """Put the files into a folder."""
        for path, data in self.files().items():
            target = Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def __repr__(self) -> str:
        return f"<TinyTorrent {self.name!r} {self.infohash.hex()[:8]} [{self.size} B in {self.piece_count} pieces]>"


def make_torrent(
    size: int = 1024 * 1024,
    *,
    files: Mapping[str, int] | None = None,
    piece_length: int = 32 * 1024,
    seed: int = 0,
    name: str = "tiny",
    trackers: Sequence[str] = (),
) -> TinyTorrent:
    """A v1 torrent of one file of ``size`` bytes, or of ``files`` (path with slashes → size).

    ``seed`` makes the bytes, ``name`` and the rest the infohash. Raises MetainfoError for what makes no torrent.
    """
    total = size if files is None else sum(files.values())
    data = Random(seed).randbytes(total)
    starts = range(0, total, piece_length)
    hashes = b"".join(sha1(data[at : at + piece_length], usedforsecurity=False).digest() for at in starts)
    info: dict[bytes, Encodable] = {b"name": name, b"piece length": piece_length, b"pieces": hashes}
    if files is None:
        info[b"length"] = size
    else:
        info[b"files"] = [{b"length": length, b"path": path.split("/")} for path, length in files.items()]
    return TinyTorrent(Metainfo.from_info(encode(info), [[tracker] for tracker in trackers]), data)
