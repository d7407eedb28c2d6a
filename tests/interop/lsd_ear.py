"""Hears what is announced on the local network (BEP 14, IPv4): ``announced INFOHASH HOST PORT``, until it is ended.

The argument is its own address there.
"""

from __future__ import annotations

import re
import socket
import sys

GROUP, PORT = "239.192.152.143", 6771


def main(address: str) -> None:
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ear.bind((GROUP, PORT))
    ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton(address))
    sys.stdout.write("listening\n")
    while True:
        sys.stdout.flush()
        packet, (host, _) = ear.recvfrom(2000)
        port = re.search(rb"(?im)^port: *(\d+)", packet)
        for infohash in re.findall(rb"(?im)^infohash: *([0-9a-f]{40})", packet):
            sys.stdout.write(f"announced {infohash.decode().lower()} {host} {int(port[1]) if port else 0}\n")


if __name__ == "__main__":
    main(sys.argv[1])
