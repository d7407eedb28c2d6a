"""ut_metadata's messages: there and back, the BEP's own examples, and whatever else strangers may send."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from strategies.metadata import messages, payloads
from unchoke.errors import ProtocolError
from unchoke.protocol.ut_metadata import PIECE, Data, Reject, Request, decode, piece_count, piece_size


@settings(max_examples=60)
@given(messages)
def test_there_and_back(message: Request | Data | Reject) -> None:
    assert decode(message.encode()) == message


@settings(max_examples=300)
@given(payloads)
def test_anything_gives_a_message_nothing_or_a_protocol_error(payload: bytes) -> None:
    try:
        message = decode(payload)
    except ProtocolError:
        return
    assert message is None or isinstance(message, Request | Reject | Data)
    if isinstance(message, Data):
        assert len(message.payload) == piece_size(message.piece, message.total_size) > 0


def test_the_examples_of_the_bep() -> None:
    assert Request(0).encode() == b"d8:msg_typei0e5:piecei0ee"
    assert decode(b"d8:msg_typei0e5:piecei0ee") == Request(0)
    whole = b"d8:msg_typei1e5:piecei0e10:total_sizei3425ee" + b"x" * 3425
    assert decode(whole) == Data(0, 3425, b"x" * 3425)
    assert Data(0, 3425, b"x" * 3425).encode() == whole
    assert Reject(0).encode() == b"d8:msg_typei2e5:piecei0ee"


def test_keys_in_any_order_and_more_of_them_are_read() -> None:
    assert decode(b"d10:total_sizei5e1:xde5:piecei0e8:msg_typei1eehello") == Data(0, 5, b"hello")


@pytest.mark.parametrize("kind", [-1, 3, 99])
def test_what_nobody_knows_is_ignored(kind: int) -> None:
    assert decode(b"d8:msg_typei%dee" % kind) is None


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "ut_metadata"),
        (b"le", "no dict"),
        (b"i5e", "no dict"),
        (b"de", "without a type"),
        (b"d8:msg_type1:0e", "without a type"),
        (b"d8:msg_typei0ee", "proper piece"),
        (b"d8:msg_typei0e5:piece1:0e", "proper piece"),
        (b"d8:msg_typei0e5:piecei-1ee", "proper piece"),
        (b"d8:msg_typei2e5:piecei4294967296ee", "proper piece"),
        (b"d8:msg_typei1e5:piecei0eexx", "proper total_size"),
        (b"d8:msg_typei1e5:piecei0e10:total_sizei0ee", "proper total_size"),
        (b"d8:msg_typei1e5:piecei0e10:total_sizei-3ee", "proper total_size"),
        (b"d8:msg_typei1e5:piecei0e10:total_sizei2eexxx", "with 3"),
        (b"d8:msg_typei1e5:piecei0e10:total_sizei20000eexxx", "with 3"),
        (b"d8:msg_typei1e5:piecei1e10:total_sizei16384ee", "with 0"),
        (b"d8:msg_typei1e5:piecei7e10:total_sizei5eex", "with 1"),
        (b"d" + b"l" * 100 + b"e" * 101, "ut_metadata"),
        (b"d8:msg_typei1e5:piecei0e10:total_sizei99999ee" + b"x" * (PIECE + 1024), "message of"),
    ],
)
def test_what_no_correct_peer_sends(payload: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        decode(payload)


@pytest.mark.parametrize(
    ("size", "count", "last"), [(1, 1, 1), (PIECE, 1, PIECE), (PIECE + 1, 2, 1), (5 * PIECE - 1, 5, PIECE - 1)]
)
def test_parts(size: int, count: int, last: int) -> None:
    assert piece_count(size) == count
    assert piece_size(count - 1, size) == last
    assert piece_size(count, size) <= 0


def test_a_view_is_sent_as_bytes() -> None:
    info = memoryview(b"0123456789")
    assert decode(Data(0, 4, info[2:6]).encode()) == Data(0, 4, b"2345")
