"""HttpClient and HttpTrackers against small servers on the loopback that answer as badly as they can."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from unchoke.engine.net import families
from unchoke.engine.net.http import HttpClient
from unchoke.engine.net.http_trackers import HttpTrackers
from unchoke.engine.net.resolver import maybe_literal, resolve
from unchoke.errors import NetworkError, NotFoundError, TrackerError
from unchoke.policy.announce import AnnounceSettings
from unchoke.protocol.tracker.models import AnnounceReply, AnnounceRequest
from unchoke.types import Address, InfoHash, PeerId

pytestmark = pytest.mark.usefixtures("no_leaks")

REQUEST = AnnounceRequest(infohash=InfoHash(b"\xff\x00 &=%+#/?hijklmnopq"), peer_id=PeerId(b"p" * 20), port=1)

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


def says(body: bytes, status: str = "200 OK", *headers: str) -> Answer:
    """A server that answers everything with this."""

    async def answer(_: str, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)

    return answer


async def hangs(_: str, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def drips(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\nd")
    await writer.drain()
    await asyncio.Event().wait()


async def never_ends(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def closes(_: str, writer: asyncio.StreamWriter) -> None:
    pass


async def breaks_off(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd")


async def speaks_no_http(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 ready for mail\r\n")


@asynccontextmanager
async def serving(answer: Answer, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """The URL of a server of which every connection gets ``answer`` once its request head is in."""
    handlers: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            await answer(head, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            handlers.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, host, port)
    try:
        yield f"http://{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.aclose()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


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
    from unchoke.engine.net.http import _follow, _parse

    with pytest.raises(NetworkError, match="local network"):
        _follow(_parse("http://tracker.example/announce"), target)
    assert str(_follow(_parse("http://127.0.0.1/"), target)) == target


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


# ---- trackers ----

GOOD = b"d8:intervali60e5:peers6:\x7f\0\0\1\0\x09e"


async def test_an_announce_over_http(client: HttpClient) -> None:
    heads = []

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        await says(GOOD)(head, writer)

    async with serving(answer) as url:
        reply = await HttpTrackers(client).announce(f"{url}/announce?own=%2F", REQUEST)
    assert reply == AnnounceReply(interval=60, peers=(Address("127.0.0.1", 9),))
    assert heads[0].startswith("GET /announce?own=%2F&info_hash=%FF%00%20%26%3D%25%2B%23%2F%3Fhijklmnopq&peer_id=")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (hangs, "no complete answer"),
        (never_ends, "longer than"),
        (says(b"oops", "500 Internal Server Error"), "HTTP 500 Internal Server Error"),
        (says(b"<html><body>hello"), "web page"),
        (says(b"<html>", "404 Not Found"), "HTTP 404 Not Found"),
        (says(b"d14:failure reason8:too manye"), "the tracker says: too many"),
        (says(b"d14:failure reason8:too manye", "403 Forbidden"), "the tracker says: too many"),
        (says(b"d8:intervali60e5:peers7:1234567e"), "odd length"),
        (says(b""), "empty"),
    ],
)
async def test_hostile_trackers_are_tracker_errors(client: HttpClient, answer: Answer, words: str) -> None:
    trackers = HttpTrackers(client, AnnounceSettings(http_timeout=0.3, max_reply=100_000))
    async with serving(answer) as url:
        with pytest.raises(TrackerError, match=words):
            await trackers.announce(f"{url}/announce", REQUEST)
    assert "0 hosts" in repr(trackers)


async def test_a_dead_host_is_a_tracker_error(client: HttpClient) -> None:
    with pytest.raises(TrackerError, match="Connection refused"):
        await HttpTrackers(client).announce(f"http://127.0.0.1:{free_port()}/announce", REQUEST)
    with pytest.raises(TrackerError):
        await HttpTrackers(client).announce("http://", REQUEST)


async def test_a_scrape_over_http(client: HttpClient) -> None:
    body = b"d5:filesd20:" + REQUEST.infohash + b"d8:completei3eeee"
    async with serving(says(body)) as url:
        reply = await HttpTrackers(client).scrape(f"{url}/announce", [REQUEST.infohash])
        assert reply.torrents[REQUEST.infohash].seeds == 3
        with pytest.raises(TrackerError, match="no scrape"):
            await HttpTrackers(client).scrape(f"{url}/x", [REQUEST.infohash])


async def test_a_bounded_number_of_announces_to_one_host(client: HttpClient) -> None:
    now = most = 0

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        await says(GOOD)(head, writer)

    async with serving(answer) as url:
        trackers = HttpTrackers(client, AnnounceSettings(max_at_once=2))
        await asyncio.gather(*(trackers.announce(f"{url}/announce", REQUEST) for _ in range(8)))
    assert most <= 2


async def test_a_client_bound_to_an_address_uses_its_family() -> None:
    client = HttpClient(bind="127.0.0.2")
    seen = []

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        await says(GOOD)(head, writer)

    try:
        async with serving(answer) as url:
            await HttpTrackers(client).announce(f"{url}/announce", REQUEST)
            with pytest.raises(TrackerError):
                await HttpTrackers(client).announce("http://[::1]:1/announce", REQUEST)
    finally:
        await client.aclose()
    assert seen == ["127.0.0.2"]


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
