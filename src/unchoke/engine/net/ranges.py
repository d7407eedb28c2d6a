"""RangeClient: parts of files over HTTP and HTTPS, for web seeds (BEP 19), from servers that may say anything.

An answer is looked at before a byte of it is taken: the right part, of a file of the right size, not compressed. Redirects are
followed here, at most five, each past the guard, and so is every address that a name leads to (``web_pool``). Every failure is
a RangeError in words.
"""

from __future__ import annotations

import logging
from base64 import b64encode
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

from unchoke.engine.net import urls
from unchoke.engine.net.guard import Guard
from unchoke.engine.net.names import Names
from unchoke.engine.net.transport import Network
from unchoke.engine.net.web import Sink, WebConnection
from unchoke.engine.net.web_pool import WebPool
from unchoke.errors import ErrorClass, NetworkError, ProtocolError
from unchoke.protocol.webseed.answer import Answer
from unchoke.protocol.webseed.files import parse_content_range, range_header, retry_after
from unchoke.version import USER_AGENT

if TYPE_CHECKING:
    import yarl

log = logging.getLogger(__name__)

#: Hops one answer may take. A mirror network needs one or two; more is a loop.
MAX_REDIRECTS = 5
#: Connections of the session to web seeds at work, all servers together.
MOST_CONNECTIONS = 64

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_BUSY = frozenset((408, 425, 429, 503))
_NOT_THERE = frozenset((404, 410))
_SHORTER = 416


class RangeError(NetworkError):
    """A part did not come.

    ``retry_after``: seconds that the server wishes to be left alone. ``only_file``: other files may be there. ``for_good``: there is
    no use in trying again.
    """

    def __init__(
        self,
        message: str,
        kind: ErrorClass = "http",
        *,
        retry_after: float | None = None,
        only_file: bool = False,
        for_good: bool = False,
    ) -> None:
        super().__init__(message, kind)
        self.retry_after = retry_after
        self.only_file = only_file
        self.for_good = for_good


class Part:
    """An answer of which the head was looked at: bytes of the file from ``start`` up to ``end``. ``whole``: the server sends all of it.

    It is closed in the end; one that was read to its end leaves its connection to the next.
    """

    __slots__ = ("_connection", "_pool", "end", "start", "whole")

    def __init__(self, pool: WebPool, connection: WebConnection, start: int, end: int, *, whole: bool) -> None:
        self._pool = pool
        self._connection = connection
        self.start = start
        self.end = end
        self.whole = whole

    async def receive(self, sink: Sink) -> None:
        """Give the bytes to ``sink``, until either has enough. Raises RangeError if they end early."""
        try:
            await self._connection.receive(sink)
        except NetworkError as error:
            raise RangeError(str(error), error.kind) from None

    def go_on(self) -> None:
        """The sink may have room again."""
        self._connection.go_on()

    def abort(self, reason: str) -> None:
        """End a ``receive`` that goes on."""
        self._connection.abort(reason)

    def close(self) -> None:
        """Nothing more of it is wanted."""
        self._pool.take_back(self._connection)

    def __repr__(self) -> str:
        return f"<Part [{self.start} to {self.end}{', whole file' * self.whole}] of {self._connection}>"


