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


# ---------------------------------------------------------------------- order (BEP 40)


def test_the_users_come_first_then_who_did_not_fail_then_by_rank() -> None:
    rank = {A: 5, B: 9}
    known = PeerList(Random(1), rank=lambda address: rank.get(address, 7))
    tracked, failing, given = Address("10.0.0.3", 1), Address("10.0.0.4", 1), Address("10.0.0.5", 1)
    known.add([failing], Source.TRACKER, 0.0)
    known.next_to_dial(1, 0.0)
    known.failed(failing, "refused", 0.0)
    known.add([A, tracked, B], Source.TRACKER, 0.0)
    known.add([given], Source.USER, 0.0)
    assert [known.next_to_dial(1, 1000.0) for _ in range(5)] == [[given], [B], [tracked], [A], [failing]]


def test_equals_are_dialled_by_lot() -> None:
    many = [Address(f"10.0.0.{number}", 1) for number in range(100)]
    orders = set()
    for seed in range(5):
        known = PeerList(Random(seed), rank=lambda address: 7)
        known.add(many, Source.TRACKER, 0.0)
        orders.add(tuple(known.next_to_dial(9, 0.0)))
    assert len(orders) == 5


def test_a_user_is_not_kept_waiting_by_a_crowd() -> None:
    known = peerlist()
    known.add([Address(f"10.1.{n >> 8}.{n & 255}", 1) for n in range(2000)], Source.TRACKER, 0.0)
    known.add([A], Source.USER, 0.0)
    assert known.next_to_dial(1, 0.0) == [A]
    known.failed(A, "refused", 0.0)
    known.add([A], Source.USER, 1.0)
    assert known.next_to_dial(1, 1.0) == [A]


def test_every_address_has_its_turn() -> None:
    known = PeerList(Random(1), rank=hash)
    many = {Address(f"10.1.{n >> 8}.{n & 255}", 1) for n in range(2000)}
    known.add(many, Source.TRACKER, 0.0)
    dialled = [address for _ in range(200) for address in known.next_to_dial(10, 0.0)]
    assert len(dialled) == 2000
    assert set(dialled) == many


# ---------------------------------------------------------------------- hearsay


def crowd(first: int, count: int) -> list[Address]:
    return [Address(f"203.{n >> 16}.{n >> 8 & 255}.{n & 255}", 6881) for n in range(first, first + count)]


def test_one_peer_has_only_so_much_to_tell() -> None:
    known = peerlist(most_from_one=20)
    for start in range(0, 10_000, 50):
        known.add(crowd(start, 50), Source.PEX, 0.0, teller="198.51.100.1")
    assert len(known) == 20
    assert known.add(crowd(20_000, 5), Source.PEX, 0.0, teller="198.51.100.2") == 5


def test_what_proves_true_is_no_longer_the_tellers() -> None:
    known = peerlist(most_from_one=2)
    known.add(crowd(0, 2), Source.PEX, 0.0, teller="198.51.100.1")
    assert known.add(crowd(2, 3), Source.PEX, 0.0, teller="198.51.100.1") == 0
    known.succeeded(crowd(0, 1)[0])
    assert known.add(crowd(2, 3), Source.PEX, 0.0, teller="198.51.100.1") == 1
    known.add(crowd(1, 1), Source.TRACKER, 0.0)
    assert known.add(crowd(3, 3), Source.PEX, 0.0, teller="198.51.100.1") == 1
    for _ in range(10):
        known.failed(crowd(2, 1)[0], "refused", 0.0)
    assert known.add(crowd(9, 3), Source.PEX, 0.0, teller="198.51.100.1") == 1


@pytest.mark.parametrize(("source", "share"), [(Source.PEX, 30), (Source.DHT, 20)])
def test_hearsay_fills_its_share_and_displaces_nobody_else(source: Source, share: int) -> None:
    known = peerlist(most=100, most_from_pex=30, most_from_dht=20)
    tracked = crowd(0, 60)
    known.add(tracked, Source.TRACKER, 0.0)
    for number in range(200):
        known.add(crowd(1000 + 50 * number, 50), source, 1.0, teller=f"198.51.100.{number}")
        assert len(known) <= 60 + share
    assert all(known.get(address) for address in tracked)
    known.add(crowd(100, 40), Source.TRACKER, 2.0)
    assert len(known) <= 100
    assert all(known.get(address) for address in [*tracked, *crowd(100, 40)]), "trackers displace hearsay"


def test_a_full_list_has_no_room_for_hearsay_but_in_place_of_what_fails() -> None:
    known = peerlist(most=50)
    tracked = crowd(0, 50)
    known.add(tracked, Source.TRACKER, 0.0)
    assert known.add(crowd(100, 50), Source.PEX, 1.0, teller="198.51.100.1") == 0
    known.failed(tracked[7], "refused", 1.0)
    assert known.add(crowd(100, 50), Source.PEX, 1.0, teller="198.51.100.1") == 1
    assert known.get(tracked[7]) is None


