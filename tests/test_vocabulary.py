"""types, bitfield, layout, rates: the words all floors share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unchoke.bitfield import Bitfield
from unchoke.errors import ProtocolError
from unchoke.layout import FileEntry, FileSpan, TorrentLayout
from unchoke.rates import Rate
from unchoke.types import Address, Block, InfoHash, PeerId


def test_hashes_and_ids_know_their_size_and_say_themselves() -> None:
    assert str(InfoHash(b"\x01" * 20)) == "01" * 20
    assert InfoHash(bytes(range(32))).truncated == bytes(range(20))
    assert str(PeerId(b"-UK0100-\x00bcdefghijk\xff")) == "-UK0100-.bcdefghijk."
    for wrong in (b"", b"x" * 19, b"x" * 21):
        with pytest.raises(ValueError):
            InfoHash(wrong)
        with pytest.raises(ValueError):
            PeerId(wrong)


def test_addresses_are_written_as_urls_have_them() -> None:
    assert str(Address("10.0.0.1", 80)) == "10.0.0.1:80"
    assert str(Address("::1", 80)) == "[::1]:80"


@given(st.lists(st.booleans(), max_size=70))
def test_bitfield_round_trip(flags: list[bool]) -> None:
    field = Bitfield(len(flags))
    for index, flag in enumerate(flags):
        field[index] = flag
    assert Bitfield.from_bytes(field.to_bytes(), len(flags)) == field
    assert list(field) == [index for index, flag in enumerate(flags) if flag]
    assert field.count() == sum(flags)
    assert field.all() is all(flags)
    assert field.any() is any(flags)


def test_bitfield_wire_form() -> None:
    field = Bitfield(10)
    field[0] = field[9] = 1
    assert field.to_bytes() == b"\x80\x40"
    with pytest.raises(ProtocolError, match="spare"):
        Bitfield.from_bytes(b"\x80\x20", 10)
    with pytest.raises(ProtocolError, match="1 bytes for 10"):
        Bitfield.from_bytes(b"\x80", 10)


def test_bitfield_questions() -> None:
    ours, theirs = Bitfield(3), Bitfield(3)
    theirs[1] = 1
    assert theirs.has_any_missing_from(ours)
    twin = theirs.copy()
    twin[1] = 0
    assert not twin.has_any_missing_from(ours)
    assert theirs[1]


FILES = [
    FileEntry(("a",), 40000),
    FileEntry(("empty",), 0),
    FileEntry((".pad", "25536"), 25536, pad=True),
    FileEntry(("b",), 10000),
    FileEntry(("end",), 0),
]


def test_layout_of_files_and_pieces() -> None:
    layout = TorrentLayout(32768, FILES)
    assert (layout.piece_count, layout.total_length, layout.payload_length) == (3, 75536, 50000)
    assert [layout.piece_size(piece) for piece in range(3)] == [32768, 32768, 10000]
    assert [layout.block_count(piece) for piece in range(3)] == [2, 2, 1]
    assert list(layout.blocks(2)) == [Block(2, 0, 10000)]
    assert layout.piece_spans(1) == [FileSpan(0, 32768, 7232), FileSpan(2, 0, 25536)]
    assert [layout.file_pieces(file) for file in range(5)] == [
        range(0, 2),
        range(0),
        range(1, 2),
        range(2, 3),
        range(0),
    ]
    assert layout.pieces_of([0, 3]) == {0, 1, 2}


def test_layout_of_nothing() -> None:
    layout = TorrentLayout(16384, [FileEntry(("empty",), 0)])
    assert (layout.piece_count, layout.last_piece_size) == (0, 0)
    assert layout.spans(0, 0) == []


@pytest.mark.parametrize(
    ("block", "inside"),
    [
        (Block(0, 0, 16384), True),
        (Block(2, 0, 10000), True),
        (Block(2, 0, 10001), False),
        (Block(3, 0, 1), False),
        (Block(0, 32767, 2), False),
        (Block(0, 0, 0), False),
        (Block(-1, 0, 1), False),
    ],
)
def test_blocks_inside_and_outside(block: Block, inside: bool) -> None:
    assert TorrentLayout(32768, FILES).contains(block) is inside


@given(st.integers(1, 50), st.lists(st.integers(0, 60), min_size=1, max_size=12), st.data())
def test_spans_cover_exactly_what_is_asked(piece_length: int, lengths: list[int], data: st.DataObject) -> None:
    layout = TorrentLayout(piece_length, [FileEntry((str(index),), length) for index, length in enumerate(lengths)])
    start = data.draw(st.integers(0, layout.total_length))
    length = data.draw(st.integers(0, layout.total_length - start))
    covered = [
        layout.file_start(span.file) + offset
        for span in layout.spans(start, length)
        for offset in range(span.offset, span.offset + span.length)
    ]
    assert covered == list(range(start, start + length))
    assert sum(layout.piece_size(piece) for piece in range(layout.piece_count)) == layout.total_length


def test_a_rate_follows_and_forgets() -> None:
    rate = Rate(0.0)
    now = 0.0
    for _ in range(100):
        now += 0.1
        rate.add(100, now)
    assert rate.rate(now) == pytest.approx(1000, rel=0.02)
    assert rate.total == 10_000
    assert rate.rate(now + 60) < 5


def test_a_rate_is_right_from_its_first_second() -> None:
    rate = Rate(0.0)
    rate.add(500, 0.1)
    assert rate.rate(0.1) == pytest.approx(5000)
    rate.add(500, 1.0)
    assert rate.rate(1.0) == pytest.approx(1000, rel=0.1)
