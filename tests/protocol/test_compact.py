"""Compact peer lists, both families, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.errors import ProtocolError
from unchoke.protocol.compact import pack_address, pack_peers, pack_peers6, unpack_peers, unpack_peers6
from unchoke.types import Address


def test_the_bytes_of_both_families() -> None:
    assert unpack_peers(bytes([127, 0, 0, 1, 0x1A, 0xE1])) == [Address("127.0.0.1", 6881)]
    assert unpack_peers6(bytes(15) + b"\x01\x1a\xe1") == [Address("::1", 6881)]
    assert pack_address(Address("10.1.2.3", 80)) == b"\x0a\x01\x02\x03\x00\x50"
    assert pack_address(Address("fe80::1%eth0", 1)) == b"\xfe\x80" + bytes(13) + b"\x01\x00\x01"
    assert unpack_peers(b"") == unpack_peers6(b"") == []


@given(st.integers(0, 20).flatmap(lambda n: st.binary(min_size=18 * n, max_size=18 * n)))
@settings(max_examples=50)
def test_there_and_back(data: bytes) -> None:
    assert pack_peers(unpack_peers(data)) == data
    assert pack_peers6(unpack_peers6(memoryview(data))) == data


@given(st.binary(max_size=60))
@settings(max_examples=50)
def test_an_odd_length_is_a_protocol_error(data: bytes) -> None:
    for unpack, size in ((unpack_peers, 6), (unpack_peers6, 18)):
        if len(data) % size:
            with pytest.raises(ProtocolError):
                unpack(data)
        else:
            assert len(unpack(data)) == len(data) // size


def test_each_list_takes_its_own_family() -> None:
    mixed = [Address("1.2.3.4", 5), Address("::1", 6), Address("5.6.7.8", 9)]
    assert unpack_peers(pack_peers(mixed)) == [mixed[0], mixed[2]]
    assert unpack_peers6(pack_peers6(mixed)) == [mixed[1]]


def test_names_are_no_addresses() -> None:
    for host in ("localhost", "1.2.3", "::zz", ""):
        with pytest.raises(ValueError, match="no literal address"):
            pack_address(Address(host, 1))
