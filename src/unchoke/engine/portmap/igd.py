"""A UPnP router's services as things to call: ``Igd`` maps ports (IPv4), ``Firewall`` opens holes (IPv6).

Both are ``Opener``s: one call at a time, each bounded. A refusal is a ``RefusedError`` in words. What the router gave is told, not
what was asked: a port that is taken there becomes another, and a router that maps only for ever is remembered as such.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol

from unchoke.engine.net.gateway import Gateway
from unchoke.engine.net.plain_http import exchange
from unchoke.engine.net.transport import Network
from unchoke.errors import NetworkError, ProtocolError
from unchoke.protocol.portmap import http, upnp
from unchoke.protocol.portmap.http import Place
from unchoke.protocol.portmap.upnp import Service, SoapFault
from unchoke.types import Address

log = logging.getLogger(__name__)

#: Seconds for one call. Home routers take half a second at times, old ones two.
TIMEOUT = 6.0

#: Bytes of an answer to a call.
MAX_ANSWER = 64 * 1024

#: Seconds asked for, as by PCP; and calls made for one mapping before giving up.
LIFETIME = 7200
MAX_TRIES = 8

#: Ports tried when ours is taken outside: those that nobody is given for good (RFC 6335).
OTHER_PORTS = range(49152, 65536)

#: How our mappings begin their description: what is ours may be replaced.
NAME = "unchoke"


class RefusedError(NetworkError):
    """The router answered, with no."""


class NotNeededError(NetworkError):
    """There is nothing to open."""


@dataclass(frozen=True, slots=True)
class Opened:
    """``external_port``: where others reach us; ``external``: the router's address outside, or "".

    ``lifetime``: seconds until the router forgets it; None: it does not, so it has to be given back.
    """

    external_port: int
    external: str
    lifetime: int | None


class Opener(Protocol):
    """One service of a router. Every method raises NetworkError."""

    async def open(self, tcp: bool, internal: int, wished: int) -> Opened:
        """Open, or open again: it makes the mapping anew for its whole lifetime."""
        ...

    async def look(self, tcp: bool, internal: int, opened: Opened) -> Opened | None:
        """What there is of it now; None if the router has forgotten it."""
        ...

    async def shut(self, tcp: bool, opened: Opened) -> None:
        """Give it back."""
        ...


class Caller:
    """Calls to one router over HTTP, from the address of ours that faces it."""

    def __init__(self, network: Network, gateway: Gateway) -> None:
        self.gateway = gateway
        self._network = network

    async def fetch(self, where: Place, headers: dict[str, str], body: bytes | None, most: int) -> tuple[int, bytes]:
        host = f"{where.host}%{self.gateway.scope}" if where.host.lower().startswith("fe80:") else where.host
        request = http.pack_request(where, headers=headers, body=body)
        address, local = Address(host, where.port), self.gateway.local
        return await exchange(self._network, address, request, bind=local, timeout=TIMEOUT, max_size=most)

    async def describe(self, location: str) -> list[Service]:
        """The services of the router whose description lies at ``location``. Raises NetworkError."""
        try:
            status, body = await self.fetch(http.place(location), {}, None, http.MAX_BODY)
            if status != 200:
                raise NetworkError(f"the router's description: HTTP {status}")
            return upnp.unpack_description(body, location)
        except ProtocolError as error:
            raise NetworkError(f"the router's description: {error}") from None

    async def call(
        self, service: Service, action: str, arguments: Mapping[str, str | int]
    ) -> dict[str, str] | SoapFault:
        """Raises NetworkError if there is no answer, or one that is none."""
        headers, body = upnp.pack_call(service.kind, action, arguments)
        status, data = await self.fetch(service.control, headers, body, MAX_ANSWER)
        try:
            answer = upnp.unpack_answer(status, data, action)
        except ProtocolError as error:
            raise NetworkError(f"the router's answer: {error}") from None
        log.debug("< %s %s: %s", self.gateway, action, answer)
        return answer


class Igd:
    """WANIPConnection or WANPPPConnection."""

    def __init__(self, caller: Caller, service: Service, rng: Random) -> None:
        self.service = service
        self._caller = caller
        self._rng = rng
        self._local = caller.gateway.local
        self._for_ever = False
        self._same_port = False  # outside as inside, or not at all
        self._any = service.kind == upnp.IP2  # AddAnyPortMapping gives another port by itself

    async def is_connected(self) -> bool:
        """Not if the router says that this one of its lines is down."""
        answer = await self._caller.call(self.service, "GetStatusInfo", {})
        state = "" if isinstance(answer, SoapFault) else answer.get("NewConnectionStatus", "")
        return state not in ("Disconnected", "Disconnecting", "Unconfigured", "PendingDisconnect")

    async def open(self, tcp: bool, internal: int, wished: int) -> Opened:
        port, refusal = wished, ""
        for _ in range(MAX_TRIES):
            answer = await self._add(tcp, internal, port)
            if not isinstance(answer, SoapFault):
                given = await self._given(tcp, internal, answer, port)
                return Opened(given, await self.external(), None if self._for_ever else LIFETIME)
            refusal = answer.words
            other = await self._after(answer.code, tcp, internal, port)
            if other is None:
                break
            port = other
        raise RefusedError(refusal)

    async def _add(self, tcp: bool, internal: int, port: int) -> dict[str, str] | SoapFault:
        arguments = {
            **_entry(tcp, port),
            "NewInternalPort": internal,
            "NewInternalClient": self._local,
            "NewEnabled": 1,
            "NewPortMappingDescription": f"{NAME} {internal}",
            "NewLeaseDuration": 0 if self._for_ever else LIFETIME,
        }
        return await self._caller.call(self.service, f"Add{'Any' if self._any else ''}PortMapping", arguments)

    async def _given(self, tcp: bool, internal: int, answer: dict[str, str], port: int) -> int:
        """The port outside. A router that says something else than a port has mapped who knows what."""
        if not self._any:
            return port
        try:
            given = upnp.number(answer.get("NewReservedPort", ""))
        except ProtocolError as error:
            raise NetworkError(f"the router's answer: {error}") from None
        if not 0 < given < 65536:
            raise NetworkError(f"the router's answer: port {given}")
        return given

    async def _after(self, code: int, tcp: bool, internal: int, port: int) -> int | None:
        """The port to try next, with what the refusal has taught us; None: give up."""
        if self._any and code in (upnp.INVALID_ACTION, upnp.NOT_IMPLEMENTED, upnp.ACTION_FAILED, upnp.NO_ANY_PORT):
            self._any = False
            return port
        if code in (upnp.PERMANENT_ONLY, upnp.INVALID_ARGS, upnp.ACTION_FAILED) and not self._for_ever:
            self._for_ever = True  # old routers say "invalid" or "failed" for it
            return port
        if code in (upnp.CONFLICT, upnp.CONFLICT_WITH_ROUTER):
            if await self._was_ours(tcp, port):
                await self._caller.call(self.service, "DeletePortMapping", _entry(tcp, port))
                return port
            return None if self._same_port else self._rng.choice(OTHER_PORTS)
        if code in (upnp.SAME_PORT, upnp.SAME_PORT_INSIDE) and port != internal:
            self._same_port = True
            return internal
        return None

    async def _was_ours(self, tcp: bool, port: int) -> bool:
        """A mapping that a run of ours left behind: to this machine, and named by us."""
        answer = await self._caller.call(self.service, "GetSpecificPortMappingEntry", _entry(tcp, port))
        if isinstance(answer, SoapFault):
            return False
        ours = upnp.address(answer.get("NewInternalClient", "")) == self._local
        return ours and answer.get("NewPortMappingDescription", "").startswith(NAME)

    async def external(self) -> str:
        """The router's address outside, or "" if it does not say."""
        answer = await self._caller.call(self.service, "GetExternalIPAddress", {})
        return "" if isinstance(answer, SoapFault) else upnp.address(answer.get("NewExternalIPAddress", ""))

    async def look(self, tcp: bool, internal: int, opened: Opened) -> Opened | None:
        entry = _entry(tcp, opened.external_port)
        answer = await self._caller.call(self.service, "GetSpecificPortMappingEntry", entry)
        if isinstance(answer, SoapFault):
            if answer.code == upnp.NO_SUCH_ENTRY:
                return None
        elif upnp.address(answer.get("NewInternalClient", "")) != self._local:
            return None
        return Opened(opened.external_port, await self.external(), opened.lifetime)

    async def shut(self, tcp: bool, opened: Opened) -> None:
        answer = await self._caller.call(self.service, "DeletePortMapping", _entry(tcp, opened.external_port))
        if isinstance(answer, SoapFault) and answer.code != upnp.NO_SUCH_ENTRY:
            raise RefusedError(answer.words)

    def __repr__(self) -> str:
        how = "for ever" if self._for_ever else f"for {LIFETIME} s"
        return f"<Igd {self.service.kind.rpartition(':service:')[2]} at {self.service.control.authority} [{how}]>"


