"""An event loop on virtual time: when nothing is ready, the clock jumps to the next timer.

An hour of swarm passes in a second, and the same every time: the loop has no sockets, no threads and no real clock. What
cannot end is an error with words and never a hang: nothing left to wait for (``DeadlockError``), callbacks for ever at one
moment (``LivelockError``), a simulation that outlives its bound of virtual seconds (``TimeLimitError``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

#: What the clock shows at first: as a real monotonic clock, not zero.
START = 1000.0

#: Virtual seconds a simulation may last unless it says otherwise: a week.
LIMIT = 7 * 86400.0

#: Turns of the loop at one moment after which it counts as going round in circles.
MOST_TURNS = 200_000


class SimulationError(RuntimeError):
    """The simulation cannot go on; the scenario or the code in it is at fault."""


class DeadlockError(SimulationError):
    """Nothing is ready and no timer is set, but something is still waited for."""


class LivelockError(SimulationError):
    """The loop turns without time passing."""


class TimeLimitError(SimulationError):
    """More virtual time has passed than the simulation may take."""


class VirtualLoop(asyncio.BaseEventLoop):
    """``rng``: the simulation's chance. ``limit``: virtual seconds until TimeLimitError.

    ``names`` stands in for the resolver: host name → literal address. Real sockets, pipes and child processes raise
    NotImplementedError. ``run_in_executor`` runs the call at once, whatever the executor. No other thread may touch the loop.
    """

    def __init__(self, rng: Random | None = None, *, limit: float = LIMIT) -> None:
        super().__init__()
        self.rng = rng or Random(0)
        self.names: dict[str, str] = {}
        self._now = START
        self._end = START + limit
        self._turns = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []  # a heap; the number keeps their order
        self._order = count()
        self._clock_resolution = 1e-9
        self._selector = self  # BaseEventLoop asks ``_selector.select`` to wait

    def time(self) -> float:
        """Virtual seconds; a simulation begins at ``START``."""
        return self._now

    # what BaseEventLoop asks of whoever waits for it

    def select(self, timeout: float | None) -> list[Callable[[], None]]:
        """Not wait: let the time pass until the next timer (in ``timeout`` seconds; None: there is none) or event."""
        if timeout == 0:
            self._count_turn()
        else:
            self._pass_time(inf if timeout is None else self._now + timeout)
        due = []
        while self._events and self._events[0][0] <= self._now:
            due.append(heappop(self._events)[2])
        return due

    def _pass_time(self, until: float) -> None:
        self._turns = 0
        if self._events:
            until = min(until, self._events[0][0])
        if until == inf:
            raise DeadlockError(f"nothing is ready and no timer is set at {self._now - START:.3f} s: {self._stuck()}")
        self._now = max(self._now, until)
        if self._now > self._end:
            words = f"not finished after {self._end - START:g} virtual seconds: {self._stuck()}"
            self._end += LIMIT  # for what has to end now
            raise TimeLimitError(words)

    def _count_turn(self) -> None:
        self._turns += 1
        if self._turns > MOST_TURNS:
            self._turns = 0
            raise LivelockError(f"{MOST_TURNS} turns at {self._now - START:.3f} s, and no time passes: {self._stuck()}")

    def _process_events(self, event_list: list[Callable[[], None]]) -> None:
        for call in event_list:
            call()

    def post_at(self, when: float, call: Callable[[], None]) -> None:
        """Call at ``when`` as an event from outside, before callbacks of that moment; in the order they were posted.

        A third of the cost of ``call_at``, and not to be cancelled. The call must not raise.
        """
        heappush(self._events, (when, next(self._order), call))

    def _write_to_self(self) -> None:
        """``call_soon_threadsafe`` wakes the loop with this; it never sleeps."""

    def _stuck(self) -> str:
        """Who waits, and where."""
        places = []
        for task in asyncio.all_tasks(self):
            stack = task.get_stack(limit=1)
            where = f"{stack[-1].f_code.co_filename}:{stack[-1].f_lineno}" if stack else "its start"
            places.append(f"{task.get_name()} at {where}")
        places.sort()
        more = f" and {len(places) - 8} more" if len(places) > 8 else ""
        return "waiting: " + ("; ".join(places[:8]) + more if places else "no task")

    # no threads, no resolver

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run the call now; the future is done when this returns."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # for whoever awaits it
            future.set_exception(error)
        return future

    async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> list[Any]:
        """Literal addresses, and what stands in ``names``; anything else is not found."""
        text = host.decode() if isinstance(host, bytes) else str(host)
        literal = self.names.get(text, text)
        try:
            version = ipaddress.ip_address(literal).version
        except ValueError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        if how.get("family") not in (None, 0, family):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(family, how.get("type") or socket.SOCK_STREAM, how.get("proto") or 0, "", (literal, int(port or 0)))]

    # no sockets: BaseEventLoop would open them and fail then

    async def create_connection(self, *args: Any, **how: Any) -> Any:
        raise NotImplementedError("there are no real sockets in a simulation; a SimHost dials")

    async def create_server(self, *args: Any, **how: Any) -> Any:
        raise NotImplementedError("there are no real sockets in a simulation; a SimHost listens")

    async def create_datagram_endpoint(self, *args: Any, **how: Any) -> Any:
        raise NotImplementedError("there are no real sockets in a simulation; a SimHost has datagrams")

    def __repr__(self) -> str:
        return f"<VirtualLoop at {self._now - START:.3f} s>"


def run(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int = 0, limit: float = LIMIT) -> T:
    """Run ``main()`` on a loop of virtual time to its end, and return what it returns.

    ``seed`` makes the simulation's chance (``rng``); an exception that leaves the scenario says with which. ``limit`` is in
    virtual seconds. Raises DeadlockError, LivelockError, TimeLimitError, and whatever the scenario raises.
    """
    runner = asyncio.Runner(loop_factory=lambda: VirtualLoop(Random(seed), limit=limit))
    try:
        with runner:
            return runner.run(main())
    except BaseException as error:
        error.add_note(f"in a simulation with seed={seed}")
        raise


def virtual_loop() -> VirtualLoop:
    """The loop of the simulation that runs. Raises RuntimeError outside of one."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise RuntimeError("not inside a simulation: use unchoke.testing.run")
    return loop


def rng() -> Random:
    """The chance of the simulation that runs. Raises RuntimeError outside of one."""
    return virtual_loop().rng


def elapsed() -> float:
    """Virtual seconds since the simulation began. Raises RuntimeError outside of one."""
    return virtual_loop().time() - START
