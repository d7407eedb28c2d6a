"""TokenBucket: a rate limit as a bucket that fills with time and is emptied by bytes.

Used for requests (down: what is asked will come) and for blocks sent (up). It may be overdrawn by one block, so that a
limit below one block a second still lets one through at its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthSettings:
    """Bytes per second over the whole session; 0: no limit."""

    down: int = 0
    """Payload bytes asked per second."""

    up: int = 0
    """Payload bytes sent per second."""

    burst: float = 0.25
    """Seconds of the limit that may pass at once after a pause: smooth on the line, yet whole blocks fit."""


class TokenBucket:
    """``rate`` bytes/s; 0 or less: unlimited."""

    __slots__ = ("_burst", "_filled_at", "_tokens", "rate")

    def __init__(self, rate: float, *, burst: float = 0.25, now: float = 0.0) -> None:
        self.rate = rate
        self._burst = burst
        self._tokens = max(rate * burst, 0.0)
        self._filled_at = now

    def available(self, now: float) -> float:
        """Bytes that may pass now; ``inf`` without a limit, never negative."""
        if self.rate <= 0:
            return inf
        self._tokens = min(self._tokens + (now - self._filled_at) * self.rate, self.rate * self._burst)
        self._filled_at = now
        return max(self._tokens, 0.0)

    def take(self, count: float) -> None:
        """``count`` bytes pass (a negative count gives back what did not pass after all)."""
        if self.rate > 0:
            self._tokens -= count

    def wait(self, now: float) -> float:
        """Seconds until anything may pass."""
        if self.available(now) > 0:
            return 0.0
        return -self._tokens / self.rate

    def __repr__(self) -> str:
        return (
            "<TokenBucket unlimited>"
            if self.rate <= 0
            else f"<TokenBucket {self.rate:.0f} B/s, {self._tokens:.0f} left>"
        )
