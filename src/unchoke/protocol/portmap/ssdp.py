"""SSDP (UPnP Device Architecture 1.0/1.1): a search for routers, and the answers to it.

An answer is one datagram with headers as HTTP has them; of them the place of the device's description counts. That it leads to
the very host that answered is for who reads it to check (``Found.is_at``): else an answer could send us anywhere.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from unchoke.errors import ProtocolError
from unchoke.protocol.portmap.http import Place, place

PORT = 1900
GROUP = "239.255.255.250"
#: The IPv6 group of one link (UPnP 1.1, annex A).
GROUP6 = "ff02::c"

#: What is searched for. A router of version 2 answers to version 1 too, but not all keep that rule; some answer only to a service.
TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)

#: Over IPv6 only the firewall is of use.
TARGETS6 = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1",
)

#: Seconds within which devices shall spread their answers (MX).
SPREAD = 2

MAX_ANSWER = 2048

_STATUS = re.compile(rb"HTTP/1\.[01] +200\b")


@dataclass(frozen=True, slots=True)
class Found:
    """A device: ``location`` is the URL of its description."""

    location: str
    where: Place
    target: str

    def is_at(self, host: str) -> bool:
        """The description lies on ``host``, a literal address without a scope."""
        try:
            return ipaddress.ip_address(self.where.host) == ipaddress.ip_address(host)
        except ValueError:
            return False


def pack_search(target: str, host: str = GROUP) -> bytes:
    """M-SEARCH for ``target``, sent to the group ``host`` or to one router."""
    name = f"[{host}]" if ":" in host else host
    lines = ("M-SEARCH * HTTP/1.1", f"HOST: {name}:{PORT}", 'MAN: "ssdp:discover"', f"MX: {SPREAD}", f"ST: {target}")
    return "\r\n".join((*lines, "", "")).encode("ascii")


def unpack_answer(data: bytes) -> Found:
    """Read an answer to a search. Raises ProtocolError."""
    if len(data) > MAX_ANSWER or not _STATUS.match(data):
        raise ProtocolError("not an answer to a search")
    headers: dict[str, str] = {}
    for line in data.decode("latin-1").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    location, target = headers.get("location", ""), headers.get("st", "")
    if not target.startswith(("urn:schemas-upnp-org:device:InternetGateway", "urn:schemas-upnp-org:service:WAN")):
        raise ProtocolError("an answer from something that is no router")
    return Found(location, place(location), target[:128])
