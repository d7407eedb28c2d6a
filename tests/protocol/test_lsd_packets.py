"""Packets of local service discovery (BEP 14): ours to the letter, others' with patience."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.errors import ProtocolError
from unchoke.protocol.lsd import GROUP4, GROUP6, MAX_PACKET, LsdAnnounce, announces, decode_lsd, most_in_packet
from unchoke.types import InfoHash

ONE, TWO = InfoHash(bytes(range(20))), InfoHash(b"\xab" * 20)
infohashes = st.binary(min_size=20, max_size=20).map(InfoHash)


def test_the_bytes_are_those_of_the_bep() -> None:
    assert LsdAnnounce((ONE,), 6881, "cafe").encode(GROUP4) == (
        b"BT-SEARCH * HTTP/1.1\r\n"
        b"Host: 239.192.152.143:6771\r\n"
        b"Port: 6881\r\n"
        b"Infohash: 000102030405060708090a0b0c0d0e0f10111213\r\n"
        b"cookie: cafe\r\n"
        b"\r\n"
        b"\r\n"
    )
    assert b"\r\nHost: [ff15::efc0:988f]:6771\r\n" in LsdAnnounce((ONE,), 6881).encode(GROUP6)


@settings(max_examples=50)
@given(
    st.lists(infohashes, min_size=1, max_size=100, unique=True),
    st.integers(1, 65535),
    st.from_regex(r"[0-9a-f]{0,8}", fullmatch=True),
    st.sampled_from((GROUP4, GROUP6)),
)
def test_what_is_written_is_read_back_in_packets_of_bounded_length(
    wanted: list[InfoHash], port: int, cookie: str, group: tuple[str, int]
) -> None:
    packets = announces(wanted, port, cookie, GROUP4 if group == GROUP4 else GROUP6)
    heard = [decode_lsd(packet) for packet in packets]
    assert [infohash for one in heard for infohash in one.infohashes] == wanted
    assert {(one.port, one.cookie) for one in heard} == {(port, cookie)}
    assert max(map(len, packets)) <= MAX_PACKET


def test_packets_are_filled() -> None:
    size = most_in_packet("12345678", GROUP6)
    wanted = [InfoHash(number.to_bytes(20, "big")) for number in range(size + 1)]
    packets = announces(wanted, 6881, "12345678", GROUP6)
    assert len(packets) == 2
    assert len(packets[0]) > MAX_PACKET - 60


def test_it_is_read_as_http_is() -> None:
    packet = (
        b"BT-SEARCH * HTTP/1.1\nPORT:6881\nX-Other: 7\nnonsense\n"
        b"infohash : " + TWO.hex().upper().encode() + b"  \nInfohash:" + TWO.hex().encode() + b"\n"
        b"Infohash: " + ONE.hex().encode()
    )
    assert decode_lsd(packet) == LsdAnnounce((TWO, ONE), 6881)


GOOD = LsdAnnounce((ONE,), 6881).encode(GROUP4)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"BT-SEARCH",
        GOOD.replace(b"BT-SEARCH", b"M-SEARCH"),
        GOOD.replace(b"Port: 6881", b"Port: 0"),
        GOOD.replace(b"Port: 6881", b"Port: 65536"),
        GOOD.replace(b"Port: 6881", b"Port: -1"),
        GOOD.replace(b"Port: 6881", b"Port: \xb2"),  # a digit, for Unicode
        GOOD.replace(b"Port: 6881", b"Port: " + b"1" * 900),
        GOOD.replace(b"Port: 6881\r\n", b""),
        GOOD.replace(b"Infohash", b"Hash"),
        GOOD.replace(b"000102", b"00010g"),
        GOOD.replace(b"000102", b"0001  "),
        GOOD.replace(b"000102", b""),
        GOOD + b"x" * MAX_PACKET,
    ],
)
def test_what_is_no_announce_is_an_error(packet: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_lsd(packet)


@settings(max_examples=150)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"BT-SEARCH * HTTP/1.1\r\n" + rest))
def test_garbage_gives_an_announce_or_a_protocol_error(packet: bytes) -> None:
    try:
        assert isinstance(decode_lsd(packet), LsdAnnounce)
    except ProtocolError:
        pass


@settings(max_examples=100)
@given(st.integers(0, len(GOOD)), st.binary(max_size=5))
def test_a_damaged_announce_gives_an_announce_or_a_protocol_error(at: int, damage: bytes) -> None:
    try:
        assert isinstance(decode_lsd(GOOD[:at] + damage + GOOD[at + len(damage) :]), LsdAnnounce)
    except ProtocolError:
        pass
