"""Places: where each file of a torrent is: under its own name, under its unfinished one, in the part file, or not yet.

What has been seen once is remembered for the life of the storage: a file that had been there and is gone is an error and never made
anew, and bytes that went to the part file are looked for there, whatever somebody puts in the file's place meanwhile.
``lock`` is held while a file is made, renamed or moved; reading and writing what is in its place needs no lock.
"""

from __future__ import annotations

import os
import stat
from threading import RLock

from unchoke.errors import GoneError
from unchoke.layout import TorrentLayout
from unchoke.storage import opening
from unchoke.storage.base import ABSENT, gone_error
from unchoke.storage.names import Names
from unchoke.storage.paths import Components

#: What is known of a file. UNKNOWN: not seen; it may be there all the same.
UNKNOWN, FINISHED, UNFINISHED, PARTED = range(4)
#: Files looked at by one call of ``vanished``: the next one goes on where it ended.
_LOOKS = 256


class Places:
    """The places of one torrent's files below ``folder``. ``part``: the part file's index, one past the last file's.

    ``wanted``: file indexes, None for all. ``device``: st_dev of the folder when ``prepare`` ran, None before.
    """

    __slots__ = ("_cursor", "device", "folder", "layout", "lock", "names", "part", "states", "wanted")

    def __init__(self, folder: str, layout: TorrentLayout, names: Names, wanted: frozenset[int] | None) -> None:
        self.folder = folder
        self.layout = layout
        self.names = names
        self.wanted = wanted
        self.part = len(layout.files)
        self.states = bytearray(len(layout.files) + 1)
        self.lock = RLock()
        self.device: int | None = None
        self._cursor = 0

    # what is known

    def is_wanted(self, file: int) -> bool:
        return self.wanted is None or file in self.wanted

    def has_file(self, file: int) -> bool:
        """Has the file itself been seen (of the part file: seen or made)?"""
        return self.states[file] in (FINISHED, UNFINISHED)

    def candidates(self, file: int) -> tuple[tuple[Components, int], ...]:
        """The names under which the file may be, and what finding it there means."""
        if file == self.part:
            return (((self.names.part,), FINISHED),)
        state = self.states[file]
        finished, unfinished = self.names.finished(file), self.names.unfinished(file)
        if state == FINISHED or finished == unfinished:
            return ((finished, FINISHED),)
        if state == UNFINISHED:
            return ((unfinished, UNFINISHED),)
        return ((finished, FINISHED), (unfinished, UNFINISHED))

    def parts(self, file: int) -> Components:
        """The name of the file as it is, or as it would be made; none for a pad file."""
        choice = self.candidates(file)
        if len(choice) > 1 and self.stat(file) is None:
            return choice[-1][0] if self.layout.files[file].length else choice[0][0]
        return self.candidates(file)[0][0]

    def path(self, file: int) -> str:
        return os.path.join(self.folder, *self.parts(file))

    # what the disk says

    def stat(self, file: int) -> os.stat_result | None:
        """What the disk says of the file; None: no ordinary file is there, or it is a pad file."""
        if file != self.part and self.layout.files[file].pad:
            return None
        for parts, state in self.candidates(file):
            try:
                status = os.stat(f"{self.folder}/{'/'.join(parts)}")
            except (OSError, ValueError):
                continue
            if stat.S_ISREG(status.st_mode):
                self._learn(file, state)
                return status
        return None

    def open(self, file: int, write: bool) -> tuple[int, int]:
        """Open what is there: descriptor and st_dev. Raises OSError, StorageError; makes nothing."""
        while True:
            seen = (self.folder, self.states[file])
            try:
                return self._open(file, write)
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                with self.lock:  # what is renamed or moved at this moment is there afterwards
                    if (self.folder, self.states[file]) == seen:
                        raise

    def _open(self, file: int, write: bool) -> tuple[int, int]:
        candidates = self.candidates(file)
        for position, (parts, state) in enumerate(candidates):
            try:
                fd, status = opening.open_below(self.folder, parts, write=write)
            except OSError as error:
                if error.errno not in ABSENT or position + 1 == len(candidates):
                    raise
            else:
                self._learn(file, state)
                return fd, status.st_dev
        raise AssertionError("every file has a name")

    def _learn(self, file: int, state: int) -> None:
        if self.states[file] == UNKNOWN:
            with self.lock:
                if self.states[file] == UNKNOWN:
                    self.states[file] = state

    # the folder

    def settle(self) -> None:
        """The folder is there now, and stays on this device."""
        self.device = os.stat(self.folder).st_dev

    def check_home(self) -> None:
        """Raise GoneError if the folder is not the one we settled in: nothing may be made there then."""
        if words := self._home_words():
            raise GoneError(words, self.folder)

    def vanished(self) -> str:
        """Words if the folder is not the one we settled in, or a file that had been seen is gone."""
        return self._home_words() or self._gone_words()

    def _home_words(self) -> str:
        if self.device is None:
            return ""
        try:
            device = os.stat(self.folder).st_dev
        except OSError:
            return str(gone_error(self.folder))
        if device == self.device:
            return ""
        # A network share or an automount comes back under another number; then our files are there.
        seen = [file for file in range(min(len(self.states), _LOOKS)) if self.has_file(file)]
        if seen and all(self.stat(file) is not None for file in seen):
            self.device = device
            return ""
        return f"{self.folder} is on another disk than before: was its own taken away?"

    def _gone_words(self) -> str:
        count = len(self.states)
        for _ in range(min(count, _LOOKS)):
            file, self._cursor = self._cursor % count, self._cursor + 1
            if self.has_file(file) and self.stat(file) is None:
                with self.lock:
                    if self.has_file(file) and self.stat(file) is None:
                        return str(gone_error(self.path(file)))
        return ""

    def __repr__(self) -> str:
        there = self.states.count(FINISHED) + self.states.count(UNFINISHED)
        return f"<Places in {self.folder} [{there} of {self.part} files seen, {self.states.count(PARTED)} in the part file]>"
