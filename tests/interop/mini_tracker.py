"""The least HTTP tracker other programs accept (BEP 3, 23): it checks the harness without the code under test.

Peers are kept for ever, all of them are told to everybody, in the compact form. One line for each announce.
"""

from __future__ import annotations

import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

swarms: dict[bytes, dict[tuple[str, int], bool]] = {}


class Announce(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True, encoding="latin-1"))
        if not urlsplit(self.path).path.endswith("/announce"):
            self.send_error(404)  # no scrapes
            return
        raw = [item for item in urlsplit(self.path).query.split("&") if item.startswith("info_hash=")]
        swarm = swarms.setdefault(unquote_to_bytes(raw[0].partition("=")[2]) if raw else b"", {})
        us = (self.client_address[0], int(query.get("port", "0")))
        told = [peer for peer in swarm if peer != us]
        swarm[us] = True
        if query.get("event") == "stopped":
            del swarm[us]
        sys.stdout.write(f"announce {us[0]}:{us[1]} {query.get('event', '-')} left={query.get('left')}\n")
        sys.stdout.flush()
        peers = b"".join(socket.inet_aton(host) + port.to_bytes(2, "big") for host, port in told)
        body = b"d8:intervali5e12:min intervali5e5:peers%d:%se" % (len(peers), peers)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Announce)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.serve_forever()
