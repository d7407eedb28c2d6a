"""Peer exchange as a choice: who is told of whom, and how much of what others tell is believed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.policy.pex import (
    MOST_CONTACTS,
    Contact,
    Contacts,
    Listener,
    PexAllowance,
    PexSettings,
    believable,
    may_tell,
)
from unchoke.types import Address

OUTSIDE = "198.51.100.200"


def peer(number: int) -> Address:
    return Address(f"203.0.{number >> 8 & 255}.{number & 255}", 6881)


def contacts(**changes: float) -> Contacts:
    return Contacts(PexSettings(**changes))  # type: ignore[arg-type]


def listener(told: Contacts) -> Listener:
    made = Listener()
    told.listeners.add(made)
    return made


def hear(
    told: Contacts, who: Listener, host: str = OUTSIDE, itself: Address | None = None
) -> tuple[set[Address], set[Address]]:
    """What it is told next: added, dropped."""
    news = told.news(who, host, itself)
    added, dropped = {contact.address for contact in news.added}, set(news.dropped)
    assert len(added) == len(news.added)
    assert len(dropped) == len(news.dropped)
    return added, dropped


# ---------------------------------------------------------------------- what we tell


def test_who_comes_is_told_once_and_who_goes_too() -> None:
    told = contacts()
    one = listener(told)
    told.update({peer(1): 0, peer(2): 2}, 0.0)
    assert told.news(one, OUTSIDE, None).added == [Contact(peer(1), 0), Contact(peer(2), 2)]
    assert hear(told, one) == (set(), set())
    told.update({peer(2): 2, peer(3): 0}, 1.0)
    assert hear(told, one) == ({peer(3)}, {peer(1)})
    told.update({peer(1): 0, peer(2): 2, peer(3): 0}, 2.0)
    assert hear(told, one) == ({peer(1)}, set())


def test_who_comes_and_goes_between_two_messages_is_not_told_of() -> None:
    told = contacts()
    one = listener(told)
    told.update({peer(1): 0}, 0.0)
    told.update({}, 1.0)
    assert hear(told, one) == (set(), set())


def test_nobody_is_told_of_itself() -> None:
    told = contacts()
    one = listener(told)
    told.update({peer(1): 0, peer(2): 0}, 0.0)
    assert hear(told, one, peer(1).host, peer(1)) == ({peer(2)}, set())


def test_a_large_swarm_is_told_fifty_at_a_time() -> None:
    told = contacts()
    one, heard = listener(told), set[Address]()
    everybody = {peer(number): 0 for number in range(120)}
    told.update(everybody, 0.0)
    for size in (50, 50, 20, 0):
        added, dropped = hear(told, one)
        assert (len(added), dropped) == (size, set())
        heard |= added
    assert heard == set(everybody)
    told.update({}, 1.0)
    assert [len(hear(told, one)[1]) for _ in range(4)] == [50, 50, 20, 0]


def test_addresses_inside_are_told_only_inside() -> None:
    lan, here, link, six = (
        Address("192.168.1.9", 1),
        Address("127.0.0.1", 2),
        Address("fe80::9", 3),
        Address("2a00::9", 4),
    )
    told = contacts()
    told.update({lan: 0, here: 0, link: 0, six: 0, Address("224.0.0.1", 5): 0, Address("203.0.0.1", 0): 0}, 0.0)
    assert hear(told, listener(told), OUTSIDE)[0] == {six}
    assert hear(told, listener(told), "10.0.0.5")[0] == {lan, six}
    assert hear(told, listener(told), "fe80::5%eth0")[0] == {lan, six}
    assert hear(told, listener(told), "127.0.0.9")[0] == {lan, here, six}


def test_a_seed_that_was_sent_away_is_told_of_once_and_dropped_in_the_next_message() -> None:
    told = contacts()
    knew, new = listener(told), listener(told)
    told.update({peer(1): 2}, 0.0)
    hear(told, knew)
    told.left(Contact(peer(1), 2), 10.0)
    told.update({}, 10.0)
    assert hear(told, new) == ({peer(1)}, set())
    assert hear(told, new) == (set(), {peer(1)})
    assert hear(told, new) == (set(), set())
    assert hear(told, knew) == (set(), {peer(1)}), "who knew it hears that it went"
    assert hear(told, knew) == (set(), set())
    told.update({peer(1): 2}, 20.0)
    assert hear(told, new) == ({peer(1)}, set()), "it came back"


def test_who_left_long_ago_is_not_told_of() -> None:
    told = contacts()
    told.left(Contact(peer(1), 2), 0.0)
    told.update({}, 599.0)
    assert hear(told, listener(told))[0] == {peer(1)}
    told.update({}, 601.0)
    assert hear(told, listener(told))[0] == set()


def test_who_left_is_told_of_only_where_few_of_its_family_are_here() -> None:
    told = contacts(most_recent=3)
    four, six = Contact(peer(99), 2), Contact(Address("2a00::1", 1), 2)
    told.left(four, 0.0)
    told.left(six, 0.0)
    told.update({peer(number): 0 for number in range(3)}, 0.0)
    assert hear(told, listener(told))[0] == {peer(0), peer(1), peer(2), six.address}


def test_the_latest_that_left_are_remembered() -> None:
    told = contacts(most_recent=3)
    for number in range(100):
        told.left(Contact(peer(number), 2), float(number))
    told.update({}, 100.0)
    assert hear(told, listener(told))[0] == {peer(97), peer(98), peer(99)}


def test_however_many_come_and_go_memory_is_bounded() -> None:
    told = contacts()
    stayer = listener(told)
    for turn in range(100):
        here = {peer(turn * 97 + number): 0 for number in range(500)}
        told.update(here, float(turn))
        brief = listener(told)
        hear(told, brief)
        hear(told, stayer)
        told.listeners.discard(brief)
    assert len(told._slots) <= MOST_CONTACTS
    assert stayer.told.bit_length() <= MOST_CONTACTS


def test_more_contacts_than_there_are_numbers_for_are_not_told_of() -> None:
    told = contacts(most_told=10_000)
    told.update({peer(number): 0 for number in range(MOST_CONTACTS + 500)}, 0.0)
    assert len(hear(told, listener(told))[0]) == MOST_CONTACTS


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(5, 60))
def test_what_a_listener_has_been_told_comes_to_what_is(seed: int, most: int) -> None:
    """However peers come, go and come back under a small bound: no double, no drop of the unknown, and in the end the truth."""
    rng = Random(seed)
    told = contacts(most_told=7, most_recent=4)
    listeners = {listener(told): set[Address]() for _ in range(3)}
    here: dict[Address, int] = {}

    def tell(who: Listener) -> None:
        added, dropped = hear(told, who)
        believed = listeners[who]
        assert not added & believed
        assert dropped <= believed
        assert not added & dropped
        assert max(len(added), len(dropped)) <= 7
        believed -= dropped
        believed |= added

    for now in range(40):
        for _ in range(rng.randrange(5)):
            address = peer(rng.randrange(most))
            if here.pop(address, None) is None:
                here[address] = 0
            elif rng.random() < 0.5:
                told.left(Contact(address, 2), float(now))
        told.update(here, float(now))
        tell(rng.choice(list(listeners)))
    told.update(here, 1e6)
    for who in listeners:
        for _ in range(2 * most):
            tell(who)
        assert listeners[who] == set(here)


# ---------------------------------------------------------------------- what we are told


@pytest.mark.parametrize(
    ("host", "teller", "passes"),
    [
        ("203.0.113.9", OUTSIDE, True),
        ("203.0.113.9", "10.0.0.1", True),
        ("192.168.1.1", OUTSIDE, False),
        ("::ffff:192.168.1.1", OUTSIDE, False),
        ("192.168.1.1", "10.0.0.1", True),
        ("192.168.1.1", "fe80::1%eth0", True),
        ("100.64.0.1", OUTSIDE, False),
        ("127.0.0.1", "10.0.0.1", False),
        ("127.0.0.1", "127.0.0.2", True),
        ("::1", OUTSIDE, False),
        ("fe80::1", "fe80::2%eth0", False),
        ("169.254.1.1", "169.254.1.2", False),
        ("224.0.0.1", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.1", False),
        ("255.255.255.255", "127.0.0.1", False),
        ("192.168.1.1", "", False),
    ],
)
def test_a_stranger_may_not_name_addresses_in_here(host: str, teller: str, passes: bool) -> None:
    assert may_tell(Address(host, 6881), teller) is passes


def test_of_each_family_fifty_are_believed_and_none_twice() -> None:
    fours = [peer(number) for number in range(100)]
    sixes = [Address(f"2a00::{number:x}", 1) for number in range(1, 100)]
    kept = believable([*fours, *fours, *sixes, Address("203.0.113.1", 0)], OUTSIDE, 50)
    assert list(kept) == fours[:50] + sixes[:50]


def test_rubbish_takes_no_place() -> None:
    rubbish = [Address("127.0.0.1", 1), Address("224.0.0.1", 1), peer(1)._replace(port=0)] * 50
    assert list(believable([*rubbish, peer(1)], OUTSIDE, 2)) == [peer(1)]


def test_a_message_a_minute_is_heard_and_more_are_not() -> None:
    allowance = PexAllowance(60.0, 0.0)
    assert {allowance.hear(60.0 * minute) for minute in range(100)} == {"heard"}
    heard = [allowance.hear(6000.0 + second) for second in range(40)]
    assert heard.count("heard") <= 4
    assert "flood" not in heard


def test_a_late_message_and_one_in_time_are_both_heard() -> None:
    allowance = PexAllowance(60.0, 0.0)
    assert [allowance.hear(now) for now in (0.0, 119.0, 120.0, 180.0)] == ["heard"] * 4


def test_a_flood_is_a_flood_after_all() -> None:
    allowance = PexAllowance(60.0, 0.0)
    assert [allowance.hear(1.0) for _ in range(100)][-1] == "flood"
