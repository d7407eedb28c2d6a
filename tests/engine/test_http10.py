"""Answers of a form that HTTP forbids, from trackers that nevertheless mean well; and some that do not."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from fakes.web import Answer, serving
from unchoke.engine.net.http import HttpClient
from unchoke.engine.net.http_trackers import HttpTrackers
from unchoke.errors import NetworkError, TrackerError
from unchoke.policy.announce import AnnounceSettings
from unchoke.protocol.tracker.models import AnnounceRequest
from unchoke.types import Address, InfoHash, PeerId

pytestmark = pytest.mark.usefixtures("no_leaks")

REQUEST = AnnounceRequest(infohash=InfoHash(b"h" * 20), peer_id=PeerId(b"p" * 20), port=1)
GOOD = b"d8:intervali60e5:peers6:\x7f\0\0\1\0\x09e"
LENGTH = f"Content-Length: {len(GOOD)}\r\n".encode()
REST = b"%x\r\n" % (len(GOOD) - 5)
ZIPPED = gzip.compress(GOOD)


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.aclose()


def sends(*parts: bytes, stay: bool = False) -> Answer:
    """These bytes, one part after another; then the connection is closed, or not."""

    async def answer(_: str, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if stay:
            await asyncio.Event().wait()

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        sends(b"HTTP/1.1 200 OK\r\n" + 2 * LENGTH + b"\r\n" + GOOD),
        sends(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n" + LENGTH + b"\r\n" + GOOD),
        sends(b"HTTP/1.1 200 OK\r\n" + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n" % len(GOOD), GOOD, b"\r\n0"),
        sends(b"HTTP/1.1 200 OK\r\n" + 2 * LENGTH + b"\r\n" + GOOD, stay=True),
        sends(b"HTTP/1.1 200 OK\r\nno header at all\r\n" + LENGTH + b"\r\n" + GOOD),
        sends(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" + GOOD),
        sends(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + GOOD),
        sends(b"ICY 200 OK\n\n" + GOOD),
        sends(b"HTTP/1.1 200 OK\r\n" + 2 * LENGTH + b"\r\n", GOOD[:5], GOOD[5:]),
        sends(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" + ZIPPED),
        sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5;x\r\n", GOOD[:5], b"\r\n", REST, GOOD[5:]),
        sends(GOOD),
    ],
    ids=[
        "twice", "differing", "length and chunks", "kept open", "no header", "no number", "too long", "shoutcast", "in parts",
        "zipped", "odd chunks", "bare",
    ],
)  # fmt: skip
async def test_what_can_be_made_out_is_made_out(client: HttpClient, answer: Answer) -> None:
    async with serving(answer) as url:
        trackers = HttpTrackers(client, AnnounceSettings(http_timeout=5.0))
        assert (await trackers.announce(f"{url}/announce", REQUEST)).peers == (Address("127.0.0.1", 9),)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (sends(b"220 ready for mail\r\n"), "does not answer in HTTP"),
        (sends(b"HTTP/1.1 200 OK\r\n" + 2 * LENGTH + b"\r\n", stay=True), "no complete answer"),
        (sends(b"HTTP/1.1 200 OK\r\n" + 2 * LENGTH + b"\r\nd8:in"), "not bencode"),
        (sends(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000), "does not answer in HTTP"),
        (sends(b"HTTP/1.1 200 OK\r\n" + 20 * (b"x: " + b"x" * 20_000 + b"\r\n"), stay=True), "does not answer in HTTP"),
        (sends(*([b"HTTP/1.1 200 OK\r\n" + 2 * b"Content-Length: 9999999\r\n" + b"\r\n"] + [b"d" * 65536] * 9)), "longer than"),
        (sends(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n" + b"x" * 300_000), "longer than"),
        (sends(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 5000 + 2 * LENGTH + b"\r\n" + GOOD), "not bencode"),
        (sends(b"HTTP/1.1 404 Gone\r\n" + 2 * b"Content-Length: 2\r\n" + b"\r\nno"), "HTTP 404"),
        (sends(b""), "closed the connection"),
    ],
    ids=[
        "no http", "hangs", "broken off", "endless line", "endless head", "endless", "endless too", "endless headers", "404",
        "nothing",
    ],
)  # fmt: skip
async def test_what_cannot_be_is_a_tracker_error(client: HttpClient, answer: Answer, words: str) -> None:
    async with serving(answer) as url:
        timeout = 0.3 if "no complete" in words else 5.0
        trackers = HttpTrackers(client, AnnounceSettings(http_timeout=timeout, max_reply=200_000))
        with pytest.raises(TrackerError, match=words):
            await trackers.announce(f"{url}/announce", REQUEST)


async def test_a_host_that_needs_it_is_asked_plainly_from_then_on(client: HttpClient) -> None:
    heads: list[str] = []

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        await sends(b"HTTP/1.1 200 OK\r\n" + 2 * LENGTH + b"\r\n" + GOOD)(head, writer)

    async with serving(answer) as url:
        for _ in range(2):
            await HttpTrackers(client).announce(f"{url}/announce?own=%2F", REQUEST)
    assert [head.split("\r\n")[0].rpartition(" ")[2] for head in heads] == ["HTTP/1.1", "HTTP/1.0", "HTTP/1.0"]
    assert heads[2].startswith("GET /announce?own=%2F&info_hash=hhhhhhhhhhhhhhhhhhhh&peer_id=")
    assert f"\r\nHost: {url[7:]}\r\n" in heads[2]
    assert "\r\nUser-Agent: unchoke/" in heads[2]


async def test_a_redirect_in_such_an_answer_is_followed(client: HttpClient) -> None:
    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        moved = b"HTTP/1.1 302 Found\r\n" + 2 * b"Content-Length: 0\r\n" + b"Location: /announce.php?x=1\r\n\r\n"
        found = b"HTTP/1.1 200 OK\r\n" + LENGTH + b"\r\n" + GOOD
        writer.write(found if head.startswith("GET /announce.php?x=1 ") else moved)

    async with serving(answer) as url:
        assert (await HttpTrackers(client).announce(f"{url}/announce", REQUEST)).interval == 60


async def test_others_than_trackers_are_read_strictly(client: HttpClient) -> None:
    async with serving(sends(b"HTTP/1.1 200 OK\r\n" + 2 * LENGTH + b"\r\n" + GOOD)) as url:
        with pytest.raises(NetworkError, match="does not answer in HTTP"):
            await client.fetch(url)
