"""Tasks: the tasks that belong to one object, which cancels and awaits them in its ``aclose()``.

A failed child is logged and reported to its owner, never to its siblings; that is why this is no ``asyncio.TaskGroup``
(see docs/architecture.md, *Lifetimes*). It starts nothing by itself: an idle owner has no task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")


class Executor(Protocol):
    """Runs jobs on other threads (or, in a simulator, at once). A ``concurrent.futures.Executor`` is one."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    def shutdown(self, wait: bool = True) -> None: ...


class Inline:
    """An executor that runs its jobs at once, where they are handed over: for what never waits, and for simulators."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whoever looks at the future gets it
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True) -> None:
        """Nothing to do."""


async def on_thread(executor: Executor | None, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call on ``executor`` (None: the loop's threads). A caller that is cancelled waits: the thread goes on
    behind its back otherwise."""
    return await finish(_run(executor, partial(call, *args, **kwargs)))


async def _run(executor: Executor | None, call: Callable[[], T]) -> T:
    if executor is not None:
        return await asyncio.wrap_future(executor.submit(call))
    return await asyncio.get_running_loop().run_in_executor(None, call)


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
            if hurry is not None and not task.done():
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
        self._running: dict[asyncio.Task[Any], None] = {}  # in their order, so that ends come in the same one each time
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``work`` until it ends or the owner closes. After ``aclose`` it is refused with RuntimeError."""
        if self._closed:
            work.close()
            raise RuntimeError(f"{self.owner} is closed")
        task = asyncio.get_running_loop().create_task(work, name=f"{self.owner}: {name}")
        self._running[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
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
