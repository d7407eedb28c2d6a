"""What a node does unasked: how often it searches for its neighbours, and how fast it greets newcomers."""

from __future__ import annotations

from random import Random

from unchoke.protocol.dht.queries import Queries
from unchoke.protocol.dht.routing import RoutingTable
from unchoke.protocol.dht.upkeep import Upkeep
from unchoke.types import Address, NodeId

OWN = NodeId(bytes(20))


def searches(table: RoutingTable, upkeep: Upkeep, seconds: int) -> list[int]:
    """When it searched for itself, looked at every five seconds, all nodes alive."""
    times = []
    for now in range(0, seconds, 5):
        for one in table.all():
            table.answered(one.id, one.address, now)
        if upkeep.target(table, Random(1), now) == OWN:
            times.append(now)
    return times


def test_the_lonely_search_soon_and_then_ever_more_seldom() -> None:
    table = RoutingTable(OWN, 8, 0)
    table.answered(NodeId(b"\x80" * 20), Address("10.0.0.1", 1), 0)
    times = searches(table, Upkeep(8, 0), 3600)
    assert times[:4] == [0, 20, 60, 140]
    assert len(times) == 15


def test_who_has_nobody_or_enough_does_not_search() -> None:
    table = RoutingTable(OWN, 8, 0)
    assert searches(table, Upkeep(8, 0), 600) == []
    for number in range(8):
        table.answered(NodeId(bytes([0x80 + number]) * 20), Address(f"10.0.0.{number}", 1), 0)
    assert searches(table, Upkeep(8, 0), 600) == []


def test_after_a_search_there_is_a_pause_and_after_a_move_there_is_none() -> None:
    table = RoutingTable(OWN, 8, 0)
    table.answered(NodeId(b"\x80" * 20), Address("10.0.0.1", 1), 0)
    upkeep = Upkeep(8, 0)
    upkeep.searched(0)
    assert upkeep.target(table, Random(1), 5) is None
    upkeep.moved()
    assert upkeep.target(table, Random(1), 5) == OWN
    assert upkeep.target(table, Random(1), 6) is None


def test_newcomers_are_greeted_in_turn_and_those_who_only_asked_do_not_keep_others_out() -> None:
    table, queries = RoutingTable(OWN, 8, 0), Queries(Random(1).getrandbits, 1.0, 8.0)
    upkeep = Upkeep(8, 0)
    for number in range(1000):
        upkeep.told_of(Address(f"10.1.{number >> 8}.{number & 255}", 1), asked=True)
    told = Address("10.2.0.1", 1)
    upkeep.told_of(told, asked=False)
    greeted = [address for now in range(3) for address in upkeep.newcomers(table, queries, now)]
    assert len(greeted) == 17
    assert greeted[-1] == told
    for number in range(1000):
        upkeep.told_of(Address(f"10.1.{number >> 8}.{number & 255}", 1), asked=False)
    assert sum(len(upkeep.newcomers(table, queries, now)) for now in range(3, 1000)) == 200


def test_who_is_known_or_asked_already_is_not_greeted() -> None:
    table, queries = RoutingTable(OWN, 8, 0), Queries(Random(1).getrandbits, 1.0, 8.0)
    known, asked = Address("10.0.0.1", 1), Address("10.0.0.2", 1)
    table.answered(NodeId(b"\x80" * 20), known, 0)
    queries.begin(asked, 0)
    upkeep = Upkeep(8, 0)
    upkeep.told_of(known, asked=False)
    upkeep.told_of(asked, asked=False)
    assert upkeep.newcomers(table, queries, 0) == []
