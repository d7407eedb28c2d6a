"""UPnP-IGD: the services in a router's description, and the SOAP calls that map ports (IGD 1 and 2).

Services: WANIPConnection 1 and 2, WANPPPConnection 1, and WANIPv6FirewallControl 1. Calls are built with ``pack_call``, answers
read with ``unpack_answer``: a refusal is a ``SoapFault`` value with its code in words; what is neither raises ProtocolError.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from unchoke.errors import ProtocolError
from unchoke.protocol.portmap import xml
from unchoke.protocol.portmap.http import MAX_URL, Place, place

IP2 = "urn:schemas-upnp-org:service:WANIPConnection:2"
IP1 = "urn:schemas-upnp-org:service:WANIPConnection:1"
PPP1 = "urn:schemas-upnp-org:service:WANPPPConnection:1"
FIREWALL = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1"

#: In the order in which they are tried; a router may offer several and have only one of them connected.
MAPPERS = (IP2, IP1, PPP1)

#: Services of one description that are kept.
MAX_SERVICES = 8

NO_SUCH_ENTRY, CONFLICT, SAME_PORT, PERMANENT_ONLY, NO_ANY_PORT = 714, 718, 724, 725, 728
CONFLICT_WITH_ROUTER, SAME_PORT_INSIDE = 729, 730
INVALID_ACTION, INVALID_ARGS, ACTION_FAILED, NOT_IMPLEMENTED, NOT_AUTHORIZED = 401, 402, 501, 602, 606
NO_SUCH_HOLE = 704

#: What a router means by its codes (UDA 1.0, WANIPConnection 1 and 2, WANIPv6FirewallControl 1).
_FAULTS = {
    401: "the router does not know how to do that",
    402: "the router could not read the request",
    403: "the router is out of step with us",
    501: "the router failed to do it",
    600: "the router could not read a value",
    601: "the router takes a value for out of range",
    602: "the router does not do that yet",
    603: "the router has no memory left",
    604: "the router wants a person to do it",
    605: "the router could not read a text",
    606: "the router refuses: it is not allowed for us",
    703: "the router holds that no packet has passed yet",
    704: "the router knows no such hole in its firewall",
    705: "the router refuses any protocol here",
    706: "the router wants a port to be named",
    708: "the router does not open its firewall that way",
    709: "the router has dropped what it opened",
    713: "the router has no entry of that number",
    714: "the router has no such mapping",
    715: "the router refuses mappings for all of the internet",
    716: "the router wants a port to be named",
    718: "the port is taken by a mapping of another machine",
    724: "the router maps only the same port outside and inside",
    725: "the router maps only for ever",
    726: "the router maps only for all of the internet",
    727: "the router maps only all ports at once",
    728: "the router has no port left",
    729: "the port is taken by the router's own settings",
    730: "the router wants the port inside to be the same",
    732: "the router maps only one port inside",
}


@dataclass(frozen=True, slots=True)
class Service:
    """``kind``: its URN, one of those above. ``control``: where calls go."""

    kind: str
    control: Place


@dataclass(frozen=True, slots=True)
class SoapFault:
    """The router said no. ``code``: UPnP's, or 0 if it gave none."""

    code: int
    description: str = ""

    @property
    def words(self) -> str:
        known = _FAULTS.get(self.code)
        if known is not None:
            return f"{known} (UPnP error {self.code})"
        what = self.description or "without a reason"
        return f"the router refuses: {what}" + (f" (UPnP error {self.code})" if self.code else "")


def unpack_description(data: bytes, location: str) -> list[Service]:
    """The services of use in a description fetched from ``location``, in its order. Raises ProtocolError.

    Only those that are called at the host the description came from: else a description could make us call anybody.
    """
    root = xml.parse(data)
    home = place(location)
    base = root.word("URLBase") or location
    found: list[Service] = []
    for element in root.walk():
        kind = element.word("serviceType") if element.name == "service" else ""
        if kind not in (*MAPPERS, FIREWALL) or len(found) >= MAX_SERVICES:
            continue
        control = _control(element.word("controlURL"), base, location, home)
        if control is not None:
            found.append(Service(kind, control))
    return found


def _control(url: str, base: str, location: str, home: Place) -> Place | None:
    """Where to call, on the host of the description. A ``URLBase`` that leads elsewhere is a leftover: ``location`` counts then."""
    for start in (base, location) if len(base) <= MAX_URL else (location,):
        try:
            where = place(url, start)
        except ProtocolError:
            continue
        if url and _same(where.host, home.host):
            return where
    return None


def _same(one: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return False


def pack_call(kind: str, action: str, arguments: Mapping[str, str | int]) -> tuple[dict[str, str], bytes]:
    """Headers and body of a call; the arguments in the order the service declares them, which some routers insist on."""
    inner = "".join(f"<{name}>{xml.escape(str(value))}</{name}>" for name, value in arguments.items())
    body = (
        '<?xml version="1.0"?>\r\n'
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">'
        f'<s:Body><u:{action} xmlns:u="{kind}">{inner}</u:{action}></s:Body></s:Envelope>\r\n'
    )
    headers = {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": f'"{kind}#{action}"'}
    return headers, body.encode()


def unpack_answer(status: int, data: bytes, action: str) -> dict[str, str] | SoapFault:
    """What a call returned, by name. ``status``: HTTP's. Raises ProtocolError for what is no answer to ``action``."""
    try:
        root = xml.parse(data)
    except ProtocolError:
        if status == 200:
            raise
        return SoapFault(0, f"HTTP {status}")
    for element in root.walk():
        if element.name == f"{action}Response":
            return {child.name: child.text[:256] for child in element.children[:64]}
        if element.name == "Fault":
            return _fault(element)
    if status != 200:
        return SoapFault(0, f"HTTP {status}")
    raise ProtocolError(f"not an answer to {action}")


def _fault(element: xml.Element) -> SoapFault:
    code, description = 0, element.word("faultstring")
    for inner in element.walk():
        if inner.name == "errorCode":
            code = int(inner.text) if inner.text.isascii() and inner.text.isdigit() and len(inner.text) < 6 else 0
        elif inner.name == "errorDescription":
            description = inner.text
    return SoapFault(code, "".join(c for c in description if c.isprintable())[:80])


def number(text: str) -> int:
    """A number in an answer. Raises ProtocolError."""
    if text.isascii() and text.isdigit() and len(text) <= 10:
        return int(text)
    raise ProtocolError(f"{text[:40]!r} is no number")


def address(text: str) -> str:
    """A literal address in an answer in its canonical form; empty for none. Never raises: routers without a line say all sorts."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ""
    return "" if found.is_unspecified else str(found)
