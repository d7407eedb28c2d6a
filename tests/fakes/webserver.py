"""A web server in a few lines, that serves bytes by their path, and does worse things when it is told to.

It runs on whatever makes servers of stream pairs: a host of the simulator, or asyncio's own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True)
class Asked:
    """One request. ``start`` and ``end``: what it wants of the file, up to, not with, ``end``; ``at``: the loop's time."""

    path: str
    start: int
    end: int
    headers: dict[str, str]
    at: float


#: Answers one request. False: the connection is closed then.
Answer = Callable[["WebServer", Asked, asyncio.StreamWriter], Awaitable[bool]]


class WebServer:
    """``files``: path → bytes. ``answer`` may be changed at any time. ``asked`` has every request, ``connections`` their number."""

    def __init__(self, files: Mapping[str, bytes], answer: Answer | None = None) -> None:
        self.files = dict(files)
        self.answer: Answer = answer or rightly
        self.asked: list[Asked] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return [(one.start, one.end) for one in self.asked]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            while await self._one(reader, writer):
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        found = _RANGE.fullmatch(headers.get("range", ""))
        start, end = (int(found[1]), int(found[2]) + 1) if found else (0, 1 << 60)
        asked = Asked(first.split(" ")[1], start, end, headers, asyncio.get_running_loop().time())
        self.asked.append(asked)
        return await self.answer(self, asked, writer)

    async def aclose(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def head(status: str, **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def part_head(asked: Asked, data: bytes, size: int) -> bytes:
    return head(
        "206 Partial Content",
        Content_Length=len(data),
        Content_Range=f"bytes {asked.start}-{asked.start + len(data) - 1}/{size}",
    )


async def rightly(server: WebServer, asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """What was asked for."""
    whole = server.files.get(asked.path)
    if whole is None:
        writer.write(head("404 Not Found", Content_Length=4) + b"none")
        return True
    data = whole[asked.start : asked.end]
    writer.write(part_head(asked, data, len(whole)) + data)
    return True


async def without_ranges(server: WebServer, asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """The whole file, whatever was asked for."""
    whole = server.files[asked.path]
    writer.write(head("200 OK", Content_Length=len(whole)))
    for at in range(0, len(whole), 16384):
        writer.write(whole[at : at + 16384])
        await writer.drain()
    return True


def says(status: str, body: bytes = b"", **headers: object) -> Answer:
    """Always the same."""

    async def answer(server: WebServer, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(head(status, Content_Length=len(body), **headers) + body)
        return True

    return answer


def raw(data: bytes, *, then: Callable[[], Awaitable[object]] | None = None) -> Answer:
    """These bytes, then perhaps a wait, and the end of the connection."""

    async def answer(server: WebServer, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(data)
        await writer.drain()
        if then is not None:
            await then()
        return False

    return answer


async def in_chunks(server: WebServer, asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """Right, in chunks of odd lengths, with an extension and a trailer."""
    whole = server.files[asked.path]
    data = whole[asked.start : asked.end]
    writer.write(
        head(
            "206 Partial Content",
            Transfer_Encoding="chunked",
            Content_Range=f"bytes {asked.start}-{asked.start + len(data) - 1}/{len(whole)}",
        )
    )
    for at in range(0, len(data), 5003):
        chunk = data[at : at + 5003]
        writer.write(b"%x;a=b\r\n" % len(chunk) + chunk + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\nX-Sum: none\r\n\r\n")
    return True


def breaks_after(count: int) -> Answer:
    """Right, but the connection ends after so many bytes of each answer."""

    async def answer(server: WebServer, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        whole = server.files[asked.path]
        data = whole[asked.start : asked.end]
        writer.write(part_head(asked, data, len(whole)) + data[:count])
        return len(data) <= count

    return answer


def at_most(count: int) -> Answer:
    """Right, but never more than so many bytes in one answer."""

    async def answer(server: WebServer, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        whole = server.files[asked.path]
        data = whole[asked.start : min(asked.end, asked.start + count)]
        writer.write(part_head(asked, data, len(whole)) + data)
        return True

    return answer


def drips(count: int, seconds: float) -> Answer:
    """Right, ``count`` bytes every ``seconds``."""

    async def answer(server: WebServer, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        whole = server.files[asked.path]
        data = whole[asked.start : asked.end]
        writer.write(part_head(asked, data, len(whole)))
        for at in range(0, len(data), count):
            writer.write(data[at : at + count])
            await writer.drain()
            await asyncio.sleep(seconds)
        return True

    return answer
