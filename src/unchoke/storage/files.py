"""FileStorage: a torrent's bytes in files below a folder, under the names ``paths`` makes of the torrent's.

Files and folders appear when first written (wanted empty ones in ``prepare``); unwanted files never do: their shares of pieces
that were needed go to the part file until they are wanted. Nothing shortens a file but ``shorten``. Pad files (BEP 47) read as
zeros and are never made. Where a file is, is ``places``' knowledge, making it is ``maker``'s; which files may be written over is
the torrent's decision, and ``foreign`` tells it what is not ours. Descriptors come from the session's ``FilePool``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from unchoke.bitfield import Bitfield
from unchoke.layout import TorrentLayout
from unchoke.storage import deleting, fileio, foreign, moving, space
from unchoke.storage.base import FileStatus, MissingDataError, Room, storage_error
from unchoke.storage.handles import FilePool
from unchoke.storage.maker import Maker
from unchoke.storage.names import Names
from unchoke.storage.paths import Components
from unchoke.storage.places import Places
from unchoke.storage.probe import choose_names
from unchoke.storage.stream import FileStream


class FileStorage(FileStream):
    """The ``Storage`` of one torrent in ``folder``.

    ``name`` and ``multi_file`` as in the metainfo. ``wanted``: indexes of the files to be made, None for all. ``portable``: force
    (True) or forbid portable names; None asks the file system, only if it would make a difference: then, and for very many
    files, make the storage on a thread. ``infohash`` names the part file. ``preallocate``: off, sparse or full (``space``).
    ``suffix``: what a file's name ends with until ``finished``. Raises ValueError for a ``preallocate`` or ``suffix`` that is none.
    """

    __slots__ = ("_name", "portable")

    def __init__(
        self,
        folder: str | os.PathLike[str],
        name: str,
        layout: TorrentLayout,
        *,
        multi_file: bool,
        wanted: Collection[int] | None = None,
        portable: bool | None = None,
        pool: FilePool | None = None,
        infohash: bytes = b"",
        preallocate: str = "sparse",
        suffix: str = "",
    ) -> None:
        self.layout = layout
        self._name = (name, multi_file, portable, suffix, infohash)
        path = os.path.abspath(os.fspath(folder))
        self.portable, names = self._choose_names(path)
        places = Places(path, layout, names, None if wanted is None else frozenset(wanted))
        shelf = (FilePool() if pool is None else pool).shelf(places.open)
        super().__init__(layout, places, shelf, Maker(places, shelf, preallocate))

    def _choose_names(self, folder: str) -> tuple[bool, Names]:
        name, multi_file, portable, suffix, infohash = self._name
        portable, paths = choose_names(folder, name, self.layout, multi_file, portable)
        return portable, Names(paths, self.layout, suffix, infohash)

    def prepare(self) -> None:
        """Make the folder, the wanted files that have no bytes, and those whose bytes wait in the part file.

        Nothing that exists is changed. From now on the folder is neither made anew nor left for one on another disk.
        """
        try:
            self._maker.prepare()
        except OSError as error:
            raise storage_error(error, "make the folder", self.folder) from error
        self._make_wanted()

    def _make_wanted(self) -> None:
        try:
            self._maker.move_shares()
        except OSError as error:
            part = self._places.part
            raise storage_error(error, "read", self._places.path(part)) from error
        for index, file in enumerate(self.layout.files):
            if not file.length and not file.pad and self._places.is_wanted(index) and self._places.stat(index) is None:
                with self._places.lock:
                    handle = self._borrow_writable(index)
                if handle is not None:
                    self._shelf.give_back(handle)

    # what the files are

    @property
    def folder(self) -> str:
        """The download folder's absolute path."""
        return self._places.folder

    @property
    def wanted(self) -> frozenset[int] | None:
        """The files that are wanted; None: all."""
        return self._places.wanted

    @property
    def paths(self) -> list[str | None]:
        """The absolute path of each file as it is now, or would be made; None for pad files."""
        return [None if file.pad else self._places.path(index) for index, file in enumerate(self.layout.files)]

    def path(self, file: int) -> str:
        """The absolute path of one file as it is now, or would be made (of a pad file: the folder's)."""
        return self._places.path(file)

    def parts(self, file: int) -> Components:
        """The path of one file below the folder, as components; none for a pad file."""
        return self._places.parts(file)

    @property
    def root(self) -> str:
        """The name of the torrent's own file or folder in ``folder``; empty for a torrent of pad files alone."""
        return self._places.names.root

    def status(self) -> list[FileStatus | None]:
        """One entry a file, and a last one for the part file. None: no ordinary file is there, or it is a pad file."""
        found = map(self._places.stat, range(self._places.part + 1))
        return [None if status is None else FileStatus(status.st_size, status.st_mtime_ns) for status in found]

    def sizes(self) -> list[int | None]:
        """What each file's size is on disk, in bytes; None: no ordinary file is there, or it is a pad file."""
        return [None if status is None else status.size for status in self.status()[:-1]]

    def select(self, wanted: Collection[int] | None) -> None:
        """Change which files are wanted (None: all); newly wanted ones get their bytes from the part file.

        Files that exist stay as they are. After an error or a crash nothing is lost; calling again, or ``prepare``, goes on.
        """
        with self._places.lock:
            self._places.wanted = None if wanted is None else frozenset(wanted)
        if self._places.device is not None:
            self._make_wanted()

    def finished(self, file: int) -> None:
        """This file is complete: it loses its suffix. StorageError if something else has its name: nothing is written over."""
        self._maker.finish(file)

    def relocate(self, folder: str | os.PathLike[str], moved: Callable[[], None] | None = None) -> list[str]:
        """Move everything to another folder (see ``Storage.relocate`` and ``storage/moving``)."""
        target = os.path.abspath(os.fspath(folder))
        portable, names = self._choose_names(target)
        left = moving.relocate(self._maker, target, names, moved)
        self.portable = portable
        return left

    # the disk

    def room(self) -> Room:
        """What the file system has left, and what the wanted files still take. One stat a wanted file."""
        return space.room(self._places, self._maker.part.map)

    def vanished(self) -> str:
        """Words if the folder or a file that had been seen is gone, or the folder on another disk; a bounded number of stats."""
        return self._places.vanished()

    # what is ours

    def oversized(self) -> list[str]:
        """Paths of files to be written that are longer than the torrent says (see ``storage/foreign``)."""
        return [self.path(index) for index in foreign.oversized_files(self)]

    def shorten(self) -> None:
        """Cut files to be written that are too long. Only ever on the user's own word (``--overwrite``)."""
        for index in foreign.oversized_files(self):
            handle = self._borrow(index, write=True)
            try:
                os.ftruncate(handle.fd, self.layout.files[index].length)
            except OSError as error:
                raise storage_error(error, "shorten", self.path(index)) from error
            finally:
                self._shelf.give_back(handle)

    def foreign_files(self, have: Bitfield) -> list[str]:
        """Paths of files to be written that hold nothing of ours, given all the pieces that verify. Reads, so it blocks."""
        return foreign.foreign_files(self, have)

    def is_all_zeros(self, file: int) -> bool:
        """Is there no byte but zero in this file? A missing file has none."""
        try:
            handle = self._borrow(file, write=False)
        except MissingDataError:
            return True
        try:
            return fileio.is_all_zeros(handle)
        except OSError as error:
            raise storage_error(error, "read", self.path(file)) from error
        finally:
            self._shelf.give_back(handle)

    def delete(self, have: Bitfield) -> None:
        """Delete what is the torrent's, given all the pieces that verify, and folders left empty (``storage/deleting``).

        It closes the storage. Raises StorageError for the first file that could not be deleted; the others are.
        """
        files = deleting.owned_files(self, have)
        owned = [self.parts(index) for index in files]
        try:
            owned += self._maker.leavings(files)
        except OSError as error:
            raise storage_error(error, "read", self.path(self._places.part)) from error
        self.close()
        deleting.delete_files(self.folder, owned)

    def __repr__(self) -> str:
        return f"<FileStorage {self.folder} [{len(self.layout.files)} files, {len(self._dirty)} unsynced]>"
