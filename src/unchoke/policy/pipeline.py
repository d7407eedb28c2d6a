"""Pipeline: how many requests one peer should have open, and when it counts as snubbing us.

Bytes on their way = rate × time a request takes. We keep that many asked plus some head-room, so that the peer's link
never runs dry, and not more, so that blocks are not locked up behind a slow peer. The time is the shortest seen between
asking an idle peer and its first block (a longer one measures our own queue). As rate and depth limit each other, the
start is a *slow start* as in TCP: one request more for each block that comes, until the peer no longer keeps up.

A peer that owes us blocks and sends none for ``timeout`` seconds is *snubbed* (BEP 3): its blocks go to others, and it is
asked for one at a time until it sends again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from unchoke.rates import Rate
from unchoke.types import BLOCK_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings:
    """Depths are in requests of 16 KiB."""

    least: int = 8
    """Never fewer: a few blocks cover a slow peer's jitter (the first client asked for 5)."""

    most: int = 500
    """Never more, whatever the peer's ``reqq`` allows: 8 MiB on the way (libtorrent: 500)."""

    headroom: float = 1.0
    """Seconds of data asked beyond the round trip (libtorrent asks 3 s ahead; we re-ask at every wake-up)."""

    timeout: float = 20.0
    """Seconds without a block until a peer that owes some is snubbed (libtorrent: 20)."""


class Pipeline:
    """One peer's. ``reqq`` is how many requests it queues (BEP 10). Times are seconds of any monotonic clock."""

    __slots__ = (
        "_asked_idle_at",
        "_last_block",
        "_slow_start",
        "depth",
        "latency",
        "rate",
        "reqq",
        "settings",
        "snubbed",
    )

    def __init__(self, settings: PipelineSettings, now: float, *, reqq: int = 250) -> None:
        self.settings = settings
        self.reqq = reqq
        self.rate = Rate(now)
        self.latency = inf
        self.depth = settings.least
        self.snubbed = False
        self._slow_start = True
        self._asked_idle_at: float | None = None
        self._last_block = now

    def room(self, outstanding: int) -> int:
        """How many more to ask for now; ``outstanding`` are open. Refills go in batches, not one by one."""
        if self.snubbed:
            return 1 if outstanding == 0 else 0
        return min(self.depth, self.reqq) - outstanding

    def asked(self, outstanding: int, now: float) -> None:
        """Requests were sent while ``outstanding`` were open before."""
        if outstanding == 0:
            self._asked_idle_at = self._last_block = now

    def received(self, blocks: int, length: int, now: float) -> None:
        """``blocks`` blocks of ``length`` bytes in all came in one wake-up."""
        self.rate.add(length, now)
        self._last_block = now
        self.snubbed = False
        if self._asked_idle_at is not None:
            self.latency = min(self.latency, max(now - self._asked_idle_at, 0.0005))
            self._asked_idle_at = None
        if self._slow_start:
            self.depth = min(self.depth + blocks, self.settings.most)

    def adjust(self, now: float) -> None:
        """Once a second: follow the rate."""
        latency = self.latency if self.latency != inf else 1.0
        needed = int(self.rate.rate(now) * (latency + self.settings.headroom) / BLOCK_SIZE) + 1
        if self._slow_start and needed < self.depth:
            self._slow_start = False
        if not self._slow_start:
            self.depth = max(self.settings.least, min(needed, self.settings.most))

    def is_overdue(self, outstanding: int, now: float) -> bool:
        """It owes us blocks and has sent none for too long."""
        return outstanding > 0 and now - self._last_block > self.settings.timeout

    def snub(self) -> None:
        self.snubbed = True
        self._slow_start = False
        self.depth = self.settings.least

    def __repr__(self) -> str:
        state = "snubbed" if self.snubbed else "slow start" if self._slow_start else "steady"
        return f"<Pipeline [{state}, depth {self.depth}, latency {self.latency * 1000:.0f} ms]>"
