"""Bencode: round trips, what strict and lenient each take, and garbage that gives BencodeError and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.errors import BencodeError
from unchoke.protocol.bencode import (
    MAX_DEPTH,
    Raw,
    Value,
    decode,
    decode_prefix,
    decode_top,
    encode,
)

values: st.SearchStrategy[Value] = st.recursive(
    st.integers(-(10**20) + 1, 10**20 - 1) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=6), inner, max_size=5),
    max_leaves=30,
)
#: Bytes that look like bencode, so that a good part of them gets beyond the first token.
noise = st.lists(
    st.sampled_from([b"d", b"l", b"e", b"i", b"1:a", b"2:bb", b"i7e", b"0:", b"-", b"99:", b"\xff", b"4:info", b":"])
).map(b"".join)


@given(values)
@settings(max_examples=150)
def test_what_goes_in_comes_out(value: Value) -> None:
    data = encode(value)
    assert decode(data, strict=True) == value
    assert decode(memoryview(data)) == value
    assert encode(decode(data)) == data
    assert decode_prefix(data + b"tail") == (value, len(data))


@given(st.binary(max_size=60) | noise, st.booleans())
@settings(max_examples=300)
def test_garbage_is_a_bencode_error_or_a_value(data: bytes, strict: bool) -> None:
    for read in (decode, decode_prefix, decode_top):
        try:
            read(data, strict=strict)
        except BencodeError:
            pass


@given(noise)
@settings(max_examples=200)
def test_whatever_strict_takes_is_what_we_would_write(data: bytes) -> None:
    try:
        value = decode(data, strict=True)
    except BencodeError:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"i",
        b"ie",
        b"i-e",
        b"i1",
        b"i+1e",
        b"i 1e",
        b"i1_0e",
        b"i1.0e",
        b"i" + b"9" * 21 + b"e",
        b"i" + b"9" * 100_000 + b"e",
        b"5:abc",
        b"-1:a",
        b"1_0:aaaaaaaaaa",
        b"9" * 100_000 + b":a",
        b"99999999999999999999:a",
        b"d",
        b"l",
        b"e",
        b"le1:",
        b"d1:ae",
        b"di1ei2ee",
        b"dlei2ee",
        b"d1:a1:bi3ei4ee",
        b"d1:ai1e",
        b"i1ei2e",
        b"<html>",
        b"x",
    ],
)
def test_not_bencode_at_all(data: bytes) -> None:
    with pytest.raises(BencodeError):
        decode(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"i007e", 7),
        (b"i-0e", 0),
        (b"03:abc", b"abc"),
        (b"d1:bi1e1:ai2ee", {b"b": 1, b"a": 2}),
        (b"d1:ai1e1:ai2ee", {b"a": 1}),
    ],
)
def test_liberties_that_only_the_lenient_mode_takes(data: bytes, value: Value) -> None:
    assert decode(data) == value
    with pytest.raises(BencodeError):
        decode(data, strict=True)


def test_a_tail_is_refused_unless_asked_for() -> None:
    with pytest.raises(BencodeError, match="3 bytes after"):
        decode(b"i1exyz")
    with pytest.raises(BencodeError, match="3 bytes after"):
        decode_top(b"dexyz")
    assert decode(b"i1exyz", trailing=True) == 1
    assert decode_top(b"dexyz", trailing=True).value == {}


@pytest.mark.parametrize("opening", [b"l", b"d1:a"])
def test_depth_is_limited_and_costs_no_recursion(opening: bytes) -> None:
    close = b"e" if opening == b"l" else b"i0e" + b"e"
    deep = opening * MAX_DEPTH + (b"i0e" if opening != b"l" else b"") + b"e" * MAX_DEPTH
    assert encode(decode(deep)) == deep
    for data in (opening * (MAX_DEPTH + 1) + close, opening * 100_000, opening * 100_000 + b"e" * 100_000):
        with pytest.raises(BencodeError, match="nested deeper"):
            decode(data)
        if opening != b"l":
            with pytest.raises(BencodeError, match="nested deeper"):
                decode_top(data)
    with pytest.raises(BencodeError, match="nested deeper"):
        decode(b"llleee", max_depth=2)


def test_the_number_of_values_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unchoke.protocol.bencode.MAX_VALUES", 1000)
    assert decode(b"l" + b"de" * 400 + b"e") == [{}] * 400
    for data in (b"l" + b"de" * 600 + b"e", b"d1:a" + b"l" + b"le" * 300 + b"e" + b"1:bl" + b"le" * 300 + b"ee"):
        with pytest.raises(BencodeError, match="more than 1000 values"):
            decode(data)
    with pytest.raises(BencodeError, match="more than"):
        decode_top(b"d1:a" + b"l" + b"le" * 300 + b"e" + b"1:bl" + b"le" * 300 + b"ee")


def test_spans_are_the_bytes_that_were_there() -> None:
    data = b"d4:infod6:lengthi007e4:name1:x5:zzzzzle4:miscdee1:zi-0ee"
    top = decode_top(data, inside=b"info")
    assert top.value == decode(data)
    assert data[slice(*top.spans[b"z"])] == b"i-0e"
    assert data[slice(*top.spans[b"info"])] == b"d6:lengthi007e4:name1:x5:zzzzzle4:miscdee"
    assert {key: data[slice(*span)] for key, span in top.inside.items()} == {
        b"length": b"i007e",
        b"name": b"1:x",
        b"zzzzz": b"le",
        b"misc": b"de",
    }


def test_of_duplicate_keys_the_first_counts_for_value_and_span_alike() -> None:
    data = b"d4:infod1:ai1ee4:infod1:bi2eee"
    top = decode_top(data, inside=b"info")
    assert top.value == {b"info": {b"a": 1}}
    assert data[slice(*top.spans[b"info"])] == b"d1:ai1ee"
    assert list(top.inside) == [b"a"]


@pytest.mark.parametrize("data", [b"", b"le", b"i1e", b"0:", b"di1e1:ae", b"d1:a"])
def test_the_top_has_to_be_a_whole_dictionary(data: bytes) -> None:
    with pytest.raises(BencodeError):
        decode_top(data)


def test_encoding_what_is_handy() -> None:
    mixed: Any = {"b": (1, True), b"a": "é"}
    assert encode(mixed) == b"d1:a2:\xc3\xa91:bli1ei1eee"
    assert encode(bytearray(b"ab")) == encode(memoryview(b"ab")) == b"2:ab"
    assert encode(["caf\udce9"]) == b"l4:caf\xe9e"
    assert encode({"info": Raw(b"d1:zi1e1:ai2ee")}) == b"d4:infod1:zi1e1:ai2eee"
    assert encode({"é": 1, "z": 2}) == b"d1:zi2e2:\xc3\xa9i1ee"


def test_what_has_no_bencode() -> None:
    circle: list[Any] = []
    circle.append(circle)
    bad: list[Any] = [None, 1.5, {1: 2}, {"a": 1, b"a": 2}, "\ud800", {1, 2}, [object()], circle]
    for value in bad:
        with pytest.raises(BencodeError):
            encode(value)
