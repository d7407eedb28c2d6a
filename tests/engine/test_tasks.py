"""``Tasks`` and ``finish``: whose tasks they are, and that what was begun is ended."""

from __future__ import annotations

import asyncio
import logging

import pytest

from unchoke.engine.tasks import Tasks, finish

pytestmark = pytest.mark.usefixtures("no_leaks")


async def forever() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise ValueError("broken")


async def test_closing_cancels_and_waits() -> None:
    ended: list[str] = []

    async def slow_to_end() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            ended.append("ended")

    tasks = Tasks("test")
    tasks.spawn(slow_to_end(), "slow")
    await asyncio.sleep(0)
    assert len(tasks) == 1
    await tasks.aclose()
    assert ended == ["ended"]
    assert len(tasks) == 0
    await tasks.aclose()


async def test_after_closing_nothing_is_begun() -> None:
    tasks = Tasks("test")
    await tasks.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        tasks.spawn(forever(), "late")


async def test_a_failure_is_told_and_logged_and_hurts_no_sibling(caplog: pytest.LogCaptureFixture) -> None:
    failures: list[BaseException] = []
    tasks = Tasks("test", failures.append)
    sibling = tasks.spawn(forever(), "sibling")
    with caplog.at_level(logging.ERROR):
        await asyncio.wait([tasks.spawn(fails(), "bad")])
        await asyncio.sleep(0)
    assert [str(failure) for failure in failures] == ["broken"]
    assert "test: bad" in caplog.text
    assert not sibling.done()
    await tasks.aclose()


async def test_one_of_its_own_tasks_may_close_it() -> None:
    tasks = Tasks("test")

    async def last() -> None:
        await tasks.aclose()

    tasks.spawn(forever(), "other")
    await asyncio.wait_for(tasks.spawn(last(), "last"), 10)
    assert len(tasks) == 0


async def test_closing_may_be_cancelled_and_still_ends_them() -> None:
    leave = asyncio.Event()

    async def stubborn() -> None:
        try:
            await forever()
        finally:
            await leave.wait()

    tasks = Tasks("test")
    tasks.spawn(stubborn(), "stubborn")
    await asyncio.sleep(0)
    closing = asyncio.create_task(tasks.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert len(tasks) == 0


async def test_finish_gives_the_result_or_the_failure() -> None:
    async def one() -> int:
        return 1

    assert await finish(one()) == 1
    with pytest.raises(ValueError, match="broken"):
        await finish(fails())


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelled_it_waits_for_the_end_and_says_so_each_time(times: int) -> None:
    go = asyncio.Event()
    ended: list[str] = []
    hurried: list[int] = []

    async def work() -> None:
        await go.wait()
        ended.append("ended")

    task = asyncio.create_task(finish(work(), lambda: hurried.append(1)))
    for _ in range(times):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    assert len(hurried) == times
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["ended"]


async def test_a_failure_behind_a_cancelled_caller_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()
        raise ValueError("late")

    task = asyncio.create_task(finish(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "late" in caplog.text
