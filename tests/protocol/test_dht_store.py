"""What a node keeps for others: for how long, how much, and of whom; tokens; and what it gives to whom."""

from __future__ import annotations

from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.protocol.dht.ids import Host, host_of
from unchoke.protocol.dht.item import Item
from unchoke.protocol.dht.limits import MAX_HOSTS, PROOF_LIFE, Limits
from unchoke.protocol.dht.messages import BAD_SIGNATURE, CAS_MISMATCH, OUTDATED
from unchoke.protocol.dht.models import NodeSettings
from unchoke.protocol.dht.store import SAMPLE, ItemStore, PeerStore
from unchoke.protocol.dht.tokens import Tokens

HASH, OTHER = b"h" * 20, b"o" * 20
RNG = Random(1)


def host(number: int) -> bytes:
    return number.to_bytes(4)


def at(number: int) -> Host:
    return host_of(str(IPv4Address(number)))


# ---- peers ----


def test_a_host_is_one_peer_with_its_last_port() -> None:
    store = PeerStore(NodeSettings())
    for port in (1, 2, 0x1AE1):
        store.add(HASH, at(1), port, False, 0)
    assert store.some(HASH, 10, RNG) == (b"\0\0\0\1\x1a\xe1",)
    assert store.some(OTHER, 10, RNG) == ()
    assert len(store) == 1


def test_peers_expire_and_live_on_when_announced_again() -> None:
    store = PeerStore(NodeSettings(peer_life=1800))
    store.add(HASH, at(1), 1, False, 0)
    store.add(OTHER, at(2), 1, False, 0)
    store.add(HASH, at(1), 1, False, 1000)
    store.expire(1800)
    assert (len(store), OTHER in store) == (1, False)
    store.expire(2800)
    assert (len(store), store.infohashes) == (0, 0)


def test_some_are_not_always_the_same() -> None:
    store = PeerStore(NodeSettings())
    for number in range(100):
        store.add(HASH, at(number), 1, False, 0)
    seen = {peer for _ in range(60) for peer in store.some(HASH, 10, RNG)}
    assert len(seen) > 80
    assert all(len(set(store.some(HASH, 10, RNG))) == 10 for _ in range(20))


def test_who_wants_no_seeds_gets_none() -> None:
    store = PeerStore(NodeSettings())
    store.add(HASH, at(1), 1, True, 0)
    store.add(HASH, at(2), 1, False, 0)
    assert store.some(HASH, 10, RNG, noseed=True) == (host(2) + b"\0\1",)
    assert len(store.some(HASH, 10, RNG)) == 2
    assert store.hosts(HASH) == ([host(1)], [host(2)])


def test_an_infohash_has_room_for_so_many_the_newest() -> None:
    store = PeerStore(NodeSettings(max_peers_each=5))
    for number in range(20):
        store.add(HASH, at(number), 1, False, number)
    assert {peer[:4] for peer in store.some(HASH, 100, RNG)} == {host(number) for number in range(15, 20)}


def test_a_host_that_announces_much_pushes_out_only_itself() -> None:
    store = PeerStore(NodeSettings(max_peers_host=10, max_infohashes=50))
    store.add(HASH, at(1), 1, False, 0)
    for number in range(1000):
        store.add(number.to_bytes(20), at(2), 1, False, 1)
    assert len(store) == 11
    assert HASH in store


def test_there_is_room_for_so_many_in_all() -> None:
    store = PeerStore(NodeSettings(max_peers_stored=100))
    for number in range(1000):
        store.add((number % 7).to_bytes(20), at(number), 1, False, number)
    assert len(store) == 100


def test_where_infohashes_are_too_many_the_least_wanted_goes() -> None:
    store = PeerStore(NodeSettings(max_infohashes=10))
    for number in range(20):
        store.add(HASH, at(number), 1, False, 0)
    for number in range(100):
        store.add(number.to_bytes(20), at(number), 1, False, 1)
    assert store.infohashes == 10
    assert len(store.some(HASH, 100, RNG)) == 20


def test_a_sample_is_all_of_few_and_the_same_for_a_while_of_many() -> None:
    store = PeerStore(NodeSettings(sample_interval=3600))
    assert store.sample(RNG, 0) == (b"", 0)
    for number in range(SAMPLE):
        store.add(number.to_bytes(20), at(number), 1, False, 0)
    sample, interval = store.sample(RNG, 0)
    assert (len(sample), interval) == (SAMPLE * 20, 0)
    for number in range(100, 200):
        store.add(number.to_bytes(20), at(number), 1, False, 0)
    assert store.sample(RNG, 1000) == (sample, 2600)
    fresh, interval = store.sample(RNG, 3600)
    assert fresh != sample
    assert interval == 3600
    assert store.sample(RNG, 3700)[0] == fresh