def test_who_tells_most_is_the_first_to_be_forgotten() -> None:
    known = peerlist(most_from_pex=100, most_from_one=90)
    known.add(crowd(0, 10), Source.PEX, 0.0, teller="198.51.100.1")
    known.add(crowd(100, 90), Source.PEX, 1.0, teller="198.51.100.2")
    known.add(crowd(300, 10), Source.PEX, 2.0, teller="198.51.100.3")
    assert all(known.get(address) for address in [*crowd(0, 10), *crowd(300, 10)])
    assert len(known) == 100


def test_ports_of_one_host_are_bounded_in_hearsay() -> None:
    known = peerlist(most_per_host=8)
    victim = [Address("203.0.113.5", port) for port in range(1, 10_001)]
    network = [Address(f"2a00:1:2:3::{n:x}", 6881) for n in range(1, 1000)]
    known.add(victim, Source.PEX, 0.0, teller="198.51.100.1")
    known.add(network, Source.DHT, 0.0)
    assert len(known) == 16
    known.exclude(victim[0])
    assert known.add(victim[100:], Source.DHT, 0.0) == 1
    assert known.add(victim[1000:1020], Source.TRACKER, 0.0) == 20, "a tracker knows what it says"


def test_of_an_endless_answer_the_beginning_is_read() -> None:
    known = peerlist(most=10_000)
    assert known.add(crowd(0, 9000), Source.TRACKER, 0.0) == 2000


def test_the_counts_stay_true_whatever_happens() -> None:
    rng, known = Random(5), peerlist(most=60, most_from_pex=30, most_from_dht=20, most_from_one=9, most_failures=3)
    sources = [Source.PEX, Source.DHT, Source.TRACKER, Source.LSD, Source.INCOMING, Source.PEX]
    most = dict.fromkeys((Source.PEX, Source.DHT), 0)
    for now in range(3000):
        address = rng.choice(list(known._peers) or [A])
        match rng.randrange(9):
            case 0 | 1:
                known.failed(address, "refused", float(now))
            case 2 | 3:
                known.left(address, "gone", float(now))
            case 4 if not now % 7:
                known.succeeded(address)
            case 5 if not now % 40:
                known.exclude(address)
            case 5 if not now % 141:
                known.keep(Source.TRACKER | Source.PEX)
            case 6:
                known.next_to_dial(1, float(now))
            case _:
                heard = Address(f"203.0.113.{rng.randrange(120)}", rng.randrange(1, 4))
                source = rng.choice(sources)
                known.add([heard], source, float(now), teller=f"t{rng.randrange(6)}" if source is Source.PEX else "")
        peers = list(known._peers.values())
        assert len(peers) <= 60
        assert known._hearsay == {one: sum(peer.hearsay == one for peer in peers) for one in most}
        most = {one: max(most[one], count) for one, count in known._hearsay.items()}
        assert all(peer.hearsay for peer in peers if peer.teller)
    assert (most[Source.PEX], most[Source.DHT]) >= (20, 10), "else nothing was tried"
    assert sum(known._from_house.values()) == len(peers)
    assert sum(known._from_teller.values()) == sum(bool(peer.teller) for peer in peers)
    assert len(known._due) + len(known._ready) <= 4 * 60 + 1


def test_what_has_shaken_hands_is_no_hearsay() -> None:
    known = peerlist(most_from_pex=50)
    met = crowd(0, 20)
    known.add(met, Source.PEX, 0.0, teller="198.51.100.1")
    for address in met:
        known.succeeded(address)
    for number in range(50):
        known.add(crowd(1000 + 50 * number, 50), Source.PEX, 1.0, teller=f"198.51.101.{number}")
    assert all(known.get(address) for address in met)
    assert len(known) <= 70


def test_hearsay_is_not_confirmed_by_hearsay() -> None:
    known = peerlist(most_from_dht=10)
    for address in crowd(0, 100):
        known.add([address], Source.DHT, 0.0)
        known.add([address], Source.PEX, 0.0, teller="198.51.100.1")
    assert len(known) <= 10


def test_what_a_private_torrent_must_not_know_is_forgotten_and_not_counted() -> None:
    known = peerlist(most_from_one=5, most_per_host=2)
    known.add(crowd(0, 5), Source.PEX, 0.0, teller="198.51.100.1")
    known.add([A], Source.TRACKER, 0.0)
    known.keep(Source.TRACKER | Source.USER)
    assert known.next_to_dial(9, 0.0) == [A]
    assert known.add(crowd(0, 9), Source.PEX, 0.0, teller="198.51.100.1") == 5
