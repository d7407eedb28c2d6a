"""One node against strangers who talk to it by hand: what it answers, what it ignores, and what nobody makes it do."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.krpc import broken, make_node, messages, noise, public_address, queries_of, say, sent
from unchoke.protocol.dht import krpc
from unchoke.protocol.dht.contacts import pack_contacts, unpack_contacts
from unchoke.protocol.dht.ids import distance, host_of, is_secure, secure_id
from unchoke.protocol.dht.item import Item
from unchoke.protocol.dht.messages import Error, Message, Query, Reply
from unchoke.protocol.dht.node import (
    DhtNode,
    ExternalSeen,
    ItemFound,
    LookupDone,
    NodeSettings,
    PeersFound,
    SamplesFound,
)
from unchoke.types import Address, InfoHash, NodeId

ASKER = Address("198.51.100.7", 6881)
ASKER_ID = secure_id(ASKER.host, Random(1))
HASH = InfoHash(b"h" * 20)
UNBOUNDED = NodeSettings(host_rate=10**9, host_burst=10**9, upload_rate=10**9)


def ask(node: DhtNode, method: bytes, source: Address = ASKER, now: float = 0.0, **more: object) -> Message:
    """One query by hand; the answer to it."""
    query = Query(b"tt", method, secure_id(source.host, Random(5)), **more)  # type: ignore[arg-type]
    answers = [one for one in say(node, query, source, now) if not isinstance(one, Query)]
    assert len(answers) == 1
    assert answers[0].transaction == b"tt"
    return answers[0]


def asked(node: DhtNode, method: bytes, source: Address = ASKER, now: float = 0.0, **more: object) -> Reply:
    answer = ask(node, method, source, now, **more)
    assert isinstance(answer, Reply)
    return answer


def announce(node: DhtNode, source: Address, infohash: bytes = HASH, now: float = 0.0, **more: object) -> Message:
    token = asked(node, b"get_peers", source, now, target=infohash).token
    return ask(node, b"announce_peer", source, now, **{"target": infohash, "port": source.port, "token": token, **more})


def befriend(node: DhtNode, count: int, now: float = 0.0, seed: int = 3) -> list[tuple[NodeId, Address]]:
    """So many nodes answer a ping of its own."""
    rng = Random(seed)
    friends = []
    for _ in range(count):
        address = public_address(rng)
        friends.append((secure_id(address.host, rng), address))
        node.add_node(address, now)
        now += 1  # it pings four a second
        for query, to in [*queries_of(node, now), *_late_pings(node, now)]:
            reply(node, query, to, {where: who for who, where in friends}[to], now)
    return friends


def _late_pings(node: DhtNode, now: float) -> list[tuple[Query, Address]]:
    node.handle_timer(now)
    return queries_of(node, now)


def reply(node: DhtNode, query: Query, source: Address, node_id: NodeId, now: float, **more: object) -> None:
    answer = Reply(query.transaction, node_id, **more)  # type: ignore[arg-type]
    assert node.receive_datagram(krpc.encode(answer), source, now)


# ---- answering ----


def test_ping_is_answered_with_who_we_are_and_where_the_asker_is() -> None:
    node = make_node()
    pong = asked(node, b"ping")
    assert pong == Reply(b"tt", node.id, external=ASKER, version=pong.version)
    assert pong.version[:2] == b"UK"


def test_a_peer_that_announces_is_told_to_others() -> None:
    node = make_node()
    assert isinstance(announce(node, ASKER), Reply)
    other = Address("203.0.113.5", 1)
    assert asked(node, b"get_peers", other, target=HASH).values == (b"\xc6\x33\x64\x07\x1a\xe1",)
    assert asked(node, b"get_peers", other, target=b"x" * 20).values == ()
    assert node.counts.peers_stored == 1


def test_implied_port_is_the_port_that_the_packet_came_from() -> None:
    node = make_node()
    announce(node, ASKER, port=1, implied_port=True)
    assert asked(node, b"get_peers", target=HASH).values[0][-2:] == b"\x1a\xe1"


@pytest.mark.parametrize("token", [b"", b"x" * 8, b"x" * 64])
def test_a_made_up_token_is_refused(token: bytes) -> None:
    node = make_node()
    assert isinstance(ask(node, b"announce_peer", target=HASH, port=1, token=token), Error)
    assert isinstance(ask(node, b"put", token=token, item=Item(b"1:a")), Error)
    assert (node.counts.peers_stored, node.counts.items_stored) == (0, 0)


def test_a_token_is_no_good_from_elsewhere_for_something_else_or_later() -> None:
    node = make_node()
    token = asked(node, b"get_peers", target=HASH).token
    thief = Address("203.0.113.66", 6881)
    assert isinstance(ask(node, b"announce_peer", thief, target=HASH, port=1, token=token), Error)
    assert isinstance(ask(node, b"announce_peer", target=b"o" * 20, port=1, token=token), Error)
    assert isinstance(ask(node, b"announce_peer", now=601, target=HASH, port=1, token=token), Error)
    assert node.counts.peers_stored == 0
    fresh = asked(node, b"get_peers", now=601, target=HASH).token
    for _ in range(5):  # as often as it likes while it is good, for one entry
        assert isinstance(ask(node, b"announce_peer", now=602, target=HASH, port=1, token=fresh), Reply)
    assert node.counts.peers_stored == 1


def test_port_0_is_nobody() -> None:
    node = make_node()
    assert isinstance(announce(node, ASKER, port=0), Error)
    assert node.counts.peers_stored == 0


def test_find_node_gives_the_nearest_good_nodes() -> None:
    node = make_node(settings=UNBOUNDED)
    friends = befriend(node, 20)
    target = NodeId(b"\x77" * 20)
    known = {node_id for node_id, _ in node.good_nodes()}
    assert len(known) >= 10
    told = unpack_contacts(asked(node, b"find_node", now=21, target=target).nodes, 4)
    assert [one.id for one in told] == sorted(known, key=lambda node_id: distance(node_id, target))[:8]
    assert set(told) <= set(friends)


def test_both_families_are_named_to_who_wants_them() -> None:
    four, six = make_node(), make_node("2001:db8::1", node_id=None)
    six_friend = (secure_id("2001:db8:7::1", Random(1)), Address("2001:db8:7::1", 5))
    six.add_node(six_friend[1], 0)
    [(ping, to)] = queries_of(six)
    reply(six, ping, to, six_friend[0], 0)
    four.sibling = six
    answer = asked(four, b"find_node", target=b"t" * 20, want=(4, 6))
    assert unpack_contacts(answer.nodes6, 6) == [six_friend]
    assert asked(four, b"find_node", target=b"t" * 20).nodes6 == b""


def test_the_other_family_s_packets_are_not_ours() -> None:
    node = make_node()
    data = krpc.encode(Query(b"t", b"ping", ASKER_ID))
    assert not node.receive_datagram(data, Address("2001:db8::1", 1), 0)
    assert not node.receive_datagram(b"\x01\x00uTP perhaps", ASKER, 0)
    assert not node.receive_datagram(b"", ASKER, 0)


def test_a_link_local_asker_is_answered() -> None:
    scoped = Address("fe80::7%eth0", 6881)
    pong = asked(make_node("2001:db8::1"), b"ping", scoped)
    assert pong.external == Address("fe80::7", 6881)


def test_a_scrape_counts_seeds_and_others() -> None:
    node = make_node(settings=UNBOUNDED)
    for number in range(40):
        announce(node, Address(f"203.0.113.{number}", 1), seed=number < 10)
    answer = asked(node, b"get_peers", target=HASH, scrape=True)
    assert int.from_bytes(answer.seeds_filter).bit_count() in range(15, 21)
    assert int.from_bytes(answer.peers_filter).bit_count() in range(50, 61)
    assert asked(node, b"get_peers", target=b"x" * 20, scrape=True).seeds_filter == b""


def test_a_sample_of_what_we_keep() -> None:
    node = make_node(settings=UNBOUNDED)
    for number in range(3):
        announce(node, ASKER, bytes([number]) * 20)
    answer = asked(node, b"sample_infohashes", target=b"t" * 20)
    assert answer.samples is not None
    assert {answer.samples[at : at + 20] for at in (0, 20, 40)} == {bytes([number]) * 20 for number in range(3)}
    assert (answer.num, answer.interval) == (3, 0)
    assert asked(make_node(), b"sample_infohashes", target=b"t" * 20).samples == b""


def test_items_of_both_kinds() -> None:
    node = make_node(verify=lambda key, signature, message: signature == b"s" * 64)
    for item in (Item(b"12:Hello World!"), Item(b"i7e", b"k" * 32, b"s" * 64, 3, b"salt")):
        token = asked(node, b"get", target=item.target).token
        assert isinstance(ask(node, b"put", token=token, item=item), Reply)
        got = asked(node, b"get", target=item.target)
        assert (got.value, got.key, got.signature) == (item.value, item.key, item.signature)
    known = asked(node, b"get", target=item.target, seq=3)
    assert (known.value, known.key, known.seq) == (b"", b"", 3)
    token = known.token
    refused = ask(node, b"put", token=token, item=replace(item, signature=b"x" * 64, seq=4))
    assert isinstance(refused, Error)
    assert refused.code == 206
    refused = ask(node, b"put", token=token, item=replace(item, seq=4), cas=2)
    assert isinstance(refused, Error)
    assert refused.code == 301
    refused = ask(node, b"put", token=token, item=replace(item, seq=2))
    assert isinstance(refused, Error)
    assert refused.code == 302


def test_an_unknown_method_is_an_error_or_nodes_if_it_has_a_target() -> None:
    node = make_node()
    assert isinstance(ask(node, b"vote", target=b"t" * 20), Reply)
    answers = say(node, b"d1:ad2:id20:abcdefghij0123456789e1:q4:vote1:t2:aa1:y1:qe", ASKER)
    assert [one.code for one in answers if isinstance(one, Error)] == [204]


def test_a_bad_query_is_told_so() -> None:
    answers = say(make_node(), b"d1:ad2:id20:abcdefghij0123456789e1:q9:find_node1:t2:aa1:y1:qe", ASKER)
    assert [(one.transaction, one.code) for one in answers if isinstance(one, Error)] == [(b"aa", 203)]


def test_a_read_only_node_says_so_and_answers_nothing() -> None:
    node = make_node(settings=NodeSettings(read_only=True))
    assert say(node, Query(b"t", b"ping", ASKER_ID), ASKER) == []
    assert say(node, b"d1:ad2:id20:abcdefghij0123456789e1:q9:find_node1:t2:aa1:y1:qe", ASKER) == []
    node.add_node(ASKER, 0)
    [(ping, _)] = queries_of(node)
    assert ping.read_only
    node.read_only = False
    assert isinstance(asked(node, b"ping"), Reply)


def test_a_read_only_asker_is_answered_and_not_pinged() -> None:
    node = make_node()
    answers = say(node, Query(b"t", b"ping", ASKER_ID, read_only=True), ASKER)
    assert [type(one) for one in answers] == [Reply]
    assert {type(one) for one in say(node, Query(b"t", b"ping", ASKER_ID), ASKER)} == {Reply, Query}


# ---- getting into the table ----


def test_only_who_answers_us_gets_into_the_table() -> None:
    node = make_node()
    for number in range(10):
        say(node, Query(b"t", b"ping", ASKER_ID), ASKER, number)
    assert node.good_nodes() == []
    node = make_node()
    [ping] = [one for one in say(node, Query(b"t", b"ping", ASKER_ID), ASKER) if isinstance(one, Query)]
    reply(node, ping, ASKER, ASKER_ID, 1)
    assert node.good_nodes() == [(ASKER_ID, ASKER)]


def test_thousands_of_fake_nodes_that_ask_make_us_send_few_pings() -> None:
    node = make_node(settings=UNBOUNDED)
    rng = Random(1)
    for number in range(4000):
        address = public_address(rng)
        query = Query(b"t", b"ping", secure_id(address.host, rng))
        node.receive_datagram(krpc.encode(query), address, number / 1000)
    pings = sum(b"1:q4:ping" in data for data, _ in node.datagrams_to_send(4))
    assert 10 < pings < 100
    assert node.good_nodes() == []


def test_an_answer_from_elsewhere_or_with_another_transaction_is_none() -> None:
    node = make_node()
    node.add_node(ASKER, 0)
    [(ping, _)] = queries_of(node)
    reply(node, ping, Address(ASKER.host, 1), ASKER_ID, 0)
    reply(node, ping, Address("198.51.100.8", 6881), ASKER_ID, 0)
    reply(node, replace(ping, transaction=b"\0\0\0\0"), ASKER, ASKER_ID, 0)
    assert node.good_nodes() == []
    assert node.counts.dropped == 3
    reply(node, ping, ASKER, ASKER_ID, 0)
    assert len(node.good_nodes()) == 1
    reply(node, ping, ASKER, ASKER_ID, 0)  # once
    assert node.counts.dropped == 4


def test_addresses_that_nobody_can_have_are_not_pinged() -> None:
    node = make_node()
    for host in ("0.0.0.0", "224.0.0.1", "255.255.255.255", "router.example", "2001:db8::1"):
        node.add_node(Address(host, 6881), 0)
    node.add_node(Address("1.2.3.4", 0), 0)
    assert sent(node) == []


def test_nodes_that_fall_silent_are_pinged_and_then_no_longer_named() -> None:
    node = make_node()
    befriend(node, 3)
    now, pings = 5.0, 0
    while now < 4000:
        now = max(now, node.get_timer())
        node.handle_timer(now)
        pings += len(queries_of(node, now))
    assert node.good_nodes() == []
    assert node.counts.good + node.counts.questionable + node.counts.bad == 0
    assert pings < 100


# ---- lookups ----


def test_a_lookup_finds_peers_and_announces() -> None:
    node = make_node()
    [(friend_id, friend)] = befriend(node, 1)
    handle = node.find_peers(HASH, 2, announce_port=51413, seed=True)
    [(query, to)] = queries_of(node)
    assert (query.method, query.target, to) == (b"get_peers", HASH, friend)
    reply(node, query, friend, friend_id, 2, token=b"tok", values=(b"\1\2\3\4\0\5", b"\1\2\3\4\0\5"))
    [(query, to)] = queries_of(node)
    assert (query.method, query.token, query.port, query.seed) == (b"announce_peer", b"tok", 51413, True)
    reply(node, query, friend, friend_id, 2)
    assert [event for event in node.events() if not isinstance(event, ExternalSeen)] == [
        PeersFound(handle, (Address("1.2.3.4", 5),)),
        LookupDone(handle, "peers", 1, 1, peers=1, announced=1),
    ]


def test_a_late_confirmation_counts_as_long_as_others_are_waited_for() -> None:
    node = make_node()
    ids = {address: node_id for node_id, address in befriend(node, 2)}
    node.events()
    handle = node.find_peers(HASH, 3, announce_port=1)
    for query, to in queries_of(node):
        reply(node, query, to, ids[to], 3, token=b"tok")
    [(first, late), (second, other)] = queries_of(node)
    node.handle_timer(3.5)
    assert node.events() == []
    reply(node, first, late, ids[late], 3.9)
    node.handle_timer(4.1)  # the second is late as well, and nobody else is waited for
    assert node.events() == [LookupDone(handle, "peers", 2, 2, announced=1)]
    reply(node, second, other, ids[other], 4.2)
    assert node.events() == []


def test_a_confirmation_is_counted_once_however_late() -> None:
    node = make_node()
    ids = {address: node_id for node_id, address in befriend(node, 2)}
    node.events()
    handle = node.find_peers(HASH, 3, announce_port=1)
    asked_at = 3.0
    for query, to in queries_of(node):
        reply(node, query, to, ids[to], asked_at, token=b"tok")
        asked_at += 0.5  # the announces go out when the second has answered
    [(first, late), (second, other)] = queries_of(node, 3.5)
    assert {first.method, second.method} == {b"announce_peer"}
    reply(node, first, late, ids[late], 3.6)
    reply(node, first, late, ids[late], 3.7)
    assert node.events() == []
    reply(node, second, other, ids[other], 3.8)
    assert node.events() == [LookupDone(handle, "peers", 2, 2, announced=2)]


def test_a_v2_torrent_is_looked_for_by_its_first_20_bytes() -> None:
    node = make_node()
    befriend(node, 1)
    node.find_peers(InfoHash(b"h" * 32), 2)
    [(query, _)] = queries_of(node)
    assert query.target == b"h" * 20


def test_port_0_announces_the_port_of_the_packet() -> None:
    node = make_node()
    [(friend_id, friend)] = befriend(node, 1)
    node.find_peers(HASH, 2, announce_port=0)
    [(query, _)] = queries_of(node)
    reply(node, query, friend, friend_id, 2, token=b"tok")
    [(query, _)] = queries_of(node)
    assert query.implied_port


def test_who_has_announced_to_us_is_found_without_asking() -> None:
    node = make_node()
    announce(node, ASKER)
    node.events()
    handle = node.find_peers(HASH, 0)
    assert node.events() == [PeersFound(handle, (ASKER,)), LookupDone(handle, "peers", 0, 0, peers=1)]


def test_where_right_ids_are_too_few_others_are_announced_to_as_well() -> None:
    node = make_node()
    odd = Address("198.51.100.1", 6881)
    node.bootstrap([odd], 0)
    [(query, _)] = queries_of(node)
    reply(node, query, odd, NodeId(b"\1" * 20), 0)
    node.find_peers(HASH, 1, announce_port=1)
    [(query, _)] = queries_of(node)
    reply(node, query, odd, NodeId(b"\1" * 20), 1, token=b"tok")
    assert [(query.method, to) for query, to in queries_of(node)] == [(b"announce_peer", odd)]
    assert node.good_nodes() == []


def test_peers_that_cannot_be_are_left_out_and_a_thousand_are_bounded() -> None:
    node = make_node(settings=NodeSettings(max_peers=250))
    [(friend_id, friend)] = befriend(node, 1)
    handle = node.find_peers(HASH, 2)
    [(query, _)] = queries_of(node)
    bad = (
        b"\x7f\0\0\1\0\x50",
        b"\x0a\0\0\1\0\x50",
        b"\xc0\xa8\0\1\0\x50",
        b"\xe0\0\0\1\0\x50",
        b"\0\0\0\0\0\x50",
        b"\xff\xff\xff\xff\0\x50",
        b"\1\2\3\4\0\0",
        b"six" * 6,
    )
    many = tuple(b"\5" + number.to_bytes(3) + b"\0\1" for number in range(450))
    reply(node, query, friend, friend_id, 2, values=bad + many)
    events = [event for event in node.events() if isinstance(event, PeersFound)]
    assert [event.handle for event in events] == [handle]
    assert 100 < len(events[0].addresses) <= 200
    assert all(address.host.startswith("5.") for address in events[0].addresses)


def test_a_local_node_may_name_local_peers_and_a_public_one_may_not_name_local_nodes() -> None:
    node = make_node()
    local = Address("192.168.1.5", 6881)
    node.add_node(local, 0)
    [(ping, _)] = queries_of(node)
    reply(node, ping, local, NodeId(b"\1" * 20), 0)
    node.find_peers(HASH, 1)
    [(query, _)] = queries_of(node)
    reply(node, query, local, NodeId(b"\1" * 20), 1, values=(b"\xc0\xa8\1\6\0\x50",))
    found = [event.addresses for event in node.events() if isinstance(event, PeersFound)]
    assert found == [(Address("192.168.1.6", 80),)]

    node = make_node()
    [(friend_id, friend)] = befriend(node, 1)
    node.find_peers(HASH, 2)
    [(query, _)] = queries_of(node)
    inside = [(NodeId(b"h" * 19 + bytes([n])), Address(f"192.168.1.{n}", 80)) for n in range(1, 9)]
    reply(node, query, friend, friend_id, 2, nodes=pack_contacts(inside))
    assert sent(node) == []


def test_without_any_node_a_lookup_ends_at_once() -> None:
    node = make_node()
    handle = node.find_peers(HASH, 0)
    assert node.events() == [LookupDone(handle, "peers", 0, 0)]
    handle = node.bootstrap([Address("224.0.0.1", 1)], 0)
    assert node.events() == [LookupDone(handle, "bootstrap", 0, 0)]


def test_thousands_of_lookups_take_turns_and_all_end() -> None:
    node = make_node()
    befriend(node, 1)
    node.events()
    handles = {node.find_peers(InfoHash(number.to_bytes(20)), 2) for number in range(2000)}
    assert len(queries_of(node)) == node.settings.max_lookups
    ended: set[int] = set()
    while len(ended) < len(handles):
        now = node.get_timer()
        node.handle_timer(now)
        queries_of(node, now)
        ended |= {event.handle for event in node.events() if isinstance(event, LookupDone)}
    assert ended == handles


def test_a_cancelled_lookup_says_nothing_more() -> None:
    node = make_node()
    [(friend_id, friend)] = befriend(node, 1)
    node.events()
    handle = node.find_peers(HASH, 2)
    [(query, _)] = queries_of(node)
    node.cancel(handle)
    node.cancel(handle)
    node.cancel(999)
    reply(node, query, friend, friend_id, 2, values=(b"\1\2\3\4\0\5",))
    assert node.events() == []
    assert node.counts.lookups == 0


def test_an_error_is_no_answer_and_ends_the_question() -> None:
    node = make_node()
    [(_, friend)] = befriend(node, 1)
    node.events()
    handle = node.sample(NodeId(b"t" * 20), 2)
    [(query, _)] = queries_of(node)
    node.receive_datagram(krpc.encode(Error(query.transaction, 204, "method unknown")), friend, 2)
    assert node.events() == [LookupDone(handle, "sample", 1, 0)]
    assert len(node.good_nodes()) == 1


def test_samples_are_told() -> None:
    node = make_node()
    [(friend_id, friend)] = befriend(node, 1)
    node.events()
    handle = node.sample(NodeId(b"t" * 20), 2)
    [(query, _)] = queries_of(node)
    reply(node, query, friend, friend_id, 2, samples=b"a" * 20 + b"b" * 20, num=2, interval=10**9)
    told = SamplesFound(handle, friend, (InfoHash(b"a" * 20), InfoHash(b"b" * 20)), 2, 21_600)
    assert node.events() == [told, LookupDone(handle, "sample", 1, 1)]


def test_an_item_is_believed_only_if_it_hashes_to_its_target_or_is_signed() -> None:
    item = Item(b"12:Hello World!")
    signed = Item(b"i7e", b"k" * 32, b"s" * 64, 3, b"salt")
    node = make_node(verify=lambda key, signature, message: signature == b"s" * 64)
    [(friend_id, friend)] = befriend(node, 1)
    node.events()

    def got(target: NodeId, salt: bytes = b"", **more: object) -> list[Item]:
        node.get_item(target, 2, salt=salt)
        [(query, _)] = queries_of(node)
        reply(node, query, friend, friend_id, 2, **more)
        return [event.item for event in node.events() if isinstance(event, ItemFound)]

    assert got(item.target, value=item.value) == [item]
    assert got(item.target, value=b"12:Hello World?") == []
    right = {"value": signed.value, "key": signed.key, "signature": signed.signature, "seq": 3}
    assert got(signed.target, b"salt", **right) == [signed]
    assert got(signed.target, b"pepper", **right) == []
    assert got(signed.target, b"salt", **{**right, "signature": b"x" * 64}) == []
    assert got(signed.target, b"salt", **{**right, "key": b"x" * 32}) == []


def test_a_put_says_why_it_was_refused() -> None:
    node = make_node()
    [(friend_id, friend)] = befriend(node, 1)
    node.events()
    item = Item(b"i7e", b"k" * 32, b"s" * 64, 3)
    handle = node.put_item(item, 2, cas=1)
    [(query, _)] = queries_of(node)
    reply(node, query, friend, friend_id, 2, token=b"tok", seq=2)
    [(query, _)] = queries_of(node)
    assert (query.method, query.item, query.cas, query.token) == (b"put", item, 1, b"tok")
    node.receive_datagram(krpc.encode(Error(query.transaction, 301, "read it again")), friend, 2)
    assert node.events() == [LookupDone(handle, "put", 1, 1, refusal=(301, "read it again"))]


def test_no_cas_goes_to_a_node_that_has_nothing_to_compare_with() -> None:
    node = make_node()
    [(friend_id, friend)] = befriend(node, 1)
    node.put_item(Item(b"i7e", b"k" * 32, b"s" * 64, 3), 2, cas=1)
    [(query, _)] = queries_of(node)
    reply(node, query, friend, friend_id, 2, token=b"tok")
    [(query, _)] = queries_of(node)
    assert query.cas is None


def test_bootstrap_asks_for_both_families_where_there_are_two() -> None:
    four, six = make_node(), make_node("2001:db8::1")
    four.sibling, six.sibling = six, four
    router = Address("198.51.100.1", 6881)
    four.bootstrap([router], 0)
    [(query, to)] = queries_of(four)
    assert (to, query.want, query.target) == (router, (4, 6), four.id)
    other = Address("2001:db8:9::1", 7)
    nodes6 = pack_contacts([(secure_id(other.host, Random(1)), other)])
    reply(four, query, router, NodeId(b"\1" * 20), 0, nodes6=nodes6)
    assert [address for _, address in queries_of(six)] == [other]


# ---- who we are ----


def test_our_id_follows_our_address() -> None:
    node = make_node("10.0.0.1")
    befriend(node, 5)
    before, friends = node.id, set(node.good_nodes())
    node.external = "10.0.0.9"
    assert node.id == before
    node.external = "198.51.100.99"
    assert is_secure(node.id, host_of("198.51.100.99"))
    assert set(node.good_nodes()) == friends
    node.handle_timer(node.get_timer())
    assert {query.target for query, _ in queries_of(node) if query.method == b"find_node"} == {node.id}
    named = node.id
    node.external = "198.51.100.99"
    assert node.id == named
    for nonsense in ("", "router.example", "224.0.0.1", "2001:db8::1", None):
        node.external = nonsense
    assert node.id == named


def test_an_id_that_fits_is_kept() -> None:
    old = secure_id("8.8.4.4", Random(77))
    assert make_node(node_id=old).id == old
    assert make_node(node_id=NodeId(b"x" * 20)).id != NodeId(b"x" * 20)


def test_each_voter_is_told_once_for_each_thing_it_says() -> None:
    node = make_node()
    [(friend_id, friend)] = befriend(node, 1)
    node.events()
    said = []
    for number, host in enumerate(("9.9.9.9", "9.9.9.9", "9.9.9.8", "0.0.0.0")):
        node.find_peers(InfoHash(bytes([number]) * 20), 2)
        [(query, _)] = queries_of(node)
        reply(node, query, friend, friend_id, 2, external=Address(host, 5))
        said += [event for event in node.events() if isinstance(event, ExternalSeen)]
    assert said == [ExternalSeen(Address("9.9.9.9", 5), friend.host), ExternalSeen(Address("9.9.9.8", 5), friend.host)]


# ---- floods and garbage ----


def test_no_answer_is_larger_than_it_may_be() -> None:
    four = make_node(settings=UNBOUNDED)
    four.sibling = make_node("2001:db8::1", settings=UNBOUNDED)
    befriend(four, 40)
    rng = Random(2)
    for _ in range(300):
        announce(four, public_address(rng), now=41, seed=rng.random() < 0.5)
    big = Item(b"996:" + b"x" * 996)
    token = asked(four, b"get", now=41, target=big.target).token
    ask(four, b"put", now=41, token=token, item=big)
    stranger = Address("203.0.113.200", 1)
    proven = public_address(Random(2))
    for source, limit in ((stranger, 512), (proven, 1400)):
        for method in (b"get_peers", b"find_node", b"sample_infohashes"):
            answer = asked(four, method, source, 41, target=HASH)
            assert 250 < len(krpc.encode(answer)) <= limit
        for answer in (
            asked(four, b"get_peers", source, 41, target=HASH, scrape=True),
            asked(four, b"get", source, 41, target=big.target),
            asked(four, b"get", source, 41, target=big.target, want=(4, 6)),
        ):
            assert 700 < len(krpc.encode(answer)) <= 1400
    assert len(asked(four, b"get_peers", proven, 41, target=HASH).values) >= 100


def test_a_flood_of_one_host_gets_little_out_of_us() -> None:
    node = make_node()
    answered = 0
    for number in range(3000):
        query = Query(number.to_bytes(4), b"get_peers", ASKER_ID, target=HASH)
        answered += sum(len(krpc.encode(one)) for one in say(node, query, ASKER, number / 1000))
    assert 5_000 < answered < 20_000
    assert isinstance(asked(node, b"ping", Address("203.0.113.5", 1), 3), Reply)


def test_a_flood_of_many_hosts_gets_no_more_than_there_is_for_all() -> None:
    node = make_node()
    rng = Random(1)
    answered = 0
    for number in range(1500):
        source = public_address(rng)
        query = Query(number.to_bytes(4), b"get_peers", secure_id(source.host, rng), target=HASH, scrape=True)
        answered += sum(len(krpc.encode(one)) for one in say(node, query, source, number / 1000))
    assert 50_000 < answered < 180_000


def test_a_flood_of_large_nonsense_is_soon_not_read_any_more() -> None:
    node = make_node()
    nonsense = b"d1:xl" + b"i1e" * 1300 + b"e1:t1:t1:y1:qe"
    for number in range(3000):
        node.receive_datagram(nonsense, Address(f"1.{number >> 8}.{number & 255}.9", 1), number / 1000)
    answers = len(node.datagrams_to_send(3))
    assert answers < 100
    assert node.counts.dropped == 3000


def test_what_we_asked_for_comes_through_a_flood() -> None:
    node = make_node()
    [(friend_id, friend)] = befriend(node, 1)
    handle = node.find_peers(HASH, 2)
    [(query, _)] = queries_of(node)
    for number in range(2000):
        say(node, Query(b"t", b"ping", ASKER_ID), Address(f"1.{number >> 8}.{number & 255}.9", 1), 2)
        say(node, Query(b"t", b"ping", friend_id), friend, 2)
    reply(node, query, friend, friend_id, 2)
    assert LookupDone(handle, "peers", 1, 1) in node.events()


@given(data=st.lists(st.binary(max_size=60).map(b"d".__add__) | noise.map(b"d".__add__) | broken(), max_size=6))
@settings(max_examples=150)
def test_garbage_changes_nothing(data: list[bytes]) -> None:
    node = make_node()
    for one in data:
        node.receive_datagram(one, ASKER, 1.0)
    assert node.good_nodes() == []
    assert all(len(out) < 600 for out, _ in node.datagrams_to_send(1.0))
    assert node.events() == []


@given(said=messages, more=broken())
@settings(max_examples=150)
def test_whatever_a_node_says_to_our_question_does_no_harm(said: Message, more: bytes) -> None:
    node = make_node()
    [(_, friend)] = befriend(node, 1)
    handle = node.find_peers(HASH, 2, announce_port=1, scrape=True)
    [(query, _)] = queries_of(node)
    said.transaction = query.transaction
    node.receive_datagram(krpc.encode(said), friend, 2)
    node.receive_datagram(more, friend, 2)
    now = 2.0
    while not any(isinstance(event, LookupDone) and event.handle == handle for event in node.events()):
        now = node.get_timer()
        assert now < 60
        node.handle_timer(now)
        node.datagrams_to_send(now)
    assert node.counts.lookups <= 1


def test_a_node_introduces_itself() -> None:
    node = make_node()
    befriend(node, 2)
    assert repr(node) == f"<DhtNode {node.id.hex()[:8]} IPv4 [2 good nodes, 0 lookups]>"
