"""Web seeds, what travels: the address of each file below a web seed's URL, and what answers to range requests say (BEP 19).

The HTTP itself is aiohttp's. Which web seed is asked for what is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import quote_from_bytes

from unchoke.errors import ProtocolError

_CONTENT_RANGE = re.compile(r"bytes[ =](\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE | re.ASCII)
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)


class ContentRange(NamedTuple):
    """Which bytes of its file an answer brings: from ``start`` up to, not with, ``end``. ``size``: of the whole file, if told."""

    start: int
    end: int
    size: int | None


def file_url(url: str, name: str, path: Sequence[str], *, multi_file: bool) -> str | None:
    """Where a web seed has a file: of a single-file torrent at ``url`` itself, unless that ends in a slash; else below it.

    ``name``: the torrent's; ``path``: the file's below that. Names are escaped as UTF-8, bytes that are none as they are. None for
    a path that the server would read as another (``..``). Source: BEP 19.
    """
    url = url.partition("#")[0]
    if not multi_file:
        return url + _escaped(name) if url.endswith("/") and _is_plain(name) else None if url.endswith("/") else url
    parts = (name, *path)
    if not all(map(_is_plain, parts)):
        return None
    return f"{url.removesuffix('/')}/{'/'.join(map(_escaped, parts))}"


def _is_plain(part: str) -> bool:
    return part not in ("", ".", "..")


def _escaped(part: str) -> str:
    return quote_from_bytes(part.encode("utf-8", "surrogateescape"), safe="")


def range_header(start: int, length: int) -> str:
    """The value of ``Range`` that asks for ``length`` bytes from ``start`` on."""
    return f"bytes={start}-{start + length - 1}"


def parse_content_range(text: str) -> ContentRange:
    """The value of ``Content-Range``. Raises ProtocolError for none, and for what cannot be."""
    found = _CONTENT_RANGE.fullmatch(text.strip())
    if found is None:
        raise ProtocolError(f"does not say which bytes it sends ({text[:60]!r})")
    start, last = int(found[1]), int(found[2])
    size = None if found[3] == "*" else int(found[3])
    if last < start or (size is not None and last >= size):
        raise ProtocolError(f"says that it sends bytes that cannot be ({text[:60]!r})")
    return ContentRange(start, last + 1, size)


def retry_after(value: str, date: str) -> float | None:
    """The seconds of ``Retry-After``; a date counts from the server's own ``Date``. None for nothing, and for what is neither."""
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(date)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
