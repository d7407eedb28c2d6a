"""Turns at a host, on virtual time: few at once, few a second, in order, and nobody forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from unchoke.engine.net.turns import Turns
from unchoke.testing import elapsed, run


async def never() -> None:
    await asyncio.Event().wait()


def test_they_begin_in_order_at_the_pace_of_their_host() -> None:
    begun: list[tuple[str, float]] = []

    async def scenario() -> None:
        turns = Turns(None, 10.0)

        async def use(host: str) -> None:
            async with turns.turn(host.rstrip("0123456789")):
                begun.append((host, elapsed()))

        await asyncio.gather(*(use(f"a{n}") for n in range(100)), use("b"))
        assert repr(turns) == "<Turns [0 at 0 hosts]>"

    run(scenario)
    at = dict(begun)
    assert [host for host, _ in begun if host != "b"] == [f"a{n}" for n in range(100)]
    assert at["b"] == 0.0
    assert at["a9"] == 0.0  # one second's worth at once
    assert at["a19"] == pytest.approx(1.0)
    assert at["a99"] == pytest.approx(9.0)


def test_a_bounded_number_at_one_time() -> None:
    now = most = 0

    async def scenario() -> None:
        turns = Turns(3, 0.0)

        async def use() -> None:
            nonlocal now, most
            async with turns.turn("h"):
                now += 1
                most = max(most, now)
                await asyncio.sleep(1.0)
                now -= 1

        await asyncio.gather(*(use() for _ in range(10)))
        assert elapsed() == pytest.approx(4.0)

    run(scenario)
    assert most == 3


def test_those_that_leave_neither_wait_nor_are_paced() -> None:
    async def scenario() -> None:
        turns = Turns(2, 1.0)
        stuck = [asyncio.create_task(_hold(turns, never)) for _ in range(5)]
        await asyncio.sleep(0)
        assert turns.waiting == 5
        for _ in range(10):
            async with turns.turn("h", leaving=True):
                assert elapsed() == 0.0
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        assert turns.waiting == 0

    run(scenario)


def test_hosts_that_rest_are_forgotten() -> None:
    async def scenario() -> None:
        turns = Turns(2, 1.0)
        for number in range(1000):
            async with turns.turn(f"h{number}"):
                pass
            await asyncio.sleep(0.1)
        assert len(turns._hosts) < 100

    run(scenario)


async def _hold(turns: Turns, until: Callable[[], Awaitable[None]]) -> None:
    async with turns.turn("h"):
        await until()
