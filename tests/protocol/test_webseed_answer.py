"""Answers of web servers: heads and chunks in crumbs, the three ways in which a body ends, and what is no HTTP."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unchoke.errors import ProtocolError
from unchoke.protocol.webseed.answer import MAX_HEAD, MAX_LINE, Answer, ChunkReader, HeadReader


def read(data: bytes, crumb: int = 1 << 20) -> tuple[Answer | None, bytes]:
    reader = HeadReader()
    rest = b""
    for at in range(0, len(data), crumb):
        if reader.answer is None:
            rest += reader.feed(data[at : at + crumb])
        else:
            rest += data[at : at + crumb]
    return reader.answer, rest


def answer(head: str) -> Answer:
    found, _ = read(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n")
    assert found is not None
    return found


@pytest.mark.parametrize("crumb", [1, 7, 1 << 20])
def test_a_head_in_crumbs(crumb: int) -> None:
    data = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nX-Y:  z \r\nx-y:a\r\n\r\nhello"
    found, rest = read(data, crumb)
    assert found == Answer(206, {"content-length": "5", "x-y": "z, a"}, 5, chunked=False, keeps=True)
    assert rest == b"hello"


def test_interim_answers_are_passed_over() -> None:
    found, rest = read(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx"
    )
    assert found is not None
    assert (found.status, rest) == (200, b"x")


@pytest.mark.parametrize(
    ("head", "length", "chunked", "keeps"),
    [
        ("HTTP/1.1 200 OK\nContent-Length: 7", 7, False, True),
        ("HTTP/1.1 200\nContent-Length: 7, 7", 7, False, True),
        ("HTTP/1.1 200 OK\nContent-Length: 7\nConnection: Close", 7, False, False),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: Chunked", None, True, True),
        ("HTTP/1.1 200 OK", None, False, False),
        ("HTTP/1.1 204 No Content", 0, False, False),
        ("HTTP/1.0 200 OK\nContent-Length: 7", 7, False, False),
        ("HTTP/1.0 200 OK\nContent-Length: 7\nConnection: foo, keep-alive", 7, False, True),
    ],
)
def test_how_the_body_ends_and_whether_the_connection_stays(
    head: str, length: int | None, chunked: bool, keeps: bool
) -> None:
    found = answer(head)
    assert (found.length, found.chunked) == (length, chunked)
    if length != 0:
        assert found.keeps is keeps


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/2 200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 200 OK\nno header",
        "HTTP/1.1 200 OK\n: x",
        "HTTP/1.1 200 OK\nname : x",
        "HTTP/1.1 200 OK\n folded: x",
        "HTTP/1.1 200 OK\nContent-Length: 7\nContent-Length: 8",
        "HTTP/1.1 200 OK\nContent-Length: -7",
        "HTTP/1.1 200 OK\nContent-Length: 0x7",
        "HTTP/1.1 200 OK\nContent-Length: " + "9" * 19,
        "HTTP/1.1 200 OK\nContent-Length: 7\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.1 200 OK\n" + "\n".join(["a: b"] * 300),
        "HTTP/1.1 200 OK\na: " + "b" * MAX_HEAD,
    ],
)
def test_heads_that_are_refused(head: str) -> None:
    with pytest.raises(ProtocolError):
        answer(head)


def test_a_head_without_end_is_refused_while_it_comes() -> None:
    reader = HeadReader()
    for _ in range(MAX_HEAD // 1000):
        reader.feed(b"HTTP/1.1 200 OK\r\n" + b"a" * 900)
    with pytest.raises(ProtocolError):
        reader.feed(b"a" * MAX_HEAD)


@given(st.binary(max_size=400), st.integers(1, 50))
@example(b"HTTP/1.1 200 OK\r\n\r\n", 1)
@example(b"HTTP", 2)
@settings(max_examples=100)
def test_garbage_is_an_answer_or_a_protocol_error(data: bytes, crumb: int) -> None:
    try:
        found, _ = read(data, crumb)
    except ProtocolError:
        return
    assert found is None or 200 <= found.status <= 999


def chunks_of(data: bytes, size: int, extension: bytes = b"") -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%X%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n"


@given(st.binary(max_size=300), st.integers(1, 60), st.integers(1, 40), st.sampled_from([b"", b';x="y"', b" ; z"]))
@settings(max_examples=150)
def test_chunks_in_crumbs_are_the_body(data: bytes, size: int, crumb: int, extension: bytes) -> None:
    sent = chunks_of(data, size, extension) + b"Sum: 1\r\n\r\n"
    reader = ChunkReader()
    got = b""
    for at in range(0, len(sent), crumb):
        assert not reader.done
        got += reader.feed(sent[at : at + crumb])
    assert got == data
    assert reader.done
    assert not reader.surplus


def test_what_comes_behind_the_last_chunk_is_known_to() -> None:
    reader = ChunkReader()
    assert reader.feed(b"1\r\nx\r\n0\r\n\r\nHTTP") == b"x"
    assert reader.surplus


@pytest.mark.parametrize(
    "data",
    [b"\r\n", b"x\r\n", b"-1\r\n", b"1\r\nxy\r\n", b"f" * 16 + b"\r\n", b"a" * (MAX_LINE + 1), b"0\r\n" + b"a: b\r\n" * MAX_LINE],
    ids=["empty", "no number", "negative", "too long", "too large", "endless size", "endless trailers"],
)  # fmt: skip
def test_chunks_that_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        ChunkReader().feed(data)


@given(st.binary(max_size=300), st.integers(1, 20))
@settings(max_examples=100)
def test_garbage_is_chunks_or_a_protocol_error(data: bytes, crumb: int) -> None:
    reader = ChunkReader()
    try:
        got = b"".join(reader.feed(data[at : at + crumb]) for at in range(0, len(data), crumb))
    except ProtocolError:
        return
    assert len(got) <= len(data)
