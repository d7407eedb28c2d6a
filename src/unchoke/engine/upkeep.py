"""Upkeep: what a running torrent does only now and then: look at its disk, bring its files to rest, note its counters.

It keeps the times; the torrent's heartbeat asks once a second, and each thing under way is a task of the torrent's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Protocol

from unchoke.errors import GoneError, StorageError

if TYPE_CHECKING:
    from bitarray import bitarray

    from unchoke.engine.contents import Contents
    from unchoke.engine.settings import DiskSettings

#: Seconds between two times that counters are noted.
NOTE_INTERVAL = 60.0

Spawn = Callable[[Coroutine[object, object, None], str], object]


class UpkeepOwner(Protocol):
    """What an upkeep tells its torrent."""

    def storage_failed(self, error: StorageError) -> None: ...

    def note(self) -> None: ...


class Upkeep:
    """Of the ``contents`` of one run. ``have`` is the live bitfield."""

    __slots__ = ("_contents", "_have", "_look_at", "_note_at", "_owner", "_settings", "_sync_at", "_under_way")

    def __init__(
        self, owner: UpkeepOwner, contents: Contents, have: bitarray, settings: DiskSettings, now: float
    ) -> None:
        self._owner = owner
        self._contents = contents
        self._have = have
        self._settings = settings
        self._look_at = now + settings.look_interval
        self._sync_at = now + settings.sync_interval
        self._note_at = now + NOTE_INTERVAL
        self._under_way = False

    def heartbeat(self, now: float, spawn: Spawn, *, idle: bool) -> None:
        """``idle``: nobody is there, so nothing is looked at."""
        if now >= self._note_at:
            self._note_at = now + NOTE_INTERVAL
            self._owner.note()
        if self._under_way:
            return  # a disk that takes its time is not asked twice
        if now >= self._sync_at:
            self._sync_at = now + self._settings.sync_interval
            if self._contents.record.unsynced:
                self._under_way = True
                spawn(self._sync(), "sync")
        elif now >= self._look_at:
            self._look_at = now + self._settings.look_interval
            if not idle:
                self._under_way = True
                spawn(self._look(), "look")

    async def _sync(self) -> None:
        try:
            await self._contents.sync(self._have)
        except StorageError as error:
            self._owner.storage_failed(error)
        finally:
            self._under_way = False

    async def _look(self) -> None:
        try:
            gone = await self._contents.look()
            if gone:
                self._owner.storage_failed(GoneError(gone, str(self._contents.folder)))
        except StorageError as error:
            self._owner.storage_failed(error)
        finally:
            self._under_way = False

    def __repr__(self) -> str:
        return f"<Upkeep [{'at work' if self._under_way else 'waiting'}]>"
