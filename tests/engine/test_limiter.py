"""Limits over ten seconds of played time: what passes is the limit, several torrents and many peers each get their share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from unchoke.engine.limiter import ROUND, Lane, Limiter
from unchoke.policy.bandwidth import BandwidthSettings, TokenBucket
from unchoke.types import BLOCK_SIZE

STEP = ROUND / 10


class Eater:
    """Takes whole blocks, at most ``most`` bytes/s. ``eager``: it wakes up all the time, and not only in its turn."""

    def __init__(self, *, eager: bool = False, most: float = 1e9) -> None:
        self.is_closed = False
        self.eager = eager
        self.most = most
        self.got = 0

    def eat(self, lane: Lane[Any], now: float) -> None:
        while self.got < self.most * (now + STEP) and lane.limit.available(now) > 0:
            lane.limit.take(BLOCK_SIZE)
            self.got += BLOCK_SIZE


class Torrent:
    """Only its downloads matter here."""

    def __init__(self, limiter: Limiter, eaters: list[Eater]) -> None:
        self.eaters = eaters
        self.is_idle = False
        down: Lane[Eater] = Lane(TokenBucket(), limiter.down, lambda: eaters, self._act)
        up: Lane[Eater] = Lane(TokenBucket(), limiter.up, list, lambda eater, now: None)
        self.lanes = (down, up)

    def _act(self, eater: Eater, now: float) -> None:
        eater.eat(self.lanes[0], now)

    def start_afresh(self) -> None:
        for eater in self.eaters:
            eater.got = 0

    @property
    def got(self) -> int:
        return sum(eater.got for eater in self.eaters)


class Stage:
    """A limiter, its torrents and the time."""

    def __init__(self, rate: int) -> None:
        self.now = 0.0
        self.torrents: list[Torrent] = []
        self.timers: list[Callable[[], None]] = []
        self.limiter = Limiter(
            BandwidthSettings(down=rate), lambda: self.torrents, clock=lambda: self.now, call_later=self._later
        )

    def _later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        self.timers.append(call)
        return cast(asyncio.TimerHandle, Handle(lambda: self.timers.remove(call)))

    def add(self, *eaters: Eater) -> Torrent:
        self.torrents.append(Torrent(self.limiter, list(eaters)))
        return self.torrents[-1]

    def play(self, seconds: float) -> None:
        for step in range(round(seconds / STEP)):
            self.now += STEP
            for torrent in self.torrents:
                for eater in torrent.eaters:
                    if eater.eager:
                        eater.eat(torrent.lanes[0], self.now)
            if step % 10 == 9:
                timers, self.timers = self.timers, []
                for call in timers:
                    call()


class Handle:
    def __init__(self, cancel: Callable[[], None]) -> None:
        self.cancel = cancel


@pytest.mark.parametrize("rate", [100_000, 1_000_000, 30_000_000])
def test_ten_seconds_of_a_limit_over_torrents_and_peers(rate: int) -> None:
    stage = Stage(rate)
    torrents = [stage.add(*(Eater(eager=number == 0) for number in range(count))) for count in (1, 3, 20)]
    stage.limiter.wake()
    stage.play(10)
    assert sum(torrent.got for torrent in torrents) == pytest.approx(10 * rate, rel=0.05)
    for torrent in torrents:
        torrent.start_afresh()
    stage.play(10)
    for torrent in torrents:
        assert torrent.got == pytest.approx(10 * rate / 3, rel=0.15, abs=2 * BLOCK_SIZE)
        for eater in torrent.eaters:
            fair = 10 * rate / 3 / len(torrent.eaters)
            assert eater.got == pytest.approx(fair, rel=0.3, abs=2 * BLOCK_SIZE)


def test_one_that_wakes_up_all_the_time_starves_nobody() -> None:
    stage = Stage(500_000)
    stage.add(*(Eater(eager=number < 3) for number in range(30)))
    stage.limiter.wake()
    stage.play(1)  # what may pass at once after a pause goes to whoever comes first
    stage.torrents[0].start_afresh()
    stage.play(10)
    shares = [eater.got for eater in stage.torrents[0].eaters]
    assert max(shares) - min(shares) <= 4 * BLOCK_SIZE


def test_what_one_does_not_want_others_get() -> None:
    stage = Stage(1_000_000)
    slow = stage.add(*(Eater(most=10_000) for _ in range(5)))
    quick = stage.add(Eater(), Eater())
    stage.limiter.wake()
    stage.play(10)
    assert slow.got == pytest.approx(500_000, rel=0.25)
    assert slow.got + quick.got == pytest.approx(10_000_000, rel=0.05)


def test_a_torrents_own_limit_holds_beside_the_sessions() -> None:
    stage = Stage(1_000_000)
    held, free = stage.add(Eater(), Eater(eager=True)), stage.add(Eater())
    held.lanes[0].own.rate = 200_000
    stage.limiter.wake()
    stage.play(10)
    assert held.got == pytest.approx(2_000_000, rel=0.05)
    assert held.got + free.got == pytest.approx(10_000_000, rel=0.05)


def test_a_limit_set_and_lifted_while_it_runs() -> None:
    stage = Stage(0)
    torrent = stage.add(Eater(most=1e6), Eater(most=1e6, eager=True))
    stage.limiter.wake()
    assert not stage.timers, "without a limit nothing ticks"
    torrent.lanes[0].own.rate = 400_000
    stage.limiter.wake()
    stage.play(10)
    assert torrent.got == pytest.approx(4_000_000, rel=0.05)
    stage.limiter.limit(down=100_000)
    before = torrent.got
    stage.play(10)
    assert torrent.got - before == pytest.approx(1_000_000, rel=0.05)
    stage.limiter.limit(down=0)
    torrent.lanes[0].own.rate = 0
    stage.play(1)
    assert not stage.timers
    stage.play(1)
    assert torrent.eaters[1].got == pytest.approx(1e6 * stage.now, rel=0.05)


def test_a_round_that_fails_is_not_the_last() -> None:
    stage = Stage(1_000_000)
    broken, whole = stage.add(Eater()), stage.add(Eater())
    cast(Any, broken.eaters[0]).most = None  # comparing with it raises
    stage.limiter.wake()
    stage.play(1)
    assert stage.timers
    broken.eaters[0].is_closed = True
    stage.play(1)
    assert whole.got > 0


def test_the_closed_get_no_turn_and_the_end_is_the_end() -> None:
    stage = Stage(1_000_000)
    torrent = stage.add(Eater())
    torrent.eaters[0].is_closed = True
    stage.limiter.wake()
    stage.play(1)
    assert torrent.got == 0
    stage.limiter.close()
    stage.limiter.wake()
    assert not stage.timers
