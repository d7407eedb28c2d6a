"""The HTTP tracker codec, both halves: URLs, queries, bodies, and what strangers make of them."""

from __future__ import annotations

import math
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.errors import TrackerError
from unchoke.protocol.bencode import Encodable, encode
from unchoke.protocol.tracker.http import announce_url, parse_announce, parse_scrape, scrape_request_url, scrape_url
from unchoke.protocol.tracker.http_server import (
    build_announce_reply,
    build_failure,
    build_scrape_reply,
    parse_announce_query,
    parse_scrape_query,
)
from unchoke.protocol.tracker.models import (
    MAX_PEERS,
    AnnounceEvent,
    AnnounceReply,
    AnnounceRequest,
    ScrapeCounts,
    ScrapeReply,
)
from unchoke.types import Address, InfoHash, PeerId

INFOHASH = InfoHash(bytes(range(0x10, 0x24)))
PEER_ID = PeerId(b"-UK0100-\x00\xff &=%+#/?.x")


def request(**changes: object) -> AnnounceRequest:
    fields: dict[str, object] = {"infohash": INFOHASH, "peer_id": PEER_ID, "port": 51413, "left": 7, "key": 0xAB}
    return AnnounceRequest(**{**fields, **changes})  # type: ignore[arg-type]


def addresses() -> st.SearchStrategy[Address]:
    hosts = st.ip_addresses().filter(
        lambda ip: not (ip.is_multicast or ip.is_unspecified or ip.packed[0] == 0 or ip.packed == b"\xff" * 4)
    )
    return st.builds(Address, hosts.map(str), st.integers(1, 65535))


# ---- URLs ----


@pytest.mark.parametrize(
    ("tracker", "start"),
    [
        ("http://t.example/announce", "http://t.example/announce?info_hash="),
        ("http://t.example/announce?passkey=a%2Fb", "http://t.example/announce?passkey=a%2Fb&info_hash="),
        ("http://t.example/announce?", "http://t.example/announce?info_hash="),
        ("http://t.example/announce?a=1&", "http://t.example/announce?a=1&info_hash="),
        ("http://t.example/announce#part", "http://t.example/announce?info_hash="),
        ("http://t.example", "http://t.example?info_hash="),
    ],
)
def test_the_trackers_own_query_stays_as_it_is(tracker: str, start: str) -> None:
    assert announce_url(tracker, request()).startswith(start)


def test_no_byte_of_a_hostile_url_breaks_the_request_line() -> None:
    url = announce_url("http://t.example/a b\r\nX-Evil: 1\0é", request())
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url


def test_a_regular_announce_names_no_event_and_no_tracker_id() -> None:
    url = announce_url("http://t/announce", request())
    assert "event=" not in url
    assert "trackerid=" not in url
    assert "numwant=" not in url


@settings(max_examples=60)
@given(
    infohash=st.binary(min_size=20, max_size=20),
    peer_id=st.binary(min_size=20, max_size=20),
    event=st.sampled_from(AnnounceEvent),
    numwant=st.none() | st.integers(0, 500),
    key=st.integers(0, 2**32 - 1),
    left=st.integers(0, 2**63 - 1),
    tracker_id=st.binary(max_size=20),
    compact=st.booleans(),
)
def test_what_the_client_builds_the_tracker_reads(infohash: bytes, peer_id: bytes, **fields: object) -> None:
    ours = request(infohash=InfoHash(infohash), peer_id=PeerId(peer_id), ip="192.0.2.7", uploaded=5, **fields)
    query = urlsplit(announce_url("http://t/announce?own=1", ours)).query
    assert parse_announce_query(query) == ours
    assert parse_announce_query(query.encode()) == ours


@pytest.mark.parametrize(
    ("announce", "scrape"),
    [
        ("http://t.example/announce", "http://t.example/scrape"),
        ("http://t.example/x/announce.php?a=announce", "http://t.example/x/scrape.php?a=announce"),
        ("http://t.example/announce/x", None),
        ("http://t.example/a", None),
        ("http://announce", None),
        ("http://t.example/announce?x=/", "http://t.example/scrape?x=/"),
    ],
)
def test_scrape_address(announce: str, scrape: str | None) -> None:
    assert scrape_url(announce) == scrape


