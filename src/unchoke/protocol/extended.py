"""The extension protocol's handshake (BEP 10): which extensions a peer speaks, under which numbers, and a few facts of it.

Extensions themselves have modules of their own. Everything in the payload is a stranger's word: wrong types are left
out, lengths are bounded, and only something that is no bencoded dict at all is an error.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from unchoke.errors import BencodeError, ProtocolError
from unchoke.protocol.bencode import Encodable, Value, decode_prefix, encode

#: The extension number of the handshake itself.
HANDSHAKE = 0

#: The numbers under which we receive extensions, by their names (BEP 9, 11, 55).
OURS = {"ut_metadata": 1, "ut_pex": 2, "ut_holepunch": 3}

#: Requests that a peer which says nothing can be expected to queue (libtorrent's reading of silence).
DEFAULT_REQQ = 250

_MAX_PAYLOAD = 64 * 1024
_MAX_EXTENSIONS = 64


@dataclass(frozen=True, slots=True)
class ExtendedHandshake:
    """What one side tells of itself. Fields that were not sent are None (or the default that BEP 10 gives)."""

    extensions: dict[str, int] = field(default_factory=dict)
    """Extension name → the message number it wants to receive; 0 turns an extension off."""
    client: str = ""
    """Name and version (``v``), unchecked text."""
    port: int | None = None
    """The TCP port it listens on (``p``)."""
    reqq: int = DEFAULT_REQQ
    """Requests it queues without dropping any."""
    yourip: str | None = None
    """Our address as it sees it."""
    metadata_size: int | None = None
    """Bytes of the info dict (BEP 9)."""
    upload_only: bool = False
    """It downloads nothing (BEP 21)."""

    def encode(self) -> bytes:
        """The payload after the extension number."""
        message: dict[bytes, Encodable] = {b"m": {name.encode(): number for name, number in self.extensions.items()}}
        message[b"reqq"] = self.reqq
        if self.client:
            message[b"v"] = self.client.encode()
        if self.port:
            message[b"p"] = self.port
        if self.yourip:
            message[b"yourip"] = ipaddress.ip_address(self.yourip).packed
        if self.metadata_size:
            message[b"metadata_size"] = self.metadata_size
        if self.upload_only:
            message[b"upload_only"] = 1
        return encode(message)


def decode_extended_handshake(payload: bytes) -> ExtendedHandshake:
    """Read a peer's handshake. Raises ProtocolError if it is no bencoded dict."""
    if len(payload) > _MAX_PAYLOAD:
        raise ProtocolError(f"extended handshake of {len(payload)} bytes")
    try:
        message, _ = decode_prefix(payload)
    except BencodeError as error:
        raise ProtocolError(f"extended handshake: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError("extended handshake that is no dict")
    return ExtendedHandshake(
        extensions=_extensions(message.get(b"m")),
        client=_text(message.get(b"v")),
        port=_number(message.get(b"p"), 1, 65535),
        reqq=_number(message.get(b"reqq"), 1, 1 << 20) or DEFAULT_REQQ,
        yourip=_address(message.get(b"yourip")),
        metadata_size=_number(message.get(b"metadata_size"), 1, 1 << 31),
        upload_only=message.get(b"upload_only") == 1,
    )


def _extensions(value: Value | None) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    found: dict[str, int] = {}
    for name, number in value.items():
        if isinstance(number, int) and 0 <= number <= 255 and len(found) < _MAX_EXTENSIONS:
            found[name[:64].decode("utf-8", "replace")] = number
    return found


def _text(value: Value | None) -> str:
    return value[:64].decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _number(value: Value | None, least: int, most: int) -> int | None:
    return value if isinstance(value, int) and least <= value <= most else None


def _address(value: Value | None) -> str | None:
    if isinstance(value, bytes) and len(value) in (4, 16):
        return str(ipaddress.ip_address(value))
    return None
