"""What several commands share: the face (home folder, verbosity), reading a .torrent, writing a file whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from unchoke.errors import (
    MagnetError,
    MetainfoError,
    NoSpaceError,
    NotFoundError,
    StorageError,
    UnchokeError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from unchoke.app.config import Directories
    from unchoke.engine.settings import Settings
    from unchoke.protocol.magnet import Magnet
    from unchoke.protocol.metainfo import Metainfo
    from unchoke.storage.files import FileStorage

F = TypeVar("F", bound=Callable[..., Any])

#: Larger .torrent files are not read. 64 MiB hold the hashes of 3 million pieces.
MAX_TORRENT = 64 * 1024 * 1024


class Face:
    """What the group's options say to every command; ``click.pass_obj`` gives it."""

    __slots__ = ("home", "verbose")

    def __init__(self) -> None:
        self.home: Path | None = None
        self.verbose = 0

    @property
    def directories(self) -> Directories:
        """Where configuration, data, cache and sockets are."""
        from unchoke.app.config import Directories

        return Directories.find(self.home)

    def settings(self, overrides: Mapping[str, Mapping[str, object]] | None = None) -> Settings:
        """Settings from ``overrides`` (command line), environment and config.toml. Raises ConfigError."""
        from unchoke.app.config import load_settings

        return load_settings(self.home, os.environ, overrides or {})


def verbose_option(command: F) -> F:
    """``-v`` and ``-vv``, counted together with those before the command; ``face.verbose`` says how many."""

    def count(ctx: click.Context, _: click.Parameter, value: int) -> None:
        face = ctx.ensure_object(Face)
        face.verbose += value

    option = click.option(
        "-v", "--verbose", count=True, expose_value=False, callback=count, help="Say more; -vv: also tracebacks."
    )
    return option(command)


def kind_of(source: str) -> str:
    """What a SOURCE is: ``"stdin"``, ``"magnet"``, ``"url"``, ``"infohash"`` or ``"path"``. A file that exists is a path."""
    from unchoke.protocol.magnet import is_magnet, maybe_infohash

    if source == "-":
        return "stdin"
    if is_magnet(source):
        return "magnet"
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", source):
        return "url"
    if maybe_infohash(source) is not None and not os.path.lexists(source):
        return "infohash"
    return "path"


def magnet_of(source: str) -> Magnet:
    """The magnet link, or one of the bare infohash. Raises MagnetError."""
    from unchoke.protocol.magnet import Magnet, maybe_infohash

    infohash = maybe_infohash(source)
    if infohash is None:
        return Magnet.parse(source)
    return Magnet(infohash_v1=infohash) if len(infohash) == 20 else Magnet(infohash_v2=infohash)


def load_torrent(source: str) -> Metainfo:
    """The torrent at a path, or on standard input (``-``).

    Raises NotFoundError, StorageError, MetainfoError; UnsupportedError for sources that need the network, which ``get``
    and ``show`` know how to ask.
    """
    kind = kind_of(source)
    if kind == "url":
        raise UnsupportedError(f"{source}: only `get` and `show` fetch URLs; try: unchoke show URL -o FILE.torrent")
    if kind in ("magnet", "infohash"):
        raise UnsupportedError(f"{source}: this needs a .torrent file; try: unchoke show {source} -o FILE.torrent")
    return parse_torrent(read_torrent(source), "standard input" if kind == "stdin" else source)


def parse_torrent(data: bytes, where: str) -> Metainfo:
    """``Metainfo.from_bytes`` whose error says where the bytes came from."""
    from unchoke.protocol.metainfo import Metainfo

    try:
        return Metainfo.from_bytes(data)
    except MetainfoError as error:
        raise MetainfoError(f"{where}: {error}") from None


def read_torrent(source: str) -> bytes:
    """The bytes at a path or of standard input, at most ``MAX_TORRENT``."""
    if source == "-":
        return _read_all(sys.stdin.buffer, "standard input")
    try:
        with open(source, "rb") as file:
            return _read_all(file, source)
    except FileNotFoundError:
        raise _missing(source) from None
    except IsADirectoryError:
        raise StorageError(f"{source}: a folder; what is wanted here is a .torrent file", source) from None
    except ValueError:  # a NUL in the name
        raise NotFoundError(f"{source}: no such file") from None
    except OSError as error:
        raise StorageError(f"{source}: {error.strerror or error}", source) from error


def _missing(source: str) -> UnchokeError:
    """What to say of a path that is not there: something else may have been meant."""
    if source.lower().startswith("magnet:"):
        return MagnetError(f"{source}: a magnet link begins with magnet:?xt=urn:btih: or magnet:?xt=urn:btmh:")
    if re.fullmatch(r"[0-9a-fA-F]{32,72}", source):
        return NotFoundError(
            f"{source}: no such file; an infohash has 40 hex digits (v2: 64), and this has {len(source)}"
        )
    return NotFoundError(f"{source}: no such file")


def _read_all(file: IO[bytes], where: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := file.read(1024 * 1024):
        parts.append(part)
        size += len(part)
        if size > MAX_TORRENT:
            raise MetainfoError(f"{where}: larger than {MAX_TORRENT // 2**20} MiB, too large for a torrent file")
    return b"".join(parts)


def find_data(metainfo: Metainfo, path: str, settings: Settings) -> FileStorage:
    """The storage in PATH, or in the folder above if PATH is the torrent's own file or folder. NotFoundError if neither."""
    from unchoke.storage.files import FileStorage
    from unchoke.storage.handles import FilePool

    given = os.path.abspath(path)
    if not os.path.lexists(given):
        raise NotFoundError(f"{path}: no such file or folder")
    pool = FilePool(settings.disk.open_files)
    portable = True if settings.disk.portable_names else None
    # A PATH that is itself a link to the torrent's folder is fine: a link is only refused below the download folder.
    for folder in (given, os.path.dirname(os.path.realpath(given)), os.path.dirname(given)):
        storage = FileStorage(
            folder, metainfo.name, metainfo.layout, multi_file=metainfo.multi_file, portable=portable, pool=pool
        )
        root = os.path.join(storage.folder, storage.root)
        if os.path.lexists(root) and (folder == given or os.path.samefile(root, given)):
            return storage
    raise NotFoundError(
        f"{os.path.join(path, storage.root)}: not there; PATH is the folder that holds the torrent's file or folder"
    )


def write_file(path: str, data: bytes, *, replace: bool) -> None:
    """Write a file whole or not at all; ``-`` is standard output. Without ``replace`` an existing file is StorageError."""
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    target = os.path.realpath(path) if replace else path  # a link stays a link
    temporary = os.path.join(os.path.dirname(target), f".unchoke-{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        try:
            _write_new(temporary, data, like=target)
            if replace:
                os.replace(temporary, target)
            else:
                _move_new(temporary, target)
        finally:
            if os.path.lexists(temporary):
                os.unlink(temporary)
    except FileExistsError:
        raise already_there(path) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (NoSpaceError if full else StorageError)(f"{path}: {error.strerror or error}", path) from error


def already_there(path: str, flag: str = "--force") -> StorageError:
    return StorageError(f"{path} already exists; {flag} overwrites it", path)


def _write_new(path: str, data: bytes, like: str) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.chmod(path, os.stat(like).st_mode & 0o777)
    except FileNotFoundError:
        pass


def _move_new(temporary: str, target: str) -> None:
    """Give the file its name unless that is taken, without a moment between the look and the deed where links exist."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(temporary, target)
