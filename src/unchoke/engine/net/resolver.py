"""Names to addresses, by the system's own resolver; literal addresses never ask it.

``getaddrinfo`` runs on the loop's thread pool. A name that hangs there holds a thread, not the caller: the wait is bounded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from unchoke.errors import NetworkError
from unchoke.types import Address

#: Seconds to wait for the system's resolver (glibc: 5 s a server, two tries).
TIMEOUT = 20.0

#: Addresses kept of one name, over both families.
MAX_ADDRESSES = 16


async def resolve(host: str, port: int, family: int = 0, *, timeout: float = TIMEOUT) -> list[Address]:
    """The addresses of ``host``, best first, at least one. ``family``: ``socket.AF_INET``, ``AF_INET6``, or 0 for both.

    Raises NetworkError if there is none, or no answer in time.
    """
    literal = maybe_literal(host)
    if literal is not None:
        if family not in (0, family_of(literal)):
            raise NetworkError(f"{host} is not an address of the family wanted", "connect")
        return [Address(literal, port)]
    if not 0 < len(host) <= 253 or ".." in host or not host.isprintable():  # do not make the resolver wonder
        raise NetworkError(f"{host[:100]!r} is not a name that can be looked up", "dns")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise NetworkError(f"the name {host} was not resolved within {timeout:g} s", "dns") from None
    except (OSError, ValueError, OverflowError) as error:  # ValueError covers names that IDNA or the C library refuse
        reason = getattr(error, "strerror", None) or "not a name that can be looked up"
        raise NetworkError(f"the name {host} could not be resolved: {reason}", "dns") from None
    usable = (one for one in found if one[0] in (socket.AF_INET, socket.AF_INET6))
    addresses = list(dict.fromkeys(Address(str(one[4][0]), port) for one in usable))[:MAX_ADDRESSES]
    if not addresses:
        raise NetworkError(f"the name {host} has no address", "dns")
    return addresses


def maybe_literal(host: str) -> str | None:
    """``host`` in canonical form if it is a literal address (brackets allowed), else None."""
    try:
        return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def family_of(host: str) -> int:
    """``socket.AF_INET6`` or ``AF_INET``, of a literal address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET
