"""What ``get`` and ``seed`` keep between runs: records in one small database, and a lock for each torrent and folder in use.

Any number of them run side by side. A folder that cannot be written costs the records, never the download.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from unchoke.errors import StorageError
from unchoke.types import InfoHash

if TYPE_CHECKING:
    from unchoke.engine.resume import StateStore

log = logging.getLogger(__name__)


class Keeping:
    """``folder``: where records go (``--state-dir``, or the data folder)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self) -> StateStore:
        """The records, shared with other processes; opened by the session."""
        from unchoke.engine.resume import SqliteStore

        return SqliteStore(self._folder / "cli.sqlite", shared=True)

    @contextlib.contextmanager
    def use(self, infohash: InfoHash, folder: Path, name: str) -> Iterator[None]:
        """Hold the torrent in this folder. Raises TakenError if another process has it."""
        from unchoke.storage.locks import PairLock, TakenError

        lock = PairLock(str(self._folder / "locks"), infohash, str(folder), name)
        try:
            lock.acquire()
        except TakenError:
            raise  # it says who has it
        except StorageError as error:
            log.warning("! no lock for %s: %s", name, error)
            yield
            return
        try:
            yield
        finally:
            lock.release()