@given(
    announces=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 60), st.integers(1, 3), st.integers(0, 900)), max_size=120
    )
)
@settings(max_examples=40)
def test_whatever_is_announced_the_bounds_hold_and_nothing_stays(announces: list[tuple[int, int, int, int]]) -> None:
    bounds = NodeSettings(max_infohashes=5, max_peers_stored=30, max_peers_each=8, max_peers_host=3)
    store = PeerStore(bounds)
    now = 0
    for infohash, number, port, passed in announces:
        now += passed
        hosts = (at(number), host_of(f"2001:db8::{number:x}"), host_of("127.0.0.1"))
        store.expire(now)
        store.add(infohash.to_bytes(20), hosts[number % 3], port, False, now)
        told = [store.some(one.to_bytes(20), 100, RNG) for one in range(10)]
        assert sum(map(len, told)) == len(store) <= 30
        assert max(map(len, told)) <= 8
        assert sum(map(bool, told)) == store.infohashes <= 5
        assert hosts[number % 3].packed + port.to_bytes(2) in told[infohash]
    store.expire(now + bounds.peer_life)
    assert (len(store), store.infohashes) == (0, 0)
    assert not any(one.to_bytes(20) in store for one in range(10))


def test_a_network_is_no_crowd() -> None:
    store = PeerStore(NodeSettings())
    for number in range(1, 1000):
        store.add(HASH, host_of(f"2001:db8::{number:x}"), 1, False, 0)
    assert len(store) == 4
    store.add(HASH, host_of("2001:db8:0:1::1"), 1, False, 0)
    assert len(store) == 5
    for number in range(1000):
        store.add(number.to_bytes(20), host_of(f"2001:db8::{number + 1:x}"), 1, False, 0)
    assert len(store) == 256 + 1


def test_on_loopback_each_port_is_a_peer() -> None:
    store = PeerStore(NodeSettings())
    for port in (1, 2, 2):
        store.add(HASH, host_of("127.0.0.1"), port, False, 0)
    assert len(store.some(HASH, 9, RNG)) == 2
    assert store.hosts(HASH)[1] == [b"\x7f\0\0\1"] * 2
    store.expire(1800)
    assert len(store) == 0


# ---- items ----


def mutable(value: bytes, seq: int, key: bytes = b"k" * 32, signature: bytes = b"good".ljust(64)) -> Item:
    return Item(value, key, signature, seq)


@pytest.fixture
def items() -> ItemStore:
    return ItemStore(NodeSettings(max_items=20, max_items_host=5), lambda key, sig, message: sig.startswith(b"good"))


def test_an_item_is_kept_for_two_hours_from_its_last_put(items: ItemStore) -> None:
    item = Item(b"1:a")
    assert items.put(item, None, host(1), 0) is None
    assert items.put(item, None, host(2), 3600) is None
    items.expire(7200)
    assert items.get(item.target) == item
    items.expire(10_800)
    assert items.get(item.target) is None
    assert len(items) == 0


def test_a_newer_item_replaces_and_an_older_one_does_not(items: ItemStore) -> None:
    assert items.put(mutable(b"1:a", 5), None, host(1), 0) is None
    refusal = items.put(mutable(b"1:b", 4), None, host(1), 0)
    assert refusal is not None
    assert refusal[0] == OUTDATED
    refusal = items.put(mutable(b"1:b", 5), None, host(1), 0)
    assert refusal is not None
    assert refusal[0] == OUTDATED
    assert items.put(mutable(b"1:a", 5), None, host(1), 0) is None  # again, to keep it alive
    assert items.put(mutable(b"1:b", 6), None, host(1), 0) is None
    assert items.get(mutable(b"1:a", 5).target) == mutable(b"1:b", 6)
    assert len(items) == 1


def test_compare_and_swap(items: ItemStore) -> None:
    assert items.put(mutable(b"1:a", 5), 99, host(1), 0) is None  # nothing to compare with
    refusal = items.put(mutable(b"1:b", 6), 4, host(1), 0)
    assert refusal is not None
    assert refusal[0] == CAS_MISMATCH
    assert items.put(mutable(b"1:b", 6), 5, host(1), 0) is None


