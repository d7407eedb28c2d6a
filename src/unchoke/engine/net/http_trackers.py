"""HttpTrackers: announces and scrapes over HTTP and HTTPS, with each host's turns shared by all torrents.

It joins the codec (``protocol.tracker.http``) to the client (``net.http``). Waiting for a turn does not count against the
time-out: with ten thousand torrents on one tracker the last in the row has done nothing wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from unchoke.engine.net.families import announce_over_families, one_of_each_family
from unchoke.engine.net.guard import Guard
from unchoke.engine.net.http import HttpClient, HttpReply
from unchoke.engine.net.resolver import family_of
from unchoke.engine.net.turns import Turns, nothing
from unchoke.engine.net.urls import host_and_port
from unchoke.engine.tasks import on_thread
from unchoke.errors import NetworkError, TrackerError
from unchoke.policy.announce import AnnounceSettings
from unchoke.protocol.tracker.http import announce_url, parse_announce, parse_scrape, scrape_request_url
from unchoke.protocol.tracker.models import AnnounceEvent, AnnounceReply, AnnounceRequest, ScrapeReply
from unchoke.types import InfoHash

#: Bytes from which an answer is read on a thread: a megabyte of peers as dictionaries takes longer than the loop may stand.
LONG = 32 * 1024

#: Takes our address as a tracker sees it (BEP 24), and which host said so.
Told = Callable[[str, str], None]

T = TypeVar("T")


class HttpTrackers:
    """One for a session; all torrents share its turns. Raises TrackerError for every failure."""

    def __init__(
        self,
        http: HttpClient,
        settings: AnnounceSettings | None = None,
        *,
        guard: Guard | None = None,
        told: Told | None = None,
    ) -> None:
        self._http = http
        self._settings = settings or AnnounceSettings()
        self._guard = guard or Guard()
        self._told = told
        self._turns = Turns(self._settings.max_at_once, self._settings.max_per_second)

    async def announce(
        self, url: str, request: AnnounceRequest, *, given: bool = False, begun: Callable[[], None] = nothing
    ) -> AnnounceReply:
        """Announce over each family that the tracker's name has (BEP 7). ``given``: the URL is the user's own, and not guarded.
        ``begun`` is called when our turn has come."""
        guard = None if given else self._guard
        try:
            if guard is not None:
                guard.check(url)
            host, port = host_and_port(url)
            async with self._turns.turn(host, leaving=request.event is AnnounceEvent.STOPPED):
                begun()
                addresses = await self._http.names.resolve(host, port, self._http.family)
                if guard is not None:
                    addresses = guard.choose(host, addresses)
                families = [family_of(address.host) for address in one_of_each_family(addresses)]
                reply = await announce_over_families(
                    [self._announce(url, host, request, family, guard) for family in families]
                )
        except NetworkError as error:
            raise TrackerError(str(error), kind=error.kind or "connect") from None
        return reply

    async def _announce(
        self, url: str, host: str, request: AnnounceRequest, family: int, guard: Guard | None
    ) -> AnnounceReply:
        reply = await self._fetch(announce_url(url, request), family, guard)
        told = await _parsed(parse_announce, _body(reply))
        if told.external_ip and self._told is not None:
            self._told(told.external_ip, host)
        return told

    async def scrape(self, url: str, infohashes: Sequence[InfoHash], *, given: bool = False) -> ScrapeReply:
        """Counts of ``infohashes`` (BEP 48). Raises TrackerError, also if the tracker has no scrape."""
        target = scrape_request_url(url, infohashes)
        if target is None:
            raise TrackerError("the tracker has no scrape address", kind="unsupported")
        try:
            host, _ = host_and_port(url)
            async with self._turns.turn(host):
                reply = await self._fetch(target, 0, None if given else self._guard)
        except NetworkError as error:
            raise TrackerError(str(error), kind=error.kind or "connect") from None
        return await _parsed(parse_scrape, _body(reply))

    async def _fetch(self, url: str, family: int, guard: Guard | None) -> HttpReply:
        limit = self._settings
        return await self._http.fetch(
            url,
            max_size=limit.max_reply,
            timeout=limit.http_timeout,
            family=family,
            guard=guard,
            verify_tls=limit.verify_tls,
            lenient=True,
        )

    def __repr__(self) -> str:
        return f"<HttpTrackers {self._turns!r}>"


async def _parsed(parse: Callable[[bytes], T], body: bytes) -> T:
    return parse(body) if len(body) < LONG else await on_thread(None, parse, body)


def _body(reply: HttpReply) -> bytes:
    """The body to parse. Trackers put their reasons into replies of any status, so a failure's body counts if it is one."""
    is_refusal = reply.body.startswith(b"d") and b"failure reason" in reply.body
    if 200 <= reply.status < 300 or is_refusal:
        return reply.body
    raise TrackerError(f"the tracker answers {reply.reason}", kind="http")
