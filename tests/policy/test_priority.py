"""Canonical peer priority (BEP 40)."""

from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.crc32c import crc32c
from unchoke.policy.priority import LOCAL, Ranking, priority
from unchoke.types import Address

US = Address("123.213.32.10", 6881)
fours = st.builds(Address, st.ip_addresses(v=4).map(str), st.integers(1, 65535))
sixes = st.builds(Address, st.ip_addresses(v=6).map(str), st.integers(1, 65535))


def checksum(text: str) -> int:
    return crc32c(bytes.fromhex(text))


def test_the_examples_of_the_bep() -> None:
    assert priority(US, Address("98.76.54.32", 1)) == checksum("624C14007BD50000") == 0xEC2D7224
    assert priority(US, Address("123.213.32.234", 1)) == checksum("7BD5200A7BD520EA") == 0x99568189


def test_nearer_addresses_count_to_the_next_byte() -> None:
    assert priority(US, Address("123.213.50.1", 1)) == checksum("7BD52000" + "7BD53201")
    assert priority(US, Address(US.host, 1)) == checksum("00011AE1")


@pytest.mark.parametrize(
    ("other", "mask"),
    [
        ("2001:db8:aaaa:bbcc:dddd:eeee:ffff:1", "FFFFFFFFFFFF55555555555555555555"),
        ("2a00:1:2:ffff:dddd:eeee:ffff:1", "FFFFFFFFFFFFFF555555555555555555"),
        ("2a00:1:2:03ff:dddd:eeee:ffff:1", "FFFFFFFFFFFFFFFF5555555555555555"),
        ("2a00:1:2:0304:dddd:eeee:ffff:1", "FFFFFFFFFFFFFFFFFF55555555555555"),
    ],
)
def test_ipv6_is_masked_in_the_same_way(other: str, mask: str) -> None:
    ours = "2a00:1:2:304:5:6:7:8"
    both = sorted(int(IPv6Address(host)) & int(mask, 16) for host in (ours, other))
    wanted = crc32c(b"".join(number.to_bytes(16, "big") for number in both))
    assert priority(Address(ours, 1), Address(other, 2)) == wanted


@settings(max_examples=60)
@given(st.tuples(fours, fours) | st.tuples(sixes, sixes))
def test_both_ends_find_the_same(pair: tuple[Address, Address]) -> None:
    one, other = pair
    assert priority(one, other) == priority(other, one)
    assert 0 <= priority(one, other) < LOCAL


def test_two_families_have_none() -> None:
    with pytest.raises(ValueError):
        priority(US, Address("2001:db8::1", 1))


def test_a_ranking_follows_what_others_say_of_us() -> None:
    seen: dict[int, str | None] = {4: None, 6: None}
    rank = Ranking(lambda family: seen[family], lambda: US.port)
    peer = Address("98.76.54.32", 1)
    assert rank(peer) is None
    seen[4] = US.host
    assert rank(peer) == 0xEC2D7224
    assert rank(Address("2a00::1", 1)) is None
    seen[4] = "98.76.54.30"
    assert rank(peer) == priority(Address("98.76.54.30", US.port), peer) != 0xEC2D7224


@pytest.mark.parametrize("host", ["192.168.1.7", "10.0.0.1", "fe80::1%eth0", "127.0.0.1", "fd00::1"])
def test_neighbours_come_first(host: str) -> None:
    assert Ranking(lambda family: None, lambda: 1)(Address(host, 1)) == LOCAL
