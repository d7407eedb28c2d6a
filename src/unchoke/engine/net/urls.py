"""URLs of http and https, taken apart and followed: escapes stay as they are, and what is no address is refused in words.

Which of them may be fetched is the guard's. They are ``yarl.URL`` objects, which aiohttp takes as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from unchoke.engine.net.guard import GuardError, in_plain_sight, is_numeric, place
from unchoke.engine.net.resolver import maybe_literal
from unchoke.errors import NetworkError
from unchoke.masking import masked

if TYPE_CHECKING:
    import yarl

_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")


def parse(url: str) -> yarl.URL:
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
    raise NetworkError(f"{masked(url)} is no http or https address", "unsupported")


def follow(origin: yarl.URL, location: str) -> yarl.URL:
    """Where a redirect leads. Raises NetworkError if that is no address."""
    import yarl

    try:
        return parse(str(origin.join(yarl.URL(_escape(location), encoded=True))))
    except ValueError:
        raise NetworkError(f"{origin.host} redirects to {masked(location)}, which is no address", "http") from None


def refuse_inward(origin: yarl.URL, target: yarl.URL) -> None:
    """For URLs that have no guard: a host on the internet may not send us to one on this machine or the local network, and none to
    an address that nobody has a server on (169.254.169.254).

    Names count as they look. Raises GuardError.
    """
    literal = maybe_literal(target.host or "")
    if literal is not None and place(literal) == "odd":
        raise GuardError(f"{origin.host} redirects into the local network ({target.host}): refused")
    if _is_local(target.host or "") and not _is_local(origin.host or ""):
        raise GuardError(f"{origin.host} redirects into the local network ({target.host}): refused")


def host_and_port(url: str) -> tuple[str, int]:
    """Where an http or https URL leads first. Raises NetworkError if it is none."""
    target = parse(url)
    return target.host or "", target.port or 0


def shown_host(url: str) -> str:
    """The part of a URL that may be shown: a private tracker's path and query are secrets."""
    authority = url.partition("://")[2].partition("/")[0].partition("?")[0]
    return "".join(c for c in authority.rpartition("@")[2][:100] if c.isprintable())


def _is_host(host: str) -> bool:
    """A literal address, or something that can be looked up without making the resolver wonder, or read it as a number."""
    if maybe_literal(host.partition("%")[0]) is not None:
        return True
    return _NAME.fullmatch(host) is not None and not is_numeric(host)


def _is_local(host: str) -> bool:
    return in_plain_sight(host.partition("%")[0]) or host.endswith((".local", ".internal"))


def _authority_end(rest: str) -> int:
    return min((at for mark in "/?#" if (at := rest.find(mark)) >= 0), default=len(rest))


def _escape(url: str) -> str:
    return quote_from_bytes(url.encode("utf-8", "replace"), safe=_URL_SAFE)
