"""Our address as others see it: one vote a host, the majority, and old votes fade."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.policy.external import MAX_AGE, MOST_VOTES, ExternalAddress

OURS, WRONG = "198.51.100.7", "203.0.113.66"


def test_nobody_has_told() -> None:
    assert ExternalAddress().best(4) is None
    assert ExternalAddress().best(6) is None


def test_the_majority_counts_and_one_host_has_one_vote() -> None:
    external = ExternalAddress()
    assert external.vote(WRONG, "192.0.2.1", 0.0)
    for _ in range(5):
        assert not external.vote(WRONG, "192.0.2.1", 1.0)
    assert not external.vote(OURS, "192.0.2.2", 2.0), "as many as the other: it stays"
    assert external.vote(OURS, "192.0.2.3", 3.0)
    assert (external.best(4), external.votes(4)) == (OURS, 2)


def test_a_host_that_changes_its_mind_counts_once() -> None:
    external = ExternalAddress()
    external.vote(OURS, "192.0.2.1", 0.0)
    external.vote(OURS, "192.0.2.2", 0.0)
    assert not external.vote(WRONG, "192.0.2.1", 1.0)
    assert external.vote(WRONG, "192.0.2.2", 2.0)
    assert (external.best(4), external.votes(4)) == (WRONG, 2)


def test_one_network_of_ipv6_has_one_vote() -> None:
    external = ExternalAddress()
    external.vote("2a00::1", "2001:db8:1::1", 0.0)
    external.vote("2a00::1", "2001:db8:2::1", 0.0)
    for number in range(1, 100):
        external.vote("2a00::bad", f"2001:db8:3::{number:x}", 1.0)
    assert external.best(6) == "2a00::1"
    assert external.best(4) is None


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "127.0.0.1", "0.0.0.0", "fe80::1", "::1", "ff02::1", "100.64.3.4", "", "x", "224.0.0.5"]
)
def test_what_cannot_be_seen_from_outside_does_not_count(address: str) -> None:
    external = ExternalAddress()
    assert not external.vote(address, "192.0.2.1", 0.0)
    assert external.best(4) is None
    assert external.best(6) is None


def test_a_new_address_soon_has_the_majority() -> None:
    external = ExternalAddress()
    for number in range(1000):
        external.vote(OURS, f"192.0.{number >> 8}.{number & 255}", 0.0)
    assert external.votes(4) == MOST_VOTES
    for number in range(MOST_VOTES // 2 + 1):
        external.vote(WRONG, f"198.18.0.{number}", 10.0)
    assert external.best(4) == WRONG


def test_old_votes_fade() -> None:
    external = ExternalAddress()
    for number in range(9):
        external.vote(OURS, f"192.0.2.{number}", 0.0)
    assert external.vote(WRONG, "198.18.0.1", MAX_AGE + 1)
    assert (external.best(4), external.votes(4)) == (WRONG, 1)


def test_spellings_of_one_address_are_one() -> None:
    external = ExternalAddress()
    external.vote("2A00:0::0001", "192.0.2.1", 0.0)
    external.vote("::ffff:198.51.100.7", "192.0.2.1", 0.0)
    assert (external.best(6), external.best(4)) == ("2a00::1", OURS)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from((OURS, WRONG, "nonsense")), st.text(max_size=8), st.floats(0, 1e5)), max_size=80)
)
def test_whatever_is_voted_the_best_was_voted(votes: list[tuple[str, str, float]]) -> None:
    external = ExternalAddress()
    for address, voter, now in votes:
        external.vote(address, voter, now)
    assert external.best(4) in {None, OURS, WRONG}
    assert external.votes(4) <= MOST_VOTES
    assert (external.best(4) is None) is all(address == "nonsense" for address, _, _ in votes)
