"""Timetable: who is to be looked at when. A heap of due times, so that those with nothing to do cost nothing.

Each member has at most one due time: the earliest it asked for since it was last taken. Entries that were overtaken stay
in the heap and are passed over; the heap is rebuilt when they are the most of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from itertools import count
from math import inf
from typing import Generic, TypeVar

M = TypeVar("M", bound=Hashable)


class Timetable(Generic[M]):
    """Times are those of the session's clock. Members due at one time come in the order in which they asked."""

    __slots__ = ("_due", "_heap", "_order")

    def __init__(self) -> None:
        self._due: dict[M, float] = {}
        self._heap: list[tuple[float, int, M]] = []
        self._order = count()

    def ask(self, member: M, when: float) -> None:
        """Look at ``member`` at ``when``, or earlier if it asked for that before."""
        if when >= self._due.get(member, inf):
            return
        self._due[member] = when
        heapq.heappush(self._heap, (when, next(self._order), member))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._due):
            self._rebuild()

    def take(self, now: float) -> list[M]:
        """Those that are due, which have no due time from then on."""
        due: list[M] = []
        while self._heap and self._heap[0][0] <= now:
            when, _, member = heapq.heappop(self._heap)
            if self._due.get(member) == when:
                del self._due[member]
                due.append(member)
        return due

    def forget(self, member: M) -> None:
        """It is not looked at any more."""
        self._due.pop(member, None)

    @property
    def next_due(self) -> float:
        """When the next is due (``inf``: never; it may turn out to be overtaken)."""
        return self._heap[0][0] if self._heap else inf

    def __len__(self) -> int:
        return len(self._due)

    def _rebuild(self) -> None:
        self._heap = [(when, next(self._order), member) for member, when in self._due.items()]
        heapq.heapify(self._heap)

    def __repr__(self) -> str:
        return f"<Timetable [{len(self._due)} to look at]>"
