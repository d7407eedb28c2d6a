"""Local service discovery packets (BEP 14): who on this network has which torrents, in a form like HTTP over multicast.

Built as the BEP draws them, at most 1400 bytes each; read with the tolerance of HTTP: names of headers in any case, any order,
unknown ones ignored, bare line feeds. Who may speak, and when we do, is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unchoke.errors import ProtocolError
from unchoke.types import Address, InfoHash

#: Where announces are sent, by family.
GROUP4 = Address("239.192.152.143", 6771)
GROUP6 = Address("ff15::efc0:988f", 6771)

#: Bytes of a packet (BEP 14: no more, so that none is cut in pieces on its way).
MAX_PACKET = 1400
_FIRST_LINE = "BT-SEARCH * HTTP/1.1"
_INFOHASH_LINE = len("Infohash: \r\n") + 40
#: Bytes of a cookie that are kept; ours has 8.
_MAX_COOKIE = 64


@dataclass(frozen=True, slots=True)
class LsdAnnounce:
    """``infohashes`` (20 bytes each, without doubles) are to be had on TCP ``port``; ``cookie`` is the sender's own mark, or empty."""

    infohashes: tuple[InfoHash, ...]
    port: int
    cookie: str = ""

    def encode(self, group: Address) -> bytes:
        """The packet for ``group``, which is also its Host. The caller sees to its length (``announces``)."""
        lines = [_FIRST_LINE, f"Host: {group}", f"Port: {self.port}"]
        lines += [f"Infohash: {infohash.hex()}" for infohash in self.infohashes]
        if self.cookie:
            lines.append(f"cookie: {self.cookie}")
        return "\r\n".join([*lines, "", "", ""]).encode("ascii")


def most_in_packet(cookie: str, group: Address) -> int:
    """How many infohashes fit into one packet."""
    return (MAX_PACKET - len(LsdAnnounce((), 65535, cookie).encode(group))) // _INFOHASH_LINE


def announces(infohashes: Sequence[InfoHash], port: int, cookie: str, group: Address) -> list[bytes]:
    """As few packets as hold all of ``infohashes``."""
    size = most_in_packet(cookie, group)
    parts = (infohashes[start : start + size] for start in range(0, len(infohashes), size))
    return [LsdAnnounce(tuple(part), port, cookie).encode(group) for part in parts]


def decode_lsd(packet: bytes) -> LsdAnnounce:
    """Read a packet. Raises ProtocolError: another first line, too long, no port, no infohash."""
    if len(packet) > MAX_PACKET:
        raise ProtocolError(f"an LSD packet of more than {MAX_PACKET} bytes")
    first, _, rest = packet.decode("latin-1").partition("\n")
    if first.split()[:1] != ["BT-SEARCH"]:
        raise ProtocolError("not an LSD announce")
    port, cookie, found = 0, "", dict[InfoHash, None]()
    for name, value in _headers(rest):
        if name == "port":
            port = _port(value)
        elif name == "infohash":
            found[_infohash(value)] = None
        elif name == "cookie":
            cookie = value[:_MAX_COOKIE]
    if not port or not found:
        raise ProtocolError("an LSD announce without a port or infohash")
    return LsdAnnounce(tuple(found), port, cookie)


def _headers(text: str) -> Iterable[tuple[str, str]]:
    """Names in lower case. A line without a colon ends nothing and says nothing."""
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip().lower(), value.strip()


def _port(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and 0 < int(value) < 65536):
        raise ProtocolError("an LSD announce of no port")
    return int(value)


def _infohash(value: str) -> InfoHash:
    if len(value) != 40:
        raise ProtocolError(f"an LSD infohash of {len(value)} digits")
    try:
        return InfoHash(bytes.fromhex(value))
    except ValueError:  # also when spaces have shortened it
        raise ProtocolError("an LSD infohash that is not hexadecimal") from None
