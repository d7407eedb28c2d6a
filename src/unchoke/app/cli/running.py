"""Running an engine from the command line: the event loop, Ctrl-C, and the hook at completion.

The first SIGINT or SIGTERM asks to stop (trackers hear ``stopped``, at most 5 s); a second SIGINT ends the process at once
with 130. Only here are a loop chosen and signals handled; the library does neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from unchoke.app.cli.text import clean
from unchoke.errors import PortTakenError

if TYPE_CHECKING:
    from unchoke.app.cli.progress import Reporter
    from unchoke.engine.resume import StateStore
    from unchoke.engine.session import Session
    from unchoke.engine.settings import Settings

T = TypeVar("T")
log = logging.getLogger(__name__)


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` on the fastest loop this machine has."""
    with asyncio.Runner(loop_factory=_make_loop) as runner:
        return runner.run(main)


def run_briefly(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` for a command that must end when it is done: threads that hang in a dead disk are left behind."""
    with asyncio.Runner(loop_factory=_make_loop) as runner:
        runner.get_loop().set_default_executor(_Impatient(max_workers=16))
        return runner.run(main)


class _Impatient(ThreadPoolExecutor):
    """Does not wait for its threads."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)


def calm_collector() -> None:
    """Whatever was made until now stays as long as the process: the garbage collector need not walk through it again.

    A full collection holds the loop: 150 ms were seen with 5,000 torrents. A library must not decide that for its host.
    """
    gc.freeze()


def _make_loop() -> asyncio.AbstractEventLoop:
    """The fastest there is, that looks names up on threads which nobody waits for: a dead resolver holds each for half a minute, and
    neither loop's own can be left."""
    base: Any = getattr(asyncio, "ProactorEventLoop", asyncio.SelectorEventLoop)
    if sys.platform != "win32":
        try:
            import uvloop
        except ImportError:  # an interpreter without a wheel of it; the stock loop moves bulk data as fast
            pass
        else:
            base = uvloop.Loop

    class Loop(base):  # type: ignore[misc]
        async def getaddrinfo(self, host: Any, port: Any, **how: int) -> list[Any]:
            return await _left_behind(partial(socket.getaddrinfo, host, port, **how))

    loop: asyncio.AbstractEventLoop = Loop()
    return loop


async def _left_behind(call: Callable[[], T]) -> T:
    """Run a blocking call on a thread of its own, which the process's end does not wait for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, result))

    def work() -> None:
        result, failure = None, None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="name look-up", daemon=True).start()
    return await future


@contextlib.contextmanager
def stop_signal() -> Iterator[asyncio.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second SIGINT exits 130."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked(number: int) -> None:
        if stop.is_set() and number == signal.SIGINT:
            sys.stderr.write("\n")
            sys.stderr.flush()
            os._exit(130)
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        try:
            loop.add_signal_handler(number, asked, number)
        except (NotImplementedError, RuntimeError):  # Windows, or not the main thread
            signal.signal(number, lambda number, _: loop.call_soon_threadsafe(asked, number))
    try:
        yield stop
    finally:
        for number in numbers:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)


async def run_session(
    settings: Settings,
    reporter: Reporter,
    work: Callable[[Session], Awaitable[None]],
    state: StateStore,
    ended: Callable[[Session, bool], None] = lambda session, stopped: None,
    nodes_file: Path | None = None,
) -> None:
    """Open a session that keeps its records in ``state``, do ``work`` in it and draw, until it is done or somebody wants us to
    stop; then close it.

    ``ended`` hears which of the two, while there is still something to tell of. What ``work`` raises is raised on.
    """
    from unchoke.engine.session import Session

    async def draw(session: Session) -> None:
        while True:
            reporter.draw(list(session.snapshot().torrents), session.now())
            await asyncio.sleep(reporter.interval)

    try:
        with stop_signal() as stop:
            async with Session(settings, state=state, nodes_file=nodes_file) as session:
                calm_collector()
                if session.resume.notice:
                    reporter.say(clean(session.resume.notice))
                working = asyncio.ensure_future(work(session))
                others = [asyncio.ensure_future(draw(session)), asyncio.ensure_future(stop.wait())]
                try:
                    await asyncio.wait([working, others[1]], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    stopped = not working.done()
                    for task in (working, *others):
                        task.cancel()
                    results = await asyncio.gather(working, *others, return_exceptions=True)
                for result in results:
                    if isinstance(result, Exception):
                        raise result
                if stopped:
                    reporter.say("leaving the swarm; Ctrl-C again ends at once")
                ended(session, stopped)
                if trouble := session.snapshot().trouble:
                    reporter.say(f"no record was kept: {clean(trouble)}")
    except PortTakenError as error:
        raise PortTakenError(f"{error}; choose another with -p/--port") from None
    finally:
        reporter.close()


async def run_hook(command: str, name: str, path: Path, infohash: str) -> None:
    """``--on-complete``: a shell command; what strangers named comes in the environment, never in the command's text."""
    facts = {"UNCHOKE_NAME": name, "UNCHOKE_PATH": str(path), "UNCHOKE_INFOHASH": infohash}
    process = await asyncio.create_subprocess_shell(
        command,
        env={**os.environ, **facts},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),  # our own standard output may be JSON
    )
    try:
        status = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        raise
    if status:
        sys.stderr.write(f"unchoke: --on-complete ended with {status} for {clean(name)}\n")
