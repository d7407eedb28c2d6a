"""Lookups against networks drawn in a few lines: they end, find the nearest, and hostile nodes cannot stretch them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random

from fakes.krpc import public_address
from unchoke.protocol.dht.ids import distance, secure_id
from unchoke.protocol.dht.lookup import MAX_CANDIDATES, MAX_INSECURE, Candidate, Lookup, State
from unchoke.types import Address, NodeId

TARGET = NodeId(bytes(20))
Named = Sequence[tuple[NodeId, Address]]


def node(number: int) -> tuple[NodeId, Address]:
    """The larger the number, the farther from the target; on a local network, where ids are free."""
    return NodeId(number.to_bytes(20)), Address(f"10.0.{number >> 8}.{number & 255}", 1)


def lookup(starts: Iterable[tuple[NodeId | None, Address]], *, max_queries: int = 48) -> Lookup:
    return Lookup(TARGET, starts, own_id=NodeId(b"\xff" * 20), k=8, alpha=4, max_queries=max_queries)


def run(search: Lookup, answer: Callable[[Candidate], tuple[NodeId, Named] | None]) -> list[Candidate]:
    """Answer each query in turn, or let it fail first slow and then wholly. Returns who was asked."""
    asked: list[Candidate] = []
    slow: list[Candidate] = []
    while True:
        batch = []
        while (candidate := search.next()) is not None:
            batch.append(candidate)
        if search.is_done:
            return asked
        asked += batch
        for one in batch:
            said = answer(one)
            if said is None:
                search.slow(one)
                slow.append(one)
            else:
                search.replied(one, *said)
        if not batch:
            while slow:
                search.failed(slow.pop())


def test_it_finds_the_nearest_of_all() -> None:
    everybody = [node(number) for number in range(1, 400)]

    def answer(one: Candidate) -> tuple[NodeId, Named]:
        assert one.id is not None
        return one.id, [node(max(1, int.from_bytes(one.id) // 2 + step)) for step in range(8)]

    search = lookup(everybody[-3:])
    asked = run(search, answer)
    assert [one.id for one in search.closest()] == [node_id for node_id, _ in everybody[:8]]
    assert search.queries == len(asked) < 40


def test_no_more_than_alpha_at_a_time_and_a_slow_one_gives_its_turn_away() -> None:
    search = lookup(node(number) for number in range(1, 20))
    first = [search.next() for _ in range(5)]
    assert first[4] is None
    assert first[0] is not None
    search.slow(first[0])
    assert search.next() is not None
    assert search.next() is None


def test_a_late_answer_counts() -> None:
    search = lookup([node(1), node(2)])
    one, two = search.next(), search.next()
    assert one is not None
    assert two is not None
    search.slow(one)
    search.replied(two, node(2)[0], [])
    assert search.next() is None
    assert not search.is_done  # it may still come
    search.replied(one, node(1)[0], [node(3)])
    third = search.next()
    assert third is not None
    search.replied(third, node(3)[0], [])
    assert run(search, lambda one: None) == []
    assert [candidate.id for candidate in search.closest()] == [node(number)[0] for number in (1, 2, 3)]


def test_with_enough_others_slow_ones_are_not_waited_for() -> None:
    search = lookup(node(number) for number in range(1, 10))
    run_first = search.next()
    assert run_first is not None
    search.slow(run_first)
    while (candidate := search.next()) is not None:
        assert candidate.id is not None
        search.replied(candidate, candidate.id, [])
    assert search.is_done
    assert len(search.closest()) == 8


def test_with_nobody_to_ask_it_is_done_at_once() -> None:
    search = lookup([])
    assert search.next() is None
    assert search.is_done
    assert search.closest() == []


def test_a_world_of_dead_nodes_ends() -> None:
    search = lookup(node(number) for number in range(1, 30))
    assert len(run(search, lambda one: None)) == 29
    assert search.closest() == []


def test_ever_nearer_nodes_do_not_stretch_it_beyond_its_last_query() -> None:
    numbers = iter(range(60_000, 0, -1))

    def answer(one: Candidate) -> tuple[NodeId, Named]:
        assert one.id is not None
        return one.id, [node(next(numbers)) for _ in range(8)]

    search = lookup([node(65_000)], max_queries=30)
    assert len(run(search, answer)) == 30
    assert len(search.closest()) == 8


def test_a_thousand_names_in_one_answer_are_a_few() -> None:
    search = lookup([node(60_000)])
    first = search.next()
    assert first is not None
    search.replied(first, node(60_000)[0], [node(number) for number in range(1, 1001)])
    assert len(run(search, lambda one: None)) <= 16


def test_there_are_never_more_candidates_than_so_many() -> None:
    search = lookup(node(number) for number in range(1000, 0, -1))
    assert len(run(search, lambda one: None)) == 48
    assert search.queries < MAX_CANDIDATES


def test_one_address_is_one_candidate() -> None:
    rng = Random(1)
    search = lookup((secure_id("1.2.3.4", rng), Address("1.2.3.4", port)) for port in range(1, 100))
    assert len(run(search, lambda one: None)) == 1


def test_another_port_is_tried_when_the_first_is_dead() -> None:
    search = lookup([(node(1)[0], Address("10.0.0.1", 1)), node(9)])
    first, second = search.next(), search.next()
    assert first is not None
    assert second is not None
    search.slow(first)
    search.replied(second, node(9)[0], [(node(1)[0], Address("10.0.0.1", 2))])
    third = search.next()
    assert third is not None
    assert third.address.port == 2


def test_who_names_only_dead_nodes_is_not_followed_while_there_are_others() -> None:
    """A liar, asked first, names 16 that would be nearer still; honest nodes are farther away, but alive."""
    liar, honest = node(3000), [node(number) for number in range(4000, 4016)]

    def answer(one: Candidate) -> tuple[NodeId, Named] | None:
        if one.id == liar[0]:
            return one.id, [node(number) for number in range(1, 17)]
        return (one.id, []) if one.id is not None and int.from_bytes(one.id) >= 4000 else None

    search = lookup([liar, *honest])
    asked = run(search, answer)
    assert [one.id for one in search.closest()] == [node_id for node_id, _ in [liar, *honest[:7]]]
    assert sum(one.state is State.FAILED or one.state is State.SLOW for one in asked) <= 7


def test_where_there_is_nobody_else_even_a_liar_is_followed() -> None:
    def answer(one: Candidate) -> tuple[NodeId, Named] | None:
        assert one.id is not None
        if one.id == node(500)[0]:
            return one.id, [node(number) for number in range(1, 9)]
        return (one.id, []) if one.id == node(8)[0] else None

    search = lookup([node(500)])
    run(search, answer)
    assert [candidate.id for candidate in search.closest()] == [node(8)[0], node(500)[0]]


def test_ids_that_break_bep_42_count_for_nothing_and_are_asked_seldom() -> None:
    rng = Random(1)
    wrong = [(NodeId(number.to_bytes(20)), public_address(rng)) for number in range(1, 30)]
    right = [(secure_id(address.host, rng), address) for address in (public_address(rng) for _ in range(12))]

    def answer(one: Candidate) -> tuple[NodeId, Named]:
        assert one.id is not None
        return one.id, []

    search = lookup([*wrong, *right])
    asked = run(search, answer)
    nearest = sorted((node_id for node_id, _ in right), key=lambda node_id: distance(node_id, TARGET))[:8]
    assert [one.id for one in search.closest()] == nearest
    assert sum(not one.secure for one in asked) == MAX_INSECURE


def test_who_answers_with_another_id_stands_where_that_one_belongs() -> None:
    rng = Random(1)
    address = public_address(rng)
    real = secure_id(address.host, rng)
    claimed = NodeId(real[:10] + bytes(9) + real[19:])  # nearer by what is free to choose
    search = lookup([(claimed, address)])
    candidate = search.next()
    assert candidate is not None
    assert search.replied(candidate, real, [])
    assert [(one.id, one.distance) for one in search.closest()] == [(real, distance(real, TARGET))]


def test_an_answer_with_an_impossible_id_is_none() -> None:
    rng = Random(1)
    address = public_address(rng)
    search = lookup([(secure_id(address.host, rng), address)])
    candidate = search.next()
    assert candidate is not None
    assert not search.replied(candidate, NodeId(b"\1" * 20), [node(1)])
    assert search.next() is None
    assert search.is_done


def test_routers_of_unknown_id_are_asked_when_nobody_nearer_is_left_and_may_call_themselves_anything() -> None:
    router = Address("8.8.8.8", 6881)
    search = lookup([(None, router), node(1)])
    first, second = search.next(), search.next()
    assert first is not None
    assert second is not None
    assert (first.id, second.address) == (node(1)[0], router)
    assert search.replied(second, NodeId(b"\1" * 20), [node(2)])
    third = search.next()
    assert third is not None
    assert third.id == node(2)[0]


def test_an_answer_counts_once_and_not_after_a_failure() -> None:
    search = lookup([node(1)])
    candidate = search.next()
    assert candidate is not None
    assert search.replied(candidate, node(1)[0], [])
    assert not search.replied(candidate, node(1)[0], [node(2)])
    assert search.replies == 1
    other = lookup([node(1)])
    failed = other.next()
    assert failed is not None
    other.failed(failed)
    assert not other.replied(failed, node(1)[0], [node(2)])
    assert other.is_done


def test_our_own_id_is_not_asked() -> None:
    search = lookup([(NodeId(b"\xff" * 20), Address("10.0.0.1", 1))])
    assert search.next() is None
    assert search.is_done


def test_an_answer_from_ourselves_is_none() -> None:
    search = lookup([node(1)])
    candidate = search.next()
    assert candidate is not None
    assert not search.replied(candidate, NodeId(b"\xff" * 20), [node(2)])
    assert search.next() is None
    assert search.closest() == []


def test_who_names_living_ones_among_the_dead_is_followed() -> None:
    namer = node(3000)

    def answer(one: Candidate) -> tuple[NodeId, Named] | None:
        assert one.id is not None
        number = int.from_bytes(one.id)
        if number == 3000:
            return one.id, [node(near) for near in range(1, 17)]
        return (one.id, []) if number >= 3000 or number % 2 else None

    search = lookup([namer, *(node(number) for number in range(4000, 4016))])
    run(search, answer)
    assert [one.id for one in search.closest()] == [node(number)[0] for number in range(1, 17, 2)]
