"""NAT-PMP (RFC 6886): the packets of a client, built, and a router's answers, read.

IPv4 only. One packet asks for one mapping, or for the router's address outside; each answer carries the *epoch*, the seconds
since the router last lost its mappings. Pure codec: who is asked when is ``client``'s.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from unchoke.errors import ProtocolError

VERSION = 0
EXTERNAL, MAP_UDP, MAP_TCP = 0, 1, 2

#: Set in the opcode of every answer.
ANSWER = 0x80

UNSUPPORTED_VERSION = 1

#: Result codes (RFC 6886, 3.5) in words.
_RESULTS = {
    1: "the router speaks another version",
    2: "the router refuses: port mapping is switched off there, or not for us",
    3: "the router has no connection to the internet",
    4: "the router has no room for another mapping",
    5: "the router does not know how to do that",
}

_MAP = struct.Struct(">BBHHHI")  # version, opcode, reserved, internal port, external port, lifetime
_HEAD = struct.Struct(">BBHI")  # version, opcode, result, epoch
_MAPPED = struct.Struct(">HHI")  # internal port, external port, lifetime


@dataclass(frozen=True, slots=True)
class NatpmpReply:
    """``opcode`` without the bit of answers. ``external``: address, of the answer to EXTERNAL; the rest: of a mapping."""

    opcode: int
    result: int
    epoch: int
    internal_port: int = 0
    external_port: int = 0
    lifetime: int = 0
    external: str = ""

    @property
    def words(self) -> str:
        return _RESULTS.get(self.result, f"the router refuses (NAT-PMP result {self.result})")


def pack_external() -> bytes:
    """Ask for the router's address outside."""
    return bytes((VERSION, EXTERNAL))


def pack_map(tcp: bool, internal: int, external: int, lifetime: int) -> bytes:
    """Ask for a mapping of ``lifetime`` seconds. Lifetime 0 (and external port 0) deletes it."""
    return _MAP.pack(VERSION, MAP_TCP if tcp else MAP_UDP, 0, internal, external, lifetime)


def unpack_reply(data: bytes) -> NatpmpReply:
    """Read an answer; what follows the known fields is ignored. Raises ProtocolError."""
    if len(data) < _HEAD.size:
        raise ProtocolError(f"a NAT-PMP answer of {len(data)} bytes")
    version, opcode, result, epoch = _HEAD.unpack_from(data)
    if version != VERSION or not opcode & ANSWER:
        raise ProtocolError("not a NAT-PMP answer")
    opcode &= ~ANSWER
    if result:
        internal = int.from_bytes(data[8:10], "big") if opcode in (MAP_UDP, MAP_TCP) else 0
        return NatpmpReply(opcode, result, epoch, internal)
    if opcode == EXTERNAL and len(data) >= 12:
        address = ipaddress.IPv4Address(data[8:12])
        return NatpmpReply(opcode, 0, epoch, external="" if address.is_unspecified else str(address))
    if opcode in (MAP_UDP, MAP_TCP) and len(data) >= 16:
        return NatpmpReply(opcode, 0, epoch, *_MAPPED.unpack_from(data, _HEAD.size))
    raise ProtocolError(f"a NAT-PMP answer of {len(data)} bytes to opcode {opcode}")
