"""HttpClient: GET, within bounds of time and memory, for trackers and .torrent files by URL.

Redirects are followed here, at most five, and each hop is shown to the guard, as is every address that is dialled. A body is
cut off at its limit while it arrives, also when it grows by decompression. Proxies of the environment are not used. Every
failure is a NetworkError in words; what the status means is for the caller.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from unchoke.engine.net import urls
from unchoke.engine.net.bodies import Body
from unchoke.engine.net.guard import Guard, in_plain_sight
from unchoke.engine.net.http10 import get_plainly
from unchoke.engine.net.http_words import network_error, os_words
from unchoke.engine.net.names import Names
from unchoke.engine.net.resolver import family_of
from unchoke.errors import NetworkError, NotFoundError
from unchoke.masking import masked
from unchoke.types import Address
from unchoke.version import USER_AGENT

if TYPE_CHECKING:
    import aiohttp
    import yarl
    from aiohttp.abc import AbstractResolver, ResolveResult

log = logging.getLogger(__name__)

#: Hops one answer may take. A tracker that moved needs one or two; more is a loop.
MAX_REDIRECTS = 5

#: Sockets of one client, all hosts together, and seconds until a connection must stand.
MAX_SOCKETS = 200
CONNECT_TIMEOUT = 15.0

#: Hosts remembered whose answers have to be read plainly.
MOST_PLAIN = 1000

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_CHUNK = 64 * 1024
_HEADERS = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"}


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole answer. ``url`` is where it came from in the end."""

    status: int
    body: bytes
    url: str

    def checked(self) -> HttpReply:
        """This reply, if it is a success. Raises NotFoundError (404, 410) or NetworkError."""
        if 200 <= self.status < 300:
            return self
        words = f"{masked(self.url)}: {self.reason}"
        raise NotFoundError(words) if self.status in (404, 410) else NetworkError(words, "http")

    @property
    def reason(self) -> str:
        """The status in words: ``HTTP 500 Internal Server Error``."""
        return f"HTTP {self.status} {_phrase(self.status)}".rstrip()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """What is the same for every hop of one fetch."""

    max_size: int
    family: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    guard: Guard | None = None
    verify_tls: bool = True
    lenient: bool = False


