"""The embedded tracker through both its doors, asked by raw sockets and by our own clients."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvloop

from unchoke.engine import tracker_server as tracker_server_module
from unchoke.engine.net.http import HttpClient
from unchoke.engine.net.http_trackers import HttpTrackers
from unchoke.engine.net.udp import UdpEndpoint
from unchoke.engine.net.udp_trackers import UdpTrackers
from unchoke.engine.tracker_server import TrackerServer
from unchoke.errors import NetworkError, PortTakenError, TrackerError
from unchoke.policy.rendezvous import RendezvousSettings
from unchoke.protocol.tracker import udp_packets
from unchoke.protocol.tracker.models import AnnounceEvent, AnnounceReply, AnnounceRequest, ScrapeCounts
from unchoke.types import Address, InfoHash, PeerId

HASH = InfoHash(b"h" * 20)


def request(number: int, **changes: Any) -> AnnounceRequest:
    fields = {"infohash": HASH, "peer_id": PeerId(bytes([number]) * 20), "port": number, "left": 1, "key": number}
    return AnnounceRequest(**{**fields, **changes})


class Rig:
    """A tracker, and clients for both of its doors."""

    def __init__(self, **options: Any) -> None:
        self.heard: list[tuple[AnnounceRequest, Address]] = []
        options = {"bind": "127.0.0.1", "port": 0, "on_announce": lambda *one: self.heard.append(one), **options}
        self.server = TrackerServer(**options)
        self.client = HttpClient()
        self.endpoint = UdpEndpoint(bind=options["bind"])
        self.http = HttpTrackers(self.client)
        self.udp = UdpTrackers(self.endpoint)

    async def __aenter__(self) -> Rig:
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.udp.aclose()
        await self.endpoint.aclose()
        await self.client.aclose()
        await self.server.aclose()

    async def over_http(self, number: int, **changes: Any) -> AnnounceReply:
        return await self.http.announce(self.server.urls[0], request(number, **changes))

    async def over_udp(self, number: int, **changes: Any) -> AnnounceReply:
        return await self.udp.announce(self.server.urls[1], request(number, **changes))

    async def get(self, path: str) -> tuple[int, bytes]:
        reply = await self.client.fetch(self.server.urls[0].replace("/announce", path))
        return reply.status, reply.body


@pytest.fixture
async def rig(no_leaks: None) -> AsyncIterator[Rig]:
    async with Rig() as rig:
        yield rig


def ports(reply: AnnounceReply) -> list[int]:
    return sorted(peer.port for peer in reply.peers)


async def test_one_swarm_behind_two_doors(rig: Rig) -> None:
    assert [urlsplit(url).scheme for url in rig.server.urls] == ["http", "udp"]
    assert len({urlsplit(url).port for url in rig.server.urls}) == 1
    assert ports(await rig.over_http(1)) == []
    assert ports(await rig.over_udp(2)) == [1]
    reply = await rig.over_http(3, left=0)
    assert (ports(reply), reply.seeds, reply.leechers) == ([1, 2], 1, 2)
    assert (reply.interval, reply.min_interval) == (120, 30)
    assert ports(await rig.over_udp(4, left=0)) == [1, 2]
    reply = await rig.over_udp(1, event=AnnounceEvent.STOPPED)
    assert (ports(reply), reply.seeds, reply.leechers, reply.interval) == ([], 2, 1, 120)
    assert [one.port for one, _ in rig.heard] == [1, 2, 3, 4, 1]
    assert rig.heard[0][1] == Address("127.0.0.1", 1)


async def test_peers_wanted_and_the_old_form(rig: Rig) -> None:
    for number in range(1, 80):
        await rig.over_udp(number)
    assert len((await rig.over_http(100)).peers) == 50
    assert len((await rig.over_http(100, numwant=7)).peers) == 7
    assert len((await rig.over_udp(100, numwant=7)).peers) == 7
    assert len((await rig.over_http(100, numwant=7, compact=False)).peers) == 7
    assert len((await rig.over_http(100, numwant=1000)).peers) == 50


async def test_completed_and_scrape(rig: Rig) -> None:
    await rig.over_http(1)
    await rig.over_udp(1, event=AnnounceEvent.COMPLETED, left=0)
    counts = ScrapeCounts(seeds=1, downloaded=1, leechers=0)
    unknown = InfoHash(b"u" * 20)
    assert (await rig.http.scrape(rig.server.urls[0], [HASH, unknown])).torrents == {HASH: counts}
    assert (await rig.udp.scrape(rig.server.urls[1], [unknown, HASH])).torrents == {
        HASH: counts,
        unknown: ScrapeCounts(),
    }


async def test_stats(rig: Rig) -> None:
    await rig.over_http(1)
    await rig.over_http(2, left=0)
    status, body = await rig.get("/stats")
    assert status == 200
    assert json.loads(body) == {"torrents": 1, "peers": 2, "seeds": 1, "announces": 2, "interval": 120}
    assert "2 peers" in repr(rig.server)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/announce", b"info_hash"),
        ("/announce?info_hash=%ff&peer_id=1", b"info_hash"),
        ("/scrape", b"info_hash"),
        ("/announce?" + "a=1&" * 1000, b"info_hash"),
    ],
)
async def test_a_bad_query_is_a_failure_reason(rig: Rig, path: str, words: bytes) -> None:
    status, body = await rig.get(path)
    assert status == 200
    assert body.startswith(b"d14:failure reason")
    assert words in body


async def test_other_paths_and_methods(rig: Rig) -> None:
    assert (await rig.get("/"))[0] == 404
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.server.port)
    writer.write(b"POST /announce HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    assert b" 405 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_a_full_tracker_says_so_through_both_doors(no_leaks: None) -> None:
    async with Rig(settings=RendezvousSettings(max_torrents=1)) as rig:
        await rig.over_http(1)
        other = InfoHash(b"o" * 20)
        for announce in (rig.over_http, rig.over_udp):
            with pytest.raises(TrackerError, match="the tracker says: this tracker is full"):
                await announce(2, infohash=other)


async def test_the_silent_are_forgotten(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Rig(settings=RendezvousSettings(lifetime=0.0)) as rig:
        await rig.over_http(1)
        assert ports(await rig.over_http(2)) == []
        rig.server._sweep_later()
        assert rig.server.stats()["torrents"] == 0


async def test_too_many_connections_are_turned_away(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_server_module, "MAX_CONNECTIONS", 1)
    first_reader, first = await asyncio.open_connection("127.0.0.1", rig.server.port)
    second_reader, second = await asyncio.open_connection("127.0.0.1", rig.server.port)
    await closed(second_reader)
    rig.server._close_old(asyncio.get_running_loop().time())
    monkeypatch.setattr(tracker_server_module, "MAX_AGE", -1.0)
    rig.server._close_old(asyncio.get_running_loop().time())
    await closed(first_reader)
    for writer in (first, second):
        writer.close()


async def closed(reader: asyncio.StreamReader) -> None:
    """Wait until the other side has closed, politely or not."""
    try:
        assert await reader.read() == b""
    except ConnectionError:
        pass


# ---- the UDP door, packet by packet ----


def connect(server: TrackerServer, host: str = "192.0.2.1") -> int:
    reply = server.answer_datagram(udp_packets.pack_connect(5), host)
    assert reply is not None
    return udp_packets.unpack_connect_reply(reply)


class Time:
    """The loop's clock, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)


