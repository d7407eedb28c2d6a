"""Tasks: the tasks that belong to one object, which cancels and awaits them in its ``aclose()``.

A failed child is logged and reported to its owner, never to its siblings; that is why this is no ``asyncio.TaskGroup``
(see docs/architecture.md, *Lifetimes*). It starts nothing by itself: an idle owner has no task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


async def finish(work: Coroutine[Any, Any, T], hurry: Callable[[], None] | None = None) -> T:
    """Run ``work`` to its end, however often the caller is cancelled meanwhile; the cancellation is raised then.

    For closing, and for blocking calls on a thread, which go on anyway. ``hurry`` is called when the caller is cancelled.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            if hurry is not None:
                hurry()
    if cancelled is None:
        return task.result()
    if not task.cancelled() and (failure := task.exception()) is not None:
        log.warning("! %r failed while its caller was cancelled: %s", task, failure)
    raise cancelled


class Tasks:
    """``failed`` (optional) hears of every exception that ended a task."""

    __slots__ = ("_closed", "_failed", "_running", "owner")

    def __init__(self, owner: str, failed: Callable[[BaseException], None] | None = None) -> None:
        self.owner = owner
        self._failed = failed
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``work`` until it ends or the owner closes. After ``aclose`` it is refused with RuntimeError."""
        if self._closed:
            work.close()
            raise RuntimeError(f"{self.owner} is closed")
        task = asyncio.get_running_loop().create_task(work, name=f"{self.owner}: {name}")
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("! %s failed", task.get_name(), exc_info=error)
            if self._failed is not None:
                self._failed(error)

    def __len__(self) -> int:
        return len(self._running)

    async def aclose(self) -> None:
        """Cancel what runs and wait for it to end. Safe to call twice, and to be cancelled in."""
        self._closed = True
        running = [task for task in self._running if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.gather(*running, return_exceptions=True)

    def __repr__(self) -> str:
        return f"<Tasks of {self.owner} [{len(self._running)} running]>"
