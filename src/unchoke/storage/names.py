"""Names: what one torrent's files are called below its folder: finished, unfinished, being made; and its part file.

``paths`` gives the names that the torrent means. Every other name here is built so that no file of the torrent has it: not even of
one made for the purpose, since marks are hashes with the infohash in them, which depends on the names itself.
"""

from __future__ import annotations

import unicodedata
from hashlib import sha1

from unchoke.layout import TorrentLayout
from unchoke.storage.paths import MAX_COMPONENT, Components

#: Longest suffix, in bytes: enough for a word, and short beside the name.
MAX_SUFFIX = 32
_NEVER = frozenset('<>:"|?*\\/\0')


class Names:
    """The names of one torrent. ``final``: from ``paths.map_paths``. ``suffix`` (may be empty): what unfinished files carry.

    Raises ValueError for a suffix that cannot be in a name everywhere.
    """

    __slots__ = ("_key", "_taken", "final", "part", "suffix")

    def __init__(self, final: list[Components | None], layout: TorrentLayout, suffix: str, infohash: bytes) -> None:
        check_suffix(suffix)
        self.final = final
        self.suffix = suffix
        self._key = infohash or sha1(f"{self.root}/{layout!r}".encode("utf-8", "surrogatepass")).digest()
        self._taken = self._names_with(suffix)
        self.part = self._part_name()

    @property
    def root(self) -> str:
        """The one name that all files of the torrent have or lie below; empty if it has no real file."""
        return next((parts[0] for parts in self.final if parts), "")

    def finished(self, file: int) -> Components:
        """The name the torrent means; none for a pad file."""
        return self.final[file] or ()

    def unfinished(self, file: int) -> Components:
        """The name until the file is complete: the same if there is no suffix."""
        parts = self.finished(file)
        if not self.suffix or not parts:
            return parts
        name = parts[-1] + self.suffix
        if len(_encode(name)) > MAX_COMPONENT or _fold(name) in self._taken:
            mark = f"~{self._hash(parts)}{self.suffix}"
            name = _cut(parts[-1], MAX_COMPONENT - len(_encode(mark))) + mark
        return (*parts[:-1], name)

    def temporary(self, parts: Components) -> Components:
        """The name while a file is put together, beside where it will be."""
        return (*parts[:-1], f".{self._hash(parts)}.unchoke-new")

    def _names_with(self, suffix: str) -> frozenset[str]:
        """All names in the torrent, folders' too, that end with the suffix."""
        if not suffix:
            return frozenset()
        ending = _fold(suffix)
        names = {part for parts in self.final if parts for part in parts}
        return frozenset(folded for folded in map(_fold, names) if folded.endswith(ending))

    def _part_name(self) -> str:
        name = f".{self._key.hex()}.unchoke-parts"
        while _fold(name) in (_fold(self.root), _fold(self.root + self.suffix)):
            name += "~"
        return name

    def _hash(self, parts: Components) -> str:
        return sha1(self._key + "/".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def __repr__(self) -> str:
        return f"<Names of {self.root[:40]!r} [{len(self.final)} files{', unfinished ' + self.suffix if self.suffix else ''}]>"


def check_suffix(suffix: str) -> None:
    """Raise ValueError unless this can end a file's name on every system. Empty is fine."""
    if suffix and (
        suffix[-1] in ". " or not suffix.isprintable() or _NEVER & set(suffix) or len(_encode(suffix)) > MAX_SUFFIX
    ):
        raise ValueError(f"{suffix!r} cannot end a file's name")


def _fold(name: str) -> str:
    """What any file system may hold for the same name: more than this one does, which costs a mark at most."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _cut(name: str, size: int) -> str:
    """The beginning of a name in so many bytes, without half a character."""
    cut = _encode(name)[:size].decode("utf-8", "surrogateescape")
    while not name.startswith(cut):
        cut = cut[:-1]
    return cut


def _encode(name: str) -> bytes:
    """The bytes a POSIX file system keeps, whatever this machine's locale."""
    return name.encode("utf-8", "surrogateescape")
