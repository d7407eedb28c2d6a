"""Executors that take the place of threads: jobs run at once, or after virtual time, always in the loop's own thread.

A session through whose ``executor`` every thread hop goes is deterministic with them. ``SlowExecutor`` is a slow disk.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from unchoke.testing.clock import virtual_loop

P = ParamSpec("P")
T = TypeVar("T")


class InlineExecutor:
    """Takes the place of threads: ``submit`` runs the call at once and returns a future that is done."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0  # how many were run

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self.calls += 1
        _settle(future, partial(fn, *args, **kwargs))
        return future

    def shutdown(self, wait: bool = True) -> None:
        """Nothing runs."""

    def __repr__(self) -> str:
        return f"<InlineExecutor [{self.calls} calls]>"


class SlowExecutor:
    """``threads`` jobs at a time, each of which takes ``seconds`` of virtual time before it runs; the others wait."""

    __slots__ = ("_free_at", "_loop", "_waiting", "seconds")

    def __init__(self, seconds: float, *, threads: int = 1) -> None:
        self.seconds = seconds
        self._loop = virtual_loop()
        self._free_at = [self._loop.time()] * threads
        self._waiting: dict[Future[Any], Callable[[], Any]] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        self._waiting[future] = partial(fn, *args, **kwargs)
        thread = min(range(len(self._free_at)), key=self._free_at.__getitem__)
        self._free_at[thread] = max(self._free_at[thread], self._loop.time()) + self.seconds
        self._loop.call_at(self._free_at[thread], self._run, future)
        return future

    def _run(self, future: Future[Any]) -> None:
        job = self._waiting.pop(future, None)
        if job is not None and future.set_running_or_notify_cancel():
            _settle(future, job)

    def shutdown(self, wait: bool = True) -> None:
        """Run at once what still waits: nobody can wait for virtual time without a loop."""
        for future in list(self._waiting):
            self._run(future)

    def __repr__(self) -> str:
        return f"<SlowExecutor {self.seconds:g} s [{len(self._waiting)} waiting]>"


def _settle(future: Future[T], job: Callable[[], T]) -> None:
    """Run the job and put what comes of it into the future. What is no ``Exception`` is raised on too."""
    try:
        future.set_result(job())
    except BaseException as error:
        future.set_exception(error)
        if not isinstance(error, Exception):
            raise
