"""BEP 10's handshake: what we say, and what strangers may say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unchoke.errors import ProtocolError
from unchoke.protocol.bencode import encode
from unchoke.protocol.extended import DEFAULT_REQQ, ExtendedHandshake, decode_extended_handshake


def test_what_we_say_is_read_back() -> None:
    ours = ExtendedHandshake(
        extensions={"ut_metadata": 3, "ut_pex": 1},
        client="unchoke/0.1",
        port=51413,
        reqq=2000,
        yourip="10.0.0.9",
        metadata_size=31235,
        upload_only=True,
    )
    assert decode_extended_handshake(ours.encode()) == ours


def test_ipv6_yourip() -> None:
    assert decode_extended_handshake(ExtendedHandshake(yourip="2001:db8::1").encode()).yourip == "2001:db8::1"


def test_silence_means_defaults() -> None:
    heard = decode_extended_handshake(b"de")
    assert heard == ExtendedHandshake(reqq=DEFAULT_REQQ)


def test_wrong_types_are_left_out() -> None:
    heard = decode_extended_handshake(
        encode({b"m": [1], b"v": 7, b"p": 99999, b"reqq": -1, b"yourip": b"abc", b"metadata_size": b"x"})
    )
    assert heard == ExtendedHandshake()


def test_the_number_of_extensions_is_bounded() -> None:
    flood = {b"m": {f"x{number}".encode(): 1 for number in range(1000)}}
    assert len(decode_extended_handshake(encode(flood)).extensions) == 64


@pytest.mark.parametrize("payload", [b"", b"i1e", b"le", b"d", b"\xff" * 20, b"d" * 100_000])
def test_what_is_no_dict_is_an_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_extended_handshake(payload)


@given(st.binary(max_size=200))
def test_garbage_gives_a_handshake_or_a_protocol_error(payload: bytes) -> None:
    try:
        assert isinstance(decode_extended_handshake(payload), ExtendedHandshake)
    except ProtocolError:
        pass
