"""Every message of BEP 3 and 6: its bytes, and bodies of the wrong length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unchoke.bitfield import Bitfield
from unchoke.errors import ProtocolError
from unchoke.protocol import messages as m
from unchoke.types import Block

BLOCK = Block(3, 16384, 16384)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (m.CHOKE, m.Choke()),
        (m.UNCHOKE, m.Unchoke()),
        (m.INTERESTED, m.Interested()),
        (m.NOT_INTERESTED, m.NotInterested()),
        (m.encode_have(5), m.Have(5)),
        (m.encode_cancel(BLOCK), m.Cancel(BLOCK)),
        (m.encode_port(6881), m.Port(6881)),
        (m.encode_suggest(7), m.Suggest(7)),
        (m.HAVE_ALL, m.HaveAll()),
        (m.HAVE_NONE, m.HaveNone()),
        (m.encode_reject(BLOCK), m.Reject(BLOCK)),
        (m.encode_allowed_fast(9), m.AllowedFast(9)),
        (m.encode_extended(2, b"payload"), m.Extended(2, b"payload")),
    ],
)
def test_decode_encode(data: bytes, message: m.Message) -> None:
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert m.decode_message(data[4], memoryview(data)[5:], 100) == message


def test_bytes_of_the_spec() -> None:
    assert m.encode_have(1) == b"\0\0\0\x05\x04\0\0\0\x01"
    assert m.encode_requests([(1, 2, 3)]) == b"\0\0\0\x0d\x06\0\0\0\x01\0\0\0\x02\0\0\0\x03"
    assert m.encode_piece_header(1, 2, 16384) == b"\0\0\x40\x09\x07\0\0\0\x01\0\0\0\x02"
    assert m.encode_bitfield(Bitfield(10, filled=True)) == b"\0\0\0\x03\x05\xff\xc0"


@pytest.mark.parametrize(
    "kind", [kind for kind in m.Kind if kind not in (m.Kind.REQUEST, m.Kind.PIECE, m.Kind.EXTENDED)]
)
def test_a_body_of_the_wrong_length(kind: m.Kind) -> None:
    with pytest.raises(ProtocolError):
        m.decode_message(kind, memoryview(b"123456789"), 10)


@pytest.mark.parametrize("kind", [m.Kind.HAVE, m.Kind.SUGGEST, m.Kind.ALLOWED_FAST])
def test_a_piece_the_torrent_does_not_have(kind: m.Kind) -> None:
    with pytest.raises(ProtocolError, match="piece 10 of 10"):
        m.decode_message(kind, memoryview(b"\0\0\0\x0a"), 10)


def test_spare_bits_and_wrong_sizes_of_a_bitfield() -> None:
    with pytest.raises(ProtocolError, match="spare bits"):
        m.decode_message(5, memoryview(b"\xff\xff"), 10)
    with pytest.raises(ProtocolError, match="3 bytes for 10 pieces"):
        m.decode_message(5, memoryview(b"\xff\xc0\x00"), 10)


@given(st.integers(0, 255), st.binary(max_size=40), st.integers(0, 200))
def test_garbage_gives_a_message_none_or_a_protocol_error(kind: int, body: bytes, pieces: int) -> None:
    try:
        m.decode_message(kind, memoryview(body), pieces)
    except ProtocolError:
        pass
