"""Moving: a torrent's files from one download folder to another, so that they are whole in one of them at every moment.

First everything is in the new folder too: a second name where both are on one file system, else a synced copy put together under
another name. Then the storage uses the new folder, and then the old names go. Where a file system has no second names, files are
renamed one by one while the lock keeps readers waiting. What a crash left is recognised and taken for moved; nothing is ever
written over.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from unchoke.errors import GoneError, StorageError
from unchoke.storage import deleting, fileio, opening
from unchoke.storage.base import MissingDataError, storage_error
from unchoke.storage.handles import Handle, Shelf
from unchoke.storage.maker import Maker
from unchoke.storage.names import Names
from unchoke.storage.paths import Components
from unchoke.storage.places import FINISHED, Places


class _Item(NamedTuple):
    """A file that is there: its index, its names below the old folder and the new one, and what the disk says of it."""

    file: int
    old: Components
    new: Components
    status: os.stat_result


def relocate(maker: Maker, target: str, names: Names, moved: Callable[[], None] | None) -> list[str]:
    """Move everything to ``target`` under ``names``; the old paths that could not be removed. See ``Storage.relocate``."""
    places, old = maker.places, maker.places.folder
    if words := places.vanished():
        raise GoneError(words, old)
    with places.lock:
        maker.stop()
    try:
        maker.folders.sync()
        opening.make_folder(target)
        same = os.path.samefile(old, target)
        items = [] if same else _items(places, names)
        if not items and not same:
            _require_some(places, target, names)
        with ExitStack() as held:
            _Move(maker, target, names, held).run(items)
            with places.lock:
                places.folder, places.names = target, names
                places.settle()
                maker.shelf.drop()
    except OSError as error:
        raise storage_error(error, "move to", target) from error
    finally:
        maker.closed = False
    if moved is not None:
        moved()
    left = _remove(old, target, items)
    maker.shelf.drop()  # what a reader opened in the old folder while it was left
    return left


def _items(places: Places, names: Names) -> list[_Item]:
    items = []
    for file in range(places.part + 1):
        status = places.stat(file)
        if status is None:
            continue
        if file == places.part:
            new: Components = (names.part,)
        else:
            new = names.finished(file) if places.states[file] == FINISHED else names.unfinished(file)
        items.append(_Item(file, places.parts(file), new, status))
    return items


def _require_some(places: Places, target: str, names: Names) -> None:
    """With nothing in the old folder, something must be in the new one: else its disk may be away, and we would leave it."""
    real = [file for file, entry in enumerate(places.layout.files) if entry.length and not entry.pad]
    if not real or any(os.path.exists(os.path.join(target, *names.finished(file))) for file in real):
        return
    path = os.path.join(places.folder, names.root)
    raise MissingDataError(f"{path} is not there, so there is nothing to move", path)


class _Move:
    """The first half: everything is in the new folder, or nothing of it."""

    def __init__(self, maker: Maker, target: str, names: Names, held: ExitStack) -> None:
        self.places: Places = maker.places
        self.shelf: Shelf = maker.shelf
        self.old = maker.places.folder
        self.target = target
        self.names = names
        self._held = held
        self._made: list[_Item] = []
        self._renamed: list[_Item] = []

    def run(self, items: list[_Item]) -> None:
        missing = [item for item in items if not self._is_there(item)]
        try:
            for item in missing:
                try:
                    self._put(item)
                except OSError as error:
                    raise storage_error(error, "move to", self._path(item)) from error
            for folder in sorted({self._folder(item.new[:depth]) for item in items for depth in range(len(item.new))}):
                fileio.sync_folder(folder)
        except BaseException:
            self._undo()
            raise

    def _is_there(self, item: _Item) -> bool:
        """Is it in the new folder already, from a move that was cut short? StorageError if something else is."""
        path = self._path(item)
        try:
            status = os.stat(path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if os.path.samestat(status, item.status) or self._is_equal(item, status):
            _unlink(self.target, self.names.temporary(item.new))  # a crash came between its two names
            return True
        raise StorageError(f"{path} is there already, and nothing is written over: move it away", path)

    def _is_equal(self, item: _Item, status: os.stat_result) -> bool:
        if not stat.S_ISREG(status.st_mode) or status.st_size != item.status.st_size:
            return False
        with ExitStack() as stack:
            old = self._open(stack, item.file, self.old, item.old)
            new = self._open(stack, item.file, self.target, item.new)
            return fileio.is_equal(old, new, status.st_size)

    def _put(self, item: _Item) -> None:
        with (
            opening.entered(self.old, item.old) as (above, name),
            opening.entered(self.target, item.new, make=True) as (to, new),
        ):
            if stat.S_ISREG(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                try:
                    opening.link_new(above, name, to, new)
                    self._made.append(item)
                    return
                except OSError as error:
                    if error.errno in opening.NO_LINKS and item.status.st_dev == _device(self.target):
                        self._rename(item, above, name, to, new)
                        return
                    if error.errno not in (errno.EXDEV, *opening.NO_LINKS):
                        raise
        self._copy(item)

    def _rename(self, item: _Item, above: int | None, name: str, to: int | None, new: str) -> None:
        self._held.enter_context(self.places.lock)  # until the storage uses the new folder
        self.shelf.drop(item.file)
        opening.rename_new(above, name, to, new)
        self._renamed.append(item)

    def _copy(self, item: _Item) -> None:
        temporary = self.names.temporary(item.new)
        executable = bool(item.status.st_mode & stat.S_IXUSR)
        try:
            with ExitStack() as stack:
                old = self._open(stack, item.file, self.old, item.old)
                new = self._open(stack, item.file, self.target, temporary, make=True, executable=executable)
                os.ftruncate(new.fd, 0)
                self._fill(item, old, new)
                os.utime(new.fd if os.utime in os.supports_fd else self._folder(temporary), ns=_times(item.status))
                fileio.sync(new)
            with opening.entered(self.target, temporary) as (above, name):
                opening.rename_new(above, name, above, item.new[-1] if above is not None else self._path(item))
            self._made.append(item)
        except BaseException:
            _unlink(self.target, temporary)
            raise

    def _fill(self, item: _Item, old: Handle, new: Handle) -> None:
        """Copy what is no hole, and see that it became as long."""
        size = item.status.st_size
        for start, end in fileio.extents(old.fd, 0, size):
            fileio.copy(old, start, new, start, end - start)
        if os.fstat(new.fd).st_size < size:
            os.ftruncate(new.fd, size)  # it ends in a hole
        if os.fstat(old.fd).st_size != size or os.fstat(new.fd).st_size != size:
            path = os.path.join(self.old, *item.old)
            raise StorageError(f"{path} changed while it was copied", path)

    def _open(
        self,
        stack: ExitStack,
        file: int,
        folder: str,
        parts: Components,
        *,
        make: bool = False,
        executable: bool = False,
    ) -> Handle:
        fd, status = self.shelf.opened(lambda: opening.open_below(folder, parts, make=make, executable=executable))
        stack.callback(os.close, fd)
        return Handle(self.shelf, file, fd, status.st_dev, make)

    def _undo(self) -> None:
        for item in self._renamed:
            try:
                with (
                    opening.entered(self.target, item.new) as (above, name),
                    opening.entered(self.old, item.old, make=True) as (to, back),
                ):
                    opening.rename_new(above, name, to, back)
            except (OSError, StorageError):
                pass  # it is whole in the new folder, and moving again finds it there
        try:
            deleting.delete_files(self.target, [item.new for item in self._made])
        except (OSError, StorageError):
            pass  # second names or copies of ours, which moving again takes for moved

    def _path(self, item: _Item) -> str:
        return self._folder(item.new)

    def _folder(self, parts: Components) -> str:
        return os.path.join(self.target, *parts)


def _remove(old: str, target: str, items: list[_Item]) -> list[str]:
    """The second half: the old names go, unless they are the new ones by another way."""
    gone = [item for item in items if not _is_same_name(old, target, item)]
    try:
        deleting.delete_files(old, [item.old for item in gone])
    except (OSError, StorageError):
        pass  # what is left is told
    deleting.delete_empty(old, [item.old for item in gone])
    paths = (os.path.join(old, *item.old) for item in gone)
    return [path for path in paths if os.path.lexists(path)]


def _is_same_name(old: str, target: str, item: _Item) -> bool:
    try:
        here, there = (
            os.path.dirname(os.path.join(folder, *parts)) for folder, parts in ((old, item.old), (target, item.new))
        )
        return item.old[-1] == item.new[-1] and os.path.samefile(here, there)
    except OSError:
        return False


def _unlink(folder: str, parts: Components) -> None:
    try:
        deleting.delete_files(folder, [parts])
    except (OSError, StorageError):
        pass  # it is made anew from the start the next time


def _device(folder: str) -> int:
    return os.stat(folder).st_dev


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_atime_ns, status.st_mtime_ns
