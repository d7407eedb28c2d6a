"""HTTP/1.0, plainly: one GET of a server whose answers aiohttp refuses for their form.

Some trackers send two Content-Lengths, a chunked body of a known length, header lines that are none, or no header at all. What
can be made out of such an answer is made out of it, within the same bounds; the rest is NetworkError.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unchoke.engine.net.bodies import Body
from unchoke.engine.net.http_words import os_words
from unchoke.errors import NetworkError
from unchoke.types import Address

if TYPE_CHECKING:
    import yarl

#: Bytes of one header line and of all, and header lines; servers allow about as much of requests.
MAX_LINE = 64 * 1024
MAX_HEAD = 128 * 1024
MAX_LINES = 100

_CHUNK = 64 * 1024
_STATUS = re.compile(rb"(?:HTTP/\d(?:\.\d)?|ICY) +(\d{3})(?!\d)")
_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


@dataclass(slots=True)
class PlainReply:
    """Header names are in lower case, each with all its values in their order."""

    status: int
    headers: dict[str, list[str]] = field(default_factory=dict)
    body: bytes = b""

    def header(self, name: str) -> str:
        """The first value, or nothing."""
        return self.headers.get(name, [""])[0]


async def get_plainly(
    target: yarl.URL,
    addresses: Sequence[Address],
    *,
    headers: Mapping[str, str],
    max_size: int,
    tls: ssl.SSLContext | None = None,
    bind: str = "",
) -> PlainReply:
    """GET ``target`` from the first of ``addresses`` that takes a connection. ``tls`` for https. Bounded by ``max_size`` bytes; in
    time by the caller. Raises NetworkError."""
    host = target.host or ""
    reader, writer = await _connect(host, addresses, tls, bind)
    try:
        writer.write(_request(target, headers))
        return await _read(reader, host, max_size)
    except (OSError, asyncio.IncompleteReadError) as error:
        raise NetworkError(f"{host}: {os_words(error) or 'broke off in the middle of its answer'}", "garbage") from None
    except ValueError:  # what a StreamReader makes of a line without end
        raise NetworkError(f"{host} does not answer in HTTP", "garbage") from None
    finally:
        writer.transport.abort()  # nothing is left to say, and a peer that hangs must not hold us


async def _connect(
    host: str, addresses: Sequence[Address], tls: ssl.SSLContext | None, bind: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    problem: OSError | None = None
    for address in addresses:
        try:
            return await asyncio.open_connection(
                address.host,
                address.port,
                limit=MAX_LINE,
                ssl=tls,
                server_hostname=host if tls is not None else None,
                local_addr=(bind, 0) if bind else None,
            )
        except ssl.SSLError as error:
            raise NetworkError(f"no secure connection to {host}: {error.reason or error}", "tls") from None
        except OSError as error:
            problem = error
    raise NetworkError(f"cannot connect to {host}: {os_words(problem) or problem or 'no address'}", "connect")


def _request(target: yarl.URL, headers: Mapping[str, str]) -> bytes:
    port = "" if target.is_default_port() else f":{target.port}"
    name = f"[{target.host}]" if ":" in (target.host or "") else target.host
    lines = [f"GET {target.raw_path_qs} HTTP/1.0", f"Host: {name}{port}", "Connection: close"]
    lines += [f"{key}: {value}" for key, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


async def _read(reader: asyncio.StreamReader, host: str, max_size: int) -> PlainReply:
    first = await reader.readline()
    match = _STATUS.match(first)
    if match is None:
        if not first.startswith(b"d"):
            raise NetworkError(f"{host} does not answer in HTTP", "garbage")
        return PlainReply(200, body=await _until_closed(reader, Body(host, "", max_size), first))  # bare bencode
    reply = PlainReply(int(match[1]), await _headers(reader))
    body = Body(host, reply.header("content-encoding"), max_size)
    if any("chunked" in value.lower() for value in reply.headers.get("transfer-encoding", ())):
        reply.body = await _chunks(reader, body)
    else:
        reply.body = await _until_closed(reader, body, b"", _length(reply.headers.get("content-length", ())))
    return reply


async def _headers(reader: asyncio.StreamReader) -> dict[str, list[str]]:
    """Up to the empty line. Lines that are no headers are passed over."""
    found: dict[str, list[str]] = {}
    size = 0
    for _ in range(MAX_LINES):
        line = (await reader.readline()).decode("latin-1").rstrip("\r\n")
        size += len(line)
        if not line:
            break
        if size > MAX_HEAD:
            raise ValueError("a head without end")
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip().lower(), []).append(value.strip())
    return found


def _length(values: Sequence[str]) -> int | None:
    """What they say if they agree; else the end of the connection is the end of the body."""
    said = set(values)
    one = said.pop() if len(said) == 1 else ""
    return int(one) if one.isascii() and one.isdigit() and len(one) < 16 else None


async def _until_closed(reader: asyncio.StreamReader, body: Body, start: bytes, length: int | None = None) -> bytes:
    left = length
    ended = body.feed(start)
    while not ended and left != 0:
        chunk = await reader.read(_CHUNK if left is None else min(_CHUNK, left))
        if not chunk:
            break
        left = None if left is None else left - len(chunk)
        ended = body.feed(chunk)
    return body.done()


async def _chunks(reader: asyncio.StreamReader, body: Body) -> bytes:
    while match := _SIZE.match((await reader.readline()).lstrip()):
        left = int(match[0], 16)
        if not left:
            break
        while left:
            chunk = await reader.read(min(_CHUNK, left))
            if not chunk or body.feed(chunk):
                return body.done()
            left -= len(chunk)
        await reader.readline()
    return body.done()
