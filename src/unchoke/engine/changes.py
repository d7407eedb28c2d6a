"""Changes: what has happened to a torrent's records since they were last written, gathered until they are.

Pure: what two changes make together, and what a change makes of a row. No database is known here, so every store agrees on
what a change means. The rule behind it all: a record may lag behind the data and never runs ahead of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bitarray import bitarray
from bitarray.util import zeros

from unchoke.storage.base import FileStatus
from unchoke.storage.records import Key, ResumeRow, TorrentRow, Totals


@dataclass(slots=True, frozen=True)
class Settled:
    """A clean close: everything in ``have`` and ``partial`` has reached the disk, and no file is open any more."""

    have: bitarray
    files: list[FileStatus | None]
    partial: dict[int, bytes]


@dataclass(slots=True, kw_only=True)
class Change:
    """What is to be written of one torrent; None and empty: nothing.

    It applies in this order: ``forget``, ``add`` (row and .torrent file), ``fields`` of the torrent's row, ``settled``,
    ``revoked`` (pieces that are not there after all), ``have`` (the whole of it), ``durable`` and ``open`` (more of them).
    The bit fields belong to the change and are never altered in place.
    """

    forget: bool = False
    add: tuple[TorrentRow, bytes] | None = None
    fields: dict[str, object] = field(default_factory=dict)
    settled: Settled | None = None
    revoked: bitarray | None = None
    have: bitarray | None = None
    durable: bitarray | None = None
    open: bitarray | None = None
    device: int = 0

    @property
    def safe(self) -> bool:
        """Must it have reached the disk before we go on, because without it the record would claim too much?"""
        return self.settled is not None or self.revoked is not None or self.open is not None

    @property
    def resumes(self) -> bool:
        """Does it touch the record of the data, and not only the torrent's row?"""
        return self.safe or self.have is not None or self.durable is not None

    def then(self, later: Change) -> Change:
        """Both, as one."""
        if later.forget:
            return later
        both = Change(
            forget=self.forget,
            add=later.add or self.add,
            fields=later.fields if later.add else self.fields | later.fields,
            settled=later.settled or self.settled,
            have=self.have if later.have is None else later.have,
            device=later.device or self.device,
        )
        if later.settled is not None:  # it has everything that was to be said
            both.have, both.durable, both.open, both.revoked = later.have, later.durable, later.open, later.revoked
            return both
        both.durable = _union(_without(self.durable, later.revoked), later.durable)
        both.revoked = _union(self.revoked, later.revoked)
        both.open = _union(self.open, later.open)
        return both

    def applied(self, row: ResumeRow | None, boot_id: str) -> ResumeRow:
        """What ``row`` (None: nothing was recorded) becomes in this boot. The row is not altered."""
        device = self.device or (row.device if row is not None else 0)
        if self.settled is not None:
            have = self.settled.have
            files = self.settled.files
            row = ResumeRow(
                have=have, durable=have, partial=self.settled.partial, files=files, open=zeros(len(files), "big")
            )
        old_boot = row is not None and row.boot_id != boot_id and row.open.any() and self.settled is None
        have, durable, marks = _parts(row)
        if old_boot:
            # Nobody has said in this boot that what never reached the disk is there: after this change they could not be told
            # from what was.
            have = have & durable
        if self.revoked is not None:
            have, durable = _without_fitting(have, self.revoked), _without_fitting(durable, self.revoked)
        if self.have is not None:
            have = self.have
        if self.durable is not None:
            durable = _union_fitting(durable, self.durable)
        if self.open is not None:
            marks = _union_fitting(marks, self.open)
        return ResumeRow(
            have=have,
            durable=_grown(durable, len(have)) & have,
            partial=row.partial if row is not None else {},
            files=row.files if row is not None else [],
            open=marks,
            boot_id=boot_id,
            device=device,
        )


@dataclass(slots=True)
class Batch:
    """Changes of all torrents, in the order they began, and what was moved meanwhile (bytes, added to the totals)."""

    changes: dict[Key, Change] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)

    def put(self, key: Key, change: Change) -> None:
        """Queue a change behind what is queued already."""
        before = self.changes.get(key)
        self.changes[key] = change if before is None else before.then(change)

    def then(self, later: Batch) -> Batch:
        """Both, as one; ``self`` is used up."""
        for key, change in later.changes.items():
            self.put(key, change)
        uploaded = self.totals.uploaded + later.totals.uploaded
        self.totals = Totals(uploaded, self.totals.downloaded + later.totals.downloaded)
        return self

    @property
    def safe(self) -> bool:
        return any(change.safe for change in self.changes.values())

    def __bool__(self) -> bool:
        return bool(self.changes) or self.totals != Totals()


def _parts(row: ResumeRow | None) -> tuple[bitarray, bitarray, bitarray]:
    if row is None:
        return bitarray(endian="big"), bitarray(endian="big"), bitarray(endian="big")
    return row.have, row.durable, row.open


def _union(one: bitarray | None, other: bitarray | None) -> bitarray | None:
    if one is None or other is None:
        return other if one is None else one
    return _union_fitting(one, other)


def _without(bits: bitarray | None, gone: bitarray | None) -> bitarray | None:
    return bits if bits is None or gone is None else _without_fitting(bits, gone)


def _union_fitting(one: bitarray, other: bitarray) -> bitarray:
    """Of different lengths the shorter one is taken to lack the rest."""
    length = max(len(one), len(other))
    return _grown(one, length) | _grown(other, length)


def _without_fitting(bits: bitarray, gone: bitarray) -> bitarray:
    return bits & ~_grown(gone, len(bits))


def _grown(bits: bitarray, length: int) -> bitarray:
    """The bits at exactly this length."""
    if len(bits) == length:
        return bits
    return bits[:length] + zeros(max(0, length - len(bits)), "big")