async def test_a_connection_id_is_good_for_two_minutes_and_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    server = TrackerServer()
    with monkeypatch.context() as patch:
        time = Time(patch)
        connection = connect(server)
        announce = udp_packets.pack_announce(connection, 6, request(1))
        assert server.answer_datagram(announce, "192.0.2.1")
        assert server.answer_datagram(announce, "192.0.2.2") is None
        assert connect(server, "192.0.2.2") != connection
        time.now += 119.0
        assert server.answer_datagram(announce, "192.0.2.1")
        time.now += 62.0
        assert server.answer_datagram(announce, "192.0.2.1") is None
    assert connect(TrackerServer()) != connect(TrackerServer())


@pytest.mark.parametrize("data", [b"", b"x" * 15, b"x" * 16, b"x" * 98, udp_packets.pack_scrape(1, 2, (HASH,))])
async def test_what_is_no_request_gets_no_answer(data: bytes) -> None:
    assert TrackerServer().answer_datagram(data, "192.0.2.1") is None


async def test_ipv6_askers_are_told_of_ipv6_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    server = TrackerServer()
    for host, number in (("192.0.2.1", 1), ("2001:db8::1", 2)):
        server.answer_datagram(udp_packets.pack_announce(connect(server, host), 6, request(number)), host)
    for host, peer in (("192.0.2.9", Address("192.0.2.1", 1)), ("2001:db8::9", Address("2001:db8::1", 2))):
        reply = server.answer_datagram(udp_packets.pack_announce(connect(server, host), 6, request(9)), host)
        assert reply is not None
        assert udp_packets.unpack_announce_reply(reply, ipv6=":" in host).peers == (peer,)


# ---- ports and addresses ----


async def test_a_taken_port_is_named_and_nothing_stays_open(rig: Rig) -> None:
    for kind in ("both", "udp"):
        port = rig.server.port
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            if kind == "udp":
                other.bind(("127.0.0.1", 0))
                port = other.getsockname()[1]
            with pytest.raises(PortTakenError, match=f"port {port} is taken"):
                await TrackerServer(bind="127.0.0.1", port=port).start()


async def test_an_address_that_is_not_ours(no_leaks: None) -> None:
    with pytest.raises(NetworkError, match=r"cannot listen on 192\.0\.2\.1"):
        await TrackerServer(bind="192.0.2.1", port=0).start()


async def test_without_an_address_every_one_is_listened_on(no_leaks: None) -> None:
    server = TrackerServer(port=0)
    await server.start()
    assert f"http://127.0.0.1:{server.port}/announce" in server.urls
    assert f"udp://127.0.0.1:{server.port}/announce" in server.urls
    await server.aclose()
    await server.aclose()


def test_on_uvloop_too() -> None:
    async def scenario() -> None:
        async with Rig() as rig:
            await rig.over_http(1)
            assert ports(await rig.over_udp(2)) == [1]
            for address in (
                Address("::1", 9),
                Address("127.0.0.1", 70000),
                Address("no address", 9),
                Address("127.0.0.1", 0),
            ):
                rig.endpoint.send(b"x", address)
            assert ports(await rig.over_udp(3)) == [1, 2]

    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        runner.run(scenario())
