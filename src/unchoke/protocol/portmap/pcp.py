"""PCP (RFC 6887), version 2: the MAP and ANNOUNCE requests of a client, built, and a server's answers, read.

Both families: over IPv6 a mapping is a hole in the router's firewall. The *nonce* (12 bytes nobody can guess) comes back in each
answer to MAP and names the mapping's owner. Pure codec: who is asked when is ``client``'s.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from unchoke.errors import ProtocolError

VERSION = 2
ANNOUNCE, MAP = 0, 1
ANSWER = 0x80
TCP, UDP = 6, 17

#: Bytes of a nonce, and of the longest packet (RFC 6887, 7).
NONCE_SIZE = 12
MAX_PACKET = 1100

UNSUPPORTED_VERSION = 1

#: Results after which NAT-PMP may still help: the server does not know what we asked, or takes us for a stranger, as it has to
#: when a run of ours that died left a mapping with another nonce (RFC 6887, 11.3).
TRY_NATPMP = frozenset((1, 2, 3, 4, 5, 6))

#: Result codes (RFC 6887, 7.4) in words.
_RESULTS = {
    1: "the router speaks another version",
    2: "the router refuses: port mapping is switched off there, or not for us",
    3: "the router could not read the request",
    4: "the router does not do port mappings",
    5: "the router does not know an option",
    6: "the router could not read an option",
    7: "the router has no connection to the internet",
    8: "the router has no room for another mapping",
    9: "the router does not map this protocol",
    10: "the router gives us no more mappings",
    11: "the router cannot give the port that was asked for",
    12: "another NAT stands between us and the router",
    13: "the router allows no more peers",
}

_REQUEST = struct.Struct(">BBHI16s")  # version, opcode, reserved, lifetime, our address
_ANSWER = struct.Struct(">BBBBII12x")  # version, opcode, reserved, result, lifetime, epoch
_MAP = struct.Struct(">12sB3xHH16s")  # nonce, protocol, internal port, external port, external address


@dataclass(frozen=True, slots=True)
class PcpReply:
    """``opcode`` without the bit of answers; the fields from ``nonce`` on: of an answer to MAP (empty if an error left them out)."""

    version: int
    opcode: int
    result: int
    lifetime: int
    epoch: int
    nonce: bytes = b""
    protocol: int = 0
    internal_port: int = 0
    external_port: int = 0
    external: str = ""

    @property
    def words(self) -> str:
        return _RESULTS.get(self.result, f"the router refuses (PCP result {self.result})")


def pack_map(nonce: bytes, tcp: bool, internal: int, external: int, client: str, lifetime: int) -> bytes:
    """Ask for a mapping of ``lifetime`` seconds (0 deletes it) to ``client``, the literal address the packet leaves from.

    No external address is asked for: any of the client's family will do.
    """
    address = _pack_address(client)
    anywhere = bytes(16) if ":" in client else _pack_address("0.0.0.0")
    head = _REQUEST.pack(VERSION, MAP, 0, lifetime, address)
    return head + _MAP.pack(nonce, TCP if tcp else UDP, internal, external, anywhere)


def pack_announce(client: str) -> bytes:
    """Ask for nothing but an answer, for the epoch in it (RFC 6887, 14.1)."""
    return _REQUEST.pack(VERSION, ANNOUNCE, 0, 0, _pack_address(client))


def _pack_address(host: str) -> bytes:
    address = ipaddress.ip_address(host)
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed


def unpack_reply(data: bytes) -> PcpReply:
    """Read an answer; options are ignored. An answer of another version is read if it says just that. Raises ProtocolError."""
    if not _ANSWER.size <= len(data) <= MAX_PACKET:
        raise ProtocolError(f"a PCP answer of {len(data)} bytes")
    version, opcode, _, result, lifetime, epoch = _ANSWER.unpack_from(data)
    if not opcode & ANSWER or version == 0 or (version != VERSION and result != UNSUPPORTED_VERSION):
        raise ProtocolError("not a PCP answer")
    opcode &= ~ANSWER
    if opcode == MAP and version == VERSION and len(data) >= _ANSWER.size + _MAP.size:
        nonce, protocol, internal, port, address = _MAP.unpack_from(data, _ANSWER.size)
        outside = _unpack_address(address)
        return PcpReply(version, opcode, result, lifetime, epoch, nonce, protocol, internal, port, outside)
    if result == 0 and opcode != ANNOUNCE:
        raise ProtocolError(f"a PCP answer of {len(data)} bytes to opcode {opcode}")
    return PcpReply(version, opcode, result, lifetime, epoch)


def _unpack_address(packed: bytes) -> str:
    """In text; empty for the unspecified addresses of both families."""
    address = ipaddress.IPv6Address(packed)
    plain = address.ipv4_mapped or address
    return "" if plain.is_unspecified else str(plain)
