"""A peer that calls one address for one torrent, prints which extensions it is offered (BEP 10), and hangs up.

Arguments: host, port, infohash. Prints one line: the names in ``m``, sorted.
"""

from __future__ import annotations

import re
import socket
import sys

NAMES = (b"ut_metadata", b"ut_pex", b"ut_holepunch")
HELLO = b"d1:md11:ut_metadatai1e6:ut_pexi2eee"


def read(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = link.recv(size - len(data))
        if not part:
            raise SystemExit("hung up on")
        data += part
    return data


def main(host: str, port: int, infohash: bytes) -> None:
    with socket.create_connection((host, port), 10) as link:
        reserved = bytes((0, 0, 0, 0, 0, 0x10, 0, 0))
        link.sendall(b"\x13BitTorrent protocol" + reserved + infohash + b"-XX0000-" + b"c" * 12)
        link.sendall((len(HELLO) + 2).to_bytes(4, "big") + b"\x14\x00" + HELLO)
        read(link, 68)
        message = b""
        while message[:2] != b"\x14\x00":
            message = read(link, int.from_bytes(read(link, 4), "big"))
    found = [name.decode() for name in NAMES if re.search(rb"%d:%bi[1-9]" % (len(name), name), message)]
    sys.stdout.write(" ".join(sorted(found)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]))
