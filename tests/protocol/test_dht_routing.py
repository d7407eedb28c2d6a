"""The routing table: who gets a place, who loses it, who is told to others; and what floods of nodes do to it."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.krpc import public_address
from unchoke.protocol.dht.ids import distance, secure_id
from unchoke.protocol.dht.routing import FORGOTTEN, FRESH, RoutingTable
from unchoke.types import Address, NodeId

OWN = NodeId(bytes(20))


def far(number: int) -> NodeId:
    """Ids that share no bit with ours, so that all want one bucket."""
    return NodeId(b"\x80" + number.to_bytes(19))


def lan(number: int) -> Address:
    """Local addresses, which may have any id and be of one network."""
    return Address(f"10.0.{number >> 8}.{number & 255}", 6881)


def full(now: float = 0.0) -> RoutingTable:
    """A table whose one far bucket is full of ``far(0)`` to ``far(7)``, heard of a second apart."""
    table = RoutingTable(OWN, 8, now)
    for number in range(8):
        table.answered(far(number), lan(number), now + number)
    return table


def members(table: RoutingTable, now: float) -> set[NodeId]:
    return {contact.id for contact in table.good(now)}


def test_a_full_bucket_keeps_those_it_has_and_newcomers_wait() -> None:
    table = full()
    for number in range(8, 30):
        table.answered(far(number), lan(number), 30.0)
    assert members(table, 31) == {far(number) for number in range(8)}
    assert table.counts(31) == (8, 0, 0, 8)


def test_a_bad_node_makes_room_for_the_newest_spare() -> None:
    table = full()
    table.answered(far(8), lan(8), 20)
    table.answered(far(9), lan(9), 21)
    table.failed(lan(3), 30)
    assert far(3) in members(table, 30)  # once may be the network's fault
    table.failed(lan(3), 31)
    assert far(3) in members(table, 31)  # and so may be twice in a moment
    table.failed(lan(3), 60)
    assert members(table, 60) == {far(n) for n in (0, 1, 2, 4, 5, 6, 7, 9)}


def test_a_failure_is_forgiven_by_an_answer() -> None:
    table = full()
    table.failed(lan(3), 30)
    table.answered(far(3), lan(3), 40)
    table.failed(lan(3), 60)
    assert far(3) in members(table, 61)


def test_who_wants_a_place_has_the_eldest_questionable_one_pinged() -> None:
    table = full()
    doubtful = table.answered(far(8), lan(8), FRESH + 2.5)
    assert doubtful is not None
    assert doubtful.id == far(0)
    table.answered(far(0), lan(0), FRESH + 3)
    doubtful = table.answered(far(9), lan(9), FRESH + 3)
    assert doubtful is not None
    assert doubtful.id == far(1)


def test_nobody_is_pinged_for_the_sake_of_good_ones() -> None:
    assert full().answered(far(8), lan(8), 60) is None


def test_nodes_become_questionable_and_good_again_by_asking() -> None:
    table = full()
    assert table.counts(FRESH + 20) == (0, 8, 0, 0)
    assert not table.asked(far(2), lan(2), FRESH + 21)
    assert members(table, FRESH + 22) == {far(2)}


def test_a_node_that_only_asks_is_worth_a_ping_as_long_as_there_may_be_room() -> None:
    table = full()
    assert table.asked(far(50), lan(50), 10)
    assert members(table, 10) == {far(number) for number in range(8)}
    for number in range(8, 16):
        table.answered(far(number), lan(number), 10)
    assert not table.asked(far(50), lan(50), 11)
    assert not table.asked(OWN, lan(51), 11)


def test_the_bucket_around_our_own_id_splits() -> None:
    table = RoutingTable(OWN, 8, 0)
    rng = Random(2)
    for number in range(400):
        table.answered(NodeId(rng.randbytes(20)), lan(number), 1)
    near = [NodeId(bytes(19) + bytes([number])) for number in range(1, 9)]
    for number, node_id in enumerate(near):
        table.answered(node_id, lan(1000 + number), 1)
    assert set(near) <= members(table, 1)
    assert len(table.buckets) > 5
    assert all(len(bucket.nodes) <= 8 for bucket in table.buckets)


def test_closest_is_by_distance_over_all_buckets() -> None:
    table = RoutingTable(NodeId(b"\x5a" * 20), 8, 0)
    rng = Random(5)
    for number in range(600):
        table.answered(NodeId(rng.randbytes(20)), lan(number), 1)
    everybody = members(table, 2)
    assert len(everybody) > 40
    for _ in range(40):
        target = rng.randbytes(20)
        expected = sorted(everybody, key=lambda node_id: distance(node_id, target))[:8]
        assert [contact.id for contact in table.closest(target, 8, 2)] == expected


def test_an_id_that_its_address_may_not_have_is_never_more_than_a_spare() -> None:
    table = RoutingTable(OWN, 8, 0)
    rng = Random(1)
    for _ in range(50):
        table.answered(NodeId(rng.randbytes(20)), public_address(rng), 0)
    assert table.good(0) == []
    assert table.counts(0) == (0, 0, 0, 8)
    assert len(table.starts(bytes(20), 8, 0)) == 8  # better than nobody
    right = public_address(rng)
    table.answered(secure_id(right.host, rng), right, 0)
    assert [contact.address for contact in table.good(0)] == [right]


def test_ten_thousand_nodes_fill_no_more_than_the_places() -> None:
    table = RoutingTable(OWN, 8, 0)
    rng = Random(1)
    for _ in range(10_000):
        address = public_address(rng)
        table.answered(secure_id(address.host, rng), address, 0)
    assert len(table.all()) <= 16 * len(table.buckets)
    assert len(table.buckets) < 20


def test_ten_thousand_ids_at_one_address_are_one_node() -> None:
    table = RoutingTable(OWN, 8, 0)
    rng = Random(1)
    for port in range(1, 10_001):
        table.answered(secure_id("1.2.3.4", rng), Address("1.2.3.4", port), 0)
    assert len(table.all()) == 1
    for number in range(1, 1000):
        address = Address(f"2001:db8::{number:x}", 6881)
        table.answered(secure_id(address.host, rng), address, 0)
    assert len(table.all()) == 2  # and a /64 is one address


def test_one_id_from_ten_thousand_addresses_is_one_node() -> None:
    table = RoutingTable(OWN, 8, 0)
    for number in range(10_000):
        table.answered(far(1), lan(number), 0)
    assert [contact.address for contact in table.good(0)] == [lan(0)]


def test_a_neighbourhood_has_one_place_in_a_bucket() -> None:
    table = RoutingTable(NodeId(bytes(20)), 8, 0)
    rng = Random(1)
    for last in range(1, 255):
        table.answered(secure_id(f"1.2.3.{last}", rng), Address(f"1.2.3.{last}", 1), 0)
    assert all(len(bucket.nodes) <= 1 for bucket in table.buckets)


def test_many_nodes_on_loopback_are_told_apart_by_their_ports() -> None:
    table = RoutingTable(OWN, 8, 0)
    for port in range(1, 6):
        table.answered(far(port), Address("127.0.0.1", port), 0)
    assert len(table.good(0)) == 5


def test_our_own_id_is_nobody_else_s() -> None:
    table = RoutingTable(OWN, 8, 0)
    table.answered(OWN, lan(1), 0)
    assert table.all() == []


def test_a_node_that_calls_itself_otherwise_has_lost_its_place() -> None:
    table = full()
    table.answered(NodeId(b"\x01" * 20), lan(3), 10)
    assert far(3) not in members(table, 10)
    assert NodeId(b"\x01" * 20) in members(table, 10)


def test_an_id_moves_only_when_its_holder_is_bad() -> None:
    table = full()
    table.answered(far(3), lan(300), 10)
    assert Address("10.0.0.3", 6881) in {contact.address for contact in table.good(10)}
    table.failed(lan(3), 20)
    table.failed(lan(3), 40)
    table.answered(far(3), lan(300), 41)
    assert lan(300) in {contact.address for contact in table.good(41)}
    assert len(members(table, 41)) == 8


def test_pings_go_to_the_questionable_with_growing_pauses_until_they_are_forgotten() -> None:
    table = RoutingTable(OWN, 8, 0)
    table.answered(far(1), lan(1), 0)
    assert table.to_ping(FRESH - 1) is None
    now, times = FRESH, []
    while table.all():
        now += 5
        if table.to_ping(now) is not None:
            table.failed(lan(1), now)
            times.append(now)
    assert len(times) == FORGOTTEN
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == sorted(pauses)
    assert times[-1] - times[0] > 1500


def test_bad_nodes_are_asked_only_when_there_are_no_others() -> None:
    table = RoutingTable(OWN, 8, 0)
    for number in range(2):
        table.answered(far(number), lan(number), 0)
    for now in (20, 40):
        table.failed(lan(0), now)
    assert [contact.id for contact in table.starts(far(0), 8, 41)] == [far(1)]
    for now in (60, 80):
        table.failed(lan(1), now)
    assert len(table.starts(far(0), 8, 81)) == 2
    assert table.closest(far(0), 8, 81) == []


def test_a_quiet_bucket_is_refreshed_with_an_id_of_its_own() -> None:
    own = NodeId(Random(9).randbytes(20))
    table = RoutingTable(own, 8, 0)
    rng = Random(4)
    for number in range(300):
        table.answered(NodeId(rng.randbytes(20)), lan(number), 1)
    assert table.to_refresh(rng, FRESH) is None
    shared = []
    while (target := table.to_refresh(rng, FRESH + 2)) is not None:
        shared.append(160 - distance(target, own).bit_length())
    last = len(table.buckets) - 1
    assert sorted(min(bits, last) for bits in shared) == list(range(last + 1))


def test_an_empty_table_has_nothing_to_refresh_or_ping() -> None:
    table = RoutingTable(OWN, 8, 0)
    assert table.to_refresh(Random(1), 1e6) is None
    assert table.to_ping(1e6) is None
    assert table.closest(bytes(20), 8, 1e6) == []
    table.failed(lan(1), 1e6)


def is_whole(table: RoutingTable) -> bool:
    """Everybody stands once, in the bucket where it belongs, with no more than k places and spares in each."""
    everybody = []
    for index, bucket in enumerate(table.buckets):
        last = index == len(table.buckets) - 1
        for one in bucket.nodes + bucket.spares:
            shared = 160 - distance(one.id, table.own_id).bit_length()
            assert shared >= index if last else shared == index
            assert table.knows(one.address)
        assert len(bucket.nodes) <= table.k
        assert len(bucket.spares) <= table.k
        assert all(one.secure for one in bucket.nodes)
        everybody += bucket.nodes + bucket.spares
    assert len({one.id for one in everybody}) == len({one.identity for one in everybody}) == len(everybody)
    assert {one.id for one in everybody} == {one.id for one in table.all()}
    return True


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("aaaqf"), st.integers(0, 63), st.integers(0, 40), st.integers(0, 300)), max_size=150
    )
)
@settings(max_examples=60)
def test_whatever_happens_the_table_stays_whole(steps: list[tuple[str, int, int, int]]) -> None:
    table = RoutingTable(NodeId(b"\x80" + bytes(19)), 2, 0)
    now = 0.0
    for step, which, where, passed in steps:
        now += passed
        rng = Random(which)
        address = lan(where) if which % 3 else Address(f"9.8.{where % 5}.{where}", 6881)
        node_id = NodeId(bytes([which << 2]) + rng.randbytes(19)) if which % 2 else secure_id(address.host, rng)
        if step == "a":
            table.answered(node_id, address, now)
        elif step == "q":
            table.asked(node_id, address, now)
        else:
            table.failed(address, now)
    assert is_whole(table)


def test_an_address_stays_with_whoever_has_it_and_lives() -> None:
    table = full()
    table.answered(far(20), Address("10.0.0.3", 999), 10)
    assert (far(3), lan(3)) in table.good(10)
    for now in (20, 40):
        table.failed(lan(3), now)
    table.answered(far(20), Address("10.0.0.3", 999), 41)
    assert (far(20), Address("10.0.0.3", 999)) in table.good(41)
