"""PeerList: whom to dial, when, and never again."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from unchoke.policy.peerlist import PeerList, PeerListSettings, Source, is_dialable
from unchoke.types import Address

A, B = Address("10.0.0.1", 6881), Address("10.0.0.2", 6881)


def peerlist(**changes: float) -> PeerList:
    return PeerList(Random(1), PeerListSettings(**changes))  # type: ignore[arg-type]


def test_new_addresses_are_dialled_at_once_and_once() -> None:
    known = peerlist()
    assert known.add([A, B, A], Source.TRACKER, 0.0) == 2
    assert sorted(known.next_to_dial(9, 0.0)) == [A, B]
    assert known.next_to_dial(9, 0.0) == []


def test_no_more_than_asked_for() -> None:
    known = peerlist()
    known.add([Address("10.0.0.3", port) for port in range(1, 100)], Source.TRACKER, 0.0)
    assert len(known.next_to_dial(30, 0.0)) == 30


def test_a_failure_waits_ever_longer() -> None:
    known = peerlist()
    known.add([A], Source.TRACKER, 0.0)
    now, waits = 0.0, []
    for _ in range(5):
        assert known.next_to_dial(1, now) == [A]
        known.failed(A, "refused", now)
        due = known.next_due
        assert due is not None
        waits.append(due - now)
        now = due
    assert all(later > 1.3 * sooner for sooner, later in pairwise(waits))
    assert 10 < waits[0] < 20


def test_after_many_failures_it_is_forgotten_but_not_the_users() -> None:
    known = peerlist()
    known.add([A], Source.TRACKER, 0.0)
    known.add([B], Source.USER, 0.0)
    for turn in range(12):
        known.next_to_dial(9, turn * 1e5)
        known.failed(A, "refused", turn * 1e5)
        known.failed(B, "refused", turn * 1e5)
    assert known.get(A) is None
    assert known.get(B) is not None


def test_success_forgives() -> None:
    known = peerlist()
    known.add([A], Source.TRACKER, 0.0)
    known.failed(A, "refused", 0.0)
    known.succeeded(A)
    peer = known.get(A)
    assert peer is not None
    assert (peer.failures, peer.reason) == (0, "")


def test_who_left_is_dialled_again_later_but_who_only_came_in_is_not() -> None:
    known = peerlist()
    known.add([A], Source.TRACKER, 0.0)
    known.next_to_dial(1, 0.0)
    known.left(A, "closed", 10.0)
    assert known.next_to_dial(1, 24.0) == []
    assert known.next_to_dial(1, 25.0) == [A]
    known.connected(B, Source.INCOMING, 0.0)
    known.left(B, "closed", 10.0)
    assert known.get(B) is None


def test_the_banned_and_ourselves_are_not_dialled() -> None:
    known = peerlist()
    known.add([A, B], Source.TRACKER, 0.0)
    known.ban(A.host, "sent wrong data")
    known.exclude(B)
    assert known.next_to_dial(9, 0.0) == []
    assert known.add([A, B, Address(A.host, 7)], Source.TRACKER, 1.0) == 0


def test_the_list_is_bounded_and_the_worst_go_first() -> None:
    known = peerlist(most=50)
    known.add([A], Source.USER, 0.0)
    known.add([B], Source.TRACKER, 0.0)
    known.failed(B, "refused", 0.0)
    flood = [Address(f"10.1.{high}.{low}", 6881) for high in range(20) for low in range(50)]
    for address in flood:
        known.add([address], Source.TRACKER, 1.0)
    assert len(known) <= 50
    assert known.get(A) is not None
    assert known.get(B) is None
    assert len(known._due) <= 4 * 50 + 1


def test_seeds_rest_while_we_need_none_and_are_dialled_again_when_we_do() -> None:
    known = peerlist()
    known.add([A, B], Source.TRACKER, 0.0)
    known.is_seed(A)
    assert known.next_to_dial(9, 0.0, seeds=False) == [B]
    assert known.next_to_dial(9, 1.0, seeds=False) == []
    assert known.next_to_dial(9, 2.0) == [A]
    assert known.next_to_dial(9, 3.0) == []


def test_who_breaks_the_protocol_waits_ever_longer_whatever_its_port() -> None:
    known, now, waits = peerlist(), 0.0, []
    for _ in range(4):
        known.offended(A.host, now)
        start = now
        while known.must_wait(A.host, now):
            now += 1.0
        waits.append(now - start)
    assert waits == [15, 30, 60, 120]
    assert not known.must_wait(B.host, 0.0)
    now += 2 * known.settings.last_retry
    known.offended(A.host, now)
    assert not known.must_wait(A.host, now + 15), "long ago is forgiven"


def test_offenders_are_bounded() -> None:
    known = peerlist(most_offenders=10)
    for number in range(1000):
        known.offended(f"10.0.{number // 250}.{number % 250}", 0.0)
    assert len(known._offenders) == 10
    assert known.must_wait("10.0.3.249", 1.0)


@pytest.mark.parametrize(
    ("host", "port", "usable"),
    [
        ("10.0.0.1", 6881, True),
        ("::1", 6881, True),
        ("fe80::1%2", 6881, True),
        ("10.0.0.1", 0, False),
        ("10.0.0.1", 65536, False),
        ("224.0.0.1", 6881, False),
        ("ff02::1", 6881, False),
        ("0.0.0.0", 6881, False),
        ("255.255.255.255", 6881, False),
        ("example.org", 6881, False),
    ],
)
def test_what_can_be_dialled(host: str, port: int, usable: bool) -> None:
    assert is_dialable(Address(host, port)) is usable


def test_who_left_without_fault_is_dialled_again_when_we_want_other_things() -> None:
    peers = PeerList(Random(1))
    gone, failing = Address("10.0.0.1", 1), Address("10.0.0.2", 2)
    peers.add([gone, failing], Source.TRACKER, 0.0)
    assert len(peers.next_to_dial(5, 0.0)) == 2
    peers.left(gone, "both have everything", 1.0)
    peers.failed(failing, "no answer", 1.0)
    assert peers.next_to_dial(5, 2.0) == []
    peers.again(2.0)
    assert peers.next_to_dial(5, 2.0) == [gone]


def test_an_address_that_its_user_names_again_is_dialled_at_once() -> None:
    peers = PeerList(Random(1))
    address = Address("10.0.0.1", 1)
    peers.add([address], Source.USER, 0.0)
    assert peers.next_to_dial(5, 0.0) == [address]
    peers.failed(address, "no answer", 1.0)
    assert peers.next_to_dial(5, 1.5) == []
    peers.add([address], Source.USER, 1.5)
    assert peers.next_to_dial(5, 1.5) == [address]
