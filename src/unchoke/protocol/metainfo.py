"""Metainfo: a .torrent file, read and checked (BEP 3, 12, 19, 27, 47, 52). Versions 1, 2 and hybrids of both.

A ``Metainfo`` that exists is consistent: piece length within limits, as many hashes as pieces, a hybrid's two file lists
alike, v2 piece layers under their roots. Names are as the file has them. The bytes of the file are kept, so that nothing
unknown is lost, and infohashes are of the span that was there. Every bad file raises MetainfoError and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1, sha256
from typing import Final, TypeAlias

from unchoke.errors import BencodeError, MetainfoError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.protocol.bencode import Encodable, Raw, Span, Top, Value, decode_top, encode
from unchoke.protocol.filelist import Text, TreeFile, aligned, read_files, read_tree, text_of
from unchoke.protocol.merkle import HASH_SIZE, root_of_layer
from unchoke.types import BLOCK_SIZE, InfoHash

Tiers: TypeAlias = tuple[tuple[str, ...], ...]

#: Shorter pieces are not seen; longer ones libtorrent refuses too.
MIN_PIECE_LENGTH = 1024
MAX_PIECE_LENGTH = 512 * 1024 * 1024 - BLOCK_SIZE


class _Keep:
    """Stands for "as it is" where None already means "take it out"."""

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = _Keep()


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Metainfo:
    """One .torrent file. Immutable; equal to another if the bytes are.

    ``layout`` counts files and pieces (of a v2-only torrent with pad entries between the files). ``trackers`` are tiers of
    URLs (BEP 12), ``nodes`` DHT hosts and ports (BEP 5), ``created_at`` Unix seconds. ``comment``, ``created_by``,
    ``source`` and ``encoding`` are None where the file has none.
    """

    data: bytes
    name: str
    layout: TorrentLayout
    multi_file: bool
    infohash_v1: InfoHash | None
    infohash_v2: InfoHash | None
    trackers: Tiers
    web_seeds: tuple[str, ...]
    nodes: tuple[tuple[str, int], ...]
    private: bool
    comment: str | None
    created_by: str | None
    created_at: int | None
    source: str | None
    encoding: str | None
    _info: Span
    _pieces: Span

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, *, layers_required: bool = True) -> Metainfo:
        """Read a whole .torrent file. Raises MetainfoError, also where piece layers of v2 are missing (unless they may be: what
        was made by ``from_info`` has none)."""
        return _read(bytes(data), layers_required=layers_required)

    @classmethod
    def from_info(cls, info: bytes, trackers: Sequence[Sequence[str]] = (), web_seeds: Sequence[str] = ()) -> Metainfo:
        """Make one of a bare info dictionary, as peers send it (BEP 9). Raises MetainfoError.

        Piece layers are outside the info dictionary: those of a v2 torrent are then missing, and not checked.
        """
        keys: dict[bytes, Encodable] = {b"info": Raw(info), **_tracker_keys(trackers)}
        if web_seeds:
            keys[b"url-list"] = list(web_seeds)
        try:
            data = encode(keys)
        except BencodeError as error:
            raise MetainfoError(str(error)) from None
        return _read(data, layers_required=False)

    @property
    def infohash(self) -> InfoHash:
        """The 20 bytes handshakes and trackers carry: v1's, else v2's first 20 (BEP 52)."""
        if self.infohash_v1 is not None:
            return self.infohash_v1
        assert self.infohash_v2 is not None
        return self.infohash_v2.truncated

    @property
    def version(self) -> str:
        """``"v1"``, ``"v2"`` or ``"hybrid"``."""
        if self.infohash_v2 is None:
            return "v1"
        return "v2" if self.infohash_v1 is None else "hybrid"

    @property
    def info_bytes(self) -> bytes:
        """The info dictionary as it stands in the file."""
        return self.data[slice(*self._info)]

    @property
    def info_view(self) -> memoryview:
        """The same without a copy."""
        return memoryview(self.data)[slice(*self._info)]

    @property
    def piece_hashes(self) -> bytes:
        """The SHA-1 hashes of all pieces, 20 bytes each; empty for v2 only."""
        return self.data[slice(*self._pieces)]

    def piece_hash(self, piece: int) -> bytes:
        """The 20 bytes the SHA-1 of this piece must be."""
        start, end = self._pieces
        at = start + 20 * piece
        if not start <= at < end:
            raise IndexError(f"no hash of piece {piece}")
        return self.data[at : at + 20]

    def edited(
        self,
        *,
        trackers: Sequence[Sequence[str]] | _Keep = KEEP,
        web_seeds: Sequence[str] | _Keep = KEEP,
        comment: str | _Keep | None = KEEP,
        created_by: str | _Keep | None = KEEP,
        created_at: int | _Keep | None = KEEP,
    ) -> bytes:
        """The file again with these changed (None or empty: taken out); every other key goes over byte for byte.

        The info dictionary cannot be changed, so the infohash stays.
        """
        top = decode_top(self.data)
        keys: dict[bytes, Encodable] = {key: Raw(self.data[slice(*span)]) for key, span in top.spans.items()}
        if not isinstance(trackers, _Keep):
            _replace(keys, {b"announce": None, b"announce-list": None, **_tracker_keys(trackers)})
        if not isinstance(web_seeds, _Keep):
            _replace(keys, {b"url-list": list(web_seeds)})
        if not isinstance(comment, _Keep):
            # The plain key would be read in the declared encoding, if there is one.
            _replace(keys, {b"comment": comment, b"comment.utf-8": comment if b"encoding" in keys else None})
        if not isinstance(created_by, _Keep):
            _replace(keys, {b"created by": created_by})
        if not isinstance(created_at, _Keep):
            _replace(keys, {b"creation date": created_at})
        return encode(keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metainfo) and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.infohash)

    def __repr__(self) -> str:
        files = sum(not file.pad for file in self.layout.files)
        return (
            f"<Metainfo {self.name!r} {self.version} {self.infohash} [{files} files, {self.layout.payload_length} B]>"
        )


def _replace(keys: dict[bytes, Encodable], changes: Mapping[bytes, Encodable | None]) -> None:
    for key, value in changes.items():
        keys.pop(key, None)
        if value is not None and value != [] and value != "":
            keys[key] = value


def _tracker_keys(trackers: Sequence[Sequence[str]]) -> dict[bytes, Encodable]:
    """``announce``, and ``announce-list`` where one URL does not say it all (BEP 12)."""
    tiers = [list(tier) for tier in trackers if tier]
    if not tiers:
        return {}
    keys: dict[bytes, Encodable] = {b"announce": tiers[0][0]}
    if len(tiers) > 1 or len(tiers[0]) > 1:
        keys[b"announce-list"] = tiers
    return keys


# reading


def _read(data: bytes, *, layers_required: bool) -> Metainfo:
    try:
        top = decode_top(data, inside=b"info")
    except BencodeError as error:
        hint = " (it looks like a web page)" if data[:64].lstrip()[:1] == b"<" else ""
        raise MetainfoError(f"not a torrent file: {error}{hint}") from None
    info = top.value.get(b"info")
    if not isinstance(info, dict):
        raise MetainfoError("no info dictionary")
    text = text_of(top.value.get(b"encoding"))
    name = _maybe_text(info, b"name", text)
    if name is None:
        raise MetainfoError("no name")
    version = info.get(b"meta version", 1)
    if version not in (1, 2):
        raise MetainfoError("a meta version that this program does not know")
    piece_length = _piece_length(info)
    v1 = _read_v1(info, text, piece_length) if version == 1 or b"pieces" in info else None
    v2 = _read_v2(info, top.value.get(b"piece layers"), piece_length, layers_required) if version == 2 else None
    layout, multi_file = _shape(name, piece_length, v1, v2)
    span = top.spans[b"info"]
    info_bytes = memoryview(data)[slice(*span)]
    return Metainfo(
        data=data,
        name=name,
        layout=layout,
        multi_file=multi_file,
        infohash_v1=InfoHash(sha1(info_bytes, usedforsecurity=False).digest()) if v1 is not None else None,
        infohash_v2=InfoHash(sha256(info_bytes).digest()) if v2 is not None else None,
        trackers=_trackers(top.value),
        web_seeds=_urls(top.value.get(b"url-list")),
        nodes=_nodes(top.value.get(b"nodes")),
        private=info.get(b"private") == 1,
        comment=_maybe_text(top.value, b"comment", text),
        created_by=_maybe_text(top.value, b"created by", text),
        created_at=_maybe_time(top.value.get(b"creation date")),
        source=_maybe_text(info, b"source", text),
        encoding=_maybe_text(top.value, b"encoding", text),
        _info=span,
        _pieces=_pieces_span(info, top) if v1 is not None else (0, 0),
    )


def _piece_length(info: dict[bytes, Value]) -> int:
    length = info.get(b"piece length")
    if not isinstance(length, int):
        raise MetainfoError("no piece length")
    if not MIN_PIECE_LENGTH <= length <= MAX_PIECE_LENGTH:
        raise MetainfoError(f"a piece length of {length}, outside {MIN_PIECE_LENGTH} to {MAX_PIECE_LENGTH}")
    return length


def _read_v1(info: dict[bytes, Value], text: Text, piece_length: int) -> list[FileEntry]:
    files = read_files(info, text)
    pieces = info.get(b"pieces")
    if not isinstance(pieces, bytes):
        raise MetainfoError("no piece hashes")
    if len(pieces) % 20:
        raise MetainfoError(f"{len(pieces)} bytes of piece hashes, not a multiple of 20")
    needed = -(-sum(file.length for file in files) // piece_length)
    if len(pieces) != 20 * needed:
        raise MetainfoError(f"{len(pieces) // 20} piece hashes, but the files have {needed} pieces")
    return files


def _pieces_span(info: dict[bytes, Value], top: Top) -> Span:
    pieces = info[b"pieces"]
    assert isinstance(pieces, bytes)
    end = top.inside[b"pieces"][1]
    return end - len(pieces), end


def _read_v2(
    info: dict[bytes, Value], layers: Value | None, piece_length: int, layers_required: bool
) -> list[TreeFile]:
    if piece_length < BLOCK_SIZE or piece_length & (piece_length - 1):
        raise MetainfoError(f"a piece length of {piece_length}, no power of two from {BLOCK_SIZE} up, in a v2 torrent")
    files = read_tree(info)
    if layers is None and not layers_required:
        return files
    if not isinstance(layers, dict):
        layers = {}
    checked: set[bytes] = set()
    for (path, length, *_), root in files:
        if length <= piece_length:
            continue
        layer = layers.get(root)
        if not isinstance(layer, bytes) or len(layer) != HASH_SIZE * -(-length // piece_length):
            raise MetainfoError(f"the piece layer of {'/'.join(path)!r} is missing or of the wrong size")
        if root not in checked and root_of_layer(layer, piece_length) != root:
            raise MetainfoError(f"the piece layer of {'/'.join(path)!r} does not match its root")
        checked.add(root)
    return files


def _shape(
    name: str, piece_length: int, v1: list[FileEntry] | None, v2: list[TreeFile] | None
) -> tuple[TorrentLayout, bool]:
    """The layout, and whether the files stand in a folder. A hybrid has v1's, once v2 is seen to say the same."""
    if v2 is None:
        assert v1 is not None
        return TorrentLayout(piece_length, v1), v1[0].path != ()
    tree = [file.entry for file in v2]
    if len(tree) == 1 and tree[0].path == (name,):
        tree = [tree[0]._replace(path=())]
    layout = TorrentLayout(piece_length, aligned(tree, piece_length))
    if v1 is not None:
        hybrid = TorrentLayout(piece_length, v1)
        if _placed(hybrid) != _placed(layout):
            raise MetainfoError("the v1 and v2 file lists of this hybrid torrent differ")
        layout = hybrid
    return layout, layout.files[0].path != ()


