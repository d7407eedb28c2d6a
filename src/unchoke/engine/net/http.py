"""HttpClient: GET, within bounds of time and memory, for trackers and .torrent files by URL.

Redirects are followed here, at most five. A body is cut off at its limit while it arrives, also when it grows by
decompression. Proxies of the environment are not used. Every failure is a NetworkError in words; what the status means is
for the caller. aiohttp takes half a second to import, so that happens with the first request.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import socket
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from unchoke.engine.net.resolver import family_of, maybe_literal
from unchoke.errors import NetworkError, NotFoundError
from unchoke.version import USER_AGENT

if TYPE_CHECKING:
    import aiohttp
    import yarl

log = logging.getLogger(__name__)

#: Hops one answer may take. A tracker that moved needs one or two; more is a loop.
MAX_REDIRECTS = 5

#: Sockets of one client, all hosts together, and seconds until a connection must stand.
MAX_SOCKETS = 200
CONNECT_TIMEOUT = 15.0

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
_CHUNK = 64 * 1024


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
        error = NotFoundError if self.status in (404, 410) else NetworkError
        raise error(f"{self.url}: {self.reason}")

    @property
    def reason(self) -> str:
        """The status in words: ``HTTP 500 Internal Server Error``."""
        return f"HTTP {self.status} {_phrase(self.status)}".rstrip()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


class HttpClient:
    """``bind``: literal address that requests leave from; it also fixes the family. Empty: the system's choice."""

    def __init__(self, *, bind: str = "") -> None:
        self._bind = bind
        self._sessions: dict[int, aiohttp.ClientSession] = {}
        self._closed = False

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
    ) -> HttpReply:
        """GET ``url``, whatever the status. ``max_size``: bytes of the body; ``timeout``: seconds for all of it;
        ``family``: only over IPv4 or IPv6 (``socket.AF_INET``, ``AF_INET6``). Raises NetworkError."""
        import aiohttp

        try:
            async with asyncio.timeout(timeout):
                return await self._fetch(url, max_size, family or 0, dict(headers or {}))
        except aiohttp.ClientError as error:
            raise NetworkError(_words(error, url)) from None
        except TimeoutError:
            raise NetworkError(f"no complete answer from {_host(url)} within {timeout:g} s") from None
        except (OSError, ValueError) as error:
            raise NetworkError(f"{_host(url)}: {getattr(error, 'strerror', None) or error}") from None

    async def _fetch(self, url: str, max_size: int, family: int, headers: dict[str, str]) -> HttpReply:
        target = _parse(url)
        for _ in range(MAX_REDIRECTS + 1):
            session = self._session(family)
            async with session.get(target, headers=headers, allow_redirects=False) as response:
                location = response.headers.get("Location", "")
                if response.status not in _REDIRECTS or not location:
                    body = await _read(response, max_size)
                    return HttpReply(response.status, body, str(target))
                log.debug("< %s: redirect to %r", _host(url), location)
                target = _follow(target, location)
        raise NetworkError(f"{_host(url)} redirects more than {MAX_REDIRECTS} times")

    def _session(self, family: int) -> aiohttp.ClientSession:
        """One for each address family, made when first needed: BEP 7 wants an announce over each."""
        if self._closed:
            raise NetworkError("the HTTP client is closed")
        family = self.family or family
        if family not in self._sessions:
            self._sessions[family] = self._make_session(family)
        return self._sessions[family]

    def _make_session(self, family: int) -> aiohttp.ClientSession:
        import aiohttp

        connector = aiohttp.TCPConnector(
            family=socket.AddressFamily(family) if family else socket.AddressFamily.AF_UNSPEC,
            local_addr=(self._bind, 0) if self._bind else None,
            limit=MAX_SOCKETS,
        )
        return aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,  # ours is bounded
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close all connections. Requests under way fail."""
        self._closed = True
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def __repr__(self) -> str:
        return f"<HttpClient [{'closed' if self._closed else f'{len(self._sessions)} families in use'}]>"


def _parse(url: str) -> yarl.URL:
    """``url`` with its escapes as they are; what may not stand in a request line is escaped. Raises NetworkError."""
    import yarl

    try:
        scheme, mark, rest = url.partition("://")
        authority, rest = rest[: (end := _authority_end(rest))], rest[end:]
        user, at, host = authority.rpartition("@")
        name, colon, port = host.partition(":") if not host.startswith("[") else (host, "", "")
        if not name.isascii():
            name = name.encode("idna").decode()
        target = yarl.URL(_escape(f"{scheme}{mark}{user}{at}{name}{colon}{port}{rest}"), encoded=True)
        if target.scheme in ("http", "https") and target.port and _is_host(target.host or ""):
            return target
    except ValueError:
        pass
    raise NetworkError(f"{url[:200]!r} is no http or https address")


def _is_host(host: str) -> bool:
    """A literal address, or something that can be looked up without making the resolver wonder."""
    return maybe_literal(host.partition("%")[0]) is not None or _NAME.fullmatch(host) is not None


def _authority_end(rest: str) -> int:
    return min((at for mark in "/?#" if (at := rest.find(mark)) >= 0), default=len(rest))


def _escape(url: str) -> str:
    return quote_from_bytes(url.encode("utf-8", "replace"), safe=_URL_SAFE)


def _follow(origin: yarl.URL, location: str) -> yarl.URL:
    """Where a redirect leads. A host on the internet may not send us to one on this machine or the local network."""
    import yarl

    try:
        target = _parse(str(origin.join(yarl.URL(_escape(location), encoded=True))))
    except ValueError:
        raise NetworkError(f"{origin.host} redirects to {location[:200]!r}, which is no address") from None
    if _is_local(target) and not _is_local(origin):
        raise NetworkError(f"{origin.host} redirects into the local network ({target.host}): refused")
    return target


def _is_local(url: yarl.URL) -> bool:
    """Names count as they look: one that the DNS points at a local address gets the same page as without the redirect."""
    host = url.host or ""
    literal = maybe_literal(host.partition("%")[0])
    if literal is None:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
    return not ipaddress.ip_address(literal).is_global


async def _read(response: aiohttp.ClientResponse, max_size: int) -> bytes:
    """The body, decompressed, up to ``max_size``. Raises NetworkError beyond, or if it is compressed in a way not asked for."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise NetworkError(f"{response.url.host} answers in an encoding not asked for ({encoding[:40]!r})")
    unzip = zlib.decompressobj(wbits=47) if encoding not in ("", "identity") else None  # 47: zlib or gzip
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(_CHUNK):
        try:
            data = chunk if unzip is None else unzip.decompress(chunk, max_size - size + 1)
        except zlib.error:
            raise NetworkError(f"{response.url.host} sends broken compressed data") from None
        size += len(data)
        if size > max_size:
            raise NetworkError(f"the answer of {response.url.host} is longer than {max_size} bytes")
        parts.append(data)
        if unzip is not None and unzip.eof:
            break
    return b"".join(parts)


