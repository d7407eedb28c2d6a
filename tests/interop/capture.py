"""Every packet on one interface (AF_PACKET), a line each, until SIGTERM; run in a namespace where only we speak.

Not shown: what the kernel says by itself to keep an IPv6 link alive (multicast listener reports for its own link-local
groups, neighbour and router discovery). Lines: ``capturing``, then ``UDP 198.51.100.2:51413 > 203.0.113.9:6881`` …
"""

from __future__ import annotations

import ipaddress
import signal
import socket
import struct
import sys

_ALL = 0x0003
_IPV4, _IPV6 = 0x0800, 0x86DD
_PROTOCOLS = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}
_NEIGHBOURS = range(133, 138)
_LISTENER_REPORT = 143


def is_kernels_own(payload: bytes) -> bool:
    """ICMPv6 (or a hop-by-hop header before it) that serves the link itself: discovery, or reports of ff02:: groups only."""
    if payload[:1] == b"\x3a":  # a hop-by-hop header whose next header is ICMPv6
        payload = payload[8 * (payload[1] + 1) :]
    kind = payload[0] if payload else 0
    if kind == _LISTENER_REPORT:
        (count,) = struct.unpack_from("!H", payload, 6)
        return all(payload[12 + 20 * number : 14 + 20 * number] == b"\xff\x02" for number in range(count))
    return kind in _NEIGHBOURS


def describe(kind: int, packet: bytes) -> str | None:
    """One line about an IP packet (without link header); None for the kernel's own."""
    if kind == _IPV4:
        length, protocol = (packet[0] & 15) * 4, packet[9]
        source, target = ipaddress.ip_address(packet[12:16]), ipaddress.ip_address(packet[16:20])
        payload = packet[length:]
    elif kind == _IPV6:
        protocol, payload = packet[6], packet[40:]
        source, target = ipaddress.ip_address(packet[8:24]), ipaddress.ip_address(packet[24:40])
        if protocol in (0, 58) and is_kernels_own(payload):
            return None
    else:
        return f"frame of type {kind:#06x}"
    name = _PROTOCOLS.get(protocol, f"protocol {protocol}")
    if name in ("TCP", "UDP") and len(payload) >= 4:
        from_port, to_port = struct.unpack_from("!HH", payload)
        return f"{name} {source}:{from_port} > {target}:{to_port}"
    return f"{name} {source} > {target}"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(interface: str) -> None:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
    tap.bind((interface, _ALL))
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(0))
    say("capturing")
    while True:
        packet, (_, kind, *_) = tap.recvfrom(65535)
        if (line := describe(kind, packet)) is not None:
            say(line)


if __name__ == "__main__":
    main(sys.argv[1])
