"""RangeClient on the loopback: real sockets, TLS, connections that are kept, and bytes that go straight where they belong."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fakes import webserver
from fakes.peer import soon
from fakes.stage import until
from fakes.webserver import WebServer
from unchoke.engine.net.guard import Guard
from unchoke.engine.net.names import Names
from unchoke.engine.net.ranges import Part, RangeClient, RangeError
from unchoke.engine.net.tcp import TcpNetwork

pytestmark = pytest.mark.usefixtures("no_leaks")

DATA = bytes(range(256)) * 4096


class Into:
    """A sink: so many bytes, in rooms of ``room``; it stalls after ``stalls_at`` until it is told to go on."""

    def __init__(self, size: int, *, room: int = 100_000, stalls_at: int | None = None) -> None:
        self.memory = memoryview(bytearray(size))
        self.at = 0
        self.stalled = asyncio.Event()
        self._room = room
        self._stalls_at = stalls_at

    @property
    def is_done(self) -> bool:
        return self.at >= len(self.memory)

    def room(self) -> memoryview | None:
        if self._stalls_at is not None and self.at >= self._stalls_at:
            self.stalled.set()
            return None
        return self.memory[self.at : self.at + self._room]

    def came(self, count: int) -> None:
        self.at += count

    def go_on(self, part: Part) -> None:
        self._stalls_at = None
        part.go_on()


@asynccontextmanager
async def serving(server: WebServer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if tls is not None else 'http'}://127.0.0.1:{port}/data"
    finally:
        listening.close()
        await server.aclose()


@pytest.fixture
async def client() -> AsyncIterator[RangeClient]:
    names = Names()
    client = RangeClient(Guard(), names=names, network=TcpNetwork())
    yield client
    await client.aclose()
    await names.aclose()


async def fetch(client: RangeClient, url: str, start: int, length: int) -> bytes:
    part = await soon(client.ask(url, start, length, len(DATA)))
    into = Into(length)
    try:
        await soon(part.receive(into))
    finally:
        part.close()
    return bytes(into.memory)


async def test_parts_come_over_one_connection_and_an_early_end_costs_it(client: RangeClient) -> None:
    server = WebServer({"/data": DATA})
    async with serving(server) as url:
        for start in (0, 5, 70_000):
            assert await fetch(client, url, start, 100_001) == DATA[start : start + 100_001]
        assert server.connections == 1
        part = await client.ask(url, 0, len(DATA), len(DATA))
        await soon(part.receive(Into(10)))  # nobody wants the rest
        part.close()
        assert await fetch(client, url, 7, 8) == DATA[7:15]
        assert server.connections == 2


async def test_a_kept_connection_that_the_server_has_closed_costs_nothing(client: RangeClient) -> None:
    async def once(server: WebServer, asked: webserver.Asked, writer: asyncio.StreamWriter) -> bool:
        await webserver.rightly(server, asked, writer)
        return False  # and not a word of it in the head

    server = WebServer({"/data": DATA}, once)
    async with serving(server) as url:
        for start in range(5):
            assert await fetch(client, url, start, 10) == DATA[start : start + 10]
        assert server.connections == 5


async def test_reading_stops_while_there_is_no_room_and_goes_on_where_it_was(client: RangeClient) -> None:
    server = WebServer({"/data": DATA})
    async with serving(server) as url:
        part = await client.ask(url, 3, len(DATA) - 3, len(DATA))
        into = Into(len(DATA) - 3, stalls_at=200_000)
        receiving = asyncio.create_task(part.receive(into))
        await soon(into.stalled.wait())
        at = into.at
        for _ in range(20):
            await asyncio.sleep(0)
        assert into.at == at
        assert not receiving.done()
        into.go_on(part)
        await soon(receiving)
        part.close()
        assert into.memory == DATA[3:]


async def test_who_is_cancelled_leaves_no_connection(client: RangeClient) -> None:
    async def silent(server: WebServer, asked: webserver.Asked, writer: asyncio.StreamWriter) -> bool:
        await asyncio.Event().wait()
        return False

    server = WebServer({"/data": DATA}, webserver.drips(10, 3600))
    async with serving(server) as url:
        part = await client.ask(url, 0, 1000, len(DATA))
        receiving = asyncio.create_task(part.receive(Into(1000)))
        await asyncio.sleep(0)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        part.close()
        server.answer = silent
        asking = asyncio.create_task(client.ask(url, 0, 1000, len(DATA)))
        await until(lambda: len(server.asked) == 2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_places_are_counted_for_each_server(client: RangeClient) -> None:
    assert [client.enter("a", 2) for _ in range(3)] == [True, True, False]
    assert client.enter("b", 2)
    client.leave("a")
    assert client.enter("a", 2)
    await client.aclose()
    assert not client.enter("c", 2)


async def test_after_the_end_nothing_is_asked(client: RangeClient) -> None:
    server = WebServer({"/data": DATA})
    async with serving(server) as url:
        await fetch(client, url, 0, 5)
        await client.aclose()
        with pytest.raises(RangeError, match="closed"):
            await client.ask(url, 0, 5, len(DATA))


async def test_a_name_and_a_password_in_the_address_are_told_to_its_server_alone(client: RangeClient) -> None:
    async def moved(server: WebServer, asked: webserver.Asked, writer: asyncio.StreamWriter) -> bool:
        if asked.path == "/data":
            return await webserver.says("302 Found", Location="/other")(server, asked, writer)
        return await webserver.rightly(server, asked, writer)

    server = WebServer({"/other": DATA}, moved)
    async with serving(server) as url:
        assert await fetch(client, url.replace("://", "://me:p%40ss@"), 0, 5) == DATA[:5]
        assert server.asked[0].headers["authorization"] == "Basic bWU6cEBzcw=="


async def test_tls_with_a_certificate_that_this_machine_trusts(
    client: RangeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = self_signed(tmp_path / "own.pem", "127.0.0.1")
    tls.load_cert_chain(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    server = WebServer({"/data": DATA})
    async with serving(server, tls=tls) as url:
        for start in (0, 70_000):
            assert await fetch(client, url, start, 900_001) == DATA[start : start + 900_001]
        assert server.connections == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_other_certificates_are_refused_in_words(
    client: RangeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = self_signed(tmp_path / "own.pem", host)
    tls.load_cert_chain(pem)
    if host != "127.0.0.1":
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    server = WebServer({"/data": DATA})
    async with serving(server, tls=tls) as url:
        with pytest.raises(
            RangeError, match=r"no secure connection to 127.0.0.1: (self-signed|IP address mismatch)"
        ) as why:
            await soon(client.ask(url, 0, 5, len(DATA)))
        assert why.value.kind == "tls"


async def test_no_tls_at_all_is_said(client: RangeClient) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RangeError, match="no secure connection to"):
            await soon(client.ask(f"https://127.0.0.1:{port}/data", 0, 5, len(DATA)))


def self_signed(path: Path, host: str) -> Path:
    """Key and certificate of ``host`` in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "a web seed")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
