"""Names: look-ups of many callers, shared: one at a time for each name, few at a time in all, remembered for a minute.

Ten thousand torrents on one tracker ask for its name once; and names that hang leave some of the loop's threads to others.
What is found is judged by whoever dials (``guard``).
"""

from __future__ import annotations

import asyncio
from functools import partial

from unchoke.engine.net.resolver import maybe_literal, resolve
from unchoke.errors import NetworkError
from unchoke.types import Address

#: Seconds that an answer is used again (the resolver does not tell the DNS's own time), and a failure.
KEPT = 60.0
KEPT_FAILURE = 5.0

#: Names remembered.
MOST_KEPT = 1000

#: Look-ups at one time. Each holds one of the loop's threads, of which a small machine has five.
AT_ONCE = 4

_Key = tuple[str, int]


class Names:
    """``resolve`` as the function of that name, for one session. Failures are NetworkError."""

    def __init__(self) -> None:
        self._kept: dict[_Key, tuple[float, list[Address] | NetworkError]] = {}
        self._asking: dict[_Key, asyncio.Task[list[Address]]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._closed = False

    async def resolve(self, host: str, port: int, family: int = 0) -> list[Address]:
        """The addresses of ``host``, best first, at least one. ``family``: ``socket.AF_INET``, ``AF_INET6``, or 0 for both."""
        if maybe_literal(host) is not None:
            return await resolve(host, port, family)
        key = host.lower(), family
        kept = self._kept.get(key)
        if kept is not None and kept[0] > _now():
            found = kept[1]
            if isinstance(found, NetworkError):
                raise NetworkError(str(found), found.kind)
        else:
            found = await self._ask(key)
        return [Address(address.host, port) for address in found]

    async def _ask(self, key: _Key) -> list[Address]:
        """Join the look-up under way, or begin one, which ends by itself whoever is cancelled."""
        if self._closed:
            raise NetworkError("names are not looked up any more")
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.get_running_loop().create_task(self._look_up(key), name=f"name {key[0]}")
            task.add_done_callback(partial(self._answered, key))
        await asyncio.wait([task])
        if task.cancelled():
            raise NetworkError("names are not looked up any more")
        return task.result()

    async def _look_up(self, key: _Key) -> list[Address]:
        async with self._room:
            return await resolve(key[0], 0, key[1])

    def _answered(self, key: _Key, task: asyncio.Task[list[Address]]) -> None:
        self._asking.pop(key, None)
        if task.cancelled():
            return
        error = task.exception()
        while len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        if error is None:
            self._kept[key] = (_now() + KEPT, task.result())
        elif isinstance(error, NetworkError):
            self._kept[key] = (_now() + KEPT_FAILURE, error)

    async def aclose(self) -> None:
        """Whoever waits is told that it is over."""
        self._closed = True
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)

    def __repr__(self) -> str:
        return f"<Names [{len(self._asking)} being looked up | {len(self._kept)} known]>"


def _now() -> float:
    return asyncio.get_running_loop().time()
