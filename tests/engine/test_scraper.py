"""The scraper, on virtual time: many torrents of one tracker in few requests, and trackers that do not like that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from urllib.parse import quote_from_bytes

import pytest

from unchoke.engine.scraper import MAX_URL, Scraper
from unchoke.errors import TrackerError
from unchoke.protocol.tracker.http import scrape_request_url
from unchoke.protocol.tracker.models import ScrapeCounts, ScrapeReply
from unchoke.testing import run
from unchoke.types import InfoHash

H, U = "http://t.example/announce", "udp://t.example:1"


def infohash(number: int) -> InfoHash:
    """Only bytes that a URL has to escape."""
    return InfoHash(bytes((0x80 + number // 100, 0x80 + number % 100)) + b"\xff" * 18)


class Tracker:
    """Each request takes a second. ``most``: torrents of one request; more are refused. Torrents from 1000 on are unknown."""

    def __init__(self, most: int = 74, error: Exception | None = None) -> None:
        self.most = most
        self.error = error
        self.asked: list[tuple[str, int, bool]] = []

    async def scrape(self, url: str, infohashes: Sequence[InfoHash], *, given: bool) -> ScrapeReply:
        self.asked.append((url, len(infohashes), given))
        await asyncio.sleep(1.0)
        if self.error is not None:
            raise self.error
        if len(infohashes) > self.most:
            raise TrackerError("the tracker says: one at a time", kind="refused")
        numbers = {one: 100 * (one[0] - 0x80) + one[1] - 0x80 for one in infohashes}
        return ScrapeReply({one: ScrapeCounts(number, 1, 2) for one, number in numbers.items() if number < 1000})

    @property
    def sizes(self) -> list[int]:
        return [size for _, size, _ in self.asked]


def play(scenario: Callable[[Scraper, Tracker, Tracker], Coroutine[Any, Any, None]], *trackers: Tracker) -> None:
    async def scene() -> None:
        http, udp = trackers or (Tracker(), Tracker())
        scraper = Scraper(http, udp)
        try:
            await scenario(scraper, http, udp)
            assert repr(scraper) == "<Scraper [0 torrents asked for at 0 trackers]>"
        finally:
            await scraper.aclose()

    run(scene)


async def seeds(scraper: Scraper, url: str, count: int) -> list[int | None]:
    told = await asyncio.gather(*(scraper.scrape(url, infohash(number)) for number in range(count)))
    return [counts.seeds if counts is not None else None for counts in told]


def test_many_torrents_of_a_udp_tracker_go_into_few_packets() -> None:
    async def scenario(scraper: Scraper, http: Tracker, udp: Tracker) -> None:
        assert await seeds(scraper, U, 200) == list(range(200))
        assert udp.sizes == [74, 74, 52]
        assert http.sizes == []

    play(scenario)


def test_a_url_over_http_stays_short() -> None:
    async def scenario(scraper: Scraper, http: Tracker, udp: Tracker) -> None:
        assert await seeds(scraper, H, 200) == list(range(200))
        largest = max(http.sizes)
        url = scrape_request_url(H, [infohash(number) for number in range(largest)])
        assert url is not None
        assert MAX_URL - 2 * len("&info_hash=" + quote_from_bytes(infohash(0))) < len(url) <= MAX_URL
        assert len(http.sizes) == -(-200 // largest)

    play(scenario)


def test_what_comes_meanwhile_goes_into_the_next_request() -> None:
    async def scenario(scraper: Scraper, http: Tracker, udp: Tracker) -> None:
        first = asyncio.create_task(scraper.scrape(U, infohash(1)))
        await asyncio.sleep(0.5)
        later = [asyncio.create_task(scraper.scrape(U, infohash(number))) for number in (2, 3, 2)]
        assert [counts.seeds for counts in await asyncio.gather(first, *later) if counts] == [1, 2, 3, 2]
        assert udp.sizes == [1, 2]

    play(scenario)


def test_a_tracker_that_takes_one_at_a_time_is_asked_for_one_at_a_time() -> None:
    async def scenario(scraper: Scraper, http: Tracker, udp: Tracker) -> None:
        assert await seeds(scraper, H, 5) == [0, 1, 2, 3, 4]
        assert http.sizes == [5, 1, 1, 1, 1, 1]
        assert await seeds(scraper, H, 2) == [0, 1]
        assert http.sizes[6:] == [1, 1]

    play(scenario, Tracker(most=1), Tracker())


@pytest.mark.parametrize(("kind", "requests"), [("refused", 2), ("timeout", 1)])
def test_a_tracker_that_fails_fails_for_all_who_wait(kind: Any, requests: int) -> None:
    async def scenario(scraper: Scraper, http: Tracker, udp: Tracker) -> None:
        told = await asyncio.gather(
            *(scraper.scrape(H, infohash(number)) for number in range(9)), return_exceptions=True
        )
        assert {str(error) for error in told} == {"no"}
        assert len(http.asked) == requests

    play(scenario, Tracker(error=TrackerError("no", kind=kind)), Tracker())


def test_all_trackers_of_a_torrent_at_once_and_failures_are_values() -> None:
    async def scenario(scraper: Scraper, http: Tracker, udp: Tracker) -> None:
        told = await scraper.counts([H, U, H], infohash(7), given={U})
        assert list(told) == [H, U]
        assert isinstance(told[H], TrackerError)
        assert told[U] == ScrapeCounts(7, 1, 2)
        assert (http.asked, udp.asked) == ([(H, 1, False)], [(U, 1, True)])
        assert await scraper.counts([U], infohash(5000)) == {U: None}

    play(scenario, Tracker(error=TrackerError("gone")), Tracker())


def test_an_error_of_ours_is_a_tracker_error_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scraper: Scraper, http: Tracker, udp: Tracker) -> None:
        with pytest.raises(TrackerError, match="an error of ours: ZeroDivisionError"):
            await scraper.scrape(H, infohash(1))

    play(scenario, Tracker(error=ZeroDivisionError()), Tracker())
    assert "ZeroDivisionError" in caplog.text


def test_whoever_is_cancelled_takes_nothing_from_the_others() -> None:
    async def scenario(scraper: Scraper, http: Tracker, udp: Tracker) -> None:
        first, second = (asyncio.create_task(scraper.scrape(U, infohash(1))) for _ in range(2))
        await asyncio.sleep(0.1)
        first.cancel()
        assert await second == ScrapeCounts(1, 1, 2)
        assert udp.sizes == [1]

    play(scenario)


@pytest.mark.parametrize("after", [0.0, 0.1, 0.5])
def test_closing_ends_those_who_wait(after: float) -> None:
    async def scenario(scraper: Scraper, http: Tracker, udp: Tracker) -> None:
        waiting = asyncio.create_task(scraper.scrape(U, infohash(1)))
        await asyncio.sleep(after)
        await scraper.aclose()
        for late in (waiting, scraper.scrape(U, infohash(2))):
            with pytest.raises(TrackerError, match="any more"):
                await late

    play(scenario)
