"""TorrentOptions: what the user wants of one torrent, apart from the session's settings; kept in its record.

A new wish is a new frozen record (``dataclasses.replace``); ``to_record`` and ``from_record`` are its form in the state, where
unknown keys of a later version are passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields

from unchoke.policy.goals import GoalSettings
from unchoke.storage.names import check_suffix

#: Kept as ranges in a text, "0-99,105": of 100,000 files that is short, and one value for whoever copies it.
_SETS = ("files", "high", "low")
_LISTS = ("trackers", "web_seeds", "peers")
_MOST_FILES = 10_000_000  # no .torrent file that we read has more
#: Wishes for one start, which a restart must not repeat.
_MOMENTARY = frozenset(("trust", "overwrite", "start_over"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TorrentOptions:
    """What the user wants of one torrent.

    ``files``: indexes into the metainfo's files, from 0; None for all. ``high`` and ``low``: those of them that come first and last.
    ``trust``: take the data for complete without a check. ``overwrite``: write over files that are not ours. ``start_over``: if
    all its files were deleted, fetch them again (else that is an error). ``seed_only``: serve, and neither fetch nor write
    anything; incomplete data is an error. ``trackers`` are added, each a tier of its own. ``down`` and ``up``: limits in bytes/s,
    0 for none. ``forced``: runs whatever the queue says. ``goals``: when seeding ends; None: the session's.
    ``suffix``: what the names of its files end with until they are complete.

    Of a magnet link: ``web_seeds``; ``peers``, as host:port; ``select``: the files it wants as ranges ("0-3,7"), until their number
    is known; ``infohash_v2``: the other infohash in hex, where it has both; ``metadata_only``: stop when the metainfo is there.

    ``private`` is the torrent's word, kept for the time in which its metainfo is not in memory (BEP 27).
    """

    files: frozenset[int] | None = None
    high: frozenset[int] = frozenset()
    low: frozenset[int] = frozenset()
    trust: bool = False
    overwrite: bool = False
    start_over: bool = False
    sequential: bool = False
    seed_only: bool = False
    super_seed: bool = False
    forced: bool = False
    trackers: tuple[str, ...] = ()
    down: int = 0
    up: int = 0
    goals: GoalSettings | None = None
    suffix: str = ""
    web_seeds: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    select: str = ""
    infohash_v2: str = ""
    metadata_only: bool = False
    private: bool = False

    def to_record(self) -> dict[str, object]:
        """What differs from the defaults, as JSON has it."""
        record: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _MOMENTARY or value == field.default:
                continue
            if field.name in _SETS:
                value = _ranges(value)
            elif field.name == "goals":
                value = {goal.name: getattr(value, goal.name) for goal in fields(value)}
            elif field.name in _LISTS:
                value = list(value)
            record[field.name] = value
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> TorrentOptions:
        """The options of a record. What is unknown, or not of the right kind, is left out: a record is never a reason to stop."""
        given: dict[str, object] = {}
        for field in fields(cls):
            if field.name in record and field.name not in _MOMENTARY:
                try:
                    given[field.name] = _read(field.name, record[field.name], field.default)
                except (TypeError, ValueError):
                    continue
        return cls(**given)  # type: ignore[arg-type]


def _read(name: str, value: object, default: object) -> object:
    if name in _SETS:
        if not isinstance(value, str):
            raise TypeError(name)
        return _numbers(value)
    if name in _LISTS:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise TypeError(name)
        return tuple(value)
    if name == "goals":
        if not isinstance(value, dict):
            raise TypeError(name)
        known = {goal.name for goal in fields(GoalSettings)}
        return GoalSettings(**{key: item for key, item in value.items() if key in known})
    if type(value) is not type(default):
        raise TypeError(name)
    if name == "suffix":
        check_suffix(str(value))
    return value


def _ranges(numbers: Collection[int]) -> str:
    """Ranges, rising, both ends included."""
    found: list[str] = []
    first = last = -2
    for number in (*sorted(numbers), -1):
        if number == last + 1 and number >= 0:
            last = number
            continue
        if first >= 0:
            found.append(f"{first}-{last}" if last > first else f"{first}")
        first = last = number
    return ",".join(found)


def numbers_below(text: str, count: int) -> frozenset[int]:
    """The numbers in ranges that are less than ``count`` (BEP 53 leaves out what is too high). ValueError for what is no range."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), min(int(last or first) + 1, count)))
    return frozenset(found)


def _numbers(text: str) -> frozenset[int]:
    """Back again. ValueError for what is none, or so much that no torrent has so many files."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        start, end = int(first), int(last or first) + 1
        if len(found) + end - start > _MOST_FILES:
            raise ValueError(text[:40])
        found.update(range(start, end))
    return frozenset(found)
