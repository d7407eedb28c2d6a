"""Scraper: how many seeds and leechers a tracker counts, asked for many torrents in one request (BEP 48, 15).

It serves those that do not announce (stopped, queued) or whose tracker leaves its counts out. What is asked of one tracker at
about the same time goes out together; what comes meanwhile gathers for the next request. A tracker that refuses several at
once is asked for one at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol, TypeAlias
from urllib.parse import quote_from_bytes

from unchoke.engine.tasks import Tasks
from unchoke.errors import TrackerError
from unchoke.masking import masked, scrubbed
from unchoke.protocol.tracker.models import ScrapeCounts, ScrapeReply
from unchoke.types import InfoHash

log = logging.getLogger(__name__)

#: Seconds that the first of a batch waits for others: a program that asks for all its torrents does it in one go.
GATHER = 0.2

#: Torrents of one request (BEP 15's bound, used for HTTP too), and characters of an HTTP URL: servers take 8,000, proxies less.
MOST = 74
MAX_URL = 4000

#: Trackers remembered that refuse several torrents at once.
MOST_SINGLE = 1000

_OVER = "nothing is scraped any more"

#: A torrent's counts; None if the tracker does not know it.
Counts: TypeAlias = ScrapeCounts | None


class Scraping(Protocol):
    """A way to scrape; HTTP and UDP are two. Raises TrackerError."""

    async def scrape(self, url: str, infohashes: Sequence[InfoHash], *, given: bool) -> ScrapeReply: ...


class _Line:
    """Those that wait at one tracker. The one task that serves them ends when nobody waits."""

    __slots__ = ("given", "url", "waiting")

    def __init__(self, url: str, given: bool) -> None:
        self.url = url
        self.given = given
        self.waiting: dict[InfoHash, asyncio.Future[Counts]] = {}


class Scraper:
    """One for a session. ``http`` serves http and https, ``udp`` udp."""

    __slots__ = ("_closed", "_http", "_lines", "_single", "_tasks", "_udp")

    def __init__(self, http: Scraping, udp: Scraping) -> None:
        self._http = http
        self._udp = udp
        self._lines: dict[tuple[str, bool], _Line] = {}
        self._single: dict[str, None] = {}
        self._tasks = Tasks("scraper")
        self._closed = False

    async def scrape(self, url: str, infohash: InfoHash, *, given: bool = False) -> Counts:
        """What the tracker at this announce URL counts. ``given``: the URL is the user's own. Raises TrackerError."""
        key = url, given
        line = self._lines.get(key)
        if self._closed:
            raise TrackerError(_OVER, kind="")
        if line is None:
            line = _Line(url, given)
            self._tasks.spawn(self._serve(line), f"scrape of {masked(url)}")
            self._lines[key] = line
        asked = infohash.truncated
        future = line.waiting.get(asked)
        if future is None:
            future = line.waiting[asked] = asyncio.get_running_loop().create_future()
            future.add_done_callback(_noticed)
        return await asyncio.shield(future)

    async def counts(
        self, urls: Iterable[str], infohash: InfoHash, *, given: Collection[str] = ()
    ) -> dict[str, Counts | TrackerError]:
        """What each of a torrent's trackers counts; failures are values. ``given``: those of them that the user named."""
        trackers = list(dict.fromkeys(urls))
        told = await asyncio.gather(*(self._told(url, infohash, given=url in given) for url in trackers))
        return dict(zip(trackers, told, strict=True))

    async def _told(self, url: str, infohash: InfoHash, *, given: bool) -> Counts | TrackerError:
        try:
            return await self.scrape(url, infohash, given=given)
        except TrackerError as error:
            return error

    # ---- one tracker ----

    async def _serve(self, line: _Line) -> None:
        try:
            await asyncio.sleep(GATHER)
            while line.waiting:
                await self._ask(line, self._batch(line))
        finally:
            self._end(line)

    def _end(self, line: _Line) -> None:
        self._lines.pop((line.url, line.given), None)
        for future in line.waiting.values():
            if not future.done():
                future.set_exception(TrackerError(_OVER, kind=""))

    def _batch(self, line: _Line) -> list[InfoHash]:
        """As many as one request carries, in the order they came."""
        if line.url in self._single:
            return [next(iter(line.waiting))]
        batch: list[InfoHash] = []
        room = MAX_URL - len(line.url)
        for infohash in line.waiting:
            room -= 0 if _is_udp(line.url) else len("&info_hash=") + len(quote_from_bytes(infohash, safe=""))
            if len(batch) >= MOST or (batch and room < 0):
                break
            batch.append(infohash)
        return batch

    async def _ask(self, line: _Line, batch: Sequence[InfoHash]) -> None:
        try:
            told: dict[InfoHash, Counts] | TrackerError = await self._request(line, batch)
        except TrackerError as error:
            told = await self._one_by_one(line, batch, error)
        except Exception as error:
            log.exception("! scraping %s failed", masked(line.url))
            told = TrackerError(f"an error of ours: {type(error).__name__}: {error}", kind="")
        for infohash in batch if isinstance(told, TrackerError) else told:
            future = line.waiting.pop(infohash)
            if isinstance(told, TrackerError):
                future.set_exception(told)
            else:
                future.set_result(told[infohash])

    async def _one_by_one(
        self, line: _Line, batch: Sequence[InfoHash], error: TrackerError
    ) -> dict[InfoHash, Counts] | TrackerError:
        """Was it too much at once? If the first alone is answered, the others are asked for alone too."""
        log.info("< %s: scrape: %s", masked(line.url), scrubbed(str(error), line.url))
        if len(batch) == 1 or error.kind not in ("refused", "http", "garbage"):
            return error
        try:
            told = await self._request(line, batch[:1])
        except TrackerError as again:
            return again
        self._single[line.url] = None
        if len(self._single) > MOST_SINGLE:
            del self._single[next(iter(self._single))]
        return told

    async def _request(self, line: _Line, batch: Sequence[InfoHash]) -> dict[InfoHash, Counts]:
        way = self._udp if _is_udp(line.url) else self._http
        log.debug("> %s: scrape of %d", line.url, len(batch))
        reply = await way.scrape(line.url, batch, given=line.given)
        return {infohash: reply.torrents.get(infohash) for infohash in batch}

    async def aclose(self) -> None:
        """Whoever still waits gets a TrackerError."""
        self._closed = True
        await self._tasks.aclose()
        for line in list(self._lines.values()):  # of which the task had not begun
            self._end(line)

    def __repr__(self) -> str:
        waiting = sum(len(line.waiting) for line in self._lines.values())
        return f"<Scraper [{waiting} torrents asked for at {len(self._lines)} trackers]>"


def _is_udp(url: str) -> bool:
    return url.partition(":")[0].lower() == "udp"


def _noticed(future: asyncio.Future[Counts]) -> None:
    """An exception that nobody waits for any more is no news."""
    if not future.cancelled():
        future.exception()