def _words(error: aiohttp.ClientError, url: str) -> str:
    """What went wrong, for a person."""
    import aiohttp

    host = _host(url)
    cause = getattr(error, "os_error", None) or error.__cause__
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the name {host} could not be resolved"
    if isinstance(error, aiohttp.ClientSSLError):
        return f"no secure connection to {host}: {getattr(cause, 'verify_message', '') or cause or error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {host}: {_os_words(cause) or error}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return f"{host} closed the connection without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return f"{host} broke off in the middle of its answer"
    if isinstance(error, aiohttp.ServerTimeoutError):
        return f"cannot connect to {host}: no answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{host} does not answer in HTTP"
    return f"{host}: {_os_words(cause) or error or type(error).__name__}"


def _os_words(error: object) -> str:
    """``Connection refused`` rather than what asyncio makes of it."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else ""


def _host(url: str) -> str:
    """The part of a URL that may be shown: a private tracker's path and query are secrets."""
    authority = url.partition("://")[2].partition("/")[0].partition("?")[0]
    return "".join(c for c in authority.rpartition("@")[2][:100] if c.isprintable())


def host_and_port(url: str) -> tuple[str, int]:
    """Where an http or https URL leads first. Raises NetworkError if it is none."""
    target = _parse(url)
    return target.host or "", target.port or 0
