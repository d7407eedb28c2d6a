"""Rows of the database in their binary form: whole again, or RecordError."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from bitarray import bitarray
from bitarray.util import ones, zeros
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.storage import records
from unchoke.storage.base import FileStatus
from unchoke.storage.records import RecordError

_int64 = st.integers(-(2**63), 2**63 - 1)
_statuses = st.lists(st.none() | st.builds(FileStatus, st.integers(0, 2**63 - 1), _int64), max_size=20)
_unpackers = (records.unpack_bits, records.unpack_files, records.unpack_partial, records.unpack_text)


@settings(max_examples=50)
@given(st.lists(st.booleans(), max_size=70))
def test_bits_come_back(values: list[bool]) -> None:
    bits = bitarray(values, endian="big")
    assert records.unpack_bits(records.pack_bits(bits)) == bits


def test_none_and_all_of_half_a_million_pieces_take_a_dozen_bytes() -> None:
    for bits in (zeros(500_000, "big"), ones(500_000, "big")):
        packed = records.pack_bits(bits)
        assert len(packed) < 16
        assert records.unpack_bits(packed) == bits


@settings(max_examples=50)
@given(_statuses)
def test_files_come_back(files: list[FileStatus | None]) -> None:
    assert records.unpack_files(records.pack_files(files)) == files


def test_a_time_beyond_sqlite_is_kept_as_another() -> None:
    assert records.unpack_files(records.pack_files([FileStatus(1, 2**70)])) == [FileStatus(1, 2**63 - 1)]


@settings(max_examples=50)
@given(st.dictionaries(st.integers(0, 2**32 - 1), st.binary(max_size=9), max_size=5))
def test_partial_pieces_come_back(partial: dict[int, bytes]) -> None:
    assert records.unpack_partial(records.pack_partial(partial)) == partial


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=())))
def test_any_text_comes_back(text: str) -> None:
    assert records.unpack_text(records.pack_text(text)) == text


@settings(max_examples=100)
@given(st.sampled_from(_unpackers), st.binary(max_size=60) | st.none() | st.integers() | st.text(max_size=5))
def test_garbage_is_a_record_error_or_a_value(unpack: Callable[[object], object], data: object) -> None:
    try:
        unpack(data)
    except RecordError:
        return
    assert unpack is records.unpack_text  # the only one without a checksum


@settings(max_examples=100)
@given(st.sampled_from(_unpackers[:3]), st.binary(max_size=60))
def test_garbage_with_a_good_checksum_is_one_too(unpack: Callable[[object], object], data: bytes) -> None:
    try:
        value = unpack(records._seal(data))
    except RecordError:
        return
    assert value is not None


def test_one_flipped_bit_is_noticed() -> None:
    packed = bytearray(records.pack_bits(bitarray("0110111", endian="big")))
    for at in range(8 * len(packed)):
        packed[at // 8] ^= 1 << at % 8
        with pytest.raises(RecordError):
            records.unpack_bits(bytes(packed))
        packed[at // 8] ^= 1 << at % 8


def test_nine_bytes_do_not_ask_for_gigabytes() -> None:
    with pytest.raises(RecordError):
        records.unpack_bits(records._seal(records._BITS.pack(b"1", 2**32 - 1)))
