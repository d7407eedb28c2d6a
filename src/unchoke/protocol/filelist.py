"""The files a torrent's info dictionary lists: ``length``/``files`` of v1 (BEP 3, 47) and ``file tree`` of v2 (BEP 52).

Names stay as they are, hostile ones too: ``storage/paths`` makes them safe, and decides on clashes. Text is what
``encoding`` says, else UTF-8; bytes that are neither are kept as lone surrogates. Raises MetainfoError.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from unchoke.errors import MetainfoError
from unchoke.layout import FileEntry
from unchoke.protocol.bencode import Value

Text: TypeAlias = Callable[[bytes], str]

#: The largest file offset an operating system knows.
MAX_LENGTH = 2**63 - 1

#: Families of codecs that people name files in. Python knows more (``idna``, ``punycode``, ``unicode_escape``), which are
#: no character sets, and slow or surprising on hostile bytes.
_CODECS = (
    "ascii",
    "big5",
    "cp",
    "euc",
    "gb",
    "iso8859",
    "iso2022",
    "johab",
    "koi8",
    "mac",
    "shift",
    "tis",
    "utf-8",
    "hz",
)


class TreeFile(NamedTuple):
    """A file of a v2 tree: its entry (``path`` from the tree's root) and its Merkle root, empty for an empty file."""

    entry: FileEntry
    root: bytes


def text_of(encoding: Value | None) -> Text:
    """How to read names and comments, from the value of the torrent's ``encoding`` key (unknown ones are ignored)."""
    codec = _codec(encoding)

    def utf8(raw: bytes) -> str:
        return raw.decode("utf-8", "surrogateescape")

    def declared(raw: bytes) -> str:
        try:
            return raw.decode(codec)
        except UnicodeError:
            return utf8(raw)

    return declared if codec else utf8


def _codec(encoding: Value | None) -> str:
    if not isinstance(encoding, bytes) or len(encoding) > 40:
        return ""
    try:
        name = codecs.lookup(encoding.decode("ascii")).name
    except (LookupError, ValueError):
        return ""
    return name if name.startswith(_CODECS) and name != "utf-8" else ""


def read_files(info: dict[bytes, Value], text: Text) -> list[FileEntry]:
    """The v1 files in order. One entry without a path is a single-file torrent."""
    if b"files" not in info:
        if b"length" not in info:
            raise MetainfoError("no file length and no list of files")
        return [FileEntry((), _length(info, b""), executable=b"x" in _attributes(info))]
    items = info[b"files"]
    if not isinstance(items, list) or not items:
        raise MetainfoError("the list of files is empty or no list")
    files = [_entry(item, text) for item in items]
    if sum(file.length for file in files) > MAX_LENGTH:
        raise MetainfoError("the files are longer than any disk")
    return files


def _entry(item: Value, text: Text) -> FileEntry:
    if not isinstance(item, dict):
        raise MetainfoError("an entry of the list of files is no dictionary")
    attributes = _attributes(item)
    length = _length(item, attributes)
    pad = b"p" in attributes
    path = _utf8_path(item) or _path(item, text)
    if not path:
        if not pad:
            raise MetainfoError("a file without a path")
        path = (".pad", str(length))  # BEP 47: the path of a pad file may be left out
    elif not pad:
        pad = _looks_padded(path)
    return FileEntry(path, length, pad, b"x" in attributes)


def _attributes(item: dict[bytes, Value]) -> bytes:
    """BEP 47: ``p`` pad, ``x`` executable, ``l`` symlink."""
    attributes = item.get(b"attr", b"")
    return attributes if isinstance(attributes, bytes) else b""


def _length(item: dict[bytes, Value], attributes: bytes) -> int:
    length = item.get(b"length")
    if length is None and b"l" in attributes:
        return 0
    if not isinstance(length, int):
        raise MetainfoError("a file without a length")
    if not 0 <= length <= MAX_LENGTH:
        raise MetainfoError(f"a file length of {length}")
    return length


def _utf8_path(item: dict[bytes, Value]) -> tuple[str, ...]:
    """``path.utf-8`` if it is there and says the truth: it is a later addition beside ``path``."""
    parts = item.get(b"path.utf-8")
    if not isinstance(parts, list):
        return ()
    try:
        return tuple(part.decode() for part in parts if isinstance(part, bytes))
    except UnicodeDecodeError:
        return ()


def _path(item: dict[bytes, Value], text: Text) -> tuple[str, ...]:
    parts = item.get(b"path", [])
    if not isinstance(parts, list):
        raise MetainfoError("a file path that is no list")
    path: list[str] = []
    for part in parts:
        if not isinstance(part, bytes):
            raise MetainfoError("a part of a file path that is no string")
        path.append(text(part))
    return tuple(path)


def _looks_padded(path: tuple[str, ...]) -> bool:
    """Pad files from before BEP 47's ``attr``: ``.pad/N`` (libtorrent) and ``_____padding_file_N_…`` (BitComet)."""
    if path[-1].startswith("_____padding_file"):
        return True
    return len(path) == 2 and path[0] == ".pad" and path[1].isascii() and path[1].isdigit()


def read_tree(info: dict[bytes, Value]) -> list[TreeFile]:
    """The v2 files in the tree's order. ``path`` is below the torrent's name, or the one name of a single-file torrent."""
    tree = info.get(b"file tree")
    if not isinstance(tree, dict):
        raise MetainfoError("a v2 torrent without a file tree")
    if b"" in tree:
        raise MetainfoError("the root of the file tree is a file")
    files = list(_walk(tree))
    if not files:
        raise MetainfoError("the file tree has no file")
    if sum(file.entry.length for file in files) > MAX_LENGTH:
        raise MetainfoError("the files are longer than any disk")
    return files


def _walk(tree: dict[bytes, Value]) -> Iterator[TreeFile]:
    path: list[str] = []
    folders = [iter(tree.items())]
    while folders:
        for key, node in folders[-1]:
            if not key:
                continue  # properties of the folder itself, none of which we know
            if not isinstance(node, dict):
                raise MetainfoError("a node of the file tree is no dictionary")
            name = key.decode("utf-8", "surrogateescape")
            leaf = node.get(b"")
            if isinstance(leaf, dict) and (b"length" in leaf or b"l" in _attributes(leaf)):
                if len(node) > 1:
                    raise MetainfoError("a file of the file tree is a folder too")
                yield _leaf((*path, name), leaf)
            else:
                path.append(name)
                folders.append(iter(node.items()))
                break
        else:
            folders.pop()
            if path:
                path.pop()


def _leaf(path: tuple[str, ...], leaf: dict[bytes, Value]) -> TreeFile:
    attributes = _attributes(leaf)
    length = _length(leaf, attributes)
    root = leaf.get(b"pieces root", b"") if length else b""
    if not isinstance(root, bytes) or len(root) != (32 if length else 0):
        raise MetainfoError("a file of the file tree without its 32-byte pieces root")
    return TreeFile(FileEntry(path, length, executable=b"x" in attributes), root)


def aligned(files: list[FileEntry], piece_length: int) -> list[FileEntry]:
    """The files with pad entries between them, so that each begins a piece, as v2 counts pieces (BEP 52)."""
    entries: list[FileEntry] = []
    end = 0
    for file in files:
        gap = -end % piece_length
        if gap and file.length:
            entries.append(FileEntry((".pad", str(gap)), gap, pad=True))
            end += gap
        entries.append(file)
        end += file.length
    return entries
