"""ut_metadata messages (BEP 9): right ones, dictionaries with anything in them, and right ones that were tampered with."""

from __future__ import annotations

from hypothesis import strategies as st

from unchoke.protocol.bencode import Encodable, encode
from unchoke.protocol.ut_metadata import Data, Reject, Request, piece_count, piece_size

NUMBERS = st.integers(0, (1 << 32) - 1)


@st.composite
def data(draw: st.DrawFn) -> Data:
    """A part of a whole of up to a few parts, as long as it must be."""
    size = draw(st.integers(1, 70_000))
    piece = draw(st.integers(0, piece_count(size) - 1))
    return Data(piece, size, bytes([draw(st.integers(0, 255))]) * piece_size(piece, size))


messages = st.one_of(NUMBERS.map(Request), NUMBERS.map(Reject), data())

_anything: st.SearchStrategy[Encodable] = st.recursive(
    st.integers(-(1 << 40), 1 << 40) | st.binary(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.binary(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_key = st.sampled_from([b"msg_type", b"piece", b"total_size"])


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A dictionary with the right keys and anything in them, and bytes behind it."""
    return encode(draw(st.dictionaries(_key, _anything, max_size=3))) + draw(st.binary(max_size=40))


@st.composite
def tampered(draw: st.DrawFn) -> bytes:
    """A right message of which some bytes were changed, or the end is missing."""
    whole = bytearray(draw(messages).encode())
    for _ in range(draw(st.integers(0, 3))):
        whole[draw(st.integers(0, min(len(whole), 60) - 1))] = draw(st.integers(0, 255))
    return bytes(whole[: draw(st.integers(0, len(whole)))])


payloads = st.one_of(st.binary(max_size=200), headers(), tampered(), messages.map(lambda message: message.encode()))
"""What a peer may send under the extension's number."""
