"""Eviction: whose place a newcomer may have, when all places are taken.

Only a peer that has been of no use for a while gives way: nothing came from it and nothing went to it for ``idle``
seconds. Newcomers have that long to prove themselves, so they never drive each other out, and a place changes hands at most
once in that time, however many knock. A seed's neighbours that download nothing are of no use from the start.

Order among the useless: those with whom no data will ever flow, then those that neither want of us nor have for us, then
the longest without data.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

Key = Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionSettings:
    """When a peer counts as useless."""

    idle: float = 120.0
    """Seconds without data either way until a peer may lose its place: an optimistic unchoke comes round to each in about
    that time (libtorrent turns over 4 % of its peers every 300 s)."""


@dataclass(frozen=True, slots=True)
class Occupant:
    """What is known of a peer that holds a place. ``moved_at``: when data last went either way, or when it joined."""

    key: Key
    moved_at: float
    we_interested: bool
    they_interested: bool
    hopeless: bool = False
    """Neither side downloads: no data will ever flow."""


def least_useful(occupants: Iterable[Occupant], settings: EvictionSettings, now: float) -> Key | None:
    """Who gives way, or None if nobody has to."""
    worst: Occupant | None = None
    for occupant in occupants:
        if not occupant.hopeless and now - occupant.moved_at < settings.idle:
            continue
        if worst is None or _use(occupant) < _use(worst):
            worst = occupant
    return worst.key if worst is not None else None


def _use(occupant: Occupant) -> tuple[bool, int, float]:
    return not occupant.hopeless, occupant.we_interested + occupant.they_interested, occupant.moved_at