class RangeClient:
    """The session's. ``guard`` judges each address; ``bind``: literal address that requests leave from (it fixes the family).
    ``names`` and ``network``: the session's, and left to it."""

    def __init__(self, guard: Guard, *, names: Names, network: Network, bind: str = "") -> None:
        self._guard = guard
        self._pool = WebPool(guard, names=names, network=network, bind=bind)
        self._users: dict[str, int] = {}

    # ------------------------------------------------------------------ room

    def enter(self, host: str, most: int) -> bool:
        """Take one of ``most`` places at ``host``, and one of the session's. False: there is none; else ``leave`` it again."""
        if self._pool.is_closed or self._users.get(host, 0) >= most or sum(self._users.values()) >= MOST_CONNECTIONS:
            return False
        self._users[host] = self._users.get(host, 0) + 1
        return True

    def leave(self, host: str) -> None:
        """Give the place back."""
        self._users[host] -= 1
        if not self._users[host]:
            del self._users[host]

    # ------------------------------------------------------------------ asking

    async def ask(self, url: str, start: int, length: int, size: int) -> Part:
        """Ask for ``length`` bytes from ``start`` on of a file of ``size``. Raises RangeError.

        The part begins at ``start`` or, where the server sends the whole file, at 0; it may end earlier than asked.
        """
        try:
            self._guard.check(url, web_seed=True)
            target = urls.parse(url)
        except NetworkError as error:
            raise RangeError(str(error), error.kind, for_good=True) from None
        try:
            return await self._ask(target, start, length, size)
        except RangeError:
            raise
        except NetworkError as error:
            raise RangeError(str(error), error.kind) from None

    async def _ask(self, target: yarl.URL, start: int, length: int, size: int) -> Part:
        first = target
        for _ in range(MAX_REDIRECTS + 1):
            connection, answer = await self._pool.exchange(target, _request(target, start, length))
            try:
                location = answer.headers.get("location", "")
                if answer.status not in _REDIRECTS or not location:
                    begin, end = _look_at(answer, urls.shown_host(str(target)), start, length, size)
                    return Part(self._pool, connection, begin, end, whole=answer.status == 200)
                origin, target = target, urls.follow(target, location)
                log.debug("< %s: redirect to %r", origin.host, location)
                self._guard.check(str(target), web_seed=True, origin=str(origin))
            except BaseException:
                connection.abort()
                raise
            self._pool.take_back(connection)
        raise RangeError(f"{first.host} redirects more than {MAX_REDIRECTS} times")

    async def aclose(self) -> None:
        """Close what is kept. Parts are their askers' to close."""
        await self._pool.aclose()

    def __repr__(self) -> str:
        return f"<RangeClient [{sum(self._users.values())} connections to {len(self._users)} servers | {self._pool}]>"


def _request(target: yarl.URL, start: int, length: int) -> bytes:
    lines = [
        f"GET {target.raw_path_qs} HTTP/1.1",
        f"Host: {target.host_port_subcomponent}",
        f"User-Agent: {USER_AGENT}",
        "Accept: */*",
        "Accept-Encoding: identity",
        f"Range: {range_header(start, length)}",
    ]
    if target.raw_user:
        login = f"{unquote(target.raw_user)}:{unquote(target.raw_password or '')}"
        lines.append(f"Authorization: Basic {b64encode(login.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def _look_at(answer: Answer, host: str, start: int, length: int, size: int) -> tuple[int, int]:
    """Does an answer bring what was asked for? Which bytes of the file come: from, up to. Raises RangeError."""
    headers, told = answer.headers, answer.length
    if answer.status not in (200, 206):
        raise _refusal(answer, host)
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise RangeError(f"{host} answers in an encoding not asked for", "garbage")
    if answer.status == 200:
        if told is not None and told != size:
            raise RangeError(f"{host} has a file of {told} bytes in place of {size}", "garbage", only_file=True)
        return 0, size
    try:
        sent = parse_content_range(headers.get("content-range", ""))
    except ProtocolError as error:
        raise RangeError(f"{host} {error}", "garbage") from None
    if sent.size is not None and sent.size != size:
        raise RangeError(f"{host} has a file of {sent.size} bytes in place of {size}", "garbage", only_file=True)
    if sent.start != start or sent.end > start + length or told not in (None, sent.end - sent.start):
        raise RangeError(f"{host} sends other bytes than it was asked for", "garbage")
    return sent.start, sent.end


def _refusal(answer: Answer, host: str) -> RangeError:
    """A status that is no success, as an error."""
    status, headers = answer.status, answer.headers
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    words = f"{host}: HTTP {status} {phrase}".rstrip()
    if status in _BUSY:
        return RangeError(words, retry_after=retry_after(headers.get("retry-after", ""), headers.get("date", "")))
    if status == _SHORTER:
        return RangeError(f"{host} has a shorter file (HTTP 416)", only_file=True)
    return RangeError(words, only_file=status in _NOT_THERE)