def _entry(tcp: bool, port: int) -> dict[str, str | int]:
    return {"NewRemoteHost": "", "NewExternalPort": port, "NewProtocol": "TCP" if tcp else "UDP"}


class Firewall:
    """WANIPv6FirewallControl: holes for our own IPv6 address."""

    def __init__(self, caller: Caller, service: Service) -> None:
        self.service = service
        self._caller = caller
        self._local = caller.gateway.local
        self._holes: dict[bool, int] = {}  # the router's number of each

    async def open(self, tcp: bool, internal: int, wished: int) -> Opened:
        """Raises NotNeededError when the firewall is off."""
        if tcp in self._holes and await self._renew(tcp):
            return self._opened(internal)
        await self._check_status()
        arguments: dict[str, str | int] = {
            "RemoteHost": "",
            "RemotePort": 0,
            "InternalClient": self._local,
            "InternalPort": internal,
            "Protocol": 6 if tcp else 17,
            "LeaseTime": LIFETIME,
        }
        answer = await self._caller.call(self.service, "AddPinhole", arguments)
        if isinstance(answer, SoapFault):
            raise RefusedError(answer.words)
        try:
            self._holes[tcp] = upnp.number(answer.get("UniqueID", ""))
        except ProtocolError as error:
            raise NetworkError(f"the router's answer: {error}") from None
        return self._opened(internal)

    def _opened(self, internal: int) -> Opened:
        return Opened(internal, self._local, LIFETIME)

    async def _check_status(self) -> None:
        answer = await self._caller.call(self.service, "GetFirewallStatus", {})
        if isinstance(answer, SoapFault):
            return
        if answer.get("FirewallEnabled") == "0":
            raise NotNeededError("the router's IPv6 firewall is off")
        if answer.get("InboundPinholeAllowed") == "0":
            raise RefusedError("the router's IPv6 firewall is closed to requests")

    async def _renew(self, tcp: bool) -> bool:
        arguments = {"UniqueID": self._holes[tcp], "NewLeaseTime": LIFETIME}
        if isinstance(await self._caller.call(self.service, "UpdatePinhole", arguments), SoapFault):
            del self._holes[tcp]
            return False
        return True

    async def look(self, tcp: bool, internal: int, opened: Opened) -> Opened | None:
        """Renewing is the look: the call that only looks is one that few routers have."""
        if tcp not in self._holes or not await self._renew(tcp):
            return None
        return opened

    async def shut(self, tcp: bool, opened: Opened) -> None:
        hole = self._holes.pop(tcp, None)
        if hole is None:
            return
        answer = await self._caller.call(self.service, "DeletePinhole", {"UniqueID": hole})
        if isinstance(answer, SoapFault) and answer.code != upnp.NO_SUCH_HOLE:
            raise RefusedError(answer.words)

    def __repr__(self) -> str:
        return f"<Firewall at {self.service.control.authority} [{len(self._holes)} holes]>"