class HttpClient:
    """``bind``: literal address that requests leave from; it also fixes the family. Empty: the system's choice."""

    def __init__(self, *, bind: str = "") -> None:
        self.names = Names()
        self._bind = bind
        self._sessions: dict[tuple[int, Guard | None], aiohttp.ClientSession] = {}
        self._plain: dict[str, None] = {}
        self._tls: dict[bool, ssl.SSLContext] = {}
        self._closed = False
        self._outward = Guard()  # for where a host on the internet sends us

    @property
    def family(self) -> int:
        """The one address family it is bound to, or 0."""
        return family_of(self._bind) if self._bind else 0

    async def fetch(
        self,
        url: str,
        *,
        max_size: int = 1024 * 1024,
        timeout: float = 30.0,
        family: int | None = None,
        headers: Mapping[str, str] | None = None,
        guard: Guard | None = None,
        verify_tls: bool = True,
        lenient: bool = False,
    ) -> HttpReply:
        """GET ``url``, whatever the status. ``max_size``: bytes of the body; ``timeout``: seconds for all of it.

        ``family``: only over IPv4 or IPv6 (``socket.AF_INET``, ``AF_INET6``). ``guard``: for a URL that is not the user's own.
        ``lenient``: an answer of a form that HTTP forbids is read nevertheless. Raises NetworkError.
        """
        await _load_aiohttp()
        import aiohttp

        ask = _Ask(
            max_size=max_size,
            family=self.family or family or 0,
            headers=dict(headers or {}),
            guard=guard,
            verify_tls=verify_tls,
            lenient=lenient,
        )
        host = urls.shown_host(url)
        try:
            async with asyncio.timeout(timeout):
                return await self._fetch(url, ask)
        except aiohttp.ClientError as error:
            raise network_error(error, host) from None
        except TimeoutError:
            raise NetworkError(f"no complete answer from {host} within {timeout:g} s", "timeout") from None
        except (OSError, ValueError) as error:
            raise NetworkError(f"{host}: {os_words(error) or error}", "connect") from None

    async def _fetch(self, url: str, ask: _Ask) -> HttpReply:
        target, origin = urls.parse(url), ""
        for _ in range(MAX_REDIRECTS + 1):
            if ask.guard is not None:
                ask.guard.check(str(target), origin=origin)
            status, location, body = await self._hop(target, ask)
            if status not in _REDIRECTS or not location:
                return HttpReply(status, body, str(target))
            log.debug("< %s: redirect to %r", target.host, location)
            origin, before = str(target), target
            target = urls.follow(before, location)
            if ask.guard is None:
                urls.refuse_inward(before, target)
                if target.host != before.host and not in_plain_sight(before.host or ""):
                    ask = replace(ask, guard=self._outward)  # its name may lead inward
        raise NetworkError(f"{urls.shown_host(url)} redirects more than {MAX_REDIRECTS} times", "http")

    async def _hop(self, target: yarl.URL, ask: _Ask) -> tuple[int, str, bytes]:
        """Status, where else it sends us, body."""
        import aiohttp

        host = target.authority
        if ask.lenient and host in self._plain:
            return await self._hop_plainly(target, ask)
        try:
            async with self._session(ask).get(
                target, headers=ask.headers, allow_redirects=False, ssl=ask.verify_tls
            ) as response:
                location = response.headers.get("Location", "") if response.status in _REDIRECTS else ""
                return response.status, location, b"" if location else await _read(response, ask.max_size)
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as error:
            if not ask.lenient:
                raise
            log.debug("! %s: %s; once more, plainly", host, error)
        answer = await self._hop_plainly(target, ask)
        self._plain[host] = None
        if len(self._plain) > MOST_PLAIN:
            del self._plain[next(iter(self._plain))]
        return answer

    async def _hop_plainly(self, target: yarl.URL, ask: _Ask) -> tuple[int, str, bytes]:
        host, port = target.host or "", target.port or 0
        addresses = await _find(self.names, ask.guard, host, port, ask.family)
        tls = await self._tls_context(ask.verify_tls) if target.scheme == "https" else None
        reply = await get_plainly(
            target, addresses, headers=_HEADERS | ask.headers, max_size=ask.max_size, tls=tls, bind=self._bind
        )
        return reply.status, reply.header("location"), reply.body

    async def _tls_context(self, verify: bool) -> ssl.SSLContext:
        """Made on a thread: reading the machine's certificates takes a while."""
        if verify not in self._tls:
            make = ssl.create_default_context if verify else ssl._create_unverified_context
            self._tls[verify] = await asyncio.to_thread(make)
        return self._tls[verify]

    def _session(self, ask: _Ask) -> aiohttp.ClientSession:
        """One for each address family (BEP 7 wants an announce over each) and guard, made when first needed: no connection that was
        made for the user serves a stranger."""
        if self._closed:
            raise NetworkError("the HTTP client is closed")
        key = ask.family, ask.guard
        if key not in self._sessions:
            self._sessions[key] = self._make_session(ask.family, ask.guard)
        return self._sessions[key]

    def _make_session(self, family: int, guard: Guard | None) -> aiohttp.ClientSession:
        import aiohttp

        connector = aiohttp.TCPConnector(
            family=socket.AddressFamily(family) if family else socket.AddressFamily.AF_UNSPEC,
            local_addr=(self._bind, 0) if self._bind else None,
            limit=MAX_SOCKETS,
            resolver=_resolver(self.names, guard),
            use_dns_cache=False,  # ours is shared
        )
        return aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,  # ours is bounded
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close all connections. Requests under way fail."""
        self._closed = True
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()
        await self.names.aclose()

    def __repr__(self) -> str:
        return f"<HttpClient [{'closed' if self._closed else f'{len(self._sessions)} families in use'}]>"


async def _load_aiohttp() -> None:
    """With the first request, and on a thread: it takes half a second."""
    if "aiohttp" not in sys.modules:
        await asyncio.to_thread(importlib.import_module, "aiohttp")


async def _find(names: Names, guard: Guard | None, host: str, port: int, family: int) -> list[Address]:
    """The addresses that are dialled: nobody looks the name up again, so what the guard saw is what is asked."""
    addresses = await names.resolve(host, port, family)
    return addresses if guard is None else guard.choose(host, addresses)


def _resolver(names: Names, guard: Guard | None) -> AbstractResolver:
    from aiohttp.abc import AbstractResolver

    class Resolver(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
            return [
                {
                    "hostname": host,
                    "host": address.host,
                    "port": port,
                    "family": family_of(address.host),
                    "proto": 0,
                    "flags": socket.AI_NUMERICHOST,
                }
                for address in await _find(names, guard, host, port, family)
            ]

        async def close(self) -> None:
            """The names are the client's."""

    return Resolver()


async def _read(response: aiohttp.ClientResponse, max_size: int) -> bytes:
    """The body, decompressed, up to ``max_size``. Raises NetworkError beyond, or if it is compressed in a way not asked for."""
    body = Body(response.url.host or "", response.headers.get("Content-Encoding", ""), max_size)
    async for chunk in response.content.iter_chunked(_CHUNK):
        if body.feed(chunk):
            break
    return body.done()
