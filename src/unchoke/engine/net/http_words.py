"""What went wrong with an HTTP request, as aiohttp says it, in words for a person and as an ``ErrorClass``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unchoke.errors import NetworkError

if TYPE_CHECKING:
    import aiohttp


def network_error(error: aiohttp.ClientError, host: str) -> NetworkError:
    """``host`` is how the server may be shown."""
    import aiohttp

    cause = getattr(error, "os_error", None) or error.__cause__
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NetworkError(f"the name {host} could not be resolved", "dns")
    if isinstance(error, aiohttp.ClientSSLError):
        why = getattr(cause, "verify_message", "") or cause or error
        return NetworkError(f"no secure connection to {host}: {why}", "tls")
    if isinstance(error, aiohttp.ClientConnectorError):
        return NetworkError(f"cannot connect to {host}: {os_words(cause) or error}", "connect")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return NetworkError(f"{host} closed the connection without an answer", "connect")
    if isinstance(error, aiohttp.ClientPayloadError):
        return NetworkError(f"{host} broke off in the middle of its answer", "garbage")
    if isinstance(error, aiohttp.ServerTimeoutError):
        return NetworkError(f"cannot connect to {host}: no answer", "timeout")
    if isinstance(error, aiohttp.ClientResponseError):
        return NetworkError(f"{host} does not answer in HTTP", "garbage")
    return NetworkError(f"{host}: {os_words(cause) or error or type(error).__name__}", "connect")


def os_words(error: object) -> str:
    """``Connection refused`` rather than what asyncio makes of it."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else ""
