"""The UDP tracker protocol: packets both ways, and the client machine on a clock of our own (BEP 15, 41)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.errors import ProtocolError, TrackerError
from unchoke.protocol.tracker import udp_packets as packets
from unchoke.protocol.tracker.models import (
    AnnounceEvent,
    AnnounceReply,
    AnnounceRequest,
    ScrapeCounts,
    ScrapeReply,
)
from unchoke.protocol.tracker.udp import WINDOW, UdpTrackerClient
from unchoke.types import Address, InfoHash, PeerId

INFOHASH = InfoHash(b"h" * 20)
REQUEST = AnnounceRequest(
    infohash=INFOHASH, peer_id=PeerId(b"p" * 20), port=51413, uploaded=1, downloaded=2, left=3, key=9, numwant=80
)
TRACKER = Address("192.0.2.1", 6969)
OTHER = Address("192.0.2.2", 6969)


# ---- packets ----


@settings(max_examples=50)
@given(
    event=st.sampled_from(AnnounceEvent),
    numwant=st.none() | st.integers(0, 500),
    left=st.integers(0, 2**63 - 1),
    key=st.integers(0, 2**32 - 1),
    path=st.binary(max_size=600),
)
def test_an_announce_survives_the_way(
    event: AnnounceEvent, numwant: int | None, left: int, key: int, path: bytes
) -> None:
    ours = AnnounceRequest(
        infohash=INFOHASH, peer_id=PeerId(b"q" * 20), port=1, left=left, event=event, numwant=numwant, key=key
    )
    assert packets.unpack_request(packets.pack_announce(5, 6, ours, path)) == packets.UdpAnnounce(5, 6, ours, path)


def test_an_announce_is_laid_out_as_in_bep_15() -> None:
    data = packets.pack_announce(0x0102030405060708, 0x0A0B0C0D, REQUEST)
    assert len(data) == 98
    assert data[:16].hex() == "0102030405060708" + "00000001" + "0a0b0c0d"
    assert data[56:80].hex() == "0000000000000002" + "0000000000000003" + "0000000000000001"
    assert data[80:].hex() == "00000000" + "00000000" + "00000009" + "00000050" + "c8d5"
    assert packets.pack_connect(7).hex() == "0000041727101980" + "00000000" + "00000007"


def test_a_long_url_goes_in_pieces_and_a_monstrous_one_not_at_all() -> None:
    assert packets.pack_announce(1, 2, REQUEST, b"/" * 300)[98:] == b"\x02\xff" + b"/" * 255 + b"\x02\x2d" + b"/" * 45
    assert len(packets.pack_announce(1, 2, REQUEST, b"/" * 5000)) == 98


@pytest.mark.parametrize(
    ("options", "read"),
    [
        (b"\x02\x0c/dir?a=b&c=d", b"/dir?a=b&c=d"),
        (b"\x02\x0c/dir?a=b&c=d\x01\x01\x00", b"/dir?a=b&c=d"),
        (b"\x02\x00", b""),
        (b"\x07\x02xx\x02\x01a\x02\x01b\x00\x02\x01c", b"ab"),
        (b"\x02", b""),
        (b"\x02\xffab", b"ab"),
    ],
)
def test_url_data_options(options: bytes, read: bytes) -> None:
    request = packets.unpack_request(packets.pack_announce(1, 2, REQUEST) + options)
    assert isinstance(request, packets.UdpAnnounce)
    assert request.url_data == read


@pytest.mark.parametrize("ipv6", [False, True])
def test_an_announce_reply_survives_the_way(ipv6: bool) -> None:
    ours = (Address("2001:db8::1", 5),) if ipv6 else (Address("192.0.2.9", 5), Address("192.0.2.8", 6))
    theirs = Address("192.0.2.1", 1) if ipv6 else Address("2001:db8::7", 1)
    reply = AnnounceReply(interval=60, peers=(*ours, theirs), seeds=3, leechers=4)
    data = packets.pack_announce_reply(8, reply, ipv6=ipv6)
    assert len(data) == 20 + len(ours) * (18 if ipv6 else 6)
    read = packets.unpack_announce_reply(data + b"xyz", ipv6=ipv6)
    assert (read.peers, read.interval, read.seeds, read.leechers) == (ours, 60, 3, 4)


def test_a_scrape_survives_the_way() -> None:
    hashes = (INFOHASH, InfoHash(b"i" * 20))
    assert packets.unpack_request(packets.pack_scrape(1, 2, hashes)) == packets.UdpScrape(1, 2, hashes)
    data = packets.pack_scrape_reply(2, hashes, ScrapeReply({hashes[1]: ScrapeCounts(1, 2, 3)}))
    assert packets.unpack_scrape_reply(data, hashes).torrents == {
        hashes[0]: ScrapeCounts(),
        hashes[1]: ScrapeCounts(1, 2, 3),
    }


@settings(max_examples=150)
@given(data=st.binary(max_size=130))
def test_garbage_is_a_protocol_error_and_nothing_else(data: bytes) -> None:
    for head in (b"", b"\x00" * 8 + b"\x00\x00\x00\x01", b"\x00" * 8 + b"\x00\x00\x00\x02"):
        try:
            packets.unpack_request(head + data)
        except ProtocolError:
            pass
    for ipv6 in (False, True):
        try:
            packets.unpack_announce_reply(data, ipv6=ipv6)
        except ProtocolError:
            pass
    try:
        packets.unpack_scrape_reply(data, (INFOHASH,))
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("udp://t.example:80/dir?a=b", ("t.example", 80, b"/dir?a=b")),
        ("udp://t.example:80/announce", ("t.example", 80, b"")),
        ("udp://[2001:db8::1]:80", ("2001:db8::1", 80, b"")),
    ],
)
def test_a_udp_address(url: str, parts: tuple[str, int, bytes]) -> None:
    assert packets.url_parts(url) == parts


@pytest.mark.parametrize("url", ["udp://t.example", "udp://:80", "udp://t:99999", "udp://[x:1", "udp://t:0", "udp://"])
def test_a_udp_address_that_is_none(url: str) -> None:
    with pytest.raises(TrackerError, match="host and a port"):
        packets.url_parts(url)


# ---- the machine ----


class Line:
    """A client, a clock, and what went out: each packet as ``(second, kind, address)``."""

    def __init__(self, **options: int) -> None:
        self.ids: Iterator[int] = itertools.count(1000)
        self.client = UdpTrackerClient(lambda: next(self.ids), **options)
        self.now = 0.0
        self.log: list[tuple[float, str, Address]] = []
        self.last: dict[Address, bytes] = {}

    def flush(self) -> list[str]:
        """What goes out now, in words."""
        kinds = []
        for data, address in self.client.datagrams_to_send(self.now):
            request = packets.unpack_request(data)
            kind = type(request).__name__.removeprefix("Udp").removesuffix("Request").lower()
            self.log.append((self.now, kind, address))
            self.last[address] = data
            kinds.append(kind)
        return kinds

    def run(self, until: float) -> list[tuple[float, str]]:
        """Let time pass; what went out meanwhile, and when."""
        start = len(self.log)
        while (timer := self.client.get_timer()) is not None and timer <= until:
            self.now = timer
            self.client.handle_timer(self.now)
            self.flush()
        self.now = until
        return [(when, kind) for when, kind, _ in self.log[start:]]

    def hear(self, data: bytes, address: Address = TRACKER) -> bool:
        return self.client.receive_datagram(data, address, self.now)

    def transaction(self, address: Address = TRACKER) -> int:
        return packets.unpack_request(self.last[address]).transaction

    def connect(self, connection: int = 77, address: Address = TRACKER) -> list[str]:
        assert self.hear(packets.pack_connect_reply(self.transaction(address), connection), address)
        return self.flush()

    def announce(self, tracker: Address = TRACKER) -> int:
        return self.client.announce(tracker, REQUEST, self.now)


def reply_to(line: Line, address: Address = TRACKER) -> bytes:
    reply = AnnounceReply(interval=1800, peers=(Address("192.0.2.50", 50),), seeds=1, leechers=2)
    return packets.pack_announce_reply(line.transaction(address), reply, ipv6=":" in address.host)


def test_connect_then_announce() -> None:
    line = Line()
    handle = line.announce()
    assert line.flush() == ["connect"]
    assert line.connect(connection=77) == ["announce"]
    request = packets.unpack_request(line.last[TRACKER])
    assert isinstance(request, packets.UdpAnnounce)
    assert (request.connection, request.request) == (77, REQUEST)
    assert line.hear(reply_to(line))
    [answer] = line.client.answers()
    assert answer.handle == handle
    assert isinstance(answer.result, AnnounceReply)
    assert answer.result.peers == (Address("192.0.2.50", 50),)
    assert line.client.get_timer() is None
    assert line.client.answers() == []


def test_a_silent_tracker_is_asked_with_doubling_pauses_and_then_given_up() -> None:
    line = Line()
    line.announce()
    line.flush()
    times = [when for when, kind in line.run(until=20_000) if kind == "connect"]
    assert times == [15 * (2**n - 1) for n in range(1, 9)]
    [answer] = line.client.answers()
    assert isinstance(answer.result, TrackerError)
    assert "timed out" in str(answer.result)
    assert line.client.get_timer() is None


def test_fewer_retries_by_setting() -> None:
    line = Line(retries=2)
    line.announce()
    line.flush()
    assert line.run(until=1000) == [(15, "connect"), (45, "connect")]
    assert len(line.client.answers()) == 1


def test_the_announce_that_times_out_of_bep_15s_examples() -> None:
    line = Line()
    line.announce()
    line.flush()
    line.now = 1
    line.run(until=2)
    assert line.connect() == ["announce"]
    assert line.run(until=400) == [(17, "announce"), (47, "announce"), (107, "connect"), (227, "connect")]


def test_a_late_answer_to_the_first_packet_still_counts() -> None:
    line = Line()
    line.announce()
    line.flush()
    line.connect()
    late = reply_to(line)
    line.run(until=50)
    assert line.hear(late)
    assert len(line.client.answers()) == 1


def test_requests_to_one_tracker_share_a_connection_for_a_minute() -> None:
    line = Line()
    line.announce()
    line.announce()
    line.client.scrape(TRACKER, (INFOHASH,), line.now)
    assert line.flush() == ["connect"]
    assert sorted(line.connect()) == ["announce", "announce", "scrape"]
    line.now = 59.0
    line.announce()
    assert line.flush() == ["announce"]
    line.now = 60.5
    line.announce()
    assert line.flush() == ["connect"]


def test_trackers_are_told_apart() -> None:
    line = Line()
    first, second = line.announce(TRACKER), line.announce(OTHER)
    assert line.flush() == ["connect", "connect"]
    assert line.connect(1, OTHER) == ["announce"]
    assert line.connect(2, TRACKER) == ["announce"]
    stray = reply_to(line, TRACKER)
    assert not line.hear(stray, OTHER)  # the right transaction from the wrong place
    assert line.client.answers() == []
    assert line.hear(stray, TRACKER)
    assert line.hear(reply_to(line, OTHER), OTHER)
    assert [answer.handle for answer in line.client.answers()] == [first, second]


def test_ipv6_replies_have_ipv6_peers() -> None:
    tracker = Address("2001:db8::1", 80)
    line = Line()
    line.announce(tracker)
    line.flush()
    line.connect(5, tracker)
    reply = AnnounceReply(interval=5, peers=(Address("2001:db8::2", 9),))
    assert line.hear(packets.pack_announce_reply(line.transaction(tracker), reply, ipv6=True), tracker)
    [answer] = line.client.answers()
    assert isinstance(answer.result, AnnounceReply)
    assert answer.result.peers == (Address("2001:db8::2", 9),)


def test_an_error_is_a_value_with_the_trackers_words() -> None:
    line = Line()
    line.announce()
    line.flush()
    line.connect()
    assert line.hear(packets.pack_error(line.transaction(), "torrent not registered"))
    [answer] = line.client.answers()
    assert isinstance(answer.result, TrackerError)
    assert "torrent not registered" in str(answer.result)


def test_an_error_instead_of_a_connection_fails_all_that_wait() -> None:
    line = Line()
    line.announce()
    line.announce()
    line.flush()
    assert line.hear(packets.pack_error(line.transaction(), "go away"))
    assert [str(answer.result) for answer in line.client.answers()] == ["the tracker says: go away"] * 2
    assert line.client.get_timer() is None


def test_after_an_error_the_connection_is_made_anew() -> None:
    line = Line()
    line.announce()
    line.flush()
    line.connect()
    line.hear(packets.pack_error(line.transaction(), "connection id expired"))
    line.announce()
    assert line.flush() == ["connect"]


def test_stray_short_and_mismatched_packets_are_ignored() -> None:
    line = Line()
    line.announce()
    line.flush()
    connecting = line.transaction()
    assert not line.hear(b"")
    assert not line.hear(packets.pack_connect_reply(connecting + 1, 5))
    assert not line.hear(packets.pack_connect_reply(connecting, 5)[:12])
    assert not line.hear(packets.pack_connect_reply(connecting, 5), OTHER)
    line.connect()
    assert not line.hear(packets.pack_connect_reply(connecting, 6))
    assert not line.hear(packets.pack_connect_reply(line.transaction(), 6))
    assert not line.hear(reply_to(line)[:19])
    assert not line.hear(packets.pack_scrape_reply(line.transaction(), (INFOHASH,), ScrapeReply({})))
    assert line.client.answers() == []
    assert line.hear(reply_to(line))


def test_a_short_scrape_reply_is_ignored() -> None:
    line = Line()
    line.client.scrape(TRACKER, (INFOHASH,), 0.0)
    line.flush()
    line.connect()
    good = packets.pack_scrape_reply(line.transaction(), (INFOHASH,), ScrapeReply({INFOHASH: ScrapeCounts(1, 2, 3)}))
    assert not line.hear(good[:-1])
    assert line.hear(good)
    [answer] = line.client.answers()
    assert answer.result == ScrapeReply({INFOHASH: ScrapeCounts(1, 2, 3)})


def test_a_cancelled_request_leaves_nothing() -> None:
    line = Line()
    handle = line.announce()
    line.flush()
    line.client.cancel(handle, 1.0)
    line.client.cancel(handle, 1.0)
    assert line.client.get_timer() is None
    assert not line.hear(packets.pack_connect_reply(line.transaction(), 5))
    assert line.run(until=100) == []


def test_a_newcomer_does_not_inherit_long_pauses_but_makes_no_flood() -> None:
    line = Line()
    line.announce()
    line.flush()
    line.run(until=300)  # the next connect is due at 465
    line.announce()
    line.client.handle_timer(line.now)
    assert line.flush() == ["connect"]
    line.announce()
    line.announce()
    line.client.handle_timer(line.now)
    assert line.flush() == []
    assert line.run(until=320)[0] == (315, "connect")


def test_many_requests_go_out_within_a_window() -> None:
    line = Line()
    for _ in range(3 * WINDOW):
        line.announce()
    assert line.flush() == ["connect"]
    assert len(line.connect()) == WINDOW
    assert line.hear(reply_to(line))
    assert line.flush() == ["announce"]
    assert len(line.client.answers()) == 1
    for transaction in range(1000, 1000 + 3 * WINDOW + 1):
        line.hear(packets.pack_announce_reply(transaction, AnnounceReply(interval=9), ipv6=False))
    assert len(line.client.answers()) == 3 * WINDOW - 1
    assert "0 requests" in repr(line.client)


def test_a_tracker_that_connects_and_never_answers_is_given_up() -> None:
    line = Line(retries=3)
    line.announce()
    line.flush()
    line.connect()
    kinds = [kind for _, kind in line.run(until=10_000)]
    assert set(kinds) <= {"announce", "connect"}
    [answer] = line.client.answers()
    assert isinstance(answer.result, TrackerError)
    assert line.client.get_timer() is None


@settings(max_examples=100)
@given(data=st.lists(st.binary(max_size=40), max_size=6), action=st.integers(0, 4))
def test_garbage_never_breaks_the_machine(data: list[bytes], action: int) -> None:
    line = Line()
    line.announce()
    line.flush()
    for stage in range(2):
        for one in data:
            line.hear(one)
            line.hear(action.to_bytes(4, "big") + line.transaction().to_bytes(4, "big") + one)
        line.flush()
        line.run(until=20.0 * (stage + 1))
    for answer in line.client.answers():
        assert isinstance(answer.result, TrackerError | AnnounceReply)
