"""KRPC: there and back, the examples of the proposals to the byte, and garbage that is KrpcError and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.krpc import broken, messages, noise
from unchoke.protocol.bencode import Encodable
from unchoke.protocol.bencode import encode as bencode
from unchoke.protocol.dht.item import Item
from unchoke.protocol.dht.krpc import MAX_PACKET, decode, encode
from unchoke.protocol.dht.messages import (
    PROTOCOL,
    SALT_TOO_BIG,
    TOO_BIG,
    UNKNOWN_METHOD,
    VERSION,
    Error,
    KrpcError,
    Message,
    Query,
    Reply,
)
from unchoke.types import Address, NodeId

ASKER, ASKED = NodeId(b"abcdefghij0123456789"), NodeId(b"mnopqrstuvwxyz123456")


@given(messages)
@settings(max_examples=200)
def test_there_and_back(message: Message) -> None:
    data = encode(message)
    assert decode(data) == message
    assert encode(decode(data)) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", Query(b"aa", b"ping", ASKER)),
        (b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re", Reply(b"aa", ASKED)),
        (b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee", Error(b"aa", 201, "A Generic Error Ocurred")),
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
            Query(b"aa", b"find_node", ASKER, target=ASKED),
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
            Query(b"aa", b"get_peers", ASKER, target=ASKED),
        ),
        (
            b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
            Reply(b"aa", ASKER, token=b"aoeusnth", values=(b"axje.u", b"idhtnm")),
        ),
        (
            b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e"
            b"5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
            Query(b"aa", b"announce_peer", ASKER, target=ASKED, port=6881, implied_port=True, token=b"aoeusnth"),
        ),
    ],
)
def test_the_examples_of_bep_5(data: bytes, message: Message) -> None:
    assert decode(data) == message
    assert encode(message) == data


def test_what_the_later_proposals_add() -> None:
    query = Query(b"t", b"get_peers", ASKER, target=ASKED, want=(4, 6), scrape=True, read_only=True, version=VERSION)
    assert encode(query) == (
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234566:scrapei1e4:wantl2:n42:n6ee"
        b"1:q9:get_peers2:roi1e1:t1:t1:v4:" + VERSION + b"1:y1:qe"
    )
    reply = Reply(b"t", ASKED, external=Address("1.2.3.4", 258), seeds_filter=b"s" * 256, peers_filter=b"p" * 256)
    assert encode(reply).startswith(b"d2:ip6:\1\2\3\4\1\2" + b"1:rd4:BFpe256:p")
    assert decode(encode(reply)) == reply


def test_a_put_carries_its_value_as_it_is() -> None:
    item = Item(b"d1:ali1e1:bee", b"k" * 32, b"s" * 64, 4, b"salt")
    query = Query(b"t", b"put", ASKER, token=b"x", item=item, cas=3)
    assert b"1:vd1:ali1e1:bee" in encode(query)
    assert decode(encode(query)) == query


def test_strings_of_the_future_in_want_are_ignored() -> None:
    read = decode(query("find_node", target=ASKED, want=[b"n8", b"n6", 7]))
    assert isinstance(read, Query)
    assert read.want == (6,)


def test_a_method_of_the_future_with_a_target_is_read() -> None:
    for name in ("target", "info_hash"):
        read = decode(bencode({"a": {"id": ASKER, name: ASKED}, "q": "vote", "t": "x", "y": "q"}))
        assert read == Query(b"x", b"vote", ASKER, target=ASKED)


def test_values_of_both_families_are_read() -> None:
    assert decode(encode(Reply(b"t", ASKED, values=(b"6" * 6, b"1" * 18)))) == Reply(
        b"t", ASKED, values=(b"6" * 6, b"1" * 18)
    )


@pytest.mark.parametrize("ip", [b"", b"\1\2\3\4", b"x" * 7, 5, [b"a"]])
def test_nonsense_in_ip_does_no_harm(ip: bytes | int | list[bytes]) -> None:
    assert decode(bencode({"ip": ip, "r": {"id": ASKED}, "t": "x", "y": "r"})) == Reply(b"x", ASKED)


def query(method: str, **args: Encodable) -> bytes:
    return bencode({"a": {"id": ASKER, **args}, "q": method, "t": "tt", "y": "q"})


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (query("ping", id=b"short"), PROTOCOL),
        (query("ping", id=7), PROTOCOL),
        (query("nonsense"), UNKNOWN_METHOD),
        (query("nonsense", target=b"short"), PROTOCOL),
        (query("find_node"), PROTOCOL),
        (query("find_node", target=[ASKED]), PROTOCOL),
        (query("find_node", target=ASKED, want="n4"), PROTOCOL),
        (query("get_peers", info_hash=b"h" * 32), PROTOCOL),
        (query("announce_peer", info_hash=ASKED, port=0x10000, token="x"), PROTOCOL),
        (query("announce_peer", info_hash=ASKED, port=-1, token="x"), PROTOCOL),
        (query("announce_peer", info_hash=ASKED, port="6881", token="x"), PROTOCOL),
        (query("announce_peer", info_hash=ASKED, port=6881), PROTOCOL),
        (query("announce_peer", info_hash=ASKED, port=6881, token="x" * 65), PROTOCOL),
        (query("get", target=ASKED, seq=-1), PROTOCOL),
        (query("get", target=ASKED, seq=2**63), PROTOCOL),
        (query("put", token="x"), PROTOCOL),
        (query("put", v="x"), PROTOCOL),
        (query("put", v="x" * 997, token="x"), TOO_BIG),
        (query("put", v="x", token="x", k="k" * 31, sig="s" * 64, seq=1), PROTOCOL),
        (query("put", v="x", token="x", k="k" * 32, sig="s" * 63, seq=1), PROTOCOL),
        (query("put", v="x", token="x", k="k" * 32, sig="s" * 64), PROTOCOL),
        (query("put", v="x", token="x", k="k" * 32, sig="s" * 64, seq=1, salt="s" * 65), SALT_TOO_BIG),
        (query("put", v="x", token="x", k="k" * 32, sig="s" * 64, seq=1, cas="1"), PROTOCOL),
        (bencode({"q": "ping", "t": "tt", "y": "q"}), PROTOCOL),
        (bencode({"a": [], "q": "ping", "t": "tt", "y": "q"}), PROTOCOL),
        (bencode({"a": {"id": ASKER}, "q": 5, "t": "tt", "y": "q"}), PROTOCOL),
    ],
)
def test_a_bad_query_can_be_told_what_is_wrong_with_it(data: bytes, code: int) -> None:
    with pytest.raises(KrpcError) as caught:
        decode(data)
    assert (caught.value.code, caught.value.transaction) == (code, b"tt")


def test_the_largest_item_is_read_and_a_larger_one_is_not() -> None:
    read = decode(query("put", v="x" * 996, token="x"))  # 4:…996 and its head make 1,000
    assert isinstance(read, Query)
    assert read.item is not None
    assert len(read.item.value) == 1000


def reply(**values: Encodable) -> bytes:
    return bencode({"r": {"id": ASKED, **values}, "t": "tt", "y": "r"})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"d",
        b"de",
        b"le",
        b"i1e",
        b"\xff" * 100,
        b"d" * 3000,
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe1:x",
        b"d1:q4:ping1:ad2:id20:abcdefghij0123456789e1:t2:aa1:y1:qe",  # keys out of order
        bencode({"r": {"id": ASKED}, "y": "r"}),
        bencode({"r": {"id": ASKED}, "t": 5, "y": "r"}),
        bencode({"r": {"id": ASKED}, "t": "t" * 33, "y": "r"}),
        bencode({"r": {"id": ASKED}, "t": "tt", "y": "x"}),
        bencode({"r": {"id": ASKED}, "t": "tt", "y": 1}),
        bencode({"r": [], "t": "tt", "y": "r"}),
        reply(id=b"x"),
        reply(nodes=b"n" * 27),
        reply(nodes=[b"n" * 26]),
        reply(nodes6=b"n" * 26),
        reply(values=b"v" * 6),
        reply(values=[b"v" * 5]),
        reply(values=[6]),
        reply(values=[[b"v" * 6]]),
        reply(token=5),
        reply(token=b"t" * 100),
        reply(v="x" * 1000),
        reply(v="x", k="k" * 32),
        reply(v="x", seq="1"),
        reply(samples=b"s" * 21, num=1, interval=1),
        reply(samples=b"s" * 20),
        reply(BFsd=b"f" * 255, BFpe=b"f" * 256),
        reply(values=[b"v" * 6] * 1000),  # 8,000 bytes
        bencode({"e": [], "t": "tt", "y": "e"}),
        bencode({"e": [201], "t": "tt", "y": "e"}),
        bencode({"e": ["201", "text"], "t": "tt", "y": "e"}),
        bencode({"e": "text", "t": "tt", "y": "e"}),
        b"0" * (MAX_PACKET + 1),
    ],
)
def test_garbage_is_a_krpc_error_and_nobody_to_tell(data: bytes) -> None:
    with pytest.raises(KrpcError) as caught:
        decode(data)
    assert caught.value.transaction is None


@given(st.binary(max_size=80) | noise | broken())
@settings(max_examples=400)
def test_whatever_comes_is_a_message_or_a_krpc_error(data: bytes) -> None:
    try:
        message = decode(data)
    except KrpcError:
        return
    again = encode(message)
    assert decode(again) == message


def test_an_error_keeps_little_of_a_long_text() -> None:
    read = decode(bencode({"e": [201, b"\xff" + b"x" * 3000], "t": "tt", "y": "e"}))
    assert isinstance(read, Error)
    assert len(read.text) == 100
