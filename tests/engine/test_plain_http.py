"""One HTTP request over real sockets: answers, endless ones, none at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from unchoke.engine.net.plain_http import exchange
from unchoke.engine.net.tcp import TcpNetwork
from unchoke.errors import NetworkError
from unchoke.protocol.portmap.http import pack_request, place
from unchoke.types import Address

REQUEST = pack_request(place("http://127.0.0.1/x"))
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

pytestmark = pytest.mark.usefixtures("no_leaks")


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[Address]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has left
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


async def ask(address: Address, *, timeout: float = 5.0, max_size: int = 1000) -> tuple[int, bytes]:
    return await exchange(TcpNetwork(), address, REQUEST, bind="127.0.0.1", timeout=timeout, max_size=max_size)


@pytest.mark.parametrize("head", ["Content-Length: 5\r\n", ""])
async def test_an_answer(head: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 404 Not Found\r\n{head}\r\nhello".encode())
        await writer.drain()

    async with served(serve) as address:
        assert await ask(address) == (404, b"hello")


async def test_an_endless_answer_is_cut() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(4096))
            await writer.drain()

    async with served(serve) as address:
        with pytest.raises(NetworkError, match="more than 1000 bytes"):
            await ask(address)


async def test_no_answer_within_the_time() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client leaves

    async with served(serve) as address:
        with pytest.raises(NetworkError, match=r"no complete answer from 127\.0\.0\.1 within 0\.05 s"):
            await ask(address, timeout=0.05)


async def test_nobody_there_and_nothing_said() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass

    async with served(serve) as address:
        with pytest.raises(NetworkError, match="ended before the answer"):
            await ask(address)
    with pytest.raises(NetworkError, match="refused"):
        await ask(address)


async def test_whoever_waits_may_be_cancelled() -> None:
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()

    async with served(serve) as address:
        task = asyncio.create_task(ask(address))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
