"""The loop on virtual time: it jumps, it never hangs, and it runs every job in its own thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from unchoke.testing import (
    DeadlockError,
    InlineExecutor,
    LivelockError,
    SlowExecutor,
    TimeLimitError,
    VirtualLoop,
    clock,
    elapsed,
    rng,
    run,
)


def test_time_passes_only_when_everybody_waits() -> None:
    async def scenario() -> list[tuple[float, str]]:
        log: list[tuple[float, str]] = []

        async def every(seconds: float, name: str) -> None:
            for _ in range(3):
                await asyncio.sleep(seconds)
                log.append((elapsed(), name))

        await asyncio.gather(every(3600, "slow"), every(0.25, "fast"))
        return log

    assert run(scenario) == [
        (0.25, "fast"),
        (0.5, "fast"),
        (0.75, "fast"),
        (3600.0, "slow"),
        (7200.0, "slow"),
        (10800.0, "slow"),
    ]


def test_timeouts_expire_in_virtual_time() -> None:
    async def scenario() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await asyncio.Event().wait()
        return elapsed()

    assert run(scenario) == pytest.approx(600)


def test_timers_fire_in_the_order_of_their_times() -> None:
    async def scenario() -> list[int]:
        loop, fired = asyncio.get_running_loop(), list[int]()
        for number in Random(1).sample(range(200), 200):
            loop.call_later(number / 7, fired.append, number)
        await asyncio.sleep(100)
        return fired

    assert run(scenario) == list(range(200))


def test_events_posted_for_one_moment_keep_their_order_and_come_before_timers() -> None:
    async def scenario() -> list[str]:
        loop, log = clock.virtual_loop(), list[str]()
        loop.call_at(loop.time() + 1, log.append, "timer")
        for name in ("a", "b", "c"):
            loop.post_at(loop.time() + 1, lambda name=name: log.append(name))  # type: ignore[misc]
        await asyncio.sleep(2)
        return log

    assert run(scenario) == ["a", "b", "c", "timer"]


def test_a_deadlock_is_an_error_that_names_who_waits() -> None:
    async def scenario() -> None:
        asyncio.current_task().set_name("the patient one")  # type: ignore[union-attr]
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match=r"the patient one at .*test_clock\.py") as caught:
        run(scenario, seed=41)
    assert caught.value.__notes__ == ["in a simulation with seed=41"]


def test_going_round_in_circles_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "MOST_TURNS", 500)

    async def scenario() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    with pytest.raises(LivelockError, match="500 turns"):
        run(scenario)


def test_a_simulation_that_never_ends_is_an_error() -> None:
    async def scenario() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)

    with pytest.raises(TimeLimitError, match="not finished after 50 virtual seconds"):
        run(scenario, limit=50)


def test_tasks_left_behind_are_cancelled_and_may_take_time_to_end() -> None:
    ended = []

    async def slow_to_leave() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(5)
            ended.append(elapsed())

    async def scenario() -> None:
        task = asyncio.create_task(slow_to_leave())
        await asyncio.sleep(1)
        assert not task.done()

    run(scenario)
    assert ended == [6.0]


def test_a_failure_carries_the_seed_that_replays_it() -> None:
    async def scenario() -> None:
        raise ValueError("no luck")

    with pytest.raises(ValueError) as caught:
        run(scenario, seed=7)
    assert caught.value.__notes__ == ["in a simulation with seed=7"]


def test_chance_comes_from_the_seed() -> None:
    async def scenario() -> list[float]:
        return [rng().random() for _ in range(3)]

    assert run(scenario, seed=3) == run(scenario, seed=3) != run(scenario, seed=4)


async def test_outside_of_a_simulation_there_is_no_virtual_time() -> None:
    with pytest.raises(RuntimeError, match="not inside a simulation"):
        elapsed()


@pytest.mark.parametrize(
    "hop",
    [
        asyncio.to_thread,
        lambda call: asyncio.wrap_future(InlineExecutor().submit(call)),
        lambda call: asyncio.wrap_future(SlowExecutor(0.5).submit(call)),
    ],
    ids=["to_thread", "InlineExecutor", "SlowExecutor"],
)
def test_jobs_for_threads_run_in_the_loops_own(hop: Callable[[Callable[[], Any]], Any]) -> None:
    def fails() -> None:
        raise LookupError("the job's own")

    async def scenario() -> int:
        with pytest.raises(LookupError):
            await hop(fails)
        return int(await hop(threading.get_ident))

    assert run(scenario) == threading.get_ident()


def test_a_slow_executor_takes_its_time_thread_by_thread() -> None:
    async def scenario() -> list[float]:
        executor = SlowExecutor(2.0, threads=2)
        jobs = [asyncio.wrap_future(executor.submit(elapsed)) for _ in range(4)]
        return await asyncio.gather(*jobs)

    assert run(scenario) == [2.0, 2.0, 4.0, 4.0]


def test_shutting_a_slow_executor_down_runs_what_waits() -> None:
    async def scenario() -> bool:
        executor = SlowExecutor(2.0)
        job = executor.submit(int)
        executor.shutdown()
        return job.done()

    assert run(scenario)


def test_a_cancelled_job_of_a_slow_executor_does_not_run() -> None:
    ran: list[int] = []

    async def scenario() -> None:
        job = SlowExecutor(2.0).submit(ran.append, 1)
        assert job.cancel()
        await asyncio.sleep(5)

    run(scenario)
    assert not ran


def test_names_are_the_loops_own() -> None:
    async def scenario() -> None:
        loop = clock.virtual_loop()
        loop.names["tracker.example"] = "10.0.0.9"
        found = await loop.getaddrinfo("tracker.example", 80)
        assert [one[4] for one in found] == [("10.0.0.9", 80)]
        assert (await loop.getaddrinfo("::1", 1, family=socket.AF_INET6))[0][4] == ("::1", 1)
        for name, family in (("elsewhere.example", 0), ("10.0.0.9", socket.AF_INET6)):
            with pytest.raises(socket.gaierror):
                await loop.getaddrinfo(name, 80, family=family)

    run(scenario)


def test_real_sockets_are_refused() -> None:
    async def dial() -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    async def listen() -> None:
        await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)

    async def datagrams() -> None:
        await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))

    for real in (dial, listen, datagrams):
        with pytest.raises(NotImplementedError, match="a SimHost"):
            run(real)


def test_the_loop_says_when_it_is() -> None:
    async def scenario() -> str:
        await asyncio.sleep(1.5)
        return repr(asyncio.get_running_loop())

    assert run(scenario) == "<VirtualLoop at 1.500 s>"


def test_call_soon_threadsafe_wakes_a_loop_that_has_nothing_else() -> None:
    async def scenario() -> str:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        loop.call_soon_threadsafe(woken.set)
        await woken.wait()
        return type(loop).__name__

    assert run(scenario) == VirtualLoop.__name__


def _typed(scenario: Callable[[], Coroutine[Any, Any, int]]) -> int:
    return run(scenario)


def test_run_returns_what_the_scenario_returns() -> None:
    async def scenario() -> int:
        return 42

    assert _typed(scenario) == 42
