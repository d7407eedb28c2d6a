"""Text for people and from people."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.app.cli.text import (
    clean,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_selection,
    parse_size,
    parse_tracker,
    selected,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 中文 🎉", "plain é 中文 🎉"),
        ("\x1b[31mred\x1b[0m\r\n\t\x00\x7f\x9b", "[31mred[0m"),
        ("exe.\u202egpj\u2066\u200f", "exe.gpj"),
        ("caf\udce9", "caf\ufffd"),
        ("a\u2028b\ufeffc", "abc"),
    ],
)
def test_names_of_strangers_are_made_harmless(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text(st.characters(codec=None)))
@settings(max_examples=100)
def test_whatever_it_was_it_prints_on_one_line(text: str) -> None:
    shown = clean(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(char) == "Cc" for char in shown)
    assert clean(shown) == shown


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 1024**3, "5.0 GiB"),
        (1024**8, "1048576.0 EiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert format_size(size) == text


def test_rates() -> None:
    assert format_rate(0) == "0 B/s"
    assert format_rate(2_100_000) == "2.1 MB/s"
    assert format_rate(999_999) == "1.0 MB/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (125, "2m05s"),
        (11_220, "3h07m"),
        (352_800, "4d02h"),
        (1e12, "-"),
        (math.inf, "-"),
        (math.nan, "-"),
        (None, "-"),
    ],
)
def test_durations(seconds: Any, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500k", 500_000),
        ("2M", 2_000_000),
        ("2MB", 2_000_000),
        ("1.5G", 1_500_000_000),
        ("16Ki", 16_384),
        ("1MiB", 1_048_576),
        (" 1 mib ", 1_048_576),
        ("1T", 10**12),
        ("100B", 100),
    ],
)
def test_parsing_sizes(text: str, size: int) -> None:
    assert parse_size(text) == parse_rate(text) == parse_rate(text + "/s") == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1 2", "M", "1X", "1i", "1/s", "1e9", "٣", "inf", "1" * 40])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("45s", 45), ("30m", 1800), ("1h30m", 5400), ("2d", 172_800), ("1d2h3m4.5s", 93_784.5), ("0", 0)],
)
def test_parsing_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(f" {text.upper()} ") == seconds


@pytest.mark.parametrize("text", ["", " ", "x", "-1", "1w", "30m1h", "1h 30m", "inf"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_duration(text)


def test_selecting_files() -> None:
    assert selected(parse_selection("1-3,5"), 9) == [0, 1, 2, 4]
    assert selected(parse_selection(" 5 , 1-3,2"), 9) == [0, 1, 2, 4]
    assert selected(parse_selection("8-"), 9) == [7, 8]
    assert selected(parse_selection("1-999999999"), 3) == [0, 1, 2]
    with pytest.raises(ValueError, match="there is no file 10: the torrent has 9"):
        selected(parse_selection("10"), 9)


@pytest.mark.parametrize("text", ["", "0", "3-1", "-3", "a", "1,,2", "1-2-3", "1.5", "9" * 30])
def test_no_selections(text: str) -> None:
    with pytest.raises(ValueError, match="no file numbers"):
        parse_selection(text)


def test_trackers_have_a_scheme_and_a_host() -> None:
    for url in ("http://a/announce?x=1", "udp://[::1]:6969", "wss://t.example"):
        assert parse_tracker(url) == url
    for text in ("", "a", "http://", "http:///x", "a b://c", "http://a b"):
        with pytest.raises(ValueError, match="is no URL"):
            parse_tracker(text)
