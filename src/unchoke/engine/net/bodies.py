"""Body: an HTTP body while it arrives, decompressed, and never longer than was allowed."""

from __future__ import annotations

import zlib

from unchoke.errors import NetworkError

_GZIP_OR_ZLIB = 47  # wbits: the header says which


class Body:
    """``encoding``: the answer's Content-Encoding. ``host`` is named in errors. All failures are NetworkError."""

    __slots__ = ("_host", "_max_size", "_parts", "_size", "_unzip")

    def __init__(self, host: str, encoding: str, max_size: int) -> None:
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise NetworkError(f"{host} answers in an encoding not asked for ({encoding[:40]!r})", "garbage")
        self._unzip = zlib.decompressobj(wbits=_GZIP_OR_ZLIB) if encoding not in ("", "identity") else None
        self._host = host
        self._max_size = max_size
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> bool:
        """Take what came. True: there will be no more, whatever else comes."""
        try:
            data = chunk if self._unzip is None else self._unzip.decompress(chunk, self._max_size - self._size + 1)
        except zlib.error:
            raise NetworkError(f"{self._host} sends broken compressed data", "garbage") from None
        self._size += len(data)
        if self._size > self._max_size:
            raise NetworkError(f"the answer of {self._host} is longer than {self._max_size} bytes", "garbage")
        self._parts.append(data)
        return self._unzip is not None and self._unzip.eof

    def done(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)