def test_scrape_request_and_answer() -> None:
    hashes = [INFOHASH, InfoHash(b"\xff" * 20)]
    url = scrape_request_url("http://t/announce?k=1", hashes)
    assert url is not None
    assert url.startswith("http://t/scrape?k=1&info_hash=")
    assert parse_scrape_query(urlsplit(url).query) == hashes
    assert scrape_request_url("http://t/x", hashes) is None
    reply = ScrapeReply({INFOHASH: ScrapeCounts(3, 2, 1)})
    assert parse_scrape(build_scrape_reply(reply)) == reply


# ---- answers ----


@settings(max_examples=60)
@given(
    peers=st.lists(addresses(), unique=True, max_size=8),
    interval=st.integers(1, 10**9),
    minimum=st.none() | st.integers(1, 1000),
    seeds=st.none() | st.integers(0, 10**6),
    compact=st.booleans(),
)
def test_what_the_tracker_builds_the_client_reads(
    peers: list[Address], interval: int, minimum: int | None, seeds: int | None, compact: bool
) -> None:
    reply = AnnounceReply(
        interval=interval,
        min_interval=minimum,
        peers=tuple(peers),
        seeds=seeds,
        leechers=1,
        downloaded=2,
        warning="soon closed",
        tracker_id=b"\x00id",
        external_ip="192.0.2.1",
    )
    read = parse_announce(build_announce_reply(reply, compact=compact))
    mapped = any(peer.host.startswith("::ffff:") for peer in peers)
    assert mapped or set(read.peers) == set(peers)
    assert (read.interval, read.min_interval, read.seeds, read.leechers) == (interval, minimum, seeds, 1)
    assert (read.downloaded, read.warning, read.tracker_id) == (2, "soon closed", b"\x00id")
    assert read.external_ip == "192.0.2.1"


def test_peers_as_dictionaries_as_in_the_first_days() -> None:
    peers: list[Encodable] = [
        {b"ip": b"192.0.2.1", b"port": 1, b"peer id": b"x" * 20},
        {b"ip": b"2001:db8::1", b"port": 2},
        {b"ip": b"a.name.example", b"port": 3},
        {b"ip": b"192.0.2.1", b"port": 0},
        {b"ip": b"192.0.2.1", b"port": 70000},
        {b"port": 1},
        {b"ip": 5, b"port": b"5"},
    ]
    assert parse_announce(encode({b"peers": peers})).peers == (Address("192.0.2.1", 1), Address("2001:db8::1", 2))


def test_addresses_that_nobody_can_dial_are_dropped() -> None:
    useless = [b"\0\0\0\0\0\1", b"\1\2\3\4\0\0", b"\xe0\0\0\1\0\1", b"\xff\xff\xff\xff\0\1", b"\0\1\2\3\0\1"]
    good = b"\x7f\0\0\1\0\1"
    mapped = b"\0" * 10 + b"\xff\xff" + b"\1\2\3\4\0\5"
    body = encode({b"peers": b"".join(useless) + good + good, b"peers6": b"\0" * 16 + b"\0\1" + mapped})
    assert parse_announce(body).peers == (Address("127.0.0.1", 1), Address("1.2.3.4", 5))


def test_a_flood_of_peers_is_cut_off() -> None:
    peers = b"".join(b"\1\2" + number.to_bytes(4, "big") for number in range(65536, 65536 + 20000))
    assert len(parse_announce(encode({b"peers": peers})).peers) <= MAX_PEERS


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"  <!DOCTYPE html><html>", "web page"),
        (b"\xef\xbb\xbf<html>", "web page"),
        (b"no", "not bencode"),
        (b"d8:intervali", "not bencode"),
        (b"le", "no dictionary"),
        (b"l" * 100_000, "not bencode"),
        (encode({b"peers": b"1234567"}), "odd length: 7 bytes"),
        (encode({b"peers6": b"1234567"}), "multiple of 18"),
        (encode({b"peers": 5}), "neither"),
        (encode({b"peers": [b"x"]}), "no dictionary"),
        (encode({b"peers6": 5}), "neither"),
    ],
)
def test_what_is_no_answer_is_refused_in_words(body: bytes, words: str) -> None:
    with pytest.raises(TrackerError, match=words) as raised:
        parse_announce(body)
    assert raised.value.retry_in is None


