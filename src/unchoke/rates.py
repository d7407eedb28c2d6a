"""Rate: a byte meter with a few seconds of memory. Time is an argument; nothing runs between calls."""

from __future__ import annotations

import math

#: Seconds of memory. Long enough to be steady on a screen, short enough to follow a choke (BEP 3 suggests a 20 s window
#: for choking; every client shows something like 5 s).
HALF_LIFE = 4.0


class Rate:
    """Exponentially weighted bytes per second, and the total.

    ``add`` is on the hot path: it only sums until ``FOLD`` seconds have passed, then folds the sum into the average.
    """

    __slots__ = ("_average", "_folded_at", "_pending", "_weight", "total")

    FOLD = 0.25

    def __init__(self, now: float = 0.0) -> None:
        self.total = 0
        self._pending = 0
        self._average = 0.0
        self._weight = (
            0.0  # how much of the average's window has been filled, so that the first seconds are not understated
        )
        self._folded_at = now

    def add(self, count: int, now: float) -> None:
        """Count ``count`` bytes at time ``now`` (seconds, any monotonic clock)."""
        self.total += count
        self._pending += count
        if now - self._folded_at >= self.FOLD:
            self._fold(now)

    def rate(self, now: float) -> float:
        """Bytes per second, now."""
        if now - self._folded_at >= self.FOLD:
            self._fold(now)
        if self._weight:
            return self._average / self._weight
        elapsed = now - self._folded_at
        return self._pending / elapsed if elapsed > 0 else 0.0

    def _fold(self, now: float) -> None:
        elapsed = now - self._folded_at
        keep = math.exp2(-elapsed / HALF_LIFE)
        self._average = self._average * keep + (self._pending / elapsed) * (1 - keep)
        self._weight = self._weight * keep + (1 - keep)
        self._pending = 0
        self._folded_at = now

    def __repr__(self) -> str:
        return f"<Rate {self.total} B total>"
