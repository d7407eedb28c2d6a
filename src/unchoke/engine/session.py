"""Session: the process's one engine: ports, limits, the heartbeat, and the hand-over of connections to torrents.

    async with Session() as session:
        torrent = await session.add("ubuntu.torrent", folder="Downloads")
        await torrent.done()

It installs no loop policy, signal handler or log handler, and is safe to cancel at any await. Everything it owns it makes in
``_open`` and gives up in ``aclose``: stop accepting ▸ trackers told ``stopped`` (bounded) ▸ peers ▸ disk ▸ files.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from random import Random
from types import TracebackType

from unchoke.engine import events
from unchoke.engine.announcer import Announcer
from unchoke.engine.contents import TorrentOptions
from unchoke.engine.dialer import Dialer
from unchoke.engine.disk import Disk
from unchoke.engine.net.http import HttpClient
from unchoke.engine.net.http_trackers import HttpTrackers
from unchoke.engine.net.tcp import TcpNetwork
from unchoke.engine.net.transport import Network, ReceiveBuffer
from unchoke.engine.net.udp import UdpEndpoint, UdpTrackers
from unchoke.engine.peer import Peer, PeerOwner
from unchoke.engine.settings import Settings
from unchoke.engine.stats import SessionSnapshot
from unchoke.engine.swarm import Swarm
from unchoke.engine.tasks import Tasks, finish
from unchoke.engine.torrent import Torrent
from unchoke.errors import NotFoundError, StoppedError, StorageError, UnsupportedError
from unchoke.policy.bandwidth import TokenBucket
from unchoke.protocol.metainfo import Metainfo
from unchoke.storage.handles import FilePool
from unchoke.types import Address, InfoHash, PeerId
from unchoke.version import PEER_ID_PREFIX

log = logging.getLogger(__name__)

#: Seconds between looks at who waits for a rate limit. Only while there is a limit.
LIMIT_TICK = 0.05

#: A .torrent file larger than this is refused before it is read (100,000 files make about 10 MB).
MOST_METAINFO = 64 * 1024 * 1024

Source = str | os.PathLike[str] | bytes | Metainfo


class Session:
    """``rng`` makes choices repeatable in tests; secrets never come from it."""

    def __init__(
        self, settings: Settings | None = None, *, network: Network | None = None, rng: Random | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.rng = rng or Random()
        self.bus = events.EventBus()
        self.torrents: dict[InfoHash, Torrent] = {}
        self._given_network = network
        self._port = 0
        self._peer_count = 0
        self._running = False
        self._closing: asyncio.Task[None] | None = None
        self._tasks = Tasks("session")

    # ------------------------------------------------------------------ life

    async def __aenter__(self) -> Session:
        try:
            await self._open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _open(self) -> None:
        """Start here: everything a session is made of, in order."""
        settings = self.settings
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        bandwidth = settings.bandwidth
        self.down = TokenBucket(bandwidth.down, burst=bandwidth.burst, now=now)
        self.up = TokenBucket(bandwidth.up, burst=bandwidth.burst, now=now)
        self.file_pool = FilePool(settings.disk.open_files)
        self.disk = Disk(settings.disk)
        self._network = self._given_network or TcpNetwork(socket_buffer=settings.network.socket_buffer)
        self._buffer = ReceiveBuffer(settings.network.receive_buffer, shared=sys.platform != "win32")
        self._dialer = Dialer(self._network, settings.network, self._make_peer, self._find, self._room)
        self._http = HttpClient(bind=settings.network.bind)
        self._http_trackers = HttpTrackers(self._http, settings.announce)
        self._udp = UdpEndpoint(bind=settings.network.bind)
        self._udp_trackers = UdpTrackers(self._udp, settings=settings.announce)
        self._running = True  # from here on there is something to close
        self._port = self._udp.port = await self._network.listen(
            self._dialer.accept, port=settings.network.port, bind=settings.network.bind
        )
        self._tasks.spawn(self._heartbeat(), "heartbeat")
        if bandwidth.down or bandwidth.up:
            self._tasks.spawn(self._limit_tick(), "limits")
        log.info("= session listens on port %d", self._port)

    async def aclose(self) -> None:
        """Stop everything, in the order of the module's docstring. Safe to call twice, and from several tasks.

        Cancelled, it does not wait for trackers any more, but still for what holds tasks, threads, sockets and files.
        """
        if self._running:
            self._running = False
            self._closing = asyncio.get_running_loop().create_task(self._close())
        if self._closing is not None:
            await finish(_wait_for(self._closing), self._hurry)

    def _hurry(self) -> None:
        for torrent in self.torrents.values():
            torrent.hurry()

    async def _close(self) -> None:
        await self._network.aclose()
        ended = await asyncio.gather(*(torrent.aclose() for torrent in self.torrents.values()), return_exceptions=True)
        for failure in ended:
            if isinstance(failure, Exception):
                log.error("! closing a torrent failed", exc_info=failure)
        self.torrents.clear()
        await self._dialer.aclose()
        await self._tasks.aclose()
        await self._udp_trackers.aclose()
        await self._udp.aclose()
        await self._http.aclose()
        await self.disk.aclose()
        self.file_pool.close_all()
        self.bus.close()

    # ------------------------------------------------------------------ the library's calls

    async def add(
        self,
        source: Source,
        *,
        folder: str | os.PathLike[str] = ".",
        files: Collection[int] | None = None,
        trust: bool = False,
        overwrite: bool = False,
        sequential: bool = False,
        seed_only: bool = False,
        trackers: Sequence[str] = (),
        peers: Sequence[Address] = (),
        start: bool = True,
    ) -> Torrent:
        """Add a torrent: a path, the bytes of a .torrent, or a Metainfo. ``files`` are indexes from 0; None for all.

        Returns as soon as it is known; ``await torrent.done()`` waits for the data. Adding what is there gives the same
        torrent. Raises MetainfoError, NotFoundError, StorageError (unreadable), UnsupportedError (v2-only), StoppedError
        (the session is closed, or this very torrent is being removed), ValueError (no such file index).
        """
        metainfo = await asyncio.to_thread(read_metainfo, source)
        if not self._running:
            raise StoppedError("the session is not open")
        known = self.torrents.get(metainfo.infohash)
        if known is not None:
            known.refuse_removed()
            known.add_peers(peers)
            return known
        options = TorrentOptions(
            files=frozenset(files) if files is not None else None,
            trust=trust,
            overwrite=overwrite,
            sequential=sequential,
            seed_only=seed_only,
            trackers=tuple(trackers),
        )
        torrent = Torrent(self, metainfo, Path(folder), self._new_peer_id(), options)
        self.torrents[metainfo.infohash] = torrent
        torrent.add_peers(peers)
        self.bus.publish(events.TorrentAdded(torrent.infohash, torrent.name))
        if start:
            await torrent.start()
        return torrent

    async def remove(self, torrent: Torrent, *, data: bool = False) -> None:
        """Leave the swarm and forget the torrent; with ``data`` its files are deleted too (and folders left empty)."""
        if self.torrents.get(torrent.infohash) is not torrent:
            return
        await torrent.aclose()  # ours until then, so that ``aclose`` finds it if we are cancelled
        try:
            if data:
                await torrent.delete_data()
        finally:
            self.torrents.pop(torrent.infohash, None)

    def subscribe(self, limit: int = 1024) -> events.Subscription:
        """Events of all torrents from now on."""
        return self.bus.subscribe(None, limit)

    def snapshot(self) -> SessionSnapshot:
        torrents = tuple(torrent.snapshot() for torrent in self.torrents.values())
        return SessionSnapshot(
            port=self._port,
            torrents=torrents,
            down_rate=sum(torrent.down_rate for torrent in torrents),
            up_rate=sum(torrent.up_rate for torrent in torrents),
            peers=sum(torrent.peers for torrent in torrents),
            half_open=self._dialer.half_open,
        )

    # ------------------------------------------------------------------ what torrents ask (TorrentOwner)

    def now(self) -> float:
        return self._loop.time()

    def port(self) -> int:
        """The port peers can dial."""
        return self._port

    def call_later(self, delay: float, call: Callable[[], None]) -> object:
        return self._loop.call_later(delay, call)

    def peers_changed(self, change: int) -> None:
        self._peer_count += change

    def dial_room(self) -> int:
        return self._dialer.free

    def dial(self, address: Address, swarm: Swarm) -> None:
        self._dialer.dial(address, swarm)

    def make_announcer(self, torrent: Torrent) -> Announcer:
        return Announcer(
            torrent,
            torrent.metainfo.trackers,
            user_trackers=torrent.options.trackers,
            infohash=torrent.infohash,
            peer_id=torrent.peer_id,
            port=self.port,
            key=secrets.randbits(32),
            http=self._http_trackers,
            udp=self._udp_trackers,
            settings=self.settings.announce,
            rng=self.rng,
        )

    def _new_peer_id(self) -> PeerId:
        return PeerId(PEER_ID_PREFIX + secrets.token_bytes(20 - len(PEER_ID_PREFIX)))

    # ------------------------------------------------------------------ what the dialer asks

    def _make_peer(self, owner: PeerOwner, dialed: Address | None) -> Peer:
        return Peer(owner, self._buffer, dialed=dialed, max_message=self.settings.network.max_message)

    def _find(self, infohash: InfoHash) -> Swarm | None:
        torrent = self.torrents.get(infohash)
        return torrent.swarm if torrent is not None else None

    def _room(self) -> int:
        return self.settings.network.max_connections - self._dialer.waiting - self._peer_count

    # ------------------------------------------------------------------ time

    async def _heartbeat(self) -> None:
        """One tick a second for everything below. A tick that fails is logged, and the next one comes."""
        while True:
            await asyncio.sleep(1.0)
            now = self._loop.time()
            parts: list[Dialer | Torrent] = [self._dialer, *self.torrents.values()]
            for part in parts:
                try:
                    part.heartbeat(now)
                except Exception:
                    log.exception("! the heartbeat of %s failed", part)

    async def _limit_tick(self) -> None:
        """Let those go on that wait for a rate limit; who comes first changes from tick to tick."""
        first = 0
        while True:
            await asyncio.sleep(LIMIT_TICK)
            swarms = [torrent.swarm for torrent in self.torrents.values()]
            live = [swarm for swarm in swarms if swarm is not None]
            first += 1
            for turn in range(len(live)):
                live[(first + turn) % len(live)].refill_all(first)

    def __repr__(self) -> str:
        return (
            f"<Session port {self._port} [{len(self.torrents)} torrents | {'running' if self._running else 'closed'}]>"
        )


async def _wait_for(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)


def read_metainfo(source: Source) -> Metainfo:
    """A Metainfo from a path, bytes, or one already. Raises MetainfoError, NotFoundError, StorageError."""
    if isinstance(source, Metainfo):
        return source
    if isinstance(source, bytes):
        return Metainfo.from_bytes(source)
    if isinstance(source, str) and "://" in source:
        raise UnsupportedError(f"{source}: a session takes no URLs yet; fetch it, and give the bytes")
    path = Path(source)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_METAINFO + 1)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}", str(path)) from None
    if len(data) > MOST_METAINFO:
        raise StorageError(f"{path} is larger than {MOST_METAINFO >> 20} MiB: no .torrent file", str(path))
    return Metainfo.from_bytes(data)


async def download(source: Source, folder: str | os.PathLike[str] = ".", *, settings: Settings | None = None) -> Path:
    """Download one torrent and return the path of its file or folder. Raises what ``Torrent.done`` raises."""
    async with Session(settings) as session:
        torrent = await session.add(source, folder=folder)
        await torrent.done()
        return torrent.path
