"""Filters of a swarm: BEP 33's test vector, estimates, and filters that lie."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from unchoke.protocol.dht import bloom

#: BEP 33: of 192.0.2.0/24 and 2001:db8:: to 2001:db8::3e7.
VECTOR = bytes.fromhex(
    "F6C3F5EA A07FFD91 BDE89F77 7F26FB2B FF37BDB8 FB2BBAA2 FD3DDDE7 BACFFF75 EE7CCBAE"
    "FE5EEDB1 FBFAFF67 F6ABFF5E 43DDBCA3 FD9B9FFD F4FFD3E9 DFF12D1B DF59DB53 DBE9FA5B"
    "7FF3B8FD FCDE1AFB 8BEDD7BE 2F3EE71E BBBFE93B CDEEFE14 8246C2BC 5DBFF7E7 EFDCF24F"
    "D8DC7ADF FD8FFFDF DDFFF7A4 BBEEDF5C B95CE81F C7FCFF1F F4FFFFDF E5F7FDCB B7FD79B3"
    "FA1FC77B FE07FFF9 05B7B7FF C7FEFEFF E0B8370B B0CD3F5B 7F2BD93F EB4386CF DD6F7FD5"
    "BFAF2E9E BFFFFEEC D67ADBF7 C67F17EF D5D75EBA 6FFEBA7F FF47A91E B1BFBB53 E8ABFB57"
    "62ABE8FF 237279BF EFBFEEF5 FFC5FEBF DFE5ADFF ADFEE1FB 737FFFFB FD9F6AEF FEEE76B6"
    "FD8F72EF"
)


def hosts(first: int, count: int) -> list[bytes]:
    return [IPv4Address(first + number).packed for number in range(count)]


def test_the_example_of_bep_33() -> None:
    many = [IPv4Address(f"192.0.2.{last}").packed for last in range(256)]
    many += [IPv6Address(f"2001:db8::{last:x}").packed for last in range(0x3E8)]
    assert bloom.make(many) == VECTOR
    assert bloom.estimate(VECTOR) == pytest.approx(1224.9308, abs=0.0001)


def test_nodes_count_a_swarm_together() -> None:
    parts = [bloom.make(hosts(start, 200)) for start in range(1 << 24, (1 << 24) + 500, 100)]
    assert bloom.together(parts) == pytest.approx(600, rel=0.1)
    assert bloom.together([]) == 0
    assert bloom.together([bloom.make([])] * 3) == 0


def test_full_filters_and_those_far_out_of_line_do_not_count() -> None:
    honest = [bloom.make(hosts(1 << 24, 30)) for _ in range(5)]
    assert bloom.together([*honest, b"\xff" * 256]) == bloom.together(honest)
    assert bloom.together([*honest, bloom.make(hosts(2 << 24, 3000))]) == bloom.together(honest)
    assert bloom.together([b"\xff" * 256]) == 0
