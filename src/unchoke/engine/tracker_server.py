"""TrackerServer: a small tracker in memory, HTTP and UDP on one port number (BEP 3, 7, 15, 23, 48).

For a LAN, a test, a demo. What it knows is ``policy.rendezvous``; this is two doors to it, both bounded: connections in number
and age, packets by size. Nothing is written down; ``/stats`` tells counts and no names.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import ipaddress
import json
import logging
import secrets
import socket
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from unchoke.engine.net.resolver import family_of, resolve
from unchoke.errors import NetworkError, PortTakenError, ProtocolError, TrackerError
from unchoke.policy.rendezvous import Rendezvous, RendezvousSettings
from unchoke.protocol.tracker import http_server, udp_packets
from unchoke.protocol.tracker.models import AnnounceReply, AnnounceRequest, ScrapeCounts, ScrapeReply
from unchoke.types import Address, InfoHash

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

#: HTTP connections at one time, and how old one may become (seconds): a client that announces needs well under one.
MAX_CONNECTIONS = 1000
MAX_AGE = 60.0

#: Seconds a keep-alive connection may be idle.
KEEP_ALIVE = 15.0

#: Seconds before which nobody need ask again, however short of peers. UDP replies have no room for it.
MIN_INTERVAL = 30

#: A connection id is good for two to three of these seconds' steps: at least the two minutes BEP 15 asks for.
_ID_STEP = 60.0


class TrackerServer:
    """``bind``: address or name, empty for every address of both families; ``port`` 0: any free one, see ``port`` after ``start``.

    ``interval``: seconds between announces; ``max_peers``: told in one reply. ``on_announce`` hears of every valid announce.
    """

    def __init__(
        self,
        *,
        bind: str = "",
        port: int = 6969,
        interval: int = 120,
        max_peers: int = 50,
        on_announce: Callable[[AnnounceRequest, Address], None] | None = None,
        settings: RendezvousSettings | None = None,
        rng: Random | None = None,
    ) -> None:
        self.port = port
        self.interval = interval
        self._bind = bind
        self._max_peers = max_peers
        self._on_announce = on_announce
        self._swarms = Rendezvous(settings or RendezvousSettings(lifetime=2.0 * interval), rng or Random())
        self._secret = secrets.token_bytes(16)
        self._announces = 0
        self._hosts: list[str] = []
        self._http: web.Server | None = None
        self._accepted: dict[web.RequestHandler, float] = {}
        self._listeners: list[asyncio.Server] = []
        self._links: list[asyncio.DatagramTransport] = []
        self._sweep: asyncio.TimerHandle | None = None

    # ---- life ----

    async def start(self) -> None:
        """Open both doors. Raises PortTakenError, NetworkError; nothing stays open then."""
        from aiohttp import web

        hosts = [one.host for one in await resolve(self._bind, self.port)] if self._bind else ["0.0.0.0", "::"]
        pairs = _bind_all(hosts, self.port, optional=not self._bind)
        self.port = pairs[0][0].getsockname()[1]
        self._hosts = [tcp.getsockname()[0] for tcp, _ in pairs]
        self._http = web.Server(self._serve, access_log=None, logger=_Quietly(log), keepalive_timeout=KEEP_ALIVE)
        loop = asyncio.get_running_loop()
        unused = [sock for pair in pairs for sock in pair]
        try:
            for tcp, udp in pairs:
                self._listeners.append(await loop.create_server(self._accept, sock=tcp))
                unused.remove(tcp)
                link, _ = await loop.create_datagram_endpoint(lambda: _UdpDoor(self.answer_datagram), sock=udp)
                unused.remove(udp)
                self._links.append(link)
        except BaseException:
            for sock in unused:
                sock.close()
            await self.aclose()
            raise
        self._sweep_later()
        log.info("= tracker listens on port %d", self.port)

    def _accept(self) -> asyncio.Protocol:
        """The protocol of one connection; it ends with ``MAX_AGE`` whatever its other side does."""
        assert self._http is not None
        if len(self._http.connections) >= MAX_CONNECTIONS:
            return _TurnedAway()
        handler = self._http()
        now = asyncio.get_running_loop().time()
        self._accepted[handler] = now
        if len(self._accepted) > 2 * MAX_CONNECTIONS:
            self._close_old(now)
        return handler

    def _sweep_later(self) -> None:
        """Forget the silent, close the old, and come back."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._swarms.expire(now)
        self._close_old(now)
        self._sweep = loop.call_later(min(MAX_AGE / 4, max(1.0, float(self.interval))), self._sweep_later)

    def _close_old(self, now: float) -> None:
        live = self._http.connections if self._http is not None else []
        self._accepted = {one: self._accepted.get(one, now) for one in live}
        for handler, since in self._accepted.items():
            if now - since > MAX_AGE:
                handler.force_close()

    async def aclose(self) -> None:
        """Close both doors. Safe to call twice."""
        if self._sweep is not None:
            self._sweep.cancel()
        for link in self._links:
            link.abort()
        for listener in self._listeners:
            listener.close()
        if self._http is not None:
            await self._http.shutdown(1.0)
        self._links, self._listeners, self._http = [], [], None
        await asyncio.sleep(0)  # transports give their descriptors back in the loop's next turn

    @property
    def urls(self) -> tuple[str, ...]:
        """Announce URLs, those that reach furthest first, HTTP before UDP."""
        hosts = [host for host in self._hosts if not ipaddress.ip_address(host).is_unspecified]
        if "0.0.0.0" in self._hosts:
            hosts += dict.fromkeys((_lan_address(), "127.0.0.1"))
        elif "::" in self._hosts:
            hosts.append("::1")
        places = [Address(host, self.port) for host in hosts]
        return tuple(f"{scheme}://{place}/announce" for place in places for scheme in ("http", "udp"))

    # ---- what both doors lead to ----

    def _announce(self, request: AnnounceRequest, host: str, *, only_family: bool) -> AnnounceReply:
        """Raises TrackerError: the refusal."""
        self._announces += 1
        address = Address(host, request.port)
        if self._on_announce is not None:
            self._on_announce(request, address)
        wanted = self._max_peers if request.numwant is None else min(request.numwant, self._max_peers)
        told = self._swarms.announce(
            request.infohash,
            (request.peer_id, request.key),
            address,
            asyncio.get_running_loop().time(),
            event=request.event.value,
            is_seed=request.left == 0,
            wanted=wanted,
            only_family=only_family,
        )
        if told.refusal:
            raise TrackerError(told.refusal, 60.0 * self.interval)
        return AnnounceReply(
            interval=self.interval,
            min_interval=min(self.interval, MIN_INTERVAL),
            peers=told.peers,
            seeds=told.seeds,
            leechers=told.leechers,
            downloaded=told.downloaded,
        )

    def _scrape(self, infohashes: tuple[InfoHash, ...]) -> ScrapeReply:
        found = ((infohash, self._swarms.scrape(infohash)) for infohash in infohashes)
        return ScrapeReply(
            {one: ScrapeCounts(told.seeds, told.downloaded, told.leechers) for one, told in found if told is not None}
        )

    def stats(self) -> dict[str, int]:
        """Counts: torrents, peers, seeds, announces so far, and the interval in seconds."""
        swarms = self._swarms
        return {
            "torrents": swarms.torrents,
            "peers": swarms.peers,
            "seeds": swarms.seeds,
            "announces": self._announces,
            "interval": self.interval,
        }

    # ---- the HTTP door ----

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        from aiohttp import web

        path, _, query = request.raw_path.partition("?")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="GET is all there is\n")
        if path == "/stats":
            return web.json_response(self.stats(), dumps=json.dumps)
        if path not in ("/announce", "/scrape"):
            return web.Response(status=404, text="a tracker: /announce, /scrape, /stats\n")
        body = self._answer_query(path, query, (request.remote or "").partition("%")[0])
        return web.Response(body=body, content_type="text/plain")

    def _answer_query(self, path: str, query: str, host: str) -> bytes:
        try:
            if path == "/scrape":
                return http_server.build_scrape_reply(self._scrape(tuple(http_server.parse_scrape_query(query))))
            request = http_server.parse_announce_query(query)
            reply = self._announce(request, host, only_family=False)
            return http_server.build_announce_reply(reply, compact=request.compact)
        except TrackerError as error:
            return http_server.build_failure(error)

    # ---- the UDP door ----

    def answer_datagram(self, data: bytes, host: str) -> bytes | None:
        """The answer to one packet from ``host``, or None. A wrong connection id gets none: the sender may be forged."""
        try:
            request = udp_packets.unpack_request(data)
        except ProtocolError:
            return None
        now = asyncio.get_running_loop().time()
        if isinstance(request, udp_packets.ConnectRequest):
            return udp_packets.pack_connect_reply(request.transaction, self._connection_id(host, int(now / _ID_STEP)))
        if not self._is_current(request.connection, host, now):
            return None
        if isinstance(request, udp_packets.UdpScrape):
            reply = self._scrape(request.infohashes)
            return udp_packets.pack_scrape_reply(request.transaction, request.infohashes, reply)
        try:
            told = self._announce(request.request, host, only_family=True)
        except TrackerError as error:
            return udp_packets.pack_error(request.transaction, str(error))
        return udp_packets.pack_announce_reply(request.transaction, told, ipv6=":" in host)

    def _connection_id(self, host: str, step: int) -> int:
        """Nothing is kept for a client: the id is a keyed hash of its address and the time."""
        text = f"{host} {step}".encode()
        return int.from_bytes(hashlib.blake2b(text, key=self._secret, digest_size=8).digest(), "big")

    def _is_current(self, connection: int, host: str, now: float) -> bool:
        step = int(now / _ID_STEP)
        return any(connection == self._connection_id(host, step - age) for age in range(3))

    def __repr__(self) -> str:
        state = "open" if self._listeners else "closed"
        return f"<TrackerServer port {self.port} [{state} | {self._swarms!r}]>"


