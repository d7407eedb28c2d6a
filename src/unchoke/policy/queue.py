"""Queue: which torrents run when not all may, and the order they wait in.

Positions are the user's word: the earlier one runs, and a later one takes a place only while it is free. Downloads come before
seeds where they share a limit. A torrent that moves next to nothing holds no place (``Pace`` says which, slowly, so that
nothing flaps); a forced one always runs and is not counted. It starts and stops nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar

K = TypeVar("K", bound=Hashable)

Wants: TypeAlias = Literal["download", "seed"]

#: Which limit a torrent waits for.
Limit: TypeAlias = Literal["downloads", "seeds", "total"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """How many torrents run at one time. 0 is no limit; torrents that are slow or forced are not counted."""

    active_downloads: int = 0
    """Torrents downloading at one time. No limit by default: who names torrents on a command line wants them all (qBittorrent
    and libtorrent: 3)."""

    active_seeds: int = 0
    """Torrents seeding at one time. No limit by default: an idle seed costs next to nothing (libtorrent: 5)."""

    active_total: int = 0
    """Torrents of both kinds at one time. Downloads come first."""

    slow_down: int = 2048
    """Payload bytes/s: a download slower than this holds no place, so that dead torrents do not block the others (libtorrent:
    2048). 0: all hold one."""

    slow_up: int = 2048
    """Payload bytes/s: the same for a seed (libtorrent: 2048)."""

    slow_after: float = 60.0
    """Seconds a torrent must have been slower before it counts as slow, and faster before it does not any more: time to find
    peers after a start, and no to and fro (libtorrent and qBittorrent: 60)."""

    def __post_init__(self) -> None:
        for name in ("active_downloads", "active_seeds", "active_total", "slow_down", "slow_up", "slow_after"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} cannot be {getattr(self, name)}; 0 is no limit")

    @property
    def is_unlimited(self) -> bool:
        """Everything runs: there is nothing to arrange."""
        return not (self.active_downloads or self.active_seeds or self.active_total)


@dataclass(slots=True)
class Entry(Generic[K]):
    """A torrent that would run if it may. Who is stopped, checking or in error is no entry, and holds no place.

    ``position`` is its place in the order of all (the least is first); ``slow`` is its ``Pace``'s word while it is active.
    """

    key: K
    position: int
    wants: Wants
    forced: bool = False
    slow: bool = False
    active: bool = False


class Held(NamedTuple):
    """Why one waits: for which limit, and how many wait for it before this one."""

    ahead: int
    limit: Limit


class Arrangement(NamedTuple, Generic[K]):
    """``active``: who should run: the forced, then downloads, then seeds, each in order. ``waiting``: the others, in order."""

    active: list[K]
    waiting: dict[K, Held]


def arrange(entries: Iterable[Entry[K]], settings: QueueSettings) -> Arrangement[K]:
    """Who should run now. O(n log n); the same again while nobody's facts change."""
    forced: list[Entry[K]] = []
    downloads: list[Entry[K]] = []
    seeds: list[Entry[K]] = []
    for entry in entries:
        (forced if entry.forced else downloads if entry.wants == "download" else seeds).append(entry)
    found: Arrangement[K] = Arrangement([entry.key for entry in sorted(forced, key=_order)], {})
    most = len(downloads) + len(seeds)
    total = settings.active_total or most
    total -= _place(downloads, "downloads", settings.active_downloads or most, total, found)
    _place(seeds, "seeds", settings.active_seeds or most, total, found)
    return found


def _order(entry: Entry[K]) -> int:
    """By position; of two that claim the same one the running one stays."""
    return 2 * entry.position + (not entry.active)


def _place(entries: list[Entry[K]], limit: Limit, own: int, total: int, found: Arrangement[K]) -> int:
    """Give places to the first of ``entries``; how many hold one. Who runs and is slow goes on beside them."""
    entries.sort(key=_order)
    active, waiting = found
    room = min(own, total)
    narrowest: Limit = limit if own <= total else "total"
    held = ahead = 0
    for entry in entries:
        if entry.slow and entry.active:
            active.append(entry.key)
        elif held < room:
            held += 1
            active.append(entry.key)
        else:
            waiting[entry.key] = Held(ahead, narrowest)
            ahead += 1
    return held


class Pace:
    """Whether one torrent is slow: only after ``slow_after`` seconds on that side. Made anew when the torrent is started."""

    __slots__ = ("_since", "_wants", "slow")

    def __init__(self) -> None:
        self.slow = False
        self._wants: Wants = "download"
        self._since: float | None = None  # since when the rate has been on the other side

    def update(self, wants: Wants, rate: float, settings: QueueSettings, now: float) -> bool:
        """``rate`` is payload bytes/s down for a download, up for a seed. Ask as often as you arrange; a few seconds will do."""
        if wants != self._wants:
            self._wants, self.slow, self._since = wants, False, None
        is_slow = rate < (settings.slow_down if wants == "download" else settings.slow_up)
        if is_slow == self.slow:
            self._since = None
            return self.slow
        if self._since is None:
            self._since = now
        if now - self._since >= settings.slow_after:
            self.slow, self._since = is_slow, None
        return self.slow

    def __repr__(self) -> str:
        turning = "" if self._since is None else f", on the other side since {self._since:.0f}"
        return f"<Pace [{self._wants}, {'slow' if self.slow else 'counted'}{turning}]>"


# Positions are the indexes of a list of keys, so they are dense whatever is added or removed. ``chosen`` may name several,
# which keep their order among themselves; keys that are not in the list are ignored.


def move_top(keys: Sequence[K], chosen: Collection[K]) -> list[K]:
    """``chosen`` before all others."""
    picked = frozenset(chosen)
    return [key for key in keys if key in picked] + [key for key in keys if key not in picked]


def move_bottom(keys: Sequence[K], chosen: Collection[K]) -> list[K]:
    """``chosen`` behind all others."""
    picked = frozenset(chosen)
    return [key for key in keys if key not in picked] + [key for key in keys if key in picked]


def move_up(keys: Sequence[K], chosen: Collection[K]) -> list[K]:
    """Each of ``chosen`` before the one that stood in front of it; those at the top stay."""
    picked, moved = frozenset(chosen), list(keys)
    for index in range(1, len(moved)):
        if moved[index] in picked and moved[index - 1] not in picked:
            moved[index - 1], moved[index] = moved[index], moved[index - 1]
    return moved


def move_down(keys: Sequence[K], chosen: Collection[K]) -> list[K]:
    """Each of ``chosen`` behind the one that stood after it; those at the bottom stay."""
    return move_up(keys[::-1], chosen)[::-1]
