"""Holepunch messages (BEP 55)."""

from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.errors import ProtocolError
from unchoke.protocol.ut_holepunch import HolepunchError, HolepunchKind, HolepunchMessage, decode_holepunch
from unchoke.types import Address


@settings(max_examples=60)
@given(
    st.builds(
        HolepunchMessage,
        st.sampled_from(HolepunchKind),
        st.builds(Address, st.ip_addresses().map(str), st.integers(0, 65535)),
        st.integers(0, 2**32 - 1),
    )
)
def test_what_is_written_is_read_back(message: HolepunchMessage) -> None:
    assert decode_holepunch(message.encode()) == message


def test_the_bytes_are_those_of_the_bep() -> None:
    four = HolepunchMessage(HolepunchKind.RENDEZVOUS, Address("10.0.0.1", 6881))
    assert four.encode() == b"\0\0" + b"\x0a\0\0\x01" + b"\x1a\xe1" + b"\0\0\0\0"
    six = HolepunchMessage(HolepunchKind.ERROR, Address("2001:db8::1", 6881), HolepunchError.NO_SUPPORT)
    assert six.encode() == b"\2\1" + IPv6Address("2001:db8::1").packed + b"\x1a\xe1" + b"\0\0\0\3"


def test_a_missing_error_number_is_none_and_more_bytes_are_ignored() -> None:
    whole = HolepunchMessage(HolepunchKind.CONNECT, Address("10.0.0.1", 6881)).encode()
    assert decode_holepunch(whole[:-4]) == decode_holepunch(whole) == decode_holepunch(whole + b"more")


@pytest.mark.parametrize(
    "payload", [b"", b"\0", b"\0\0", b"\3\0" + b"x" * 10, b"\0\2" + b"x" * 30, b"\0\1" + b"x" * 17]
)
def test_what_is_no_message_is_an_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_holepunch(payload)


@settings(max_examples=100)
@given(st.binary(max_size=40))
def test_garbage_gives_a_message_or_a_protocol_error(payload: bytes) -> None:
    try:
        assert isinstance(decode_holepunch(payload), HolepunchMessage)
    except ProtocolError:
        pass
