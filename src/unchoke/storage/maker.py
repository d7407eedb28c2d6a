"""Maker: makes a torrent's files, with the bytes that the part file has kept for them, and gives them their own names.

A file with shares in the part file is put together under another name, synced, and only then renamed: a crash leaves either
the part file's copy alone or a whole file, and doing it again is safe. The part file goes when no absent file has a byte in it
and the names of those that had are synced. Nothing here overwrites a file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection

from unchoke.errors import StorageError
from unchoke.layout import TorrentLayout
from unchoke.storage import fileio, opening, space
from unchoke.storage.base import ABSENT, gone_error, storage_error
from unchoke.storage.folders import NewNames
from unchoke.storage.handles import Handle, Shelf
from unchoke.storage.parts import PartFile, Run
from unchoke.storage.paths import Components
from unchoke.storage.places import FINISHED, PARTED, UNFINISHED, UNKNOWN, Places

#: A folder that is read-only, or a system that keeps files while somebody reads them.
_KEEPS_IT = (errno.EACCES, errno.EPERM, errno.EROFS)


class Maker:
    """The maker of one torrent's files. ``preallocate``: see ``space.Preallocate``. ``closed``: nothing may be written."""

    __slots__ = ("_ready", "closed", "folders", "layout", "part", "places", "preallocate", "shelf")

    def __init__(self, places: Places, shelf: Shelf, preallocate: str) -> None:
        if preallocate not in space.MODES:
            raise ValueError(f"{preallocate!r} is none of {', '.join(space.MODES)}")
        self.places = places
        self.layout: TorrentLayout = places.layout
        self.part = PartFile(places, shelf)
        self.shelf = shelf
        self.preallocate = preallocate
        self.closed = False
        self._ready: set[int] = set()  # files that have been opened for writing, and had their space reserved
        self.folders = NewNames()

    # writing

    def ready(self, file: int) -> bool:
        """Is the file itself there and ready to be borrowed for writing? If not: ``writable``."""
        return file in self._ready

    def writable(self, file: int) -> Handle | None:
        """The file borrowed for writing, made if need be; None: its bytes belong in the part file. ``places.lock`` is held.

        Raises OSError, ValueError, StorageError.
        """
        if self.closed:
            raise StorageError(
                f"{self.places.folder}: nothing is written while the torrent is moved", self.places.folder
            )
        handle = self._borrow_existing(file)
        if handle is None:
            if not self.places.is_wanted(file):
                self.places.states[file] = PARTED
                return None
            return self._make(file)
        try:
            space.reserve(handle.fd, self.layout.files[file].length, self.preallocate)
        except BaseException:
            self.shelf.give_back(handle)
            raise
        self._be_ready(file)
        return handle

    def _be_ready(self, file: int) -> None:
        """Its first write is to come. Also the name of a file that was there may be newer than a crash, and not synced."""
        if file not in self._ready:
            self._ready.add(file)
            self.folders.note(self.places.folder, self.places.parts(file))

    def writable_part(self) -> Handle:
        """The part file borrowed for writing, made if need be. ``places.lock`` is held."""
        part = self.places.part
        handle = self._borrow_existing(part) or self._create(part, (self.places.names.part,), FINISHED)
        self._be_ready(part)
        return handle

    def _borrow_existing(self, file: int) -> Handle | None:
        if self.places.states[file] == PARTED:
            return None
        try:
            return self.shelf.borrow(file, write=True)
        except OSError as error:
            if error.errno not in ABSENT or self.places.has_file(file):
                raise
        return None

    def _make(self, file: int) -> Handle:
        """A wanted file that is not there."""
        runs = self.part.shares(file)
        if runs:
            return self._assemble(file, runs)
        length = self.layout.files[file].length
        names = self.places.names
        parts = names.unfinished(file) if length else names.finished(file)
        handle = self._create(file, parts, FINISHED if parts == names.finished(file) else UNFINISHED)
        self._be_ready(file)
        return handle

    def _create(self, file: int, parts: Components, state: int) -> Handle:
        """An empty file under a name where there is none."""
        self._make_home()
        executable = file != self.places.part and self.layout.files[file].executable
        fd, status = self.shelf.opened(
            lambda: opening.open_below(self.places.folder, parts, make=True, executable=executable)
        )
        try:
            if file != self.places.part and self.layout.files[file].length:
                space.reserve(fd, self.layout.files[file].length, self.preallocate)
        except BaseException:
            os.close(fd)
            raise
        self.places.states[file] = state
        return self.shelf.put(file, fd, status.st_dev, writable=True)

    def _make_home(self) -> None:
        if self.places.device is not None:
            self.places.check_home()
        else:
            self.prepare()

    def prepare(self) -> None:
        """Make the download folder, and remember which disk it is on."""
        self.folders.add(opening.make_folder(self.places.folder))
        self.places.settle()

    def stop(self) -> None:
        """Nothing is written from now on, until ``closed`` is False again. ``places.lock`` is held."""
        self.closed = True
        self._ready.clear()

    # the part file

    def move_shares(self) -> None:
        """Make the wanted files whose bytes are in the part file, and remove it if nothing needs it. Safe to do again."""
        places = self.places
        kept = False
        for file in self.part.files():
            with places.lock:
                if places.has_file(file) or (places.states[file] != PARTED and places.stat(file) is not None):
                    # A crash may have come between its name and the end of the one it was put together under.
                    self._discard(places.names.temporary(places.names.finished(file)))
                elif places.is_wanted(file):
                    self.shelf.give_back(self._named(file))
                else:
                    kept = True
        if not kept:
            with places.lock:
                self._remove_part()

    def _named(self, file: int) -> Handle:
        try:
            return self._make(file)
        except (OSError, ValueError) as error:
            raise storage_error(error, "make", self.places.path(file)) from error

    def _remove_part(self) -> None:
        """Unlink the part file, after the names of what was in it are synced. ``places.lock`` is held."""
        places = self.places
        needed = any(not places.has_file(file) for file in self.part.files())
        if needed or places.stat(places.part) is None:
            return
        self.folders.sync()
        self.shelf.drop(places.part)
        try:
            with opening.entered(places.folder, (places.names.part,)) as (above, name):
                os.unlink(name, dir_fd=above)
        except OSError as error:
            if error.errno in _KEEPS_IT:
                return  # it does no harm, and goes with a later selection
            raise storage_error(error, "delete", places.path(places.part)) from error
        places.states[places.part] = UNKNOWN
        self._ready.discard(places.part)
        self.folders.note(places.folder, (places.names.part,))

    def _assemble(self, file: int, runs: list[Run]) -> Handle:
        """Make a file of its shares under another name, and rename it when it is whole and synced."""
        self._make_home()
        places, entry = self.places, self.layout.files[file]
        temporary = places.names.temporary(places.names.finished(file))
        fd, status = self.shelf.opened(
            lambda: opening.open_below(places.folder, temporary, make=True, executable=entry.executable)
        )
        try:
            os.ftruncate(fd, 0)  # what a crash left
            space.reserve(fd, entry.length, self.preallocate)
            target = Handle(self.shelf, file, fd, status.st_dev, True)
            self.part.copy(runs, target)
            fileio.sync(target)
            parts = self._publish(file, temporary)
        except BaseException:
            os.close(fd)
            self._discard(temporary)
            raise
        places.states[file] = FINISHED if parts == places.names.finished(file) else UNFINISHED
        self._be_ready(file)
        return self.shelf.put(file, fd, status.st_dev, writable=True)

    def _publish(self, file: int, temporary: Components) -> Components:
        parts = self.places.names.unfinished(file)
        with opening.entered(self.places.folder, temporary) as (above, name):
            new = parts[-1] if above is not None else os.path.join(os.path.dirname(name), parts[-1])
            opening.rename_new(above, name, above, new)
        return parts

    def _discard(self, parts: Components) -> None:
        try:
            with opening.entered(self.places.folder, parts) as (above, name):
                os.unlink(name, dir_fd=above)
        except (OSError, StorageError):
            pass  # it is made anew from the start the next time

    # names

    def finish(self, file: int) -> None:
        """Give a file its own name. Raises StorageError if that is taken."""
        places = self.places
        with places.lock:
            status = places.stat(file)
            if status is None or places.names.finished(file) == places.names.unfinished(file):
                return
            finished = places.names.finished(file)
            path = os.path.join(places.folder, *finished)
            try:
                self._finish(file, finished, status)
            except FileExistsError as error:
                raise StorageError(f"{path} is there already, so {places.path(file)} keeps its name", path) from error
            except OSError as error:
                if error.errno == errno.ENOENT:
                    raise gone_error(places.path(file)) from error
                raise storage_error(error, "rename", places.path(file)) from error
            self.folders.note(places.folder, finished)

    def _finish(self, file: int, finished: Components, status: os.stat_result) -> None:
        unfinished = self.places.names.unfinished(file)
        with opening.entered(self.places.folder, unfinished) as (above, name):
            new = finished[-1] if above is not None else os.path.join(os.path.dirname(name), finished[-1])
            if self.places.states[file] == UNFINISHED:
                opening.rename_new(above, name, above, new)
                self.places.states[file] = FINISHED
            elif opening.exists(above, name) and os.path.samestat(os.stat(name, dir_fd=above), status):
                os.unlink(name, dir_fd=above)  # a crash came between the new name and the end of the old one

    def leavings(self, files: Collection[int]) -> list[Components]:
        """What else is there of ours when these files are deleted: the part file, and what a crash left beside them."""
        places, names = self.places, self.places.names
        found: list[Components] = []
        if names.suffix:
            for file in files:
                status, second = places.stat(file), _stat(places.folder, names.unfinished(file))
                if status is not None and second is not None and os.path.samestat(status, second):
                    found.append(names.unfinished(file))
        if places.stat(places.part) is not None:
            found.append((names.part,))
            found += [names.temporary(names.finished(file)) for file in self.part.files()]
        return found

    def __repr__(self) -> str:
        return f"<Maker in {self.places.folder} [{len(self._ready)} files ready; {self.folders!r}]>"


def _stat(folder: str, parts: Components) -> os.stat_result | None:
    try:
        return os.stat(os.path.join(folder, *parts))
    except (OSError, ValueError):
        return None
