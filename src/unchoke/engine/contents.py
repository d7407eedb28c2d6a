"""Contents: what lies on disk for one torrent: opened, checked, refused when it is not ours, deleted.

It answers which pieces are there and never fetches one. What the record of the last run says is trusted as far as
``resume.judge`` allows, and the rest is hashed. Blocking work runs on threads that a cancelled caller waits for. What to do
with the answers is the torrent's business (docs/decisions/0005 says what makes a file ours, 0007 what is trusted).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bitarray import bitarray
from bitarray.util import ones, zeros

from unchoke.bitfield import Bitfield
from unchoke.engine.checker import Checked, check
from unchoke.engine.options import TorrentOptions
from unchoke.engine.reasons import size
from unchoke.engine.record import Record
from unchoke.engine.resume import ResumeRow, judge
from unchoke.engine.settings import DiskSettings
from unchoke.engine.tasks import Executor, on_thread
from unchoke.errors import DataMismatchError, ForeignFileError, GoneError, NoSpaceError, NotFoundError
from unchoke.layout import TorrentLayout
from unchoke.protocol.metainfo import Metainfo
from unchoke.storage.base import FileStatus, Room, Storage
from unchoke.storage.files import FileStorage
from unchoke.storage.handles import FilePool
from unchoke.storage.paths import map_paths

log = logging.getLogger(__name__)

R = TypeVar("R")

#: Makes the storage of a torrent in a folder: of these files (None: all).
MakeStorage = Callable[[Metainfo, Path, frozenset[int] | None], Storage]
#: The lock that checks of data on one device take turns with.
Turn = Callable[[int], asyncio.Lock]


@dataclass(frozen=True, slots=True)
class Found:
    """The pieces that are there, and the blocks (a bitfield for each piece) of some others."""

    have: bitarray
    partial: dict[int, bytes] = field(default_factory=dict)


class Contents:
    """One torrent's below ``folder``. ``wanted``: the pieces of the selected files; ``checked``: the share of a check done."""

    def __init__(
        self,
        metainfo: Metainfo,
        folder: Path,
        options: TorrentOptions,
        settings: DiskSettings,
        pool: FilePool,
        record: Record,
        *,
        executor: Executor | None = None,
        storage: MakeStorage | None = None,
    ) -> None:
        self.metainfo = metainfo
        self.folder = folder
        self.options = options
        self.record = record
        self.checked = 0.0
        self.waits_for_turn = False  # others on this device are being checked
        self.room: Room | None = None
        self._settings = settings
        self._pool = pool
        self._executor = executor
        self._make_storage = storage
        self._storage: Storage | None = None
        self._seen: Checked | None = None  # of a check that was interrupted
        self._ours: set[int] = set()  # files that a record knows, or that we were about to write
        self._strangers: set[int] = set()  # files newly wanted that stood there already
        self._unsure = True  # an earlier run, or somebody else, may have written bytes that were never synced
        self.select(options)

    # ------------------------------------------------------------------ what is wanted

    def refuse_unknown(self, options: TorrentOptions) -> None:
        """Raise ValueError for a file index that is none."""
        count = len(self.metainfo.layout.files)
        for file in (*(options.files or ()), *options.high, *options.low):
            if not 0 <= file < count:
                raise ValueError(f"file {file} of {count}")

    def select(self, options: TorrentOptions) -> None:
        """Other files are wanted. Raises ValueError for an index that is none."""
        self.refuse_unknown(options)
        layout = self.metainfo.layout
        everything = options.files is None
        wanted = ones(layout.piece_count, "big") if everything else self._pieces_of(options.files or ())
        high = self._pieces_of(options.high) & wanted if options.high else None
        low = self._pieces_of(options.low) & wanted if options.low else None
        if low is not None:  # a piece that a better file shares is not low
            rest = set(range(len(layout.files)) if everything else options.files or ()) - options.low
            low &= ~self._pieces_of(rest)
        # Here, and at once: the loop may be looking while this runs on a thread.
        self.options, self.wanted, self.high, self.low = options, wanted, high, low
        self.wanted_bytes = self.bytes_of(wanted)

    def _pieces_of(self, files: Collection[int]) -> bitarray:
        layout = self.metainfo.layout
        found = zeros(layout.piece_count, "big")
        ends = layout.first_and_last_pieces(files)
        found[[first for first, _ in ends]] = 1  # most of very many files lie within a piece
        for first, last in ends:
            if last > first:
                found[first + 1 : last + 1] = 1
        return found

    def bytes_of(self, pieces: bitarray) -> int:
        """How many bytes these pieces have."""
        layout = self.metainfo.layout
        count = pieces.count(1)
        short = layout.piece_length - layout.last_piece_size if count and pieces[-1] else 0
        return count * layout.piece_length - short

    @property
    def path(self) -> Path:
        """Its file, or its folder if it is of several files."""
        info = self.metainfo
        first = next((file for file in info.layout.files if not file.pad), None)
        if first is None:
            return self.folder
        alone = TorrentLayout(info.layout.piece_length, [first])  # the top is the same with any of its files
        (parts,) = map_paths(info.name, alone, info.multi_file, portable=self._portable())
        return self.folder / parts[0] if parts else self.folder

    def _portable(self) -> bool:
        storage = self._storage
        return storage.portable if isinstance(storage, FileStorage) else self._settings.portable_names

    def file_progress(self, have: bitarray) -> list[int]:
        """Bytes of each file that are in pieces we have, by index."""
        layout = self.metainfo.layout
        size, end = layout.piece_length, 0
        done = []
        for length in layout.files.lengths:
            start, end = end, end + length
            first, last = start // size, (end - 1) // size
            if first >= last:  # most of very many files lie within a piece
                done.append(length if length and have[first] else 0)
                continue
            count = have.count(1, first, last + 1) * size
            if have[first]:
                count -= start - first * size
            if have[last]:
                count -= (last + 1) * size - end
            done.append(count)
        return done

    # ------------------------------------------------------------------ opening, and what is there

    async def open(self, *, complete: bool = False) -> Storage:
        """The files, opened afresh. ``complete``: all was there at the last run. Raises StorageError."""
        return await self.on_thread(self._open, complete)

    def _open(self, complete: bool = False) -> Storage:
        if self._storage is not None:
            self._storage.close()
            self._unsure |= self.record.is_open
        if self._make_storage is not None:
            self._storage = self._make_storage(self.metainfo, self.folder, self.options.files)
        else:
            self._storage = self._open_files(complete)
        self.room = self._storage.room()
        return self._storage

    def _open_files(self, complete: bool) -> FileStorage:
        """Where the files are: while incomplete they may live in a folder of their own."""
        final = self._files_in(self.folder)
        if not self._settings.incomplete_dir or self.options.seed_only:
            return final
        elsewhere = self._files_in(Path(self._settings.incomplete_dir))
        whole = complete or not self._lost(final)
        here, there = any(final.status()), any(elsewhere.status())
        if here and there and whole:  # its move was cut short
            elsewhere.relocate(self.folder)
            there = False
        if there or not here:
            final.close()
            return elsewhere
        elsewhere.close()
        return final

    def _files_in(self, folder: Path) -> FileStorage:
        return FileStorage(
            folder,
            self.metainfo.name,
            self.metainfo.layout,
            multi_file=self.metainfo.multi_file,
            wanted=self.options.files,
            portable=True if self._settings.portable_names else None,
            pool=self._pool,
            infohash=self.metainfo.infohash,
            preallocate=self._settings.preallocate,
            suffix=self.options.suffix,
        )

    async def find(self, storage: Storage, turn: Turn, *, recheck: bool = False) -> Found:
        """What is there. ``recheck``: whatever the record says. Raises ForeignFileError, StorageError."""
        layout, options = self.metainfo.layout, self.options
        if options.trust:
            return Found(ones(layout.piece_count, "big"))
        row = None if recheck else await self.record.load()
        if row is not None and await self.on_thread(self._is_gone, storage, row):
            row = None
        ours = options.overwrite or options.seed_only  # a seed writes nothing
        if options.overwrite:
            await self.on_thread(storage.shorten)
        if not ours:
            _refuse(await self.on_thread(storage.oversized), "is longer than the torrent says")
        have, todo, partial = zeros(layout.piece_count, "big"), None, {}
        unknown = row is None  # may there be files that no record knows?
        if row is not None:
            status = await self.on_thread(storage.status)
            verdict = await self.on_thread(judge, row, layout, status, storage.gaps, self.record.boot_id)
            log.info("= %s: %s", self.metainfo.name, verdict.words)
            self.record.is_open = row.open.any()
            have, todo = verdict.trusted, verdict.check | self._pieces_of(self._strangers) & ~verdict.trusted
            unknown = await self.on_thread(self._meets_strangers, row, status)
            partial = {piece: blocks for piece, blocks in verdict.partial.items() if not have[piece]}
        self._unsure = row is None or bool(row.open.any()) or (todo is not None and todo.any())
        if todo is None or todo.any():
            # Open from here on, with only what is trusted noted: a check that is cut short goes on from what it had found.
            await self.record.begin(ones(len(layout.files) + 1, "big"), have, self._device)
            have |= await self._check(storage, todo, turn, have)
        if not ours and (unknown or todo is None or todo.any()):
            foreign = await self.on_thread(storage.foreign_files, _as_field(have))
            known = set(await self.on_thread(_paths, storage, self._ours))
            _refuse([path for path in foreign if path not in known], "holds other data than the torrent's")
        self._strangers.clear()
        return Found(have, partial)

    def _meets_strangers(self, row: ResumeRow, status: list[FileStatus | None]) -> bool:
        """Whose are the files? True if there are some that no record knows. Blocking: there may be 100,000."""
        self._ours.update(file for file, known in enumerate(row.files[: len(self.metainfo.layout.files)]) if known)
        self._ours.update(row.open.search(1))
        self._ours -= self._strangers
        return any(there and there.size and file not in self._ours for file, there in enumerate(status[:-1]))

    def check_anew(self) -> None:
        """What an interrupted check had seen counts no more."""
        self._seen = None

    def _is_gone(self, storage: Storage, row: ResumeRow) -> bool:
        """Was there something, and is nothing left? On a disk that is not there that is an error; so it is if its user did
        not ask for the torrent again."""
        layout, status = self.metainfo.layout, storage.status()
        if not row.have.any() or any(status) or not layout.piece_count:
            return False
        room = storage.room()
        if self.options.start_over and (room is None or room.device == row.device) and self.folder.is_dir():
            log.info("= %s: its files were deleted, it begins again", self.metainfo.name)
            return True
        help_ = "it goes on when they are back"
        if self.options.start_over:
            other = "that is another disk than before" if self.folder.is_dir() else "the folder itself is gone"
            help_ = f"{other}, so nothing was made; put it back, or choose another folder"
        raise GoneError(
            f"the files of {storage.root or self.metainfo.name} are gone from {self.folder}: were they moved, or their disk"
            f" taken away? {help_[0].upper()}{help_[1:]}",
            str(self.folder),
        )

    async def _check(self, storage: Storage, todo: bitarray | None, turn: Turn, trusted: bitarray) -> bitarray:
        """Hash these pieces (None: all), one torrent at a time on each device; an interrupted check goes on where it was."""
        layout = self.metainfo.layout
        seen, self._seen = self._seen, None
        if seen is None:
            seen = Checked(layout.piece_count)
        left = ~seen.done if todo is None else todo & ~seen.done
        total = layout.piece_count if todo is None else todo.count(1)

        def progress(done: int) -> None:
            self.checked = (total - left.count(1) + done) / (total or 1)
            self.record.found(trusted | seen.have)

        whole = left.all()
        lock = turn(self._device)
        self.waits_for_turn = lock.locked()
        async with lock:
            self.waits_for_turn = False
            self._seen = seen
            await check(
                storage,
                layout,
                self.metainfo.piece_hashes,
                threads=self._settings.check_threads,
                progress=progress,
                pieces=None if whole else left.search(1),
                executor=self._executor,
                checked=seen,
            )
        self._seen = None
        log.info("= %s checked: %d of %d pieces are there", self.metainfo.name, seen.have.count(1), total)
        return seen.have

    def refuse_incomplete(self, storage: Storage, have: bitarray) -> None:
        """A seed has everything. Unchecked data must at least be there, at full size. Blocking."""
        status = storage.status()
        for index, file in enumerate(self.metainfo.layout.files):
            if file.pad:
                continue
            there = status[index]
            if there is None:
                raise NotFoundError(f"{storage.path(index)}: not there; `unchoke get` downloads it")
            if there.size != file.length and self.options.trust:
                raise DataMismatchError(f"{storage.path(index)}: has {there.size} bytes, not {file.length}")
        missing = len(have) - have.count(1)
        if missing:
            raise DataMismatchError(
                f"{self.metainfo.name}: {missing} of {len(have)} pieces are missing or damaged; `unchoke get` fetches them"
            )

    # ------------------------------------------------------------------ room, presence

    async def look(self) -> str:
        """Is all still there? Words if not; ``room`` is measured again. Raises StorageError."""
        storage = self._storage
        return await self.on_thread(self._look, storage) if storage is not None else ""

    def _look(self, storage: Storage) -> str:
        gone = storage.vanished()
        if not gone:
            self.room = storage.room()
        return gone

    def refuse_no_space(self, promised: int) -> None:
        """Raise NoSpaceError unless what is missing fits beside the ``promised`` bytes of others on this device."""
        room = self.room
        if room is not None and room.missing > room.free - promised:
            others = f" ({size(promised)} of it promised to other torrents)" if promised else ""
            raise NoSpaceError(
                f"no space for {self.metainfo.name} in {self.folder}: it needs {size(room.missing)} more,"
                f" and {size(room.free)} are free{others}; free some space and start again",
                str(self.folder),
            )

    def full(self, error: NoSpaceError, have: bitarray) -> NoSpaceError:
        """What a write said that found the disk full, with figures."""
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError:
            return error
        left = self.bytes_of(self.wanted & ~have)
        return NoSpaceError(
            f"the disk is full: {error.path or self.folder} could not be written; {size(left)} of {self.metainfo.name} are to come,"
            f" {size(free)} are free; free some space and start again",
            error.path,
        )

    # ------------------------------------------------------------------ the record

    async def find_strangers(self, storage: Storage, before: frozenset[int] | None) -> bool:
        """Do files newly wanted stand there already, which we know nothing of? Then ``find`` looks at them."""
        if before is None:
            return False
        status = await self.on_thread(storage.status)
        wanted = self.options.files if self.options.files is not None else range(len(self.metainfo.layout.files))
        self._strangers |= {file for file in wanted if file not in before and status[file] and file not in self._ours}
        return bool(self._strangers)

    async def begin_writing(self, have: bitarray) -> None:
        """Mark what may be written from now on, before it is."""
        marks = await self.on_thread(self._open_files_of, have)
        self._ours.update(marks.search(1))
        await self.record.begin(marks, have, self._device)

    @property
    def _device(self) -> int:
        return self.room.device if self.room is not None else 0

    def _open_files_of(self, have: bitarray) -> bitarray:
        """Files with pieces to come: a bit each, and one for the part file."""
        layout = self.metainfo.layout
        todo = self.wanted & ~have
        marks = zeros(len(layout.files) + 1, "big")
        if not todo.any():
            return marks
        chosen, storage = self.options.files, self._storage
        there = storage.status() if chosen is not None and storage is not None else [None] * len(layout.files)
        for index, file in enumerate(layout.files):
            if chosen is not None and index not in chosen and there[index] is None:
                continue  # its share goes to the part file, and what comes to stand there is not ours
            pieces = layout.file_pieces(index)
            if not file.pad and pieces and todo.find(1, pieces.start, pieces.stop) >= 0:
                marks[index] = 1
        marks[-1] = chosen is not None
        return marks

    async def sync(self, have: bitarray) -> None:
        """Let what is written come to rest, and note it. Raises StorageError."""
        storage, snapshot, pieces = self._storage, have.copy(), self.record.unsynced
        if storage is not None and pieces:
            await self.on_thread(self._flush, storage)
            self.record.synced(snapshot, pieces)

    async def settle(self, have: bitarray, partial: dict[int, bytes]) -> None:
        """Note that all is written and how the files look; nothing if nothing was open. Raises StorageError."""
        storage = self._storage
        if storage is not None and self.record.is_open:
            await self.on_thread(self._flush, storage)
            status = await self.on_thread(storage.status)
            await self.record.settle(have.copy(), status, partial, self._device)

    def _flush(self, storage: Storage) -> None:
        """Blocking. Once after a run that was killed, or a check, it is all files that must come to rest, not only ours."""
        storage.flush(everything=self._unsure)
        self._unsure = False

    # ------------------------------------------------------------------ the end

    def lost_files(self) -> list[str]:
        """Wanted files that are not there at their full size. Blocking."""
        storage = self._storage
        return [] if storage is None else [storage.path(index) for index in self._lost(storage)]

    def _lost(self, storage: Storage) -> list[int]:
        status, wanted = storage.status(), self.options.files
        return [
            index
            for index, file in enumerate(self.metainfo.layout.files)
            if not file.pad
            and (wanted is None or index in wanted)
            and ((there := status[index]) is None or there.size != file.length)
        ]

    def finish_files(self) -> None:
        """All that is wanted is there: final names, final folder. Blocking. Raises StorageError."""
        storage = self._storage
        if storage is None or self.options.seed_only:
            return
        if self.options.suffix:
            for index, file in enumerate(self.metainfo.layout.files):
                if not file.pad and (self.options.files is None or index in self.options.files):
                    storage.finished(index)
        if self._settings.incomplete_dir:
            storage.relocate(self.folder)

    async def delete(self, known: bitarray | None) -> None:
        """Delete the files, and the folders they leave empty. ``known``: the pieces we have, if that is known.

        Without it all is checked first: only what is the torrent's is deleted. Raises StorageError.
        """
        storage = await self.open()
        try:
            if known is None:
                threads = self._settings.check_threads
                found = await check(
                    storage, self.metainfo.layout, self.metainfo.piece_hashes, threads=threads, executor=self._executor
                )
                known = found.bits
            await self.on_thread(storage.delete, _as_field(known))
        finally:
            storage.close()

    async def close(self) -> None:
        """Give the descriptors back."""
        if self._storage is not None:
            await self.on_thread(self._storage.close)

    async def on_thread(self, call: Callable[..., R], *args: object) -> R:
        """A blocking call on the session's threads."""
        return await on_thread(self._executor, call, *args)

    def __repr__(self) -> str:
        return f"<Contents of {self.metainfo.name[:40]!r} in {self.folder} [{'open' if self._storage else 'not open'}]>"


def _as_field(bits: bitarray) -> Bitfield:
    have = Bitfield()
    have.bits = bits
    return have


def _refuse(paths: Collection[str], what: str) -> None:
    if paths:
        first = sorted(paths)[0]
        more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
        raise ForeignFileError(
            f"{first} {what}{more}: it is not ours, so nothing was written; move it away, or allow it with --overwrite",
            first,
        )


def _paths(storage: Storage, files: Collection[int]) -> list[str]:
    """Where these files are; the part file is none."""
    count = len(storage.status()) - 1
    return [storage.path(file) for file in files if file < count]
