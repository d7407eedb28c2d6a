"""Record: one torrent's part of the session's state: what is noted of its data, when, and what a start may trust.

It carries what happens to the data to ``resume``, which writes: files are marked open before their first write, pieces noted
when they are written, made durable when their files came to rest, and all is settled at a clean close. It decides nothing
about the data (``resume.judge`` does) and touches no file.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from unchoke.engine.resume import Key, Resume, ResumeRow

if TYPE_CHECKING:
    from bitarray import bitarray

    from unchoke.storage.base import FileStatus

log = logging.getLogger(__name__)


class Record:
    """``is_open``: files may have been written since the last clean close."""

    __slots__ = ("_resume", "is_open", "key", "unsynced")

    def __init__(self, resume: Resume, key: Key) -> None:
        self._resume = resume
        self.key = key
        self.is_open = False
        self.unsynced = 0  # pieces written and not durable yet

    @property
    def boot_id(self) -> str:
        """This boot, as the record will know it."""
        return self._resume.boot_id

    async def load(self) -> ResumeRow | None:
        """What was noted at the last run; None: nothing."""
        return await self._resume.load(self.key)

    async def begin(self, files: bitarray, have: bitarray, device: int) -> None:
        """These files (the last bit: the part file) are going to be written, ``have`` is there; committed when it returns."""
        if files.any():
            self.is_open = True
            self._resume.note(self.key, have)
            await self._resume.mark_open(self.key, files, device=device)

    def written(self, have: bitarray) -> None:
        """A piece was written; ``have`` are all that are."""
        self.unsynced += 1
        self._resume.note(self.key, have)

    def found(self, have: bitarray) -> None:
        """A check found so far that these pieces are there."""
        self._resume.note(self.key, have)

    def synced(self, have: bitarray, pieces: int) -> None:
        """The files came to rest, and with them these pieces; ``pieces`` of them were new."""
        self.unsynced = max(0, self.unsynced - pieces)
        self._resume.durable(self.key, have)

    async def settle(
        self, have: bitarray, status: list[FileStatus | None], partial: dict[int, bytes], device: int
    ) -> None:
        """A clean close, after a flush: nothing is open any more, and this is how the files look."""
        self.is_open = False
        self.unsynced = 0
        await self._resume.settle(self.key, have, list(status), partial, device=device)

    def __repr__(self) -> str:
        return (
            f"<Record of {self.key[0].hex()[:8]} [{'open' if self.is_open else 'settled'}, {self.unsynced} unsynced]>"
        )
