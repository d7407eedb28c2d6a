"""UdpTrackers: announces and scrapes over UDP, all torrents of a session on its one socket of each family (BEP 15, 41).

It moves packets and time between the endpoint and ``UdpTrackerClient``, with one timer, armed again after every step.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

from unchoke.engine.net.families import announce_over_families, one_of_each_family
from unchoke.engine.net.guard import Guard
from unchoke.engine.net.names import Names
from unchoke.engine.net.resolver import family_of
from unchoke.engine.net.turns import Turns, nothing
from unchoke.engine.net.udp import UdpEndpoint
from unchoke.errors import NetworkError, TrackerError
from unchoke.policy.announce import AnnounceSettings
from unchoke.protocol.tracker.models import AnnounceEvent, AnnounceReply, AnnounceRequest, ScrapeReply
from unchoke.protocol.tracker.udp import UdpTrackerClient
from unchoke.protocol.tracker.udp_packets import url_parts
from unchoke.types import Address, InfoHash


class UdpTrackers:
    """Raises TrackerError for every failure. ``secret`` gives so many bits that nobody can guess, for transaction ids."""

    def __init__(
        self,
        endpoint: UdpEndpoint,
        *,
        settings: AnnounceSettings | None = None,
        secret: Callable[[int], int] = secrets.randbits,
        guard: Guard | None = None,
    ) -> None:
        settings = settings or AnnounceSettings()
        self._endpoint = endpoint
        self._guard = guard or Guard()
        self._names = Names()
        self._turns = Turns(None, settings.max_per_second)  # the machine bounds what is under way to a tracker
        self._client = UdpTrackerClient(lambda: secret(32), retries=settings.udp_retries)
        self._waiting: dict[int, asyncio.Future[AnnounceReply | ScrapeReply | TrackerError]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None  # uvloop's handles give another figure, or none
        endpoint.handlers.append(self._receive)

    async def announce(
        self, url: str, request: AnnounceRequest, *, given: bool = False, begun: Callable[[], None] = nothing
    ) -> AnnounceReply:
        """Announce over each family that the tracker's name and we have (BEP 7). ``given``: the URL is the user's own, and not
        guarded. ``begun`` is called when our turn has come."""
        async with self._turns.turn(url_parts(url)[0], leaving=request.event is AnnounceEvent.STOPPED):
            begun()
            addresses, path = await self._find(url, given)
            return await announce_over_families([self._announce(one, request, path) for one in addresses])

    async def scrape(self, url: str, infohashes: Sequence[InfoHash], *, given: bool = False) -> ScrapeReply:
        """Counts of at most 74 torrents."""
        async with self._turns.turn(url_parts(url)[0]):
            addresses, _ = await self._find(url, given)
            handle = self._client.scrape(addresses[0], tuple(infohashes), _now())
            return cast(ScrapeReply, await self._answer(handle))

    def _announce(self, address: Address, request: AnnounceRequest, path: bytes) -> Coroutine[Any, Any, AnnounceReply]:
        async def announce() -> AnnounceReply:
            handle = self._client.announce(address, request, _now(), path)
            return cast(AnnounceReply, await self._answer(handle))

        return announce()

    async def _find(self, url: str, given: bool) -> tuple[list[Address], bytes]:
        """Where the tracker is, one address a family that we have a socket for, and what BEP 41 tells it."""
        try:
            host, port, path = url_parts(url)
            if not given:
                self._guard.check(url)
            await self._endpoint.open()
            addresses = await self._names.resolve(host, port)
            if not given:
                addresses = self._guard.choose(host, addresses)
        except NetworkError as error:
            raise TrackerError(str(error), kind=error.kind or "connect") from None
        usable = [one for one in addresses if family_of(one.host) in self._endpoint.families]
        if not usable:
            raise TrackerError(f"{host} has no address of a family that we can use", kind="connect")
        return one_of_each_family(usable), path

    async def _answer(self, handle: int) -> AnnounceReply | ScrapeReply:
        future: asyncio.Future[AnnounceReply | ScrapeReply | TrackerError] = asyncio.get_running_loop().create_future()
        self._waiting[handle] = future
        try:
            self._move(_now())
            result = await future
        finally:
            del self._waiting[handle]
            now = _now()
            self._client.cancel(handle, now)
            self._move(now)
        if isinstance(result, TrackerError):
            raise result
        return result

    # ---- the machine's crank ----

    def _receive(self, data: bytes, address: Address, now: float) -> bool:
        if not self._client.receive_datagram(data, address, now):
            return False
        self._move(now)
        return True

    def _tick(self) -> None:
        self._timer = None
        now = _now()
        self._client.handle_timer(now)
        self._move(now)

    def _move(self, now: float) -> None:
        """Send what is due, hand out what has come, and set the timer for what is next."""
        for data, address in self._client.datagrams_to_send(now):
            self._endpoint.send(data, address)
        for answer in self._client.answers():
            future = self._waiting.get(answer.handle)
            if future is not None and not future.done():
                future.set_result(answer.result)
        self._set_timer()

    def _set_timer(self) -> None:
        when = self._client.get_timer()
        if self._timer is not None:
            if self._due == when:
                return
            self._timer.cancel()
            self._timer = None
        self._due = when
        if when is not None:
            self._timer = asyncio.get_running_loop().call_at(when, self._tick)

    async def aclose(self) -> None:
        """Whoever still waits gets a TrackerError."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._receive in self._endpoint.handlers:
            self._endpoint.handlers.remove(self._receive)
        for future in self._waiting.values():
            if not future.done():
                future.set_result(TrackerError("we are closing", kind=""))
        await self._names.aclose()

    def __repr__(self) -> str:
        return f"<UdpTrackers [{len(self._waiting)} announces under way]>"


def _now() -> float:
    return asyncio.get_running_loop().time()
