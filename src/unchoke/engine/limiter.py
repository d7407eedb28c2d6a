"""Limiter: the session's rate limits, and the turns in which those that wait for a limit go on.

While there is any limit, the session's or a torrent's own, a round of turns comes twenty times a second: first the torrent that
has had least, in it the peer that has had least, each with an even share of what the limits let through; what is left
over goes round again. So nobody starves, whoever wakes up more often. Where a round leaves something over,
nobody waits, and between rounds everybody goes on at will (``TokenBucket.contended``).

Without a limit there is no timer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from unchoke.policy.bandwidth import BandwidthSettings, Limit, TokenBucket
from unchoke.types import BLOCK_SIZE

log = logging.getLogger(__name__)

#: Seconds between rounds. A fifth of what may pass at once after a pause (``burst``), so that nothing of the limit is lost.
ROUND = 0.05
#: Seconds after which a limit of a torrent's own is looked for, where torrents come and go.
SOON = 0.25


class Waiting(Protocol):
    """Who may wait for a turn: a peer, or a connection to a web seed."""

    @property
    def is_closed(self) -> bool: ...


W = TypeVar("W", bound=Waiting)


class Lane(Generic[W]):
    """One direction of one torrent. ``own``: its own limit, a part of ``limit``. ``waiting`` gives who may want a turn,
    ``act`` lets one go on."""

    __slots__ = ("_act", "_had", "_level", "_queue", "_waiting", "had", "limit", "own")

    def __init__(
        self,
        own: TokenBucket,
        session: TokenBucket,
        waiting: Callable[[], Sequence[W]],
        act: Callable[[W, float], None],
    ) -> None:
        self.own = own
        self.limit = Limit(own, session)
        self.had = 0.0  # bytes that all have had
        self._waiting = waiting
        self._act = act
        self._queue: list[W] = []
        self._had: dict[W, float] = {}  # bytes that each has had; who comes later begins with what the least had
        self._level = 0.0

    def line_up(self) -> bool:
        """Who waits, the one that has had least first; False if nobody does."""
        self._had = had = {peer: bytes_had for peer, bytes_had in self._had.items() if not peer.is_closed}
        self._queue = list(self._waiting())
        for peer in self._queue:
            had[peer] = max(had.get(peer, 0.0), self._level)
        self._queue.sort(key=lambda peer: had[peer])
        if self._queue:
            self._level = had[self._queue[0]]
        return bool(self._queue)

    def give_turns(self, share: float, now: float) -> float:
        """``share`` bytes may pass in this round; how many did?"""
        limit, left = self.limit, min(share, self.own.available(now))
        passed_before = limit.passed
        try:
            for place, peer in enumerate(self._queue):
                if left <= 0:
                    break
                before = limit.passed
                limit.share = max(left / (len(self._queue) - place), BLOCK_SIZE)
                if not peer.is_closed:
                    self._act(peer, now)
                left -= limit.passed - before
                self._had[peer] += limit.passed - before
        finally:
            limit.share = None
        self.had += limit.passed - passed_before
        return limit.passed - passed_before

    def __repr__(self) -> str:
        return f"<Lane [{len(self._queue)} in line | {self.limit}]>"


class LimitedSwarm(Protocol):
    """What a limiter asks of a swarm."""

    lanes: tuple[Lane[Any], Lane[Any]]

    @property
    def is_idle(self) -> bool: ...


class Limiter:
    """``down`` and ``up`` are the session's limits; ``swarms`` gives those that live."""

    def __init__(
        self,
        settings: BandwidthSettings,
        swarms: Callable[[], Iterable[LimitedSwarm]],
        *,
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        now = clock()
        self.down = TokenBucket(settings.down, burst=settings.burst, now=now)
        self.up = TokenBucket(settings.up, burst=settings.burst, now=now)
        self._swarms = swarms
        self._clock = clock
        self._call_later = call_later
        self._timer: asyncio.TimerHandle | None = None
        self._levels = [0.0, 0.0]  # what the torrent that has had least has had, down and up
        self._closed = False

    def limit(self, *, down: int | None = None, up: int | None = None) -> None:
        """Change the session's limits: bytes/s, 0 for none. None: as it is."""
        if down is not None:
            self.down.rate = down
        if up is not None:
            self.up.rate = up
        self.wake()

    def wake(self) -> None:
        """A limit was set, perhaps; called once a second too. Rounds begin if there is a limit, and end by themselves."""
        if self._timer is None and not self._closed and self._is_limited():
            self._timer = self._call_later(ROUND, self._next_round)

    def wake_soon(self) -> None:
        """The same for who calls often, with thousands of torrents: it costs nothing here and now."""
        if self._timer is None and not self._closed:
            self._timer = self._call_later(SOON, self._next_round)

    def _is_limited(self) -> bool:
        if self.down.rate > 0 or self.up.rate > 0:
            return True
        return any(lane.own.rate > 0 for swarm in self._swarms() for lane in swarm.lanes)

    def _next_round(self) -> None:
        self._timer = None
        try:
            self.give_turns(self._clock())
        except Exception:  # a bug in one round must not hold everybody for ever
            log.exception("! a round of turns failed")
        self.wake()

    def give_turns(self, now: float) -> None:
        """One round, in both directions."""
        swarms = [swarm for swarm in self._swarms() if not swarm.is_idle]
        for way, session in enumerate((self.down, self.up)):
            lanes = [swarm.lanes[way] for swarm in swarms]
            queue = [lane for lane in lanes if lane.line_up()]
            for lane in queue:
                lane.had = max(lane.had, self._levels[way])
            queue.sort(key=lambda lane: lane.had)
            if queue:
                self._levels[way] = queue[0].had
            self._one_way(session, queue, now)
            session.end_round(now)
            for lane in lanes:
                lane.own.end_round(now)

    def _one_way(self, session: TokenBucket, queue: list[Lane[Any]], now: float) -> None:
        for again in (False, True):
            passed = 0.0
            for place, lane in enumerate(queue):
                tokens = session.available(now)
                if tokens <= 0:
                    break
                passed += lane.give_turns(tokens if again else tokens / (len(queue) - place), now)
            if not passed:
                break

    def close(self) -> None:
        """No more rounds."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __repr__(self) -> str:
        return (
            f"<Limiter [{'rounds of turns' if self._timer is not None else 'idle'} | down {self.down} | up {self.up}]>"
        )
