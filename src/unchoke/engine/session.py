"""Session: the process's one engine: ports, limits, the heartbeat, and the hand-over of connections to torrents.

    async with Session() as session:
        torrent = await session.add("ubuntu.torrent", folder="Downloads")
        await torrent.done()

It installs no loop policy, signal handler or log handler, and is safe to cancel at any await. Everything it owns it makes in
``_open`` and gives up in ``aclose``: stop accepting ▸ trackers told ``stopped`` (bounded) ▸ peers ▸ disk ▸ files ▸ state.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from unchoke.engine import events, sources
from unchoke.engine.admission import Places
from unchoke.engine.announcer import Announcer, AnnouncerOwner
from unchoke.engine.assembly import Assembly
from unchoke.engine.contents import MakeStorage
from unchoke.engine.dialer import Dialer, Target
from unchoke.engine.discovery import Discovery
from unchoke.engine.disk import Disk
from unchoke.engine.limiter import Limiter
from unchoke.engine.lineup import Lineup
from unchoke.engine.metadata import MetadataSwarm
from unchoke.engine.net.guard import Guard
from unchoke.engine.net.http import HttpClient
from unchoke.engine.net.http_trackers import HttpTrackers
from unchoke.engine.net.ranges import RangeClient
from unchoke.engine.net.tcp import TcpNetwork
from unchoke.engine.net.transport import Network, ReceiveBuffer
from unchoke.engine.net.udp import UdpEndpoint
from unchoke.engine.net.udp_trackers import UdpTrackers
from unchoke.engine.options import TorrentOptions, numbers_below
from unchoke.engine.parsing import Source
from unchoke.engine.peer import Peer, PeerOwner
from unchoke.engine.reasons import Source as Told
from unchoke.engine.resume import Key, MemoryStore, Resume, SqliteStore, StateStore, TorrentRow
from unchoke.engine.scraper import Scraper
from unchoke.engine.seeker import Seeker
from unchoke.engine.settings import Settings
from unchoke.engine.stats import SessionSnapshot
from unchoke.engine.swarm import Swarm
from unchoke.engine.tasks import Executor, Inline, Tasks, finish, on_thread
from unchoke.engine.timetable import Timetable
from unchoke.engine.torrent import Torrent
from unchoke.errors import StoppedError, StorageError, UnchokeError, UnsupportedError
from unchoke.policy.choker import SlotPool
from unchoke.policy.external import ExternalAddress
from unchoke.policy.goals import GoalSettings
from unchoke.policy.picker import PiecePicker
from unchoke.policy.priority import Ranking
from unchoke.policy.queue import Held
from unchoke.protocol.handshake import OURS, Reserved
from unchoke.protocol.magnet import Magnet
from unchoke.protocol.metainfo import Metainfo
from unchoke.storage.base import Storage
from unchoke.storage.handles import FilePool
from unchoke.types import Address, InfoHash, PeerId
from unchoke.version import PEER_ID_PREFIX

if TYPE_CHECKING:
    from unchoke.engine.dht import Dht

log = logging.getLogger(__name__)

#: Torrents of the state that announce themselves for the first time in one second, so that thousands do not come at once.
FIRST_ANNOUNCES = 200
#: Torrents that are made of their records between two turns of the loop.
AT_ONCE = 200
#: Torrents that have their heartbeat, or announce for the first time, between two turns of the loop.
AT_A_TIME = 20
#: Torrents that take their leave at one time when a session ends.
MOST_CLOSING = 500
#: Sleeping torrents that are opened at one time for peers that came.
MOST_WAKING = 16
#: Torrents that are opened at one time when a session begins.
MOST_BEGINNING = 4

#: The database in a folder given as ``state``.
DATABASE = "session.sqlite"


class Beating(Protocol):
    """What has a heartbeat."""

    def heartbeat(self, now: float) -> None: ...


class Session:
    """``state``: where records are kept, a folder or a store (``engine.resume``); None keeps nothing beyond the session's life.
    A folder's torrents are there again when the session opens; one session at a time may use it.

    ``nodes_file``: where DHT nodes are remembered for the next session; None: they are not.

    ``network``, ``executor`` and ``storage`` take the place of real sockets, threads and files (``unchoke.testing``).

    ``rng`` makes choices repeatable in tests; what must not be guessed comes from ``secret(bits)``.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        state: str | os.PathLike[str] | StateStore | None = None,
        network: Network | None = None,
        rng: Random | None = None,
        executor: Executor | None = None,
        storage: MakeStorage | None = None,
        nodes_file: str | os.PathLike[str] | None = None,
        secret: Callable[[int], int] = secrets.randbits,
    ) -> None:
        self.settings = settings or Settings()
        self.rng = rng or Random()
        self.bus = events.EventBus()
        self.torrents: dict[InfoHash, Torrent] = {}
        self.executor = executor
        self.make_storage = storage
        self.wake_room = asyncio.Semaphore(MOST_WAKING)
        self._state = state
        self._secret = secret
        self._earlier: dict[Key, TorrentRow] = {}  # of a shared state: torrents of earlier runs
        self._timetable: Timetable[Torrent] = Timetable()
        self._turns: dict[int, asyncio.Lock] = {}
        self._given_network = network
        self._nodes_file = Path(nodes_file) if nodes_file is not None else None
        self.external = ExternalAddress()
        self._port = 0
        self._peer_count = 0
        self._next_position = 0  # in the queue, of the next torrent that is added
        self._live: dict[Swarm, None] = {}
        self._removals: dict[Torrent, asyncio.Task[None]] = {}  # under way
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
        self._limiter = Limiter(
            settings.bandwidth, self._swarms, clock=self._loop.time, call_later=self._loop.call_later
        )
        self._slots = SlotPool(settings.choker.total_slots)
        self.file_pool = FilePool(settings.disk.open_files)
        self.disk = Disk(settings.disk, executor=self.executor)
        self._store = _store(self._state)
        writer = self.executor if self._state is not None or self.executor is not None else Inline()
        self.resume = Resume(self._store, writer)
        self._lineup = Lineup(settings.queue, self.torrents.values, self._tasks)
        self._network = self._given_network or TcpNetwork(socket_buffer=settings.network.socket_buffer)
        self._buffer = ReceiveBuffer(settings.network.receive_buffer, shared=sys.platform != "win32")
        places = Places(
            lambda: chain.from_iterable(swarm.occupants() for swarm in self._swarms()), settings.eviction, self.now
        )
        self._dialer = Dialer(
            self._network,
            settings.network,
            self._make_peer,
            self._find,
            self._room,
            places.make_room,
            reserved=self._reserved,
        )
        self._http = HttpClient(bind=settings.network.bind)
        guard = Guard(settings.network.allow_private)
        self._ranges = RangeClient(guard, names=self._http.names, network=self._network, bind=settings.network.bind)
        self._http_trackers = HttpTrackers(self._http, settings.announce, guard=guard, told=self.seen_as)
        self._udp = UdpEndpoint(self._network, bind=settings.network.bind)
        self._udp_trackers = UdpTrackers(self._udp, settings=settings.announce, secret=self._secret, guard=guard)
        self.scraper = Scraper(self._http_trackers, self._udp_trackers)
        self.discovery = Discovery(
            settings,
            self._udp,
            port=self.port,
            external=self.external,
            moved=self._port_moved,
            simulated=self._given_network is not None,
        )
        self._rank = Ranking(self.external.best, self.discovery.announced_port)
        self._assembly = Assembly(
            settings=settings,
            rng=self.rng,
            secret=self._secret,
            executor=self.executor,
            disk=self.disk,
            limiter=self._limiter,
            slots=self._slots,
            discovery=self.discovery,
            rank=self._rank,
            http=self._http_trackers,
            udp=self._udp_trackers,
            ranges=self._ranges,
            clock=self.now,
            call_later=self.call_later,
            port=self.port,
            reserved=self._reserved,
        )
        self._running = True  # from here on there is something to close
        self._port = self._udp.port = await self._network.listen(
            self._dialer.accept, port=settings.network.port, bind=settings.network.bind
        )
        self.discovery.start(rng=self.rng, secret=self._secret, executor=self.executor, nodes_file=self._nodes_file)
        await self._restore(await self._open_state())
        self._tasks.spawn(self._heartbeat(), "heartbeat")
        self._limiter.wake()
        log.info("= session listens on port %d", self._port)

    @property
    def _uses_dht(self) -> bool:
        return self.settings.network.discovery and self.settings.dht.enabled

    @property
    def _reserved(self) -> Reserved:
        """What our handshakes say we can."""
        return OURS | Reserved.DHT if self._uses_dht else OURS

    async def _open_state(self) -> list[TorrentRow]:
        """The torrents of the state. Records that cannot be kept beside others' cost nothing but themselves."""
        try:
            rows = await self.resume.open()
        except StorageError as error:
            if not self._store.shared:
                raise
            self.resume.problem = str(error)
            return []
        if self.resume.notice:
            log.warning("! %s", self.resume.notice)
        if not self._store.shared:
            return rows
        self._earlier = {row.key: row for row in rows}
        return []

    async def _restore(self, rows: Sequence[TorrentRow]) -> None:
        """The torrents of the state, as they were. Complete ones seed asleep, and no file of theirs is touched before a peer comes;
        but that their folders are there is looked at."""
        missing = await on_thread(self.executor, _missing, rows)
        beginning: list[Torrent] = []
        for number, row in enumerate(rows):
            if not number % AT_ONCE:
                await asyncio.sleep(0)
            if len(row.infohash) not in (20, 32):
                log.warning("! %r is in the records with no infohash: passed over", row.name)
                continue
            self._next_position = max(self._next_position, row.position + 1)
            torrent = Torrent(self, row, TorrentOptions.from_record(row.options), self._new_peer_id(), None)
            self.torrents[torrent.infohash] = torrent
            if not row.running:
                torrent.reason = "stopped by its user"
            elif row.complete and row.infohash not in missing and self._may_stay_asleep(torrent):
                if self.settings.queue.is_unlimited or torrent.options.forced:
                    torrent.restore()
                    self.seek_peers(torrent)
                    self._timetable.ask(torrent, self.now() + number / FIRST_ANNOUNCES)
                else:
                    torrent.restore("queued")
                    self._lineup.touch()
            else:
                torrent.restore("starting")
                beginning.append(torrent)
        if beginning:
            self._tasks.spawn(self._begin_all(beginning), "begin")

    def _may_stay_asleep(self, torrent: Torrent) -> bool:
        """Nothing is left to do for this complete torrent: no files that may still have to be moved or renamed, because we were
        killed over that."""
        return torrent.row.completed_at is not None or not (torrent.options.suffix or self.settings.disk.incomplete_dir)

    async def _begin_all(self, torrents: Sequence[Torrent]) -> None:
        room = asyncio.Semaphore(MOST_BEGINNING)

        async def begin(torrent: Torrent) -> None:
            async with room:
                try:
                    await torrent.start()
                    await torrent.began()
                except UnchokeError as error:
                    log.info("! %s: %s", torrent.name, error)

        await asyncio.gather(*(begin(torrent) for torrent in torrents))

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
        # Thousands at once would be half a million objects; and those that come last must not wait for all the others' trackers.
        hurry = self._loop.call_later(self.settings.announce.stop_timeout, self._hurry)
        room = asyncio.Semaphore(MOST_CLOSING)

        async def close(torrent: Torrent) -> None:
            async with room:
                await torrent.aclose()

        ended = await asyncio.gather(*map(close, self.torrents.values()), return_exceptions=True)
        hurry.cancel()
        if self._removals:
            await asyncio.wait(list(self._removals.values()))
        for failure in ended:
            if isinstance(failure, Exception):
                log.error("! closing a torrent failed", exc_info=failure)
        self.torrents.clear()
        self._limiter.close()
        await self._dialer.aclose()
        await self._tasks.aclose()
        await self.discovery.aclose()
        await self.scraper.aclose()
        await self._udp_trackers.aclose()
        await self._udp.aclose()
        await self._ranges.aclose()
        await self._http.aclose()
        await self.disk.aclose()
        self.file_pool.close_all()
        await self.resume.aclose()
        self.bus.close()

    # ------------------------------------------------------------------ the library's calls

    async def add(
        self,
        source: Source | Magnet,
        *,
        folder: str | os.PathLike[str] = ".",
        files: Collection[int] | Callable[[Metainfo], Collection[int] | None] | None = None,
        high: Collection[int] = (),
        low: Collection[int] = (),
        trust: bool = False,
        overwrite: bool = False,
        start_over: bool = False,
        sequential: bool = False,
        seed_only: bool = False,
        super_seed: bool = False,
        forced: bool = False,
        trackers: Sequence[str] = (),
        down: int = 0,
        up: int = 0,
        goals: GoalSettings | None = None,
        metadata_only: bool = False,
        peers: Sequence[Address] = (),
        start: bool = True,
    ) -> Torrent:
        """Add a torrent: a path, the bytes of a .torrent, its http(s) URL, a Metainfo; a magnet link, an infohash, or a Magnet.

        ``files`` are indexes from 0, None for all (of a magnet link: what it selects); or what chooses them once the metainfo is
        known. The other wishes are told at ``TorrentOptions``. Returns as soon as it is known and recorded: of a magnet link at
        once (``await torrent.metadata()`` waits for its files). ``await torrent.done()`` waits for the data. Adding what is there
        gives the same torrent, with the trackers and peers that this source names besides. Raises MetainfoError, MagnetError,
        NotFoundError, NetworkError (a URL), StorageError (unreadable), UnsupportedError (v2-only), StoppedError (the session is
        closed, or this very torrent is being removed), ValueError (no such file index).
        """
        found = await sources.find(source, self._http, self.executor)
        magnet = found if isinstance(found, Magnet) else None
        metainfo = await self._maybe_kept(found) if isinstance(found, Magnet) else found
        if not self._running:
            raise StoppedError("the session is not open")
        known = self.torrents.get(found.infohash)
        if known is not None:
            known.refuse_removed()
            await known.take_hints(found)
            for url in trackers:
                known.add_tracker(url)
            known.add_peers(peers)
            return known
        if metainfo is not None and metainfo.infohash_v1 is None:
            raise UnsupportedError(
                f"{metainfo.name}: a v2-only torrent; transferring these is not built yet (hybrid ones go as v1)"
            )
        choose = files if callable(files) else None
        if choose is not None:
            files = choose(metainfo) if metainfo is not None else None
        elif metainfo is not None and magnet is not None and magnet.select is not None and files is None:
            files = numbers_below(sources.ranges(magnet), len(metainfo.layout.files))
        assert not callable(files)
        options = TorrentOptions(
            files=frozenset(files) if files is not None else None,
            high=frozenset(high),
            low=frozenset(low),
            trust=trust,
            overwrite=overwrite,
            start_over=start_over,
            sequential=sequential,
            seed_only=seed_only,
            super_seed=super_seed,
            forced=forced,
            trackers=tuple(trackers),
            down=down,
            up=up,
            goals=goals,
            suffix=self._suffix(found.infohash, folder, seed_only=seed_only),
            private=metainfo is not None and metainfo.private,
            metadata_only=metadata_only,
            **(sources.hints(magnet) if magnet is not None else {}),
        )
        if magnet is not None and metainfo is None and files is None and magnet.select is not None:
            options = replace(options, select=sources.ranges(magnet))
        row = self._row(metainfo or found, Path(folder), options, running=start)
        torrent = Torrent(self, row, options, self._new_peer_id(), metainfo)
        if metainfo is None:
            torrent.choose_with(choose)
        self.torrents[found.infohash] = torrent
        torrent.add_peers(peers)
        self.bus.publish(events.TorrentAdded(torrent.infohash, torrent.name))
        await finish(self._introduce(torrent, metainfo, start=start))
        return torrent

    async def _maybe_kept(self, magnet: Magnet) -> Metainfo | None:
        """To be asked before ``torrents`` is: whoever adds the same link meanwhile must be seen."""
        if not self._running or magnet.infohash in self.torrents:
            return None
        return await sources.kept(magnet, self.resume, self.executor)

    async def _introduce(self, torrent: Torrent, metainfo: Metainfo | None, *, start: bool) -> None:
        """To its end, whoever waits for it: somebody else may have it already."""
        try:
            await self.resume.add(torrent.row, b"" if self._store.shared or metainfo is None else metainfo.data)
        except (TypeError, ValueError):  # a wish of the wrong kind
            self.torrents.pop(torrent.infohash, None)
            raise
        if start:
            await torrent.start()

    def _suffix(self, infohash: InfoHash, folder: str | os.PathLike[str], *, seed_only: bool) -> str:
        """What incomplete files are called: as in an earlier run that was not completed, else as the settings say."""
        earlier = self._earlier.get((bytes(infohash), os.path.realpath(folder)))
        if earlier is not None and not earlier.complete:
            return TorrentOptions.from_record(earlier.options).suffix
        return "" if seed_only else self.settings.disk.incomplete_suffix

    def _row(self, source: Metainfo | Magnet, folder: Path, options: TorrentOptions, *, running: bool) -> TorrentRow:
        """What is recorded of a torrent that is new here."""
        position, self._next_position = self._next_position, self._next_position + 1
        row = TorrentRow(
            infohash=bytes(source.infohash),
            folder=os.path.realpath(folder),
            name=source.name or source.infohash.hex(),
            size=source.size or 0 if isinstance(source, Magnet) else source.layout.total_length,
            piece_count=0 if isinstance(source, Magnet) else source.layout.piece_count,
            trackers=tuple((url,) for url in source.trackers) if isinstance(source, Magnet) else source.trackers,
            options=options.to_record(),
            running=running,
            added_at=time.time(),
            position=position,
        )
        earlier = self._earlier.get(row.key)
        if earlier is not None:
            row.complete = earlier.complete
            for name in ("added_at", "completed_at", "uploaded", "downloaded", "wasted", "active_time", "seeding_time"):
                setattr(row, name, getattr(earlier, name))
        return row

    async def remove(self, torrent: Torrent, *, data: bool = False) -> None:
        """Leave the swarm and forget the torrent; with ``data`` its files are deleted too (and folders left empty).

        Cancelled, it does not wait for trackers, but for the rest. Raises StorageError for data that cannot be deleted.
        """
        if self.torrents.get(torrent.infohash) is not torrent:
            return
        removal = self._removals.get(torrent)
        if removal is None:
            removal = asyncio.get_running_loop().create_task(self._remove(torrent, data=data), name="session: remove")
            self._removals[torrent] = removal
        await finish(_wait_for(removal), torrent.hurry)

    async def _remove(self, torrent: Torrent, *, data: bool) -> None:
        try:
            await torrent.aclose()
            if data:
                await torrent.delete_data()
        finally:
            self.torrents.pop(torrent.infohash, None)
            self._timetable.forget(torrent)
            self._lineup.forget(torrent)
            await self.resume.forget(torrent.key)
            self._removals.pop(torrent, None)

    def reorder(self, torrents: Sequence[Torrent]) -> None:
        """The order in which torrents wait for their turn: these first to last, then the others as they stand (``policy.queue`` has
        the usual moves)."""
        first = dict.fromkeys(torrents)
        others = sorted((one for one in self.torrents.values() if one not in first), key=lambda one: one.row.position)
        for position, torrent in enumerate((*first, *others)):
            if torrent.row.position != position:
                torrent.row.position = position
                self.resume.update(torrent.key, position=position)
        self._lineup.touch()

    def limit(self, *, down: int | None = None, up: int | None = None) -> None:
        """Bytes/s over all torrents; 0: no limit; None: as it is."""
        self._limiter.limit(down=down, up=up)

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
            trouble=self.resume.problem,
        )

    @property
    def dht(self) -> Dht | None:
        """Our nodes in the DHT; None without."""
        return self.discovery.dht

    # ------------------------------------------------------------------ what torrents ask (TorrentOwner)

    def seek_peers(self, torrent: Torrent) -> None:
        """Look for its peers everywhere, unless it is private (BEP 27). Again is fine."""
        if torrent.options.private:
            return
        self.discovery.follow(torrent)
        if self.dht is not None and torrent.named_nodes:
            self.dht.add_routers(torrent.named_nodes)

    def seek_no_peers(self, torrent: Torrent) -> None:
        """Trackers alone, or nobody any more."""
        self.discovery.unfollow(torrent.infohash)

    def hasten_peers(self, torrent: Torrent) -> None:
        """Its peers are short."""
        self.discovery.hasten(torrent.infohash)

    def told(self, torrent: Torrent, now: float) -> tuple[Told, ...]:
        """What DHT and local network said of its peers."""
        return self.discovery.told(torrent.infohash, now)

    def node_found(self, address: Address) -> None:
        """A peer says that its DHT node is there (BEP 5)."""
        if self.dht is not None:
            self.dht.add_node(address)

    def _port_moved(self) -> None:
        """The router lets others in at another port: whoever was told of the old one is told again, as soon as they allow."""
        for torrent in self.torrents.values():
            torrent.trackers.want_more_peers()
            self.hasten_peers(torrent)

    def seen_as(self, address: str, voter: str) -> None:
        """Somebody sees us at this address."""
        self.external.vote(address, voter, self.now())

    def now(self) -> float:
        return self._loop.time()

    def port(self) -> int:
        """The port peers can dial."""
        return self._port

    def call_later(self, delay: float, call: Callable[[], None]) -> object:
        return self._loop.call_later(delay, call)

    async def now_called(self, torrent: Torrent, metainfo: Metainfo) -> None:
        """A torrent that was named by v2 of its infohash turned out to be a hybrid: it goes on as v1 (BEP 52)."""
        if metainfo.infohash == torrent.infohash:
            return
        if metainfo.infohash in self.torrents:
            raise UnchokeError(f"{metainfo.name}: it is there already, as {metainfo.infohash}")
        old = torrent.infohash
        await self.resume.forget(torrent.key)
        del self.torrents[old]
        torrent.row.infohash = bytes(metainfo.infohash)
        self.torrents[metainfo.infohash] = torrent
        self.bus.publish(events.TorrentRenamed(old, metainfo.infohash))

    def peers_changed(self, change: int) -> None:
        self._peer_count += change

    def dial_room(self) -> int:
        return self._dialer.free

    def dial(self, address: Address, swarm: Swarm | MetadataSwarm) -> None:
        self._dialer.dial(address, swarm)

    def make_announcer(self, torrent: Torrent, owner: AnnouncerOwner) -> Announcer:
        return self._assembly.announcer(torrent, owner)

    def make_swarm(self, torrent: Torrent, metainfo: Metainfo, storage: Storage, picker: PiecePicker) -> Swarm:
        """The live side of a torrent that begins to run."""
        swarm = self._assembly.swarm(torrent, metainfo, storage, picker)
        self._live[swarm] = None
        return swarm

    def make_metadata_swarm(self, torrent: Torrent, seeker: Seeker) -> MetadataSwarm:
        """Where a torrent meets peers while only its infohash is known."""
        return self._assembly.metadata_swarm(torrent, seeker)

    def _swarms(self) -> list[Swarm]:
        """Those that live: few, where thousands of torrents sleep."""
        self._live = {swarm: None for swarm in self._live if not swarm.is_closed}
        return list(self._live)

    def due(self, torrent: Torrent, when: float) -> None:
        """Look at this torrent then, or earlier."""
        self._timetable.ask(torrent, when)

    def may_run(self, torrent: Torrent) -> bool:
        return self._lineup.may_run(torrent, self.now())

    @property
    def may_sleep(self) -> bool:
        """Can what a torrent lets go of be read again?"""
        return not self._store.shared and not self.resume.problem

    def rearrange(self) -> None:
        """Who may run, or a limit, has changed."""
        self._lineup.touch()
        self._limiter.wake_soon()

    def held(self, torrent: Torrent) -> Held | None:
        """What a queued torrent waits for."""
        return self._lineup.held(torrent)

    def limits(self) -> tuple[float, float]:
        """Bytes/s down and up over all torrents; 0: no limit."""
        return self._limiter.down.rate, self._limiter.up.rate

    def promised(self, device: int, torrent: Torrent) -> int:
        """Bytes of this device that other torrents are about to fill."""
        rooms = (
            other.contents.room
            for other in self.torrents.values()
            if other is not torrent and other.state == "downloading" and other.contents is not None
        )
        return sum(room.missing for room in rooms if room is not None and room.device == device)

    def turn(self, device: int) -> asyncio.Lock:
        """What checks of data on one device take turns with."""
        return self._turns.setdefault(device, asyncio.Lock())

    def goal_reached(self, torrent: Torrent, action: str, words: str) -> None:
        """A seed has done its part."""
        log.info("= %s: %s", torrent.name, words)
        self._tasks.spawn(self.remove(torrent) if action == "remove" else torrent.retire(words), "goal")

    def wall_clock(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def _new_peer_id(self) -> PeerId:
        return PeerId(PEER_ID_PREFIX + self._secret(96).to_bytes(12, "big"))

    # ------------------------------------------------------------------ what the dialer asks

    def _make_peer(self, owner: PeerOwner, dialed: Address | None) -> Peer:
        return Peer(owner, self._buffer, dialed=dialed, max_message=self.settings.network.max_message)

    def _find(self, infohash: InfoHash) -> Target | None:
        torrent = self.torrents.get(infohash)
        return torrent.target() if torrent is not None else None

    def _room(self) -> int:
        return self.settings.network.max_connections - self._dialer.waiting - self._peer_count

    # ------------------------------------------------------------------ time

    async def _heartbeat(self) -> None:
        """One tick a second for those that are due. A tick that fails is logged, and the next one comes."""
        while True:
            await asyncio.sleep(1.0)
            now = self._loop.time()
            self._limiter.wake()
            parts: list[Beating] = [self._dialer, self._lineup, self.resume, self.discovery]
            for number, part in enumerate((*parts, *self._timetable.take(now))):
                if number % AT_A_TIME == AT_A_TIME - 1:
                    await asyncio.sleep(0)
                try:
                    part.heartbeat(now)
                except Exception:
                    log.exception("! the heartbeat of %s failed", part)
                    if isinstance(part, Torrent):
                        self._timetable.ask(part, now + 1.0)

    def __repr__(self) -> str:
        return (
            f"<Session port {self._port} [{len(self.torrents)} torrents | {'running' if self._running else 'closed'}]>"
        )


def _store(state: str | os.PathLike[str] | StateStore | None) -> StateStore:
    if state is None:
        return MemoryStore()
    if isinstance(state, str | os.PathLike):
        return SqliteStore(Path(state) / DATABASE)
    return state


def _missing(rows: Sequence[TorrentRow]) -> frozenset[bytes]:
    """Those of whose files nothing is to be seen, at a look that costs little: their folder, and the name most of them have."""
    folders = {folder: os.path.isdir(folder) for folder in {row.folder for row in rows}}
    return frozenset(
        row.infohash
        for row in rows
        if not folders[row.folder] or not (row.name and os.path.lexists(os.path.join(row.folder, row.name)))
    )


async def _wait_for(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)


async def download(source: Source, folder: str | os.PathLike[str] = ".", *, settings: Settings | None = None) -> Path:
    """Download one torrent and return the path of its file or folder. Raises what ``Torrent.done`` raises."""
    async with Session(settings) as session:
        torrent = await session.add(source, folder=folder)
        await torrent.done()
        return torrent.path
