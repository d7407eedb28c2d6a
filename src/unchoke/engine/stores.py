"""Stores: what is asked of a place where records are kept (``StateStore``), and the one that keeps them in memory.

Calls block and come from one thread at a time. What a change means is ``changes``' business, and when it is written ``resume``'s.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from unchoke.engine.changes import Batch
from unchoke.storage.records import Key, ResumeRow, TorrentRow, Totals


class StateStore(Protocol):
    """Where records are kept. Every call blocks and may raise StorageError; they come from one thread at a time."""

    notice: str
    """What had to be done to open it at all, in words; empty: nothing."""

    shared: bool
    """Other processes keep their torrents here too: a session takes up none by itself."""

    def open(self) -> list[TorrentRow]:
        """Make it usable, and every torrent in it."""

    def load(self, key: Key) -> ResumeRow | None:
        """What is recorded of one torrent's data; None: nothing. RecordError if that is damaged."""

    def metainfo(self, infohash: bytes) -> bytes | None:
        """The .torrent file as it was added."""

    def totals(self) -> Totals:
        """Bytes over all time."""

    def apply(self, batch: Batch, boot_id: str, sync: bool) -> None:
        """Every change or none. With ``sync``, or if ``batch.safe``, this and all before it survive a power cut."""

    def close(self) -> None:
        """Give files back. Safe to call twice."""


class MemoryStore:
    """In memory, for tests, simulations, and programs that want a queue without a file. It outlives ``close``."""

    def __init__(self) -> None:
        self.notice = ""
        self.shared = False
        self._torrents: dict[Key, TorrentRow] = {}
        self._metainfo: dict[bytes, bytes] = {}
        self._resume: dict[Key, ResumeRow] = {}
        self._totals = Totals()
        self._safe: tuple[dict[Key, TorrentRow], dict[bytes, bytes], dict[Key, ResumeRow], Totals] = (
            {},
            {},
            {},
            Totals(),
        )

    def open(self) -> list[TorrentRow]:
        """Every torrent."""
        rows = sorted(self._torrents.values(), key=lambda row: (row.position, row.added_at, row.infohash, row.folder))
        return [replace(row) for row in rows]

    def load(self, key: Key) -> ResumeRow | None:
        """What is recorded of one torrent's data."""
        row = self._resume.get(key)
        if row is None:
            return None
        have, durable, marks = row.have.copy(), row.durable.copy(), row.open.copy()
        return replace(row, have=have, durable=durable, open=marks, partial=dict(row.partial), files=list(row.files))

    def metainfo(self, infohash: bytes) -> bytes | None:
        """The .torrent file."""
        return self._metainfo.get(infohash)

    def totals(self) -> Totals:
        """Bytes over all time."""
        return self._totals

    def apply(self, batch: Batch, boot_id: str, sync: bool) -> None:
        """All changes."""
        for key, change in batch.changes.items():
            if change.forget:
                self._forget(key)
            if change.add is not None:
                self._torrents[key], metainfo = change.add
                if metainfo:
                    self._metainfo[key[0]] = metainfo
            if change.fields and key in self._torrents:
                self._torrents[key] = replace(self._torrents[key], **change.fields)  # type: ignore[arg-type]
            if change.resumes:
                self._resume[key] = change.applied(self._resume.get(key), boot_id)
        uploaded, downloaded = batch.totals.uploaded, batch.totals.downloaded
        self._totals = Totals(self._totals.uploaded + uploaded, self._totals.downloaded + downloaded)
        if sync or batch.safe:
            self._safe = dict(self._torrents), dict(self._metainfo), dict(self._resume), self._totals

    def lose_unsynced(self) -> None:
        """What a power cut does: back to the last transaction that had to reach the disk."""
        torrents, metainfo, resume, self._totals = self._safe
        self._torrents, self._metainfo, self._resume = dict(torrents), dict(metainfo), dict(resume)

    def _forget(self, key: Key) -> None:
        self._torrents.pop(key, None)
        self._resume.pop(key, None)
        if all(infohash != key[0] for infohash, _ in self._torrents):
            self._metainfo.pop(key[0], None)

    def close(self) -> None:
        """Nothing to give back."""

    def __repr__(self) -> str:
        return f"<MemoryStore [{len(self._torrents)} torrents, {len(self._resume)} records]>"
