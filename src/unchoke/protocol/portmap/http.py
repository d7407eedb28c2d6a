"""HTTP/1.1 as far as UPnP needs it: one request, one answer, and the connection is closed.

Routers are sloppy servers: wrong lengths, bare line feeds, chunks nobody asked for. The answer is read as far as its own words
go, within ``max_size``; what lacks an end ends with the connection. Redirects are not followed, nothing is decompressed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from unchoke.errors import ProtocolError

#: Bytes of status line and headers.
MAX_HEAD = 16 * 1024

#: Bytes of a body: device descriptions in the field have 2 to 20 KiB.
MAX_BODY = 256 * 1024

#: Characters of a URL in a description or an answer to a search.
MAX_URL = 512

_STATUS = re.compile(rb"HTTP/1\.[01] +([1-9]\d\d)(?:[ \r\n]|$)")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_VISIBLE = re.compile(r"[!-~]*")
_PATH = re.compile(r"/[!-~]*")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL leads: a literal address without a scope, a port, and a path with its query."""

    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 80 else f"{host}:{self.port}"


def place(url: str, base: str = "") -> Place:
    """Read an ``http`` URL (relative to ``base``), whatever its host. Raises ProtocolError."""
    url = url.strip()
    try:
        if max(len(url), len(base)) > MAX_URL or not _VISIBLE.fullmatch(url):
            raise ValueError
        parts = urlsplit(urljoin(base, url))
        host, port = (parts.hostname or "").partition("%")[0], 80 if parts.port is None else parts.port
    except ValueError:
        raise ProtocolError(f"{url[:80]!r} is no address") from None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme != "http" or not host or not port or not _PATH.fullmatch(path):
        raise ProtocolError(f"{url[:80]!r} is no address of a router's description")
    return Place(host, port, path)


def pack_request(where: Place, *, headers: dict[str, str] | None = None, body: bytes | None = None) -> bytes:
    """GET, or POST if there is a ``body``."""
    lines = [f"{'GET' if body is None else 'POST'} {where.path} HTTP/1.1", f"Host: {where.authority}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += [] if body is None else [f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("ascii", "replace") + (body or b"")


class ReplyReader:
    """Feed it what arrives; it is ``done`` when ``status`` and ``body`` are whole. Raises ProtocolError for what is no answer."""

    __slots__ = ("_data", "_length", "_max_size", "_raw", "body", "done", "status")

    def __init__(self, max_size: int = MAX_BODY) -> None:
        self._max_size = max_size
        self._data = bytearray()  # what is not read yet: the head, then the body as it came
        self._length: int | None = None  # of the body; None: until the end of the connection
        self._raw = _Chunks(max_size)
        self.status = 0
        self.body = b""
        self.done = False

    def feed(self, data: bytes) -> None:
        """More of the answer."""
        if self.done:
            return
        self._data += data
        if not self.status and not self._read_head():
            if len(self._data) > MAX_HEAD:
                raise ProtocolError("an HTTP answer without an end of its headers")
            return
        self._read_body()

    def _read_head(self) -> bool:
        found = _END_OF_HEAD.search(self._data, 0, MAX_HEAD)
        if found is None:
            return False
        head = bytes(self._data[: found.start()])
        status = _STATUS.match(head)
        if status is None:
            raise ProtocolError("not an HTTP answer")
        del self._data[: found.end()]
        if status[1][:1] == b"1":  # "100 Continue" before the answer itself
            return self._read_head()
        self.status = int(status[1])
        headers = _headers(head)
        self._raw.wanted = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length", "")
        if not self._raw.wanted and length.isascii() and length.isdigit() and len(length) < 12:
            self._length = int(length)
        return True

    def _read_body(self) -> None:
        if self._raw.wanted:
            self.done = self._raw.feed(self._data)
            self.body = bytes(self._raw.body) if self.done else b""
            return
        if max(len(self._data), self._length or 0) > self._max_size:
            raise ProtocolError(f"an HTTP answer of more than {self._max_size} bytes")
        if self._length is not None and len(self._data) >= self._length:
            self.body, self.done = bytes(self._data[: self._length]), True

    def end(self) -> None:
        """The connection has ended. What is there is the answer, if the headers were whole: sloppy lengths are usual."""
        if self.done:
            return
        if not self.status:
            raise ProtocolError("the connection ended before the answer")
        self.body = bytes(self._raw.body if self._raw.wanted else self._data)
        self.done = True


def _headers(head: bytes) -> dict[str, str]:
    """Names in small letters; of a repeated one the first."""
    found: dict[str, str] = {}
    for line in head.decode("latin-1").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip().lower(), value.strip())
    return found


class _Chunks:
    """A body in chunks, taken out of a buffer as it fills."""

    __slots__ = ("_left", "_max_size", "body", "wanted")

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._left = 0  # bytes of the chunk that has begun, with the line end behind it
        self.body = bytearray()
        self.wanted = False

    def feed(self, data: bytearray) -> bool:
        """Take whole chunks and parts of them. True after the last one."""
        at = 0
        while at < len(data):
            if self._left:
                part = data[at : at + self._left]
                self.body += part[: max(0, self._left - 2)]
                self._left -= len(part)
                at += len(part)
                continue
            end = data.find(b"\n", at, at + 64)
            if end < 0:
                if len(data) - at >= 64:
                    raise ProtocolError("a chunk of an HTTP answer without a size")
                break
            size = _chunk_size(bytes(data[at:end]))
            at = end + 1
            if size == 0:
                return True
            if len(self.body) + size > self._max_size:
                raise ProtocolError(f"an HTTP answer of more than {self._max_size} bytes")
            self._left = size + 2
        del data[:at]
        return False


def _chunk_size(line: bytes) -> int:
    text = line.partition(b";")[0].strip()
    if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", text):
        raise ProtocolError("a chunk of an HTTP answer without a size")
    return int(text, 16)
