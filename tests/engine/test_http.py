"""HttpClient and HttpTrackers against small servers on the loopback that answer as badly as they can."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import zlib
from collections.abc import AsyncIterator, Callable

import pytest

from fakes.web import Answer, breaks_off, closes, drips, free_port, hangs, never_ends, says, serving, speaks_no_http
from unchoke.engine.net import families, urls
from unchoke.engine.net.http import HttpClient
from unchoke.engine.net.resolver import maybe_literal, resolve
from unchoke.errors import NetworkError, NotFoundError, TrackerError
from unchoke.protocol.tracker.models import AnnounceReply
from unchoke.types import Address

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.aclose()


# ---- fetch ----


async def test_a_body_comes_back_with_status_and_address(client: HttpClient) -> None:
    async with serving(says(b"hello")) as url:
        reply = await client.fetch(f"{url}/x?y=%ff%2F")
        assert (reply.status, reply.body, reply.url) == (200, b"hello", f"{url}/x?y=%ff%2F")
        assert reply.checked() is reply


async def test_the_request_says_who_we_are_and_keeps_every_escape(client: HttpClient) -> None:
    heads = []

    async def note(head: str, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        await says(b"")(head, writer)

    async with serving(note) as url:
        await client.fetch(f"{url}/a%2fb?h=%00%FF%20+&x=a b\r\nEvil: 1", headers={"X-Own": "7"})
    assert heads[0].startswith("GET /a%2fb?h=%00%FF%20+&x=a%20b%0D%0AEvil:%201 HTTP/1.1\r\n")
    assert re.search(r"\r\nUser-Agent: unchoke/\d+\.\d+\r\n", heads[0])
    assert "\r\nX-Own: 7\r\n" in heads[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (hangs, "no complete answer .* within 0.3 s"),
        (drips, "no complete answer .* within 0.3 s"),
        (never_ends, "longer than 5000 bytes"),
        (says(b"x" * 5001), "longer than 5000 bytes"),
        (closes, "closed the connection without an answer"),
        (breaks_off, "broke off in the middle"),
        (speaks_no_http, "does not answer in HTTP"),
        (says(gzip.compress(bytes(10**7)), "200 OK", "Content-Encoding: gzip"), "longer than 5000 bytes"),
        (says(b"no zip", "200 OK", "Content-Encoding: gzip"), "broken compressed data"),
        (says(b"br", "200 OK", "Content-Encoding: br"), "encoding not asked for"),
        (says(b"", "302 Found", "Location: /again"), "redirects more than 5 times"),
        (says(b"", "302 Found", "Location: gopher://x/"), "no http or https"),
        (says(b"", "302 Found", "Location: http://[/"), "no address"),
        (says(b"", "200 OK", "Content-Length: 7"), "does not answer in HTTP"),
    ],
)
async def test_bad_servers_give_an_error_in_words_within_bounds(client: HttpClient, answer: Answer, words: str) -> None:
    async with serving(answer) as url:
        with pytest.raises(NetworkError, match=words) as raised:
            await client.fetch(url, max_size=5000, timeout=0.3 if "within" in words else 5.0)
        assert "127.0.0.1" in str(raised.value) or "gopher" in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://h/",
        "http://",
        "http://:80/",
        "http://h:99999/",
        "http://[::1/",
        "http://a b/",
        "\0",
        "http://\ud800/",
    ],
)
async def test_what_is_no_address(client: HttpClient, url: str) -> None:
    with pytest.raises(NetworkError):
        await client.fetch(url, timeout=5)


async def test_nobody_there(client: HttpClient) -> None:
    with pytest.raises(NetworkError, match=r"cannot connect to 127\.0\.0\.1:\d+: Connection refused"):
        await client.fetch(f"http://127.0.0.1:{free_port()}/")


async def test_no_tls_there(client: HttpClient) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 this is no TLS\r\n\r\n")
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NetworkError, match=r"no secure connection to 127\.0\.0\.1"):
            await client.fetch(f"https://127.0.0.1:{port}/", timeout=5)


@pytest.mark.parametrize(
    ("status", "error"), [("404 Not Found", NotFoundError), ("410 Gone", NotFoundError), ("500 Oops", NetworkError)]
)
async def test_statuses_are_the_callers_to_judge(client: HttpClient, status: str, error: type[Exception]) -> None:
    async with serving(says(b"why", status)) as url:
        reply = await client.fetch(url)
        assert reply.body == b"why"
        with pytest.raises(error, match=f"HTTP {status[:3]} "):
            reply.checked()


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies(client: HttpClient, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    async with serving(says(pack(b"hello" * 1000), "200 OK", f"Content-Encoding: {encoding}")) as url:
        assert (await client.fetch(url, max_size=5000)).body == b"hello" * 1000


async def test_a_redirect_is_followed(client: HttpClient) -> None:
    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        moved = says(b"", "301 Moved", "Location: ../new?x=%2f")
        await (says(b"here") if "/new" in head else moved)(head, writer)

    async with serving(answer) as url:
        reply = await client.fetch(f"{url}/old/x")
        assert (reply.body, reply.url) == (b"here", f"{url}/new?x=%2f")


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/", "http://localhost/", "http://192.168.0.1/", "http://[::1]/"])
def test_the_internet_may_not_send_us_into_the_local_network(target: str) -> None:
    there = urls.follow(urls.parse("http://tracker.example/announce"), target)
    with pytest.raises(NetworkError, match="local network"):
        urls.refuse_inward(urls.parse("http://tracker.example/announce"), there)
    urls.refuse_inward(urls.parse("http://127.0.0.1/"), there)
    assert str(there) == target


def test_nobody_sends_us_to_where_no_server_is() -> None:
    """Not even a host of the user's own: 169.254.169.254 tells a cloud machine's secrets."""
    there = urls.parse("http://169.254.169.254/latest/meta-data")
    with pytest.raises(NetworkError, match="local network"):
        urls.refuse_inward(urls.parse("http://127.0.0.1/announce"), there)


async def test_a_closed_client_fetches_nothing() -> None:
    client = HttpClient()
    await client.aclose()
    with pytest.raises(NetworkError, match="closed"):
        await client.fetch("http://127.0.0.1/")


async def test_cancelled_in_the_middle(client: HttpClient) -> None:
    asked = asyncio.Event()

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await drips(head, writer)

    async with serving(answer) as url:
        task = asyncio.create_task(client.fetch(url))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# ---- both families, names ----


def reply(*peers: str, interval: int = 1) -> AnnounceReply:
    return AnnounceReply(interval=interval, peers=tuple(Address(peer, 1) for peer in peers))


async def gives(answer: AnnounceReply | Exception) -> AnnounceReply:
    await asyncio.sleep(0)
    if isinstance(answer, Exception):
        raise answer
    return answer


async def stays_silent() -> AnnounceReply:
    await asyncio.Event().wait()
    raise AssertionError


async def test_replies_of_both_families_are_joined() -> None:
    joined = await families.announce_over_families(
        [gives(reply("192.0.2.1")), gives(reply("2001:db8::1", "192.0.2.1"))]
    )
    assert [peer.host for peer in joined.peers] == ["192.0.2.1", "2001:db8::1"]


async def test_one_family_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "GRACE", 0.0)
    assert await families.announce_over_families([gives(NetworkError("no route")), gives(reply())]) == reply()
    assert await families.announce_over_families([stays_silent(), gives(reply())]) == reply()


async def test_the_trackers_own_words_come_before_a_failure_to_reach_it() -> None:
    with pytest.raises(TrackerError, match="go away"):
        await families.announce_over_families([gives(NetworkError("no route")), gives(TrackerError("go away"))])
    with pytest.raises(ZeroDivisionError):
        await families.announce_over_families([gives(NetworkError("no route")), gives(ZeroDivisionError())])


async def test_cancelling_leaves_neither_family_behind() -> None:
    task = asyncio.create_task(families.announce_over_families([stays_silent(), stays_silent()]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_literal_addresses_and_local_names_resolve() -> None:
    assert await resolve("[::1]", 5) == [Address("::1", 5)]
    assert await resolve("127.0.0.1", 5) == [Address("127.0.0.1", 5)]
    assert Address("127.0.0.1", 5) in await resolve("localhost", 5)
    assert maybe_literal("x.example") is None


@pytest.mark.parametrize("host", ["", "\0", "a" * 300, "x..y", "\ud800"])
async def test_names_that_are_none(host: str) -> None:
    with pytest.raises(NetworkError):
        await resolve(host, 5)
    with pytest.raises(NetworkError, match="family"):
        await resolve("::1", 5, socket.AF_INET)
