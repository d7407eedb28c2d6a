"""Turns: a bounded number of requests at one time to each host, and a bounded number begun in a second, in their order.

With ten thousand torrents on one tracker, those that wait cost nothing but their place in the row, and none is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext


class _Host:
    """``next``: when the next request may begin; ``users``: who waits or is under way."""

    __slots__ = ("next", "room", "users")

    def __init__(self, at_once: int | None) -> None:
        self.room = asyncio.Semaphore(at_once) if at_once is not None else nullcontext()
        self.next = 0.0
        self.users = 0


class Turns:
    """``at_once``: None if that is bounded elsewhere. ``per_second``: requests begun, with one second's worth at once after a rest;
    0 or less: as many as come."""

    __slots__ = ("_at_once", "_hosts", "_per_second")

    def __init__(self, at_once: int | None, per_second: float) -> None:
        self._at_once = None if at_once is None else max(1, at_once)
        self._per_second = per_second
        self._hosts: dict[tuple[str, bool], _Host] = {}

    @asynccontextmanager
    async def turn(self, host: str, *, leaving: bool = False) -> AsyncIterator[None]:
        """Hold one of the host's turns; a host that nobody asks is forgotten. Who is ``leaving`` has turns apart, and is not paced."""
        key = host, leaving
        one = self._hosts.setdefault(key, _Host(self._at_once))
        one.users += 1
        try:
            async with one.room:
                if not leaving:
                    await self._pace(one)
                yield
        finally:
            one.users -= 1
            if not one.users and one.next <= _now() - 1.0:
                self._hosts.pop(key, None)
            self._forget_rested()

    async def _pace(self, host: _Host) -> None:
        if self._per_second <= 0:
            return
        now = _now()
        host.next = max(host.next, now - 1.0) + 1.0 / self._per_second
        if host.next > now:
            await asyncio.sleep(host.next - now)

    def _forget_rested(self) -> None:
        if len(self._hosts) > 64:
            then = _now() - 1.0
            self._hosts = {key: one for key, one in self._hosts.items() if one.users or one.next > then}

    @property
    def waiting(self) -> int:
        """Requests under way or in a row."""
        return sum(host.users for host in self._hosts.values())

    def __repr__(self) -> str:
        return f"<Turns [{self.waiting} at {sum(1 for host in self._hosts.values() if host.users)} hosts]>"


def nothing() -> None:
    """What is done for those who do not want to know that their turn has come."""


def _now() -> float:
    return asyncio.get_running_loop().time()
