"""The shared UDP socket and the tracker driver on it, against trackers that misbehave."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from unchoke.engine.net.guard import Guard
from unchoke.engine.net.udp import UdpEndpoint
from unchoke.engine.net.udp_trackers import UdpTrackers
from unchoke.errors import NetworkError, TrackerError
from unchoke.policy.announce import AnnounceSettings
from unchoke.protocol.tracker import udp, udp_packets
from unchoke.protocol.tracker.models import AnnounceReply, AnnounceRequest, ScrapeCounts, ScrapeReply
from unchoke.types import Address, InfoHash, PeerId

pytestmark = pytest.mark.usefixtures("no_leaks")

HASH = InfoHash(b"h" * 20)
REQUEST = AnnounceRequest(infohash=HASH, peer_id=PeerId(b"p" * 20), port=1)
PEER = Address("192.0.2.50", 50)

#: Where a socket on 127.0.0.1 cannot send.
UNREACHABLE = [
    Address("::1", 9),
    Address("127.0.0.1", 0),
    Address("127.0.0.1", 70000),
    Address("no address", 9),
    Address("0.0.0.0", 9),
]

#: What a tracker answers to a request; None is silence.
Tracker = Callable[[udp_packets.UdpRequest], bytes | None]


def honest(request: udp_packets.UdpRequest) -> bytes | None:
    if isinstance(request, udp_packets.ConnectRequest):
        return udp_packets.pack_connect_reply(request.transaction, 77)
    if request.connection != 77:
        return udp_packets.pack_error(request.transaction, "who are you")
    if isinstance(request, udp_packets.UdpScrape):
        counts = ScrapeReply({HASH: ScrapeCounts(1, 2, 3)})
        return udp_packets.pack_scrape_reply(request.transaction, request.infohashes, counts)
    return udp_packets.pack_announce_reply(request.transaction, AnnounceReply(interval=60, peers=(PEER,)), ipv6=False)


class Server(asyncio.DatagramProtocol):
    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.requests: list[udp_packets.UdpRequest] = []
        self.asked = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.requests.append(udp_packets.unpack_request(data))
        reply = self.tracker(self.requests[-1])
        if reply is not None:
            self.transport.sendto(b"stray", addr)  # type: ignore[attr-defined]
            self.transport.sendto(reply, addr)  # type: ignore[attr-defined]
        self.asked.set()


@asynccontextmanager
async def serving(tracker: Tracker) -> AsyncIterator[Server]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: Server(tracker), local_addr=("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()


@pytest.fixture
async def endpoint() -> AsyncIterator[UdpEndpoint]:
    endpoint = UdpEndpoint(bind="127.0.0.1")
    yield endpoint
    await endpoint.aclose()


@pytest.fixture
async def trackers(endpoint: UdpEndpoint) -> AsyncIterator[UdpTrackers]:
    trackers = UdpTrackers(endpoint)
    yield trackers
    await trackers.aclose()


async def test_an_announce(trackers: UdpTrackers) -> None:
    async with serving(honest) as server:
        reply = await trackers.announce(f"udp://127.0.0.1:{server.port}/dir?a=b", REQUEST)
        assert (reply.interval, reply.peers) == (60, (PEER,))
        announce = server.requests[-1]
        assert isinstance(announce, udp_packets.UdpAnnounce)
        assert (announce.request, announce.url_data) == (REQUEST, b"/dir?a=b")


async def test_a_scrape(trackers: UdpTrackers) -> None:
    async with serving(honest) as server:
        reply = await trackers.scrape(f"udp://127.0.0.1:{server.port}", [HASH])
        assert reply.torrents == {HASH: ScrapeCounts(1, 2, 3)}


async def test_many_at_once_share_the_socket_and_one_connection(endpoint: UdpEndpoint) -> None:
    trackers = UdpTrackers(endpoint, settings=AnnounceSettings(max_per_second=0.0))
    async with serving(honest) as server:
        url = f"udp://127.0.0.1:{server.port}"
        replies = await asyncio.gather(*(trackers.announce(url, REQUEST) for _ in range(200)))
        assert {reply.peers for reply in replies} == {(PEER,)}
        kinds = [type(request).__name__ for request in server.requests]
        assert kinds.count("ConnectRequest") == 1
        assert "0 announces" in repr(trackers)
    await trackers.aclose()


async def test_a_strangers_name_does_not_lead_to_this_machine(
    endpoint: UdpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(host: str, port: int, *, family: int = 0, type: int = 0) -> list[object]:
        return [(socket.AF_INET, type, 17, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    trackers, open_to_all = UdpTrackers(endpoint), UdpTrackers(endpoint, guard=Guard(allow_private=True))
    async with serving(honest) as server:
        url = f"udp://tracker.example:{server.port}"
        for asking in (trackers.announce(url, REQUEST), trackers.scrape(url, [HASH])):
            with pytest.raises(TrackerError, match="leads into the local network") as raised:
                await asking
            assert raised.value.kind == "guard"
        assert server.requests == []
        assert (await trackers.announce(url, REQUEST, given=True)).peers == (PEER,)
        assert (await open_to_all.announce(url, REQUEST)).peers == (PEER,)
    for made in (trackers, open_to_all):
        await made.aclose()


async def test_a_refusal_is_a_tracker_error(trackers: UdpTrackers) -> None:
    async with serving(lambda request: udp_packets.pack_error(request.transaction, "not here")) as server:
        with pytest.raises(TrackerError, match="the tracker says: not here") as raised:
            await trackers.announce(f"udp://127.0.0.1:{server.port}", REQUEST)
        assert raised.value.kind == "refused"


async def test_a_lost_packet_is_sent_again(trackers: UdpTrackers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "TIMEOUT", 0.02)
    seen = []

    def loses_the_first_of_each(request: udp_packets.UdpRequest) -> bytes | None:
        kind = type(request)
        seen.append(kind)
        return honest(request) if seen.count(kind) > 1 else None

    async with serving(loses_the_first_of_each) as server:
        assert (await trackers.announce(f"udp://127.0.0.1:{server.port}", REQUEST)).peers == (PEER,)


async def test_a_silent_tracker_fails_in_the_end(trackers: UdpTrackers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "TIMEOUT", 0.002)
    async with serving(lambda _: None) as server:
        with pytest.raises(TrackerError, match="timed out"):
            await trackers.announce(f"udp://127.0.0.1:{server.port}", REQUEST)
        assert 1 < len(server.requests) <= 5  # as the setting says: one, and at most four more


async def test_a_port_where_nobody_listens_fails_in_the_end(
    trackers: UdpTrackers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp, "TIMEOUT", 0.002)
    async with serving(honest) as server:
        port = server.port
    with pytest.raises(TrackerError, match="timed out"):
        await trackers.announce(f"udp://127.0.0.1:{port}", REQUEST)


@pytest.mark.parametrize(
    "url", ["udp://", "udp://127.0.0.1", "udp://a..b:80", "udp://[::1]:80", "udp://127.0.0.1:99999"]
)
async def test_addresses_that_cannot_be_asked(trackers: UdpTrackers, url: str) -> None:
    with pytest.raises(TrackerError):
        await trackers.announce(url, REQUEST)
    with pytest.raises(TrackerError):
        await trackers.scrape(url, [HASH])


async def test_closing_ends_those_who_wait(trackers: UdpTrackers) -> None:
    async with serving(lambda _: None) as server:
        waiting = asyncio.create_task(trackers.announce(f"udp://127.0.0.1:{server.port}", REQUEST))
        await server.asked.wait()
        await trackers.aclose()
        with pytest.raises(TrackerError, match="closing"):
            await waiting


async def test_a_cancelled_announce_leaves_nothing(trackers: UdpTrackers) -> None:
    async with serving(lambda _: None) as server:
        waiting = asyncio.create_task(trackers.announce(f"udp://127.0.0.1:{server.port}", REQUEST))
        await server.asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert "0 announces" in repr(trackers)


# ---- the socket ----


async def test_packets_go_to_the_first_handler_that_takes_them(endpoint: UdpEndpoint) -> None:
    taken: list[tuple[str, bytes, Address]] = []
    done = asyncio.Event()

    def numbers(data: bytes, address: Address, now: float) -> bool:
        if data.isdigit():
            taken.append(("numbers", data, address))
        return data.isdigit()

    def breaks(data: bytes, address: Address, now: float) -> bool:
        if data == b"bug":
            raise ZeroDivisionError
        return False

    def others(data: bytes, address: Address, now: float) -> bool:
        taken.append(("others", data, address))
        done.set()
        return True

    endpoint.handlers += [numbers, breaks, others]
    await endpoint.open()
    await endpoint.open()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 0))
        here = Address(*sender.getsockname())
        for data in (b"12", b"bug", b"x"):
            sender.sendto(data, ("127.0.0.1", endpoint.port))
        await done.wait()
    assert taken == [("numbers", b"12", here), ("others", b"x", here)]


async def test_sending_never_raises(endpoint: UdpEndpoint) -> None:
    endpoint.send(b"x", Address("127.0.0.1", 9))  # not open yet
    await endpoint.open()
    for address in UNREACHABLE:
        endpoint.send(b"x", address)
    endpoint.send(b"x" * 100_000, Address("127.0.0.1", 9))
    await asyncio.sleep(0)
    assert endpoint.families == {socket.AF_INET}
    await endpoint.aclose()
    endpoint.send(b"x", Address("127.0.0.1", 9))
    with pytest.raises(NetworkError, match="closed"):
        await endpoint.open()


async def test_both_families_on_one_port() -> None:
    endpoint = UdpEndpoint()
    try:
        await endpoint.open()
        assert socket.AF_INET in endpoint.families
        assert endpoint.port
        assert f"port {endpoint.port}" in repr(endpoint)
    finally:
        await endpoint.aclose()


async def test_a_taken_port_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        endpoint = UdpEndpoint(port=other.getsockname()[1], bind="127.0.0.1")
        trackers = UdpTrackers(endpoint)
        try:
            async with serving(honest) as server:
                assert (await trackers.announce(f"udp://127.0.0.1:{server.port}", REQUEST)).peers
        finally:
            await trackers.aclose()
            await endpoint.aclose()
    assert "is taken" in caplog.text


async def test_an_address_that_is_not_ours() -> None:
    endpoint = UdpEndpoint(bind="192.0.2.1")
    with pytest.raises(NetworkError, match="cannot open a UDP socket"):
        await endpoint.open()
    await endpoint.aclose()
