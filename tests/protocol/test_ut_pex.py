"""Peer exchange messages: what we write is read back, what strangers write is read as far as it makes sense."""

from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.errors import ProtocolError
from unchoke.protocol.bencode import decode, encode
from unchoke.protocol.ut_pex import MAX_PAYLOAD, MOST_READ, PexFlag, PexMessage, PexPeer, decode_pex
from unchoke.types import Address

FOUR, SIX = Address("10.0.0.1", 6881), Address("2001:db8::1", 51413)

hosts = st.ip_addresses().filter(lambda host: not isinstance(host, IPv6Address) or host.ipv4_mapped is None).map(str)
addresses = st.builds(Address, hosts, st.integers(0, 65535))
peers = st.builds(PexPeer, addresses, st.integers(0, 255))


def by_family(message: PexMessage) -> PexMessage:
    """As it is read: IPv4 first."""
    return PexMessage(
        tuple(sorted(message.added, key=lambda peer: ":" in peer.address.host)),
        tuple(sorted(message.dropped, key=lambda address: ":" in address.host)),
    )


@settings(max_examples=60)
@given(st.builds(PexMessage, st.lists(peers, max_size=20).map(tuple), st.lists(addresses, max_size=20).map(tuple)))
def test_what_is_written_is_read_back(message: PexMessage) -> None:
    again = decode_pex(message.encode())
    assert again == by_family(message)
    assert again.encode() == message.encode()


def test_the_bytes_are_those_of_the_bep() -> None:
    message = PexMessage((PexPeer(FOUR, PexFlag.SEED | PexFlag.REACHABLE), PexPeer(SIX, PexFlag.UTP)), (FOUR, SIX))
    six = IPv6Address(SIX.host).packed + b"\xc8\xd5"
    assert decode(message.encode(), strict=True) == {
        b"added": b"\x0a\0\0\x01\x1a\xe1",
        b"added.f": b"\x12",
        b"added6": six,
        b"added6.f": b"\x04",
        b"dropped": b"\x0a\0\0\x01\x1a\xe1",
        b"dropped6": six,
    }
    assert PexMessage().encode() == b"de"


def test_missing_flags_are_none_and_surplus_ones_are_ignored() -> None:
    two = b"\x0a\0\0\x01\0\x01" + b"\x0a\0\0\x02\0\x02"
    assert [peer.flags for peer in decode_pex(encode({b"added": two, b"added.f": b"\x02"})).added] == [2, 0]
    assert [peer.flags for peer in decode_pex(encode({b"added": two, b"added.f": b"\1\2\3\4"})).added] == [1, 2]


@pytest.mark.parametrize(
    "message",
    [
        {b"added": 7, b"added.f": [], b"added6": {}, b"dropped": []},
        {b"added": b"\x0a\0\0\x01\x1a", b"added6": b"x" * 17, b"dropped": b"12345", b"dropped6": b""},
        {b"other": 1},
    ],
)
def test_what_makes_no_sense_counts_as_absent(message: dict[bytes, int | bytes | list[int] | dict[bytes, int]]) -> None:
    assert decode_pex(encode(message)) == PexMessage()


def test_of_a_long_list_the_beginning_is_read() -> None:
    told = tuple(PexPeer(Address(f"10.0.{number >> 8}.{number & 255}", 1)) for number in range(2000))
    dropped = tuple(peer.address for peer in told[:1000])
    heard = decode_pex(PexMessage(told, dropped).encode())
    assert heard.added == told[:MOST_READ]
    assert heard.dropped == dropped[:MOST_READ]


@pytest.mark.parametrize(
    "payload",
    [b"", b"le", b"i1e", b"d", b"\xff" * 20, b"d1:a" + b"l" * 9, encode({b"added": b"x" * MAX_PAYLOAD})],
)
def test_what_is_no_message_is_an_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_pex(payload)


@settings(max_examples=150)
@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda data: b"d5:added%d:%se" % (len(data), data)))
def test_garbage_gives_a_message_or_a_protocol_error(payload: bytes) -> None:
    try:
        assert isinstance(decode_pex(payload), PexMessage)
    except ProtocolError:
        pass
