"""Look-ups shared by many callers, on virtual time, with a resolver of the test's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from unchoke.engine.net import names as names_module
from unchoke.engine.net.names import AT_ONCE, KEPT, KEPT_FAILURE, Names
from unchoke.errors import NetworkError
from unchoke.testing import run
from unchoke.types import Address


class Resolver:
    """Each look-up takes a second. ``known``: name to address; others do not exist. ``asked``: in order; ``most`` at once."""

    def __init__(self) -> None:
        self.known = {"t.example": "192.0.2.1"}
        self.asked: list[str] = []
        self.now = self.most = 0

    async def getaddrinfo(self, host: str, port: int, *, family: int, type: int) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(1.0)
        finally:
            self.now -= 1
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, type, 6, "", (self.known[host], port))]


Scenario = Callable[[Names, Resolver], Coroutine[Any, Any, None]]


def play(scenario: Scenario) -> None:
    async def scene() -> None:
        names, resolver = Names(), Resolver()
        asyncio.get_running_loop().getaddrinfo = resolver.getaddrinfo  # type: ignore[assignment]
        try:
            await scenario(names, resolver)
        finally:
            await names.aclose()

    run(scene)


def test_many_callers_make_one_look_up() -> None:
    async def scenario(names: Names, resolver: Resolver) -> None:
        found = await asyncio.gather(*(names.resolve("T.example", port) for port in range(1, 101)))
        assert found[41] == [Address("192.0.2.1", 42)]
        assert resolver.asked == ["t.example"]
        await names.resolve("t.example", 5)
        assert len(resolver.asked) == 1
        await asyncio.sleep(KEPT)
        await names.resolve("t.example", 5)
        assert len(resolver.asked) == 2

    play(scenario)


def test_a_failure_is_remembered_less_long() -> None:
    async def scenario(names: Names, resolver: Resolver) -> None:
        for _ in range(3):
            with pytest.raises(NetworkError, match="could not be resolved: unknown") as raised:
                await names.resolve("gone.example", 1)
            assert raised.value.kind == "dns"
        assert len(resolver.asked) == 1
        await asyncio.sleep(KEPT_FAILURE)
        resolver.known["gone.example"] = "192.0.2.2"
        assert await names.resolve("gone.example", 1) == [Address("192.0.2.2", 1)]

    play(scenario)


def test_whoever_is_cancelled_leaves_the_look_up_to_the_others() -> None:
    async def scenario(names: Names, resolver: Resolver) -> None:
        first, second = (asyncio.create_task(names.resolve("t.example", 1)) for _ in range(2))
        await asyncio.sleep(0.5)
        first.cancel()
        assert await second == [Address("192.0.2.1", 1)]
        assert first.cancelled()
        assert len(resolver.asked) == 1

    play(scenario)


def test_few_at_one_time_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "MOST_KEPT", 10)

    async def scenario(names: Names, resolver: Resolver) -> None:
        results = await asyncio.gather(
            *(names.resolve(f"x{number}.example", 1) for number in range(40)), return_exceptions=True
        )
        assert all(isinstance(result, NetworkError) for result in results)
        assert resolver.most == AT_ONCE
        assert repr(names) == "<Names [0 being looked up | 10 known]>"

    play(scenario)


def test_closing_ends_what_is_under_way() -> None:
    async def scenario(names: Names, resolver: Resolver) -> None:
        waiting = asyncio.create_task(names.resolve("t.example", 1))
        await asyncio.sleep(0.5)
        await names.aclose()
        for late in (waiting, names.resolve("u.example", 1)):
            with pytest.raises(NetworkError, match="any more"):
                await late
        assert await names.resolve("127.0.0.1", 1) == [Address("127.0.0.1", 1)]

    play(scenario)