class _Quietly(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp says of requests that are none goes to debug, in a line: strangers shall not fill anybody's screen."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        kwargs.pop("exc_info", None)
        super().log(min(level, logging.DEBUG), msg, *args, **kwargs)


class _UdpDoor(asyncio.DatagramProtocol):
    def __init__(self, answer: Callable[[bytes, str], bytes | None]) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        reply = self._answer(data, str(addr[0]).partition("%")[0])
        if reply is not None:
            self._transport.sendto(reply, addr)  # type: ignore[attr-defined]  # a DatagramTransport, which uvloop's is only in fact

    def error_received(self, exc: Exception) -> None:
        log.debug("! UDP: %s", exc)


class _TurnedAway(asyncio.Protocol):
    """There is no room: closed before it can say anything."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.abort()  # type: ignore[attr-defined]


def _bind_all(hosts: list[str], port: int, *, optional: bool) -> list[tuple[socket.socket, socket.socket]]:
    """A TCP and a UDP socket for each host, all on one port. ``optional``: a family that the machine lacks is left out.

    Raises PortTakenError, NetworkError.
    """
    for _ in range(20):  # with port 0: the kernel's choice for one socket may be taken for another
        pairs: list[tuple[socket.socket, socket.socket]] = []
        try:
            for host in hosts:
                chosen = pairs[0][0].getsockname()[1] if pairs else port
                try:
                    pairs.append(_bind_pair(host, chosen))
                except OSError as error:
                    if _is_taken(error) or not (optional and pairs):
                        raise
            return pairs
        except OSError as error:
            for sock in (sock for pair in pairs for sock in pair):
                sock.close()
            if not _is_taken(error):
                raise NetworkError(f"cannot listen on {host}: {error.strerror or error}") from None
            if port:
                raise PortTakenError(f"port {port} is taken ({error.strerror})") from None
    raise PortTakenError("no port is free for both TCP and UDP")


def _is_taken(error: OSError) -> bool:
    return error.errno in (errno.EADDRINUSE, errno.EACCES)


def _bind_pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    tcp = _bind(host, port, socket.SOCK_STREAM)
    try:
        return tcp, _bind(host, tcp.getsockname()[1], socket.SOCK_DGRAM)
    except BaseException:
        tcp.close()
        raise


def _bind(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(family_of(host), kind)
    try:
        sock.setblocking(False)
        if family_of(host) == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(128)  # two may be bound with SO_REUSEADDR; the second listen is what fails
        return sock
    except BaseException:
        sock.close()
        raise


def _lan_address() -> str:
    """The address this machine has towards the rest of the world. Connecting a UDP socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(
                ("192.0.2.1", 9)
            )  # reserved for documentation (RFC 5737): routed as any other, owned by nobody
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
