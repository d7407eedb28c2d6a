"""HttpTrackers: announces and scrapes over HTTP and HTTPS, a bounded number at one time to each host.

It joins the codec (``protocol.tracker.http``) to the client (``net.http``). Waiting for a turn does not count against the
time-out: with ten thousand torrents on one tracker the last in the row has done nothing wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from unchoke.engine.net.families import announce_over_families, one_of_each_family
from unchoke.engine.net.http import HttpClient, HttpReply, host_and_port
from unchoke.engine.net.resolver import family_of, resolve
from unchoke.errors import NetworkError, TrackerError
from unchoke.policy.announce import AnnounceSettings
from unchoke.protocol.tracker.http import announce_url, parse_announce, parse_scrape, scrape_request_url
from unchoke.protocol.tracker.models import AnnounceReply, AnnounceRequest, ScrapeReply
from unchoke.types import InfoHash


class HttpTrackers:
    """One for a session; all torrents share its turns. Raises TrackerError for every failure."""

    def __init__(self, http: HttpClient, settings: AnnounceSettings | None = None) -> None:
        self._http = http
        self._settings = settings or AnnounceSettings()
        self._turns: dict[str, tuple[asyncio.Semaphore, list[None]]] = {}

    async def announce(self, url: str, request: AnnounceRequest) -> AnnounceReply:
        """Announce over each family that the tracker's name has (BEP 7)."""
        try:
            host, port = host_and_port(url)
            async with self._turn(host):
                addresses = one_of_each_family(await resolve(host, port, self._http.family))
                families = [family_of(address.host) for address in addresses]
                return await announce_over_families([self._announce(url, request, family) for family in families])
        except NetworkError as error:
            raise TrackerError(str(error)) from None

    async def _announce(self, url: str, request: AnnounceRequest, family: int) -> AnnounceReply:
        reply = await self._fetch(announce_url(url, request), family)
        return parse_announce(_body(reply))

    async def scrape(self, url: str, infohashes: Sequence[InfoHash]) -> ScrapeReply:
        """Counts of ``infohashes`` (BEP 48). Raises TrackerError, also if the tracker has no scrape."""
        target = scrape_request_url(url, infohashes)
        if target is None:
            raise TrackerError("the tracker has no scrape address")
        try:
            host, _ = host_and_port(url)
            async with self._turn(host):
                return parse_scrape(_body(await self._fetch(target, 0)))
        except NetworkError as error:
            raise TrackerError(str(error)) from None

    async def _fetch(self, url: str, family: int) -> HttpReply:
        limit = self._settings
        return await self._http.fetch(url, max_size=limit.max_reply, timeout=limit.http_timeout, family=family)

    @asynccontextmanager
    async def _turn(self, host: str) -> AsyncIterator[None]:
        """Hold one of the host's turns; a host that nobody asks is forgotten."""
        turns, users = self._turns.setdefault(host, (asyncio.Semaphore(self._settings.max_at_once), []))
        users.append(None)
        try:
            async with turns:
                yield
        finally:
            users.pop()
            if not users:
                self._turns.pop(host, None)

    def __repr__(self) -> str:
        waiting = sum(len(users) for _, users in self._turns.values())
        return f"<HttpTrackers [{waiting} announces under way to {len(self._turns)} hosts]>"


def _body(reply: HttpReply) -> bytes:
    """The body to parse. Trackers put their reasons into replies of any status, so a failure's body counts if it is one."""
    is_refusal = reply.body.startswith(b"d") and b"failure reason" in reply.body
    if 200 <= reply.status < 300 or is_refusal:
        return reply.body
    raise TrackerError(f"the tracker answers {reply.reason}")