def _placed(layout: TorrentLayout) -> list[tuple[tuple[str, ...], int, int]]:
    """Every real file with its length and where it begins."""
    return [
        (file.path, file.length, layout.file_start(number) if file.length else 0)
        for number, file in enumerate(layout.files)
        if not file.pad
    ]


def _maybe_text(keys: dict[bytes, Value], key: bytes, text: Text) -> str | None:
    """The text at ``key``, better at ``key.utf-8``; None if there is none."""
    better = keys.get(key + b".utf-8")
    if isinstance(better, bytes):
        try:
            return better.decode()
        except UnicodeDecodeError:
            pass
    plain = keys.get(key)
    return text(plain) if isinstance(plain, bytes) else None


def _maybe_time(value: Value | None) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _trackers(top: dict[bytes, Value]) -> Tiers:
    tiers = top.get(b"announce-list")
    found = tuple(filter(None, map(_urls, tiers))) if isinstance(tiers, list) else ()
    if found:
        return found
    announce = _urls(top.get(b"announce"))
    return (announce,) if announce else ()


def _urls(value: Value | None) -> tuple[str, ...]:
    """One URL or a list of them, each once, in order; whatever is no string is passed over."""
    items = value if isinstance(value, list) else [value]
    texts = (item.decode("utf-8", "surrogateescape").strip() for item in items if isinstance(item, bytes))
    return tuple(dict.fromkeys(filter(None, texts)))


def _nodes(value: Value | None) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for item in value if isinstance(value, list) else []:
        match item:
            case [bytes(host), int(port)] if 0 < port < 65536:
                found.append((host.decode("utf-8", "surrogateescape"), port))
    return tuple(found)
