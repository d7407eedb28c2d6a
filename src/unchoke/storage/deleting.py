"""Deleting a torrent's files, and the folders they leave empty: nothing else, and never through a link.

A file is the torrent's if a piece in it verified, or if it is one we would write and holds nothing but zeros; one that is longer than
the torrent says is not. Folders are entered one by one without following links, so that nobody can lead us elsewhere; a link in
a file's or a folder's place was made by somebody else, and stays with what it leads to.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from unchoke.bitfield import Bitfield
from unchoke.errors import StorageError
from unchoke.storage import foreign
from unchoke.storage.base import storage_error
from unchoke.storage.paths import Components

if TYPE_CHECKING:
    from unchoke.storage.files import FileStorage

_HAS_DIR_FD = {os.open, os.unlink, os.rmdir, os.stat} <= os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
#: Not there, or (also in the words of other systems) a link or a file where a folder should be.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EMLINK)
_FOLDER_FLAGS = (
    getattr(os, "O_PATH", os.O_RDONLY)
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
)


def owned_files(storage: FileStorage, have: Bitfield) -> list[int]:
    """The files that are the torrent's, rising. ``have``: every piece that verified. It reads, so it blocks."""
    sizes, files = storage.sizes(), storage.layout.files
    written = frozenset(foreign.written_files(storage.layout, storage.wanted))
    return [
        index
        for index, size in enumerate(sizes)
        if size is not None
        and size <= files[index].length
        and (
            foreign.any_piece(storage.layout, index, have)
            or (index in written and (not size or storage.is_all_zeros(index)))
        )
    ]


def delete_files(folder: str, files: Collection[Components]) -> None:
    """Delete these files below ``folder``, then the folders that this left empty (never ``folder`` itself).

    What is missing, a link or no ordinary file is passed over. Goes on after a refusal; raises StorageError for the first.
    """
    refused: StorageError | None = None
    emptied: set[Components] = set()
    for parts in files:
        try:
            if _delete(folder, parts):
                emptied.update(parts[:depth] for depth in range(1, len(parts)))
        except OSError as error:
            refused = refused or storage_error(error, "delete", os.path.join(folder, *parts))
    _delete_folders(folder, emptied)
    if refused is not None:
        raise refused


def delete_empty(folder: str, files: Collection[Components]) -> None:
    """Delete the folders below ``folder`` that these files were in, as far as they are empty."""
    _delete_folders(folder, {parts[:depth] for parts in files for depth in range(1, len(parts))})


def _delete_folders(folder: str, emptied: Collection[Components]) -> None:
    for parts in sorted(emptied, key=len, reverse=True):
        _delete_folder(folder, parts)


def _delete(folder: str, parts: Components) -> bool:
    """Delete one file; False if there was none."""
    try:
        with _entered(folder, parts[:-1]) as (above, name):
            path = name(parts[-1])
            if not stat.S_ISREG(os.stat(path, dir_fd=above, follow_symlinks=False).st_mode):
                return False
            os.unlink(path, dir_fd=above)
            return True
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return False


def _delete_folder(folder: str, parts: Components) -> None:
    """Delete a folder if it is empty."""
    try:
        with _entered(folder, parts[:-1]) as (above, name):
            os.rmdir(name(parts[-1]), dir_fd=above)
    except OSError:
        pass  # others keep something there, or want the folder itself to stay


class _Name:
    """How a file in an entered folder is called: by its name alone, or (where folders cannot be held open) by its path."""

    def __init__(self, above: str) -> None:
        self._above = above

    def __call__(self, name: str) -> str:
        return os.path.join(self._above, name) if self._above else name


@contextmanager
def _entered(folder: str, parts: Components) -> Iterator[tuple[int | None, _Name]]:
    """The folder ``parts`` below ``folder``, entered without following links. OSError if it is none."""
    if not _HAS_DIR_FD:
        path = folder
        for part in parts:
            path = os.path.join(path, part)
            if os.path.islink(path):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        yield None, _Name(path)
        return
    above = os.open(folder, _FOLDER_FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
    try:
        for part in parts:
            below = os.open(part, _FOLDER_FLAGS, dir_fd=above)
            os.close(above)
            above = below
        yield above, _Name("")
    finally:
        os.close(above)
