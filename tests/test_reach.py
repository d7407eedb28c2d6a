"""How far an address reaches, and what counts as one household."""

import pytest

from unchoke.reach import Reach, household, is_inside, reach_of


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("8.8.8.8", Reach.PUBLIC),
        ("203.0.113.5", Reach.PUBLIC),
        ("2a00:1450::1", Reach.PUBLIC),
        ("172.15.255.255", Reach.PUBLIC),
        ("172.16.0.1", Reach.PRIVATE),
        ("10.99.0.1", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE),
        ("::ffff:192.168.1.1", Reach.PRIVATE),
        ("::ffff:8.8.8.8", Reach.PUBLIC),
        ("169.254.7.7", Reach.LINK),
        ("fe80::1%eth0", Reach.LINK),
        ("127.3.2.1", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("0.0.0.0", Reach.NOWHERE),
        ("::", Reach.NOWHERE),
        ("224.0.0.1", Reach.NOWHERE),
        ("ff02::1", Reach.NOWHERE),
        ("240.0.0.1", Reach.NOWHERE),
        ("255.255.255.255", Reach.NOWHERE),
        ("example.org", Reach.NOWHERE),
        ("", Reach.NOWHERE),
    ],
)
def test_how_far_an_address_reaches(host: str, reach: Reach) -> None:
    assert reach_of(host) is reach
    assert is_inside(host) is (reach in (Reach.PRIVATE, Reach.LINK, Reach.LOOPBACK))


def test_a_household_has_one_address_or_one_network() -> None:
    assert household("10.0.0.1") != household("10.0.0.2")
    assert household("2001:db8:0:1::1") == household("2001:db8:0:1:ffff::9")
    assert household("2001:db8:0:1::1") != household("2001:db8:0:2::1")
    assert household("::ffff:10.0.0.1") == household("10.0.0.1")
    assert household("tracker.example:x") == "tracker.example:x"