@pytest.mark.parametrize(
    ("wish", "seconds"),
    [(5, 300.0), (b"5", 300.0), (b"never", math.inf), (0, None), (-1, None), (b"soon", None), ([], None)],
)
def test_a_failure_reason_and_when_to_come_back(wish: int | bytes | list[int], seconds: float | None) -> None:
    body = encode({b"failure reason": b"go \x1b[31maway\n now\xff", b"retry in": wish})
    with pytest.raises(TrackerError, match=r"go .*away now") as raised:
        parse_announce(body)
    assert raised.value.retry_in == seconds
    assert str(raised.value).isprintable()
    with pytest.raises(TrackerError):
        parse_scrape(body)


@pytest.mark.parametrize("seconds", [None, 60.0, 61.0, math.inf])
def test_a_refusal_survives_the_way(seconds: float | None) -> None:
    with pytest.raises(TrackerError, match="not here") as raised:
        parse_announce(build_failure(TrackerError("not here", seconds)))
    assert raised.value.retry_in == (120.0 if seconds == 61.0 else seconds)


def test_nonsense_in_fields_that_do_not_matter_is_as_if_missing() -> None:
    body = encode(
        {b"interval": b"x", b"min interval": -1, b"complete": [], b"warning message": 3, b"external ip": b"abc"}
    )
    assert parse_announce(body) == AnnounceReply()
    assert parse_announce(encode({b"interval": 0})).interval is None


def test_long_words_are_cut() -> None:
    assert len(parse_announce(encode({b"warning message": b"word " * 1000})).warning) <= 300


@settings(max_examples=150)
@given(body=st.binary(max_size=60) | st.recursive(
    st.integers(-9, 10**6) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from([b"peers", b"peers6", b"interval", b"failure reason", b"files", b"ip", b"port", b"x" * 20]), inner
    ),
    max_leaves=8,
).map(encode))  # fmt: skip
def test_garbage_is_an_answer_or_a_tracker_error(body: bytes) -> None:
    for parse in (parse_announce, parse_scrape):
        try:
            parse(body)
        except TrackerError:
            pass


# ---- the tracker's half ----


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "info_hash"),
        ("info_hash=abc", "20 bytes, not 3"),
        (f"info_hash={'a' * 20}&peer_id=x", "peer_id"),
        (f"info_hash={'a' * 20}&peer_id={'b' * 20}", "port"),
        (f"info_hash={'a' * 20}&peer_id={'b' * 20}&port=65536", "port"),
        (f"info_hash={'a' * 20}&peer_id={'b' * 20}&port=-1", "port"),
    ],
)
def test_a_query_that_would_poison_a_swarm_is_refused(query: str, words: str) -> None:
    with pytest.raises(TrackerError, match=words):
        parse_announce_query(query)


def test_a_sloppy_query_is_read() -> None:
    base = f"info_hash={'a' * 18}%zz&peer_id={'+' * 20}&port=1"
    with pytest.raises(TrackerError):
        parse_announce_query(base)
    read = parse_announce_query(
        f"info_hash={'a' * 20}&peer_id={'+' * 20}&port=1&port=2&event=paused&left=-1&key=zz%00&numwant=-1"
    )
    assert (read.port, read.event, read.left, read.numwant) == (1, AnnounceEvent.NONE, 1, None)
    assert read.peer_id == b"+" * 20
    assert read.key


@settings(max_examples=100)
@given(query=st.text(max_size=80) | st.binary(max_size=80))
def test_a_garbage_query_is_a_tracker_error(query: str | bytes) -> None:
    for parse in (parse_announce_query, parse_scrape_query):
        with pytest.raises(TrackerError):
            parse(query)
