"""Outcome: those who wait for how a torrent ends, or for its metainfo, and what they are told: done, or failed with a reason."""

from __future__ import annotations

import asyncio


class Outcome:
    """``wait_done`` ends when the data is complete, ``wait_known`` when the metainfo is, ``wait_failed`` only by an error; a failure
    ends them all."""

    __slots__ = ("_for_done", "_for_failure", "_for_metainfo")

    def __init__(self) -> None:
        self._for_done: list[asyncio.Future[None]] = []
        self._for_failure: list[asyncio.Future[None]] = []
        self._for_metainfo: list[asyncio.Future[None]] = []

    async def wait_done(self) -> None:
        await self._wait(self._for_done)

    async def wait_known(self) -> None:
        await self._wait(self._for_metainfo)

    async def wait_failed(self) -> None:
        await self._wait(self._for_failure)

    async def _wait(self, waiters: list[asyncio.Future[None]]) -> None:
        waiter = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        try:
            await waiter
        finally:
            waiters.remove(waiter)

    def succeed(self) -> None:
        """The data is complete."""
        _release(self._for_done)

    def known(self) -> None:
        """The metainfo has come."""
        _release(self._for_metainfo)

    def fail(self, error: BaseException) -> None:
        """It cannot go on, or nobody wants it to."""
        for waiter in (*self._for_done, *self._for_failure, *self._for_metainfo):
            if not waiter.done():
                waiter.set_exception(error)

    def __repr__(self) -> str:
        return f"<Outcome [{len(self._for_done)} wait for the end, {len(self._for_failure)} for a failure]>"


def _release(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
