"""The first 68 bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unchoke.errors import ProtocolError
from unchoke.protocol.handshake import OURS, Handshake, Reserved, decode_handshake
from unchoke.types import InfoHash, PeerId

HASH = InfoHash(bytes(range(20)))
ID = PeerId(b"-UK0100-abcdefghijkl")


@given(st.binary(min_size=20, max_size=20), st.binary(min_size=20, max_size=20), st.integers(0, 2**64 - 1))
def test_what_is_encoded_is_decoded(infohash: bytes, peer_id: bytes, reserved: int) -> None:
    handshake = Handshake(InfoHash(infohash), PeerId(peer_id), Reserved(reserved))
    data = handshake.encode()
    assert len(data) == 68
    assert decode_handshake(data) == handshake
    assert decode_handshake(data + b"more") == handshake
    assert all(decode_handshake(data[:length]) is None for length in range(68))


def test_the_reserved_bits_are_where_the_beps_put_them() -> None:
    data = Handshake(HASH, ID).encode()
    assert OURS == Reserved.FAST | Reserved.EXTENDED
    assert data[20:28] == bytes([0, 0, 0, 0, 0, 0x10, 0, 0x04])


def test_v2_infohashes_travel_truncated() -> None:
    assert Handshake(InfoHash(bytes(range(32))), ID).encode()[28:48] == bytes(range(20))


@pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1\r\n", b"\x13BitTorrent protocoX", b"\x14BitTorrent protocol"])
def test_garbage_is_refused_at_its_first_wrong_byte(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a BitTorrent handshake"):
        decode_handshake(data)