def test_a_bad_signature_is_refused_also_for_what_is_newer(items: ItemStore) -> None:
    bad = b"bad".ljust(64)
    for seq in (1, 2):
        refusal = items.put(mutable(b"1:a", seq, signature=bad), None, host(1), 0)
        assert refusal is not None
        assert refusal[0] == BAD_SIGNATURE
    assert len(items) == 0
    blind = ItemStore(NodeSettings(), None)
    refusal = blind.put(mutable(b"1:a", 1), None, host(1), 0)
    assert refusal is not None
    assert refusal[0] == BAD_SIGNATURE


def test_items_are_bounded_for_each_host_and_in_all(items: ItemStore) -> None:
    items.put(Item(b"1:z"), None, host(9), 0)
    for number in range(100):
        items.put(Item(b"i%de" % number), None, host(1), 1)
    assert len(items) == 6
    assert items.get(Item(b"1:z").target) is not None
    assert items.get(Item(b"i99e").target) is not None
    for number in range(100):
        items.put(Item(b"i%de" % (1000 + number)), None, host(100 + number), 2)
    assert len(items) == 20


# ---- tokens ----


def test_a_token_is_good_for_its_host_and_target_for_five_minutes_at_least_and_ten_at_most() -> None:
    tokens = Tokens(Random(1).getrandbits, 0)
    early, late = tokens.make(host(1), HASH, 0), tokens.make(host(1), HASH, 299)
    assert tokens.is_good(early, host(1), HASH, 299)
    assert not tokens.is_good(early, host(2), HASH, 0)
    assert not tokens.is_good(early, host(1), OTHER, 0)
    assert tokens.is_good(late, host(1), HASH, 599)
    assert not tokens.is_good(late, host(1), HASH, 600)
    assert not tokens.is_good(b"", host(1), HASH, 600)
    assert not tokens.is_good(b"x" * 64, host(1), HASH, 600)


def test_after_a_long_sleep_no_old_token_counts() -> None:
    tokens = Tokens(Random(1).getrandbits, 0)
    token = tokens.make(host(1), HASH, 0)
    assert not tokens.is_good(token, host(1), HASH, 1e6)
    assert tokens.is_good(tokens.make(host(1), HASH, 1e6), host(1), HASH, 1e6 + 299)


# ---- limits ----


def test_a_host_that_asks_much_is_not_read_until_its_budget_fills_again() -> None:
    limits = Limits(1000, 5000, 10**6, 0)
    for _ in range(10):
        limits.charge(b"h", 500, 0)
    assert not limits.admits(b"h", 0)
    assert limits.admits(b"other", 0)
    assert limits.admits(b"h", 1)


def test_who_has_shown_itself_gets_more() -> None:
    limits = Limits(1000, 5000, 10**6, 0)
    limits.prove(b"h", 0)
    for one in (b"h", b"stranger"):
        limits.charge(one, 8000, 0)
    assert limits.admits(b"h", 1)
    assert not limits.admits(b"stranger", 1)
    assert not limits.is_proven(b"h", PROOF_LIFE)


def test_all_together_have_a_budget() -> None:
    limits = Limits(1000, 5000, 10_000, 0)
    for number in range(40):
        limits.charge(host(number), 500, 0)
    assert not limits.admits(b"new", 0)
    assert limits.admits(b"new", 1)


def test_large_answers_to_strangers_have_a_small_budget_of_their_own() -> None:
    limits = Limits(10**6, 10**6, 10**9, 0)
    given = sum(limits.may_be_large(host(number), 1000, 0) for number in range(1000))
    assert given == 40
    limits.prove(b"known", 0)
    assert limits.may_be_large(b"known", 1000, 0)
    assert limits.may_be_large(host(1), 1000, 1)


def test_a_flood_of_hosts_is_not_remembered_without_end() -> None:
    limits = Limits(1000, 5000, 10**9, 0)
    for number in range(20_000):
        limits.charge(host(number), 6000, 0)
        limits.prove(host(number), 0)
    remembered = sum(not limits.admits(host(number), 0) for number in range(20_000))
    assert 0 < remembered <= MAX_HOSTS
    assert 0 < sum(limits.is_proven(host(number), 0) for number in range(20_000)) <= MAX_HOSTS


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    limits = Limits(1000, 5000, 10_000, 100)
    limits.charge(b"h", 100, 100)
    assert limits.admits(b"h", 0)
