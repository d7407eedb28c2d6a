"""HTTP/1.1 answers of web seeds, without the socket: a head, and a body that ends by length, by chunks or with the connection.

Strict where it matters: two lengths, a length and chunks, or a head without end are no answer. The body itself is not touched here,
except that chunks are joined. (RFC 9112)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from unchoke.errors import ProtocolError

#: Bytes of a head, and its lines: what servers send is below a twentieth of it.
MAX_HEAD = 32 * 1024
MAX_LINES = 200
#: Interim answers (1xx) before the real one.
MAX_INTERIM = 8
#: Bytes of a chunk's size line with its extensions, and of all trailers.
MAX_LINE = 4096

_STATUS = re.compile(rb"HTTP/(1\.[01]) ([1-9]\d\d)(?: [^\r\n]*)?")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
_WITHOUT_BODY = frozenset((204, 304))


@dataclass(frozen=True, slots=True)
class Answer:
    """A head. ``headers``: by name in lower case, several of one name joined by commas. ``length``: of the body in bytes, None for
    one that ends with its chunks or the connection. ``keeps``: the connection may be used again."""

    status: int
    headers: dict[str, str]
    length: int | None
    chunked: bool
    keeps: bool


class HeadReader:
    """Feed it what comes until there is an ``answer``."""

    __slots__ = ("_data", "_interim", "answer")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self._data = b""
        self._interim = 0

    def feed(self, data: bytes) -> bytes:
        """What came behind the head, once that is complete. Raises ProtocolError for what is no answer in HTTP."""
        self._data += data
        while self.answer is None and (end := self._data.find(b"\r\n\r\n")) >= 0:
            head, self._data = self._data[:end], self._data[end + 4 :]
            answer = _parse(head)
            if answer.status >= 200:
                self.answer = answer
                return self._data
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise ProtocolError("sends interim answers without end")
        if len(self._data) > MAX_HEAD or not self._data[:5] == b"HTTP/"[: len(self._data)]:
            raise ProtocolError("does not answer in HTTP")
        return b""


def _parse(head: bytes) -> Answer:
    first, *lines = head.split(b"\r\n")
    found = _STATUS.fullmatch(first)
    if found is None or len(lines) > MAX_LINES or len(head) > MAX_HEAD:
        raise ProtocolError("does not answer in HTTP")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        name, value = name.lower(), value.strip(" \t")
        if not colon or not name or name != name.strip() or "\n" in value or "\r" in value:
            raise ProtocolError("sends a header that is none")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    status = int(found[2])
    chunked, length = _framing(status, headers)
    keeps = _keeps(found[1] == b"1.1", headers, ends=chunked or length is not None)
    return Answer(status, headers, length, chunked, keeps)


def _framing(status: int, headers: dict[str, str]) -> tuple[bool, int | None]:
    """How the body ends: by chunks, or after so many bytes."""
    if status in _WITHOUT_BODY:
        return False, 0
    coding, told = headers.get("transfer-encoding", "").lower(), headers.get("content-length")
    if coding not in ("", "identity", "chunked") or (coding == "chunked" and told is not None):
        raise ProtocolError(f"sends its answer in a form not known here ({coding[:40]!r})")
    if coding == "chunked":
        return True, None
    if told is None:
        return False, None
    lengths = {one.strip() for one in told.split(",")}  # the same one twice is one
    length = lengths.pop()
    if lengths or not length.isascii() or not length.isdigit() or len(length) > 18:
        raise ProtocolError("does not say how long its answer is")
    return False, int(length)


def _keeps(new: bool, headers: dict[str, str], *, ends: bool) -> bool:
    wishes = {wish.strip().lower() for wish in headers.get("connection", "").split(",")}
    return ends and "close" not in wishes and (new or "keep-alive" in wishes)


class ChunkReader:
    """The chunks of a body, joined. ``done``: the last one and its trailers are in."""

    __slots__ = ("_data", "_left", "_trailers", "done", "surplus")

    def __init__(self) -> None:
        self.done = False
        self.surplus = False  # something came behind the end
        self._data = b""  # of a line that is not complete
        self._left = 0  # of a chunk and the line end behind it
        self._trailers = -1  # their bytes so far, once the last chunk was seen

    def feed(self, data: bytes) -> bytes:
        """The payload in it. Raises ProtocolError."""
        found: list[bytes] = []
        data = self._data + data
        self._data = b""
        at = 0
        while at < len(data) and not self.done:
            if self._left > 2:
                take = data[at : at + self._left - 2]
                found.append(take)
                at += len(take)
                self._left -= len(take)
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._data = data[at:]
                if len(self._data) > MAX_LINE:
                    raise ProtocolError("sends a chunk without a size")
                break
            self._line(data[at:end])
            at = end + 2
        self.surplus = self.done and at < len(data)
        return b"".join(found)

    def _line(self, line: bytes) -> None:
        if self._left:  # the end of a chunk
            if line:
                raise ProtocolError("sends a chunk that is longer than its size")
            self._left = 0
        elif self._trailers >= 0:
            self._trailers += len(line) + 2
            self.done = not line
            if self._trailers > MAX_LINE:
                raise ProtocolError("sends trailers without end")
        else:
            size = _SIZE.fullmatch(line)
            if size is None:
                raise ProtocolError("sends a chunk without a size")
            length = int(size[1], 16)
            self._left = length + 2 if length else 0
            self._trailers = -1 if length else 0
