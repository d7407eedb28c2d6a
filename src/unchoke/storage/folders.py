"""NewNames: the folders in which names are new, until they are synced: a file's bytes are no use if its name is lost."""

from __future__ import annotations

import os
from collections.abc import Iterable
from threading import Lock

from unchoke.storage import fileio
from unchoke.storage.base import ABSENT, gone_error, storage_error
from unchoke.storage.paths import Components


class NewNames:
    """Absolute paths of folders, from any thread."""

    __slots__ = ("_folders", "_lock")

    def __init__(self) -> None:
        self._folders: set[str] = set()
        self._lock = Lock()

    def note(self, folder: str, parts: Components) -> None:
        """A name is new: it, and maybe the folders between it and ``folder``."""
        self.add(os.path.join(folder, *parts[:depth]) for depth in range(len(parts)))

    def add(self, folders: Iterable[str]) -> None:
        """Names are new in these."""
        with self._lock:
            self._folders.update(folders)

    def sync(self) -> None:
        """Sync them all. Raises StorageError; what is not done then is done the next time."""
        with self._lock:
            folders = sorted(self._folders)
            self._folders.clear()
        for position, folder in enumerate(folders):
            try:
                fileio.sync_folder(folder)
            except OSError as error:
                self.add(folders[position:])
                raise (
                    gone_error(folder) if error.errno in ABSENT else storage_error(error, "write", folder)
                ) from error

    def __repr__(self) -> str:
        return f"<NewNames [{len(self._folders)} folders unsynced]>"
