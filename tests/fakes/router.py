"""FakeRouter: a home router by script on a simulated host: PCP, NAT-PMP and UPnP, each with its ways of saying no.

Written from the RFCs by hand and apart from the code under test: it packs and unpacks for itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import struct
from dataclasses import dataclass, field
from typing import Any

from unchoke.testing import SimHost

SERVICE = "urn:schemas-upnp-org:service:"


@dataclass
class Entry:
    """A mapping in the router; ``expires``: the loop's clock, None: never."""

    client: str
    internal: int
    method: str
    expires: float | None
    name: str = ""


@dataclass
class FakeRouter:
    """``entries``: (protocol, external port) → Entry; ``asked``: what was asked of it, in words. All may be changed at any time."""

    host: SimHost
    external: str = "198.51.100.7"
    pcp: bool = True
    natpmp: bool = True
    says_version: bool = True  # to PCP, where it speaks only NAT-PMP
    upnp: tuple[str, ...] = ()  # service types, without the prefix
    result: int = 0  # of PCP and NAT-PMP
    lifetime: int = 7200
    permanent_only: bool = False
    faults: dict[str, int] = field(default_factory=dict)  # action → UPnP error
    status: dict[str, str] = field(default_factory=dict)  # service → connection status
    location: str = ""
    description: bytes | None = None
    entries: dict[tuple[str, int], Entry] = field(default_factory=dict)
    holes: dict[int, tuple[str, int, str]] = field(default_factory=dict)
    firewall: str = "1"
    asked: list[str] = field(default_factory=list)
    started: float = 0.0
    silent: bool = False

    async def start(self) -> None:
        self.started = asyncio.get_running_loop().time()
        await self.host.open_datagrams(lambda: _Port(self, "_asked"), port=5351)
        await self.host.open_datagrams(lambda: _Port(self, "_searched"), port=1900)
        await self.host.start_server(self._serve, port=5000)

    def restart(self) -> None:
        self.entries.clear()
        self.holes.clear()
        self.started = asyncio.get_running_loop().time()

    def count(self, what: str) -> int:
        return sum(one.startswith(what) for one in self.asked)

    @property
    def _epoch(self) -> int:
        return int(asyncio.get_running_loop().time() - self.started)

    # ---- PCP and NAT-PMP ----

    def _asked(self, data: bytes, source: str) -> bytes | None:
        if self.silent:
            return None
        if data[0] == 2 and self.pcp:
            return self._pcp(data, source)
        if data[0] == 2 and self.natpmp and self.says_version:
            return struct.pack(">BBHI", 0, 0x80 | data[1], 1, self._epoch)
        return self._natpmp(data, source) if data[0] == 0 and self.natpmp else None

    def _pcp(self, data: bytes, source: str) -> bytes:
        opcode, lifetime = data[1], int.from_bytes(data[4:8], "big")
        if opcode == 0:
            self.asked.append("PCP ANNOUNCE")
            return struct.pack(">BBBBII12x", 2, 0x80, 0, 0, 0, self._epoch)
        nonce, protocol, internal, port, _ = struct.unpack(">12sB3xHH16s", data[24:60])
        assert ipaddress.IPv6Address(data[8:24]) == _in16(source), "PCP: not the address it comes from"
        name = {6: "TCP", 17: "UDP"}[protocol]
        self.asked.append(f"PCP MAP {name} {lifetime}")
        if not self.result:
            port = self._map(name, source, internal, port, lifetime, f"PCP {nonce.hex()}")
        life = min(lifetime, self.lifetime)
        head = struct.pack(">BBBBII12x", 2, 0x81, 0, self.result, life, self._epoch)
        outside = _in16(source if ":" in source else self.external).packed
        return head + struct.pack(">12sB3xHH16s", nonce, protocol, internal, port, outside)

    def _natpmp(self, data: bytes, source: str) -> bytes:
        if data[1] == 0:
            self.asked.append("NAT-PMP EXTERNAL")
            packed = ipaddress.IPv4Address(self.external).packed
            return struct.pack(">BBHI4s", 0, 128, self.result, self._epoch, packed)
        internal, port, lifetime = struct.unpack(">HHI", data[4:12])
        name = {1: "UDP", 2: "TCP"}[data[1]]
        self.asked.append(f"NAT-PMP MAP {name} {lifetime}")
        if not self.result:
            port = self._map(name, source, internal, port, lifetime, "NAT-PMP")
        life = min(lifetime, self.lifetime)
        return struct.pack(">BBHIHHI", 0, 128 + data[1], self.result, self._epoch, internal, port, life)

    def _map(self, name: str, client: str, internal: int, port: int, lifetime: int, method: str) -> int:
        """The port given; 0 lifetime deletes."""
        for (protocol, known), entry in list(self.entries.items()):
            if (protocol, entry.client, entry.internal) == (name, client, internal):
                del self.entries[protocol, known]
                port = port or known
        if not lifetime:
            return 0
        while (name, port) in self.entries:
            port += 1
        expires = asyncio.get_running_loop().time() + min(lifetime, self.lifetime)
        self.entries[name, port] = Entry(client, internal, method, expires)
        return port

    # ---- UPnP ----

    def _searched(self, data: bytes, source: str) -> bytes | None:
        target = re.search(rb"\nST: (\S+)", data)
        version = b"2" if ":" in source else b"1"
        if not self.upnp or self.silent or target is None or b"InternetGatewayDevice:" + version not in target[1]:
            return None
        self.asked.append("SEARCH")
        name = f"[{self.host.address}]" if ":" in source else self.host.address
        where = self.location or f"http://{name}:5000/root.xml"
        return b"HTTP/1.1 200 OK\r\nST: " + target[1] + b"\r\nUSN: uuid:1\r\nLocation: " + where.encode() + b"\r\n\r\n"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"Content-Length: (\d+)", head)
            body = (await reader.readexactly(int(length[1]))).decode() if length else ""
            if self.silent:
                await reader.read()  # until the other side gives up
            else:
                status, answer = self._answer(head, body)
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it left in the middle
        finally:
            writer.close()

    def _answer(self, head: str, body: str) -> tuple[str, bytes]:
        if head.startswith("GET /root.xml "):
            self.asked.append("DESCRIPTION")
            return "200 OK", self._describe() if self.description is None else self.description
        called = re.search(r'SOAPAction: "' + SERVICE + r'(\w+:\d)#(\w+)"', head)
        if called is None or called[1] not in self.upnp:
            return "404 Not Found", b""
        action = called[2]
        self.asked.append(f"{called[1]} {action}")
        arguments = dict(re.findall(r"<(\w+)>([^<]*)</\1>", body))
        answer = self.faults.get(action) or self._call(called[1], action, arguments)
        if isinstance(answer, int):
            inner = (
                "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
                f"<UPnPError><errorCode>{answer}</errorCode></UPnPError></detail></s:Fault>"
            )
            return "500 Internal Server Error", f"<s:Envelope><s:Body>{inner}</s:Body></s:Envelope>".encode()
        values = "".join(f"<{name}>{value}</{name}>" for name, value in answer.items())
        inner = f"<u:{action}Response>{values}</u:{action}Response>"
        return "200 OK", f"<s:Envelope><s:Body>{inner}</s:Body></s:Envelope>".encode()

    def _describe(self) -> bytes:
        services = "".join(
            f"<service><serviceType>{SERVICE}{one}</serviceType><controlURL>/ctl/{one[:6]}</controlURL></service>"
            for one in self.upnp
        )
        return (
            '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><friendlyName>Tom & Jerry</friendlyName>'
            f"<deviceList><device><serviceList>{services}</serviceList></device></deviceList></device></root>"
        ).encode()

    def _call(self, service: str, action: str, given: dict[str, str]) -> dict[str, str] | int:
        key = given.get("NewProtocol", ""), int(given.get("NewExternalPort", "0"))
        if action == "GetExternalIPAddress":
            return {"NewExternalIPAddress": self.external}
        if action == "GetStatusInfo":
            return {"NewConnectionStatus": self.status.get(service, "Connected")}
        if action == "GetSpecificPortMappingEntry":
            entry = self.entries.get(key)
            if entry is None:
                return 714
            return {"NewInternalClient": entry.client, "NewPortMappingDescription": entry.name}
        if action == "DeletePortMapping":
            return {} if self.entries.pop(key, None) is not None else 714
        if action in ("AddPortMapping", "AddAnyPortMapping"):
            return self._add(action, key, given)
        return self._firewall(action, given)

    def _add(self, action: str, key: tuple[str, int], given: dict[str, str]) -> dict[str, str] | int:
        if action == "AddAnyPortMapping" and "WANIPConnection:2" not in self.upnp:
            return 401
        lease, client = int(given["NewLeaseDuration"]), given["NewInternalClient"]
        if lease and self.permanent_only:
            return 725
        while key in self.entries and self.entries[key].client != client:
            if action == "AddPortMapping":
                return 718
            key = key[0], key[1] + 1
        expires = asyncio.get_running_loop().time() + lease if lease else None
        internal, name = int(given["NewInternalPort"]), given["NewPortMappingDescription"]
        self.entries[key] = Entry(client, internal, "UPnP", expires, name)
        return {"NewReservedPort": str(key[1])} if action == "AddAnyPortMapping" else {}

    def _firewall(self, action: str, given: dict[str, str]) -> dict[str, str] | int:
        if action == "GetFirewallStatus":
            return {"FirewallEnabled": self.firewall, "InboundPinholeAllowed": "1"}
        if action == "AddPinhole":
            number = len(self.holes) + 1
            self.holes[number] = given["InternalClient"], int(given["InternalPort"]), given["Protocol"]
            return {"UniqueID": str(number)}
        if int(given["UniqueID"]) not in self.holes:
            return 704
        if action == "DeletePinhole":
            del self.holes[int(given["UniqueID"])]
        return {}


class _Port(asyncio.DatagramProtocol):
    """A socket that answers each packet, or does not: by the method of that name, which a test may replace."""

    def __init__(self, router: FakeRouter, method: str) -> None:
        self._router = router
        self._method = method
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        reply = getattr(self._router, self._method)(data, addr[0])
        if reply is not None:
            self._transport.sendto(reply, addr)


def _in16(host: str) -> ipaddress.IPv6Address:
    address = ipaddress.ip_address(host)
    return address if address.version == 6 else ipaddress.IPv6Address(f"::ffff:{host}")
