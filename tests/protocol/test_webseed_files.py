"""Where web seeds have files, and what their answers say of ranges and waiting."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.errors import ProtocolError
from unchoke.protocol.webseed.files import ContentRange, file_url, parse_content_range, range_header, retry_after


@pytest.mark.parametrize(
    ("url", "multi_file", "expected"),
    [
        ("http://m.example/file.iso", False, "http://m.example/file.iso"),
        ("http://m.example/get?id=1", False, "http://m.example/get?id=1"),
        ("http://m.example/file.iso#top", False, "http://m.example/file.iso"),
        ("http://m.example/pub/", False, "http://m.example/pub/a%20name"),
        ("http://m.example/pub/", True, "http://m.example/pub/a%20name/d%3F/f%23"),
        ("http://m.example/pub", True, "http://m.example/pub/a%20name/d%3F/f%23"),
    ],
)
def test_the_address_of_a_file(url: str, multi_file: bool, expected: str) -> None:
    assert file_url(url, "a name", ("d?", "f#") if multi_file else (), multi_file=multi_file) == expected


@pytest.mark.parametrize("part", ["", ".", ".."])
def test_a_path_that_means_another_has_no_address(part: str) -> None:
    assert file_url("http://m.example/", "name", (part, "x"), multi_file=True) is None
    assert file_url("http://m.example/", part, (), multi_file=False) is None


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4))
@settings(max_examples=80)
def test_names_survive_the_way(path: list[str]) -> None:
    url = file_url("http://m.example/x/", "näme", path, multi_file=True)
    if any(part in (".", "..") for part in path):
        assert url is None
        return
    assert url is not None
    assert url.isascii()
    parts = urlsplit(url).path.split("/")[2:]
    assert [unquote_to_bytes(part) for part in parts] == [
        part.encode("utf-8", "surrogatepass") for part in ("näme", *path)
    ]


def test_bytes_that_are_no_text_go_as_they_are() -> None:
    name = b"\xff\x80".decode("utf-8", "surrogateescape")
    assert file_url("http://m.example", "t", (name,), multi_file=True) == "http://m.example/t/%FF%80"


def test_a_range_and_its_answer() -> None:
    assert range_header(5, 10) == "bytes=5-14"
    assert parse_content_range("bytes 5-14/100") == ContentRange(5, 15, 100)
    assert parse_content_range(" Bytes 0-0/* ") == ContentRange(0, 1, None)


@pytest.mark.parametrize("text", ["", "bytes */100", "bytes 5-4/100", "bytes 5-100/100", "bytes -5/9", "lines 1-2/3"])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(ProtocolError):
        parse_content_range(text)


@given(st.text(max_size=60))
@settings(max_examples=60)
def test_garbage_is_a_range_or_a_protocol_error(text: str) -> None:
    try:
        found = parse_content_range(text)
    except ProtocolError:
        return
    assert 0 <= found.start < found.end


@pytest.mark.parametrize(
    ("value", "date", "expected"),
    [
        ("120", "", 120.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:26:30 GMT", 90.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 08:26:30 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:26:30 -0000", None),
        ("", "", None),
        ("-5", "", None),
        ("soon", "now", None),
        ("Wed, 99 Oct 99999 07:28:00 GMT", "x", None),
    ],
)
def test_retry_after_in_both_forms(value: str, date: str, expected: float | None) -> None:
    assert retry_after(value, date) == expected


@given(st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=60)
def test_any_text_is_a_wait_or_none(value: str, date: str) -> None:
    found = retry_after(value, date)
    assert found is None or found >= 0
