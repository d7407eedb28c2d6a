"""Heartbeat: how late a loop comes to what was due every five milliseconds. The slow-callback log does not see all of it."""

from __future__ import annotations

import asyncio
import heapq
import time
from types import TracebackType

INTERVAL = 0.005


class Heartbeat:
    """``async with`` it around what must not hold the loop; ``worst`` says by how many seconds it did."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []  # seconds late, and when; a heap of the worst
        self._began = self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.beats = 0

    async def __aenter__(self) -> Heartbeat:
        self._began = self._due = time.perf_counter()
        self._beat()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.beats += 1
        heapq.heappush(self._late, (now - self._due, now - self._began))
        if len(self._late) > 100:
            heapq.heappop(self._late)
        self._due = now + INTERVAL
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._beat)

    def worst(self, count: int = 10) -> list[float]:
        """The longest delays, longest first."""
        return [late for late, _ in self.worst_when(count)]

    def worst_when(self, count: int = 10) -> list[tuple[float, float]]:
        """The same with when each was, in seconds since the beginning."""
        return heapq.nlargest(count, self._late)

    def pause(self) -> None:
        """Do not disturb until ``go_on``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def forget(self) -> None:
        """Count anew, from now on."""
        self.pause()
        self._late.clear()
        self.beats = 0
        self.go_on()

    def go_on(self) -> None:
        """After ``pause``."""
        self._due = time.perf_counter()
        self._beat()
