"""Paths: names from strangers become relative paths that are safe, unique and the same every time. Pure: no file is touched.

Two steps. Always: no absolute path, no empty, ``.`` or ``..`` component, no ``/`` or NUL inside one, at most 255 bytes a
component. With the portable rule (``portable``: see ``storage/probe``) also what Windows and case-folding file systems need.
The result depends on the torrent and on that rule alone, so that all commands find the same files. Pad files (BEP 47) get no
path. Names that are no UTF-8 are kept as raw bytes (lone surrogates, ``surrogateescape``).
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha1

from unchoke.layout import TorrentLayout

#: Bytes in one name: ext4, XFS, Btrfs, ZFS and tmpfs say 255 bytes; NTFS and APFS 255 UTF-16 units, which is never less.
MAX_COMPONENT = 255
#: Bytes in the whole relative path. Linux takes 4,096 with the folder, macOS (where the portable rule holds) 1,024.
MAX_PATH = 2048
MAX_PATH_PORTABLE = 768
#: Components. Each costs a system call when a file is opened; trees of source code reach about 40.
MAX_DEPTH = 64
#: Folders kept as they are; a small hostile torrent can name millions. The deepest real ones have under 100,000.
MAX_FOLDERS = 250_000
#: An extension longer than this (with its dot) is taken for part of the name.
_MAX_EXTENSION = 24

Components = tuple[str, ...]

# Surrogates outside U+DC80..DCFF stand for no byte, so no file system can hold them.
_NEVER = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_NOT_PORTABLE = re.compile('[<>:"|?*\\\\\x00-\x1f\x7f-\x9f\udc80-\udcff]')
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³]) *(\.|$)", re.IGNORECASE)


def map_paths(name: str, layout: TorrentLayout, multi_file: bool, *, portable: bool) -> list[Components | None]:
    """One relative path for each file of the layout, as components; None for pad files.

    ``name`` is the torrent's own: the file's name, or with ``multi_file`` the folder's. No path is another's, nor a folder
    of another's: of two that clash the later one (or the file, where the other is a folder) gets ``~`` and 8 hex digits.
    """
    mapper = _Mapper(portable)
    root = mapper.component(name) or "_"
    folders: list[tuple[int, Components]] = []
    for file in layout.files:
        if not file.pad:
            folders.append(mapper.folder(root, file.path) if multi_file else (0, ()))
    # Two passes, because a file must give way to a folder that a later file lies in.
    paths: list[Components | None] = []
    places = iter(folders)
    for index, file in enumerate(layout.files):
        if file.pad:
            paths.append(None)
            continue
        number, folder = next(places)
        leaf = mapper.leaf(file.path) if multi_file else root
        paths.append((*folder, mapper.unique(number, leaf, index, file.path)))
    return paths


class _Mapper:
    """Folders as numbered nodes below node 0, so that memory and time grow with the components and not with their square."""

    __slots__ = ("_cache", "_nodes", "_spelling", "_taken", "limit", "portable")

    def __init__(self, portable: bool) -> None:
        self.portable = portable
        self.limit = MAX_PATH_PORTABLE if portable else MAX_PATH
        self._nodes: dict[tuple[int, str], int] = {}
        self._spelling = [""]
        self._taken: set[tuple[int, str]] = set()
        self._cache: dict[Components, tuple[int, Components]] = {}

    def component(self, name: str) -> str:
        """One name made safe; empty if it must be left out."""
        if not name.isascii():
            # Raw bytes that together are UTF-8 after all would be a second spelling of one name.
            name = _encode(_NEVER.sub("_", name)).decode("utf-8", "surrogateescape")
        name = name.replace("/", "_").replace("\0", "_")
        if self.portable:
            name = _NOT_PORTABLE.sub("_", name).rstrip(". ")
            if _RESERVED.match(name):
                name = f"_{name}"
        if name in ("", ".", ".."):
            return ""
        return name if len(name) * 4 <= MAX_COMPONENT else _fit(name)

    def leaf(self, path: Components) -> str:
        """The file's own name."""
        return (self.component(path[-1]) if path else "") or "_"

    def folder(self, root: str, path: Components) -> tuple[int, Components]:
        """The node and the path of the folder that a file lies in. Equal folders share both."""
        parents = path[:-1]
        found = self._cache.get(parents)
        if found is None:
            found = self._cache[parents] = self._enter(self._within_limits(root, parents))
        return found

    def _within_limits(self, root: str, parents: Components) -> Components:
        """The folder's components; the inner ones of a path that is too long or too deep become one hash of them."""
        if len(self._nodes) < MAX_FOLDERS:
            safe = (root, *filter(None, map(self.component, parents)))
            if len(safe) < MAX_DEPTH and len(_encode("/".join(safe))) + 1 + MAX_COMPONENT <= self.limit:
                return safe
        return (root, f"_{_hash8('/'.join(parents))}")

    def _enter(self, folder: Components) -> tuple[int, Components]:
        node = 0
        spelled = []
        for part in folder:
            key = (node, self._fold(part))
            child = self._nodes.get(key)
            if child is None:
                child = self._nodes[key] = len(self._spelling)
                self._spelling.append(part)
            # The first spelling wins: "Foo/a" and "foo/b" lie in one folder where case folds.
            spelled.append(self._spelling[child])
            node = child
        return node, tuple(spelled)

    def unique(self, node: int, name: str, index: int, path: Components) -> str:
        """The name, or one with a mark if a folder or an earlier file has it."""
        key = (node, self._fold(name))
        attempt = 0
        wanted = name
        while key in self._taken or key in self._nodes:
            wanted = _fit(name, f"~{_hash8(f'{attempt}/{index}/' + '/'.join(path))}")
            key = (node, self._fold(wanted))
            attempt += 1
        self._taken.add(key)
        return wanted

    def _fold(self, name: str) -> str:
        """What the file system may hold for the same name."""
        if not self.portable or (name.isascii() and name.islower()):
            return name
        return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _fit(name: str, mark: str = "") -> str:
    """The name with ``mark`` before its extension, cut to 255 bytes; a name that is cut carries a hash of the whole."""
    data = _encode(name)
    if len(data) + len(mark) > MAX_COMPONENT:
        mark = mark or f"~{_hash8(name)}"
    if not mark:
        return name
    stem, extension = _split(name)
    room = MAX_COMPONENT - len(mark) - len(_encode(extension))
    cut = _encode(stem)[:room].decode("utf-8", "surrogateescape")
    while not stem.startswith(cut):  # the cut went through a character, at most three times
        cut = cut[:-1]
    return cut + mark + extension


def _split(name: str) -> tuple[str, str]:
    """Stem and extension (with its dot); no extension if there is no stem before it, or it is too long to be one."""
    dot = name.rfind(".")
    if dot <= 0 or len(name) - dot > _MAX_EXTENSION:
        return name, ""
    extension = name[dot:]
    return (name[:dot], extension) if len(_encode(extension)) <= _MAX_EXTENSION else (name, "")


def _encode(text: str) -> bytes:
    """The bytes a POSIX file system keeps. The mapping never depends on this machine's locale."""
    return text.encode("utf-8", "surrogateescape")


def _hash8(text: str) -> str:
    return sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:8]
