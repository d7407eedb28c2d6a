"""Torrent: one torrent's life: checking ▸ downloading ▸ seeding, stopped, error. Everything live is below it in ``swarm``.

It decides when which phase begins and carries files, trackers and peers from one to the next. While idle it owns no task: it
moves by the session's heartbeat, by its swarm's calls and by what its user asks. A data check is the one thing it runs.

    added ──▸ checking ──▸ downloading ──▸ seeding
                 │  ▴           │   │         │
                 ▾  └── start ──┼───┴── stop ─┴──▸ stopped
               error ◂──────────┘      (storage refused, or a file there is not ours)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, ParamSpec, Protocol, TypeVar

from bitarray import bitarray

from unchoke.engine.announcer import AnnounceCounts, Announcer
from unchoke.engine.contents import Contents, TorrentOptions, on_thread
from unchoke.engine.disk import Disk
from unchoke.engine.events import (
    Event,
    EventBus,
    StateChanged,
    Subscription,
    TorrentCompleted,
    TorrentRemoved,
    TrackerAnnounced,
    TrackerFailed,
)
from unchoke.engine.settings import Settings
from unchoke.engine.stats import PeerSnapshot, TorrentSnapshot
from unchoke.engine.swarm import Swarm
from unchoke.engine.tasks import Tasks, finish
from unchoke.errors import (
    StoppedError,
    StorageError,
    UnchokeError,
    UnsupportedError,
)
from unchoke.policy.announce import TrackerState
from unchoke.policy.bandwidth import TokenBucket
from unchoke.policy.peerlist import Source
from unchoke.policy.picker import PickerSettings, PiecePicker
from unchoke.protocol.metainfo import Metainfo
from unchoke.storage.files import FileStorage
from unchoke.storage.handles import FilePool
from unchoke.types import Address, InfoHash, PeerId

if TYPE_CHECKING:
    from random import Random

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: Peers below which the trackers are asked for more, as soon as they allow.
FEW_PEERS = 20


class TorrentOwner(Protocol):
    """What a torrent asks of its session."""

    settings: Settings
    rng: Random
    disk: Disk
    file_pool: FilePool
    down: TokenBucket
    up: TokenBucket
    bus: EventBus

    def now(self) -> float: ...

    def port(self) -> int: ...

    def call_later(self, delay: float, call: Callable[[], None]) -> object: ...

    def peers_changed(self, change: int) -> None: ...

    def dial_room(self) -> int: ...

    def dial(self, address: Address, swarm: Swarm) -> None: ...

    def make_announcer(self, torrent: Torrent) -> Announcer: ...


class Torrent:
    """Made by ``Session.add``. Safe to await from several tasks; its calls are for the session's loop."""

    def __init__(
        self, owner: TorrentOwner, metainfo: Metainfo, folder: Path, peer_id: PeerId, options: TorrentOptions
    ) -> None:
        if metainfo.infohash_v1 is None:
            raise UnsupportedError(
                f"{metainfo.name}: a v2-only torrent; transferring these is not built yet (hybrid ones go as v1)"
            )
        self.metainfo = metainfo
        self.folder = folder
        self.options = options
        self.peer_id = peer_id
        self.state = "stopped"
        self.reason = "not started yet"
        self.error: UnchokeError | None = None
        self._owner = owner
        self._tasks = Tasks(f"torrent {metainfo.name[:40]!r}", self._crashed)
        self._waiters: dict[asyncio.Future[None], None] = {}  # for done()
        self._failure_waiters: dict[asyncio.Future[None], None] = {}  # for failed()
        self._uploaded = self._downloaded = 0
        self._swarm: Swarm | None = None
        self._announcer: Announcer | None = None
        self._known_have: bitarray | None = None
        self._given_peers: list[Address] = []
        self._started_at = self._seeding_since = 0.0
        self._active_time = self._seeding_time = 0.0
        self._removed = self._closed = False
        self._moving = asyncio.Lock()  # start, stop, verify and the end come one after the other
        self._farewell: asyncio.Task[None] | None = None
        self._hurried = False
        self._contents = Contents(metainfo, folder, options, owner.settings.disk, owner.file_pool)

    # ------------------------------------------------------------------ the library's calls

    @property
    def infohash(self) -> InfoHash:
        return self.metainfo.infohash

    @property
    def name(self) -> str:
        return self.metainfo.name

    @property
    def path(self) -> Path:
        """Its file, or its folder if it is of several files."""
        return self._contents.path

    async def done(self) -> None:
        """Wait until every wanted piece is verified and on disk.

        Raises what ended it instead: StorageError and its kin, or StoppedError when it is stopped or removed before.
        """
        if self.state == "seeding":
            return
        if self.error is not None:
            raise self.error.with_traceback(None)
        if self.state in ("stopping", "stopped") and self._is_complete():
            return
        if self._removed or self.state in ("stopping", "stopped"):
            raise StoppedError(f"{self.name}: {'removed' if self._removed else self.reason or 'stopped'}")
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        finally:
            del self._waiters[waiter]

    async def failed(self) -> NoReturn:
        """Wait until the torrent cannot go on, and raise why. (A torrent that seeds can still lose its disk.)"""
        while self.error is None:
            if self._removed:
                raise StoppedError(f"{self.name}: removed")
            waiter = asyncio.get_running_loop().create_future()
            self._failure_waiters[waiter] = None
            try:
                await waiter
            finally:
                del self._failure_waiters[waiter]
        raise self.error.with_traceback(None)

    def events(self) -> Subscription:
        """What happens to this torrent from now on, until it is removed: ``async for event in torrent.events()``.

        A reader that is slow loses the oldest, and its next one is ``EventsLost``.
        """
        subscription = self._owner.bus.subscribe(self.infohash)
        if self._closed:
            subscription.close()
        return subscription

    async def start(self) -> None:
        """Go on after ``stop``, or after an error whose cause is gone. ``done()`` waits for what follows."""
        async with self._moving:
            self.refuse_removed()
            if self.state not in ("stopped", "error"):
                return
            if self._announcer is not None:  # after an error it is still half in the swarm
                await finish(self._leave("stopped"), self.hurry)
            self.error = None
            self._set_state("checking" if self._known_have is None else "starting")
            self._tasks.spawn(self._begin(), "begin")

    async def stop(self) -> None:
        """Leave the swarm: trackers hear ``stopped`` (bounded wait), peers are closed, data is written out.

        Cancelled, it does not wait for the trackers, but for the rest.
        """
        async with self._moving:
            if self.state != "stopped":
                self._fail_waiters(StoppedError(f"{self.name}: stopped before it was complete"))
                await finish(self._leave("stopped by its user"), self.hurry)

    async def verify(self) -> None:
        """Check all data on disk again, then go on as before (after an error: try again). Returns when the check has begun."""
        async with self._moving:
            self.refuse_removed()
            was_stopped = self.state == "stopped"
            if not was_stopped:
                await finish(self._leave("verifying"), self.hurry)
            self._known_have = None
            self.error = None
            self._set_state("checking")
            self._tasks.spawn(self._begin(join=not was_stopped), "verify")

    def refuse_removed(self) -> None:
        """Raise StoppedError if it was removed, or is about to be."""
        if self._removed:
            raise StoppedError(f"{self.name}: removed")

    def _have(self) -> bitarray | None:
        """The pieces we have, as far as is known: while it runs the swarm knows, else what was found or left."""
        if self._swarm is not None and self.state in ("downloading", "seeding", "stopping"):
            return self._swarm.picker.have
        return self._known_have

    def _is_complete(self) -> bool:
        have = self._have()
        return have is not None and not (self._contents.wanted & ~have).any()

    def add_peers(self, addresses: Sequence[Address], source: Source = Source.USER) -> None:
        """Addresses to dial."""
        self._given_peers += addresses
        if self._swarm is not None:
            self._swarm.peerlist.add(addresses, source, self._owner.now())
            self._dial(self._owner.now())

    def add_tracker(self, url: str) -> None:
        """One more tracker, a tier of its own: it is contacted."""
        if self._announcer is not None:
            self._announcer.add_tracker(url)

    def snapshot(self) -> TorrentSnapshot:
        """What is now. Cheap."""
        now = self._owner.now()
        swarm = self._swarm
        have = self._have()
        done = 0
        if have is not None:
            done = self._contents.bytes_of(have & self._contents.wanted if self.options.files is not None else have)
        peers = swarm.peers if swarm is not None else {}
        active = self.state in ("downloading", "seeding")
        return TorrentSnapshot(
            infohash=self.infohash,
            name=self.name,
            state=self.state,
            reason=self.reason,
            wanted=self._contents.wanted_bytes,
            done=done,
            piece_count=self.metainfo.layout.piece_count,
            pieces_done=have.count(1) if have is not None else 0,
            checked=self._contents.checked,
            down_rate=swarm.intake.rate.rate(now) if swarm is not None and self.state == "downloading" else 0.0,
            up_rate=swarm.up_rate.rate(now) if swarm is not None and active else 0.0,
            downloaded=self._downloaded + (swarm.intake.rate.total if swarm is not None else 0),
            uploaded=self._uploaded + (swarm.up_rate.total if swarm is not None else 0),
            wasted=swarm.intake.wasted if swarm is not None else 0,
            corrupt=swarm.intake.corrupt if swarm is not None else 0,
            peers=len(peers),
            seeds=sum(peer.download.has_all for peer in peers),
            known_peers=len(swarm.peerlist) if swarm is not None else 0,
            dialing=swarm.dialing if swarm is not None else 0,
            unchoked_by=sum(not peer.wire.they_choke for peer in peers),
            interesting=sum(peer.wire.we_interested for peer in peers),
            verifying=swarm.intake.is_verifying if swarm is not None else False,
            limited=self._owner.down.available(now) <= 0,
            last_refusal=swarm.last_refusal if swarm is not None else "",
            active_time=self._active_time + (now - self._started_at if active else 0.0),
            seeding_time=self._seeding_time + (now - self._seeding_since if self.state == "seeding" else 0.0),
            trackers=self._announcer.snapshot() if self._announcer is not None else (),
        )

    def peers(self) -> tuple[PeerSnapshot, ...]:
        """Its peers, in the order they joined."""
        return self._swarm.peer_snapshots() if self._swarm is not None else ()

    def file_progress(self) -> list[int]:
        """Verified bytes of each file, by index."""
        have = self._have()
        return self._contents.file_progress(have) if have is not None else [0] * len(self.metainfo.layout.files)

    # ------------------------------------------------------------------ beginning

    async def _begin(self, *, join: bool = True) -> None:
        """Check what is there, refuse what is not ours, ``join`` the swarm."""
        try:
            storage = await self._contents.open()
            if self._known_have is None:
                self._known_have = (await self._contents.find(storage)).copy()
            if self.options.seed_only:
                await on_thread(self._contents.refuse_incomplete, storage, self._known_have)
            elif join:
                await on_thread(storage.prepare)
        except UnchokeError as error:
            self._fail(error)
            return
        if join:
            self._join(storage)
        else:
            await on_thread(storage.close)
            self._set_state("stopped", "verified")

    def _join(self, storage: FileStorage) -> None:
        owner, layout = self._owner, self.metainfo.layout
        if self._swarm is not None:
            self._downloaded += self._swarm.intake.rate.total
            self._uploaded += self._swarm.up_rate.total
        picker = PiecePicker(
            layout,
            owner.rng,
            settings=PickerSettings(sequential=True) if self.options.sequential else owner.settings.picker,
            have=self._known_have,
            wanted=self._contents.wanted,
        )
        disk = owner.disk.torrent(storage, layout, self.metainfo.piece_hashes)
        self._swarm = Swarm(
            self,
            layout,
            self.infohash,
            self.peer_id,
            disk,
            picker,
            owner.settings,
            owner.rng,
            down=owner.down,
            up=owner.up,
            clock=owner.now,
            port=owner.port,
            call_later=owner.call_later,
        )
        now = self._started_at = owner.now()
        self._announcer = owner.make_announcer(self)
        if picker.is_done:
            self._enter_seeding(now)
        else:
            self._set_state("downloading")
        self._announcer.start(now)
        self._swarm.peerlist.add(self._given_peers, Source.USER, now)
        self.heartbeat(now)

    def _enter_seeding(self, now: float) -> None:
        self._seeding_since = now
        self._set_state("seeding")
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ------------------------------------------------------------------ ending

    async def _leave(self, reason: str) -> None:
        """Trackers, peers, disk, in this order; then it is stopped. To be run with ``finish``: it ends what it begins."""
        now = self._owner.now()
        if self.state in ("downloading", "seeding"):
            self._active_time += now - self._started_at
        if self.state == "seeding":
            self._seeding_time += now - self._seeding_since
        self.state = "stopping"
        await self._tasks.aclose()
        self._tasks = Tasks(self._tasks.owner, self._crashed)
        swarm = self._swarm if self._announcer is not None else None  # else it was left before
        try:
            await self._leave_trackers()
        finally:
            if swarm is not None:
                swarm.close()
                await swarm.disk.flush()
                self._known_have = swarm.picker.have
            await self._contents.close()
        self._hurried = False
        self._set_state("stopped", reason)

    async def _leave_trackers(self) -> None:
        announcer, self._announcer = self._announcer, None
        if announcer is None:
            return
        if not self._hurried:
            leaving = announcer.aclose(self._owner.settings.announce.stop_timeout)
            self._farewell = asyncio.get_running_loop().create_task(leaving)
            await asyncio.gather(self._farewell, return_exceptions=True)
            self._farewell = None
        await announcer.aclose(0.0)  # what a farewell cut short left running; else nothing

    def hurry(self) -> None:
        """Whoever waits for our leaving, now or in a moment, waits no longer for trackers."""
        self._hurried = True
        if self._farewell is not None:
            self._farewell.cancel()

    async def aclose(self) -> None:
        """The session ends, or the torrent is removed. Cancelled, it does not wait for trackers, but for the rest."""
        self._removed = True
        self._fail_waiters(StoppedError(f"{self.name}: removed before it was complete"))
        async with self._moving:
            if not self._closed:
                await finish(self._end(), self.hurry)

    async def _end(self) -> None:
        await self._leave("removed")
        await self._tasks.aclose()
        self._closed = True
        self._owner.bus.publish(TorrentRemoved(self.infohash))

    def _fail(self, error: UnchokeError) -> None:
        """No going on; ``start()`` tries again."""
        self.error = error
        log.info("! %s: %s", self.name, error)  # whoever waits is told
        if self._swarm is not None:
            self._swarm.close(str(error))
        self._set_state("error", str(error))
        self._fail_waiters(error)

    def _crashed(self, error: BaseException) -> None:
        self._fail(UnchokeError(f"{self.name}: internal error: {error!r}"))

    def _fail_waiters(self, error: UnchokeError) -> None:
        for waiter in (*self._waiters, *self._failure_waiters):
            if not waiter.done():
                waiter.set_exception(error)

    def _set_state(self, state: str, reason: str = "") -> None:
        self.state, self.reason = state, reason
        log.info("= %s: %s %s", self.name, state, reason)
        self._owner.bus.publish(StateChanged(self.infohash, state, reason))

    # ------------------------------------------------------------------ time

    def heartbeat(self, now: float) -> None:
        """Once a second."""
        if self._swarm is None or self.state not in ("downloading", "seeding"):
            return
        self._swarm.heartbeat(now)
        if self._announcer is not None:
            self._announcer.heartbeat(now)
            if self.state == "downloading" and len(self._swarm.peers) < FEW_PEERS and not self._swarm.dialing:
                self._announcer.want_more_peers()
        self._dial(now)

    def _dial(self, now: float) -> None:
        swarm = self._swarm
        if swarm is None or self.state not in ("downloading", "seeding"):
            return
        most = self._owner.settings.network.max_connections_per_torrent
        room = min(self._owner.dial_room(), most - len(swarm.peers) - swarm.dialing)
        for address in swarm.peerlist.next_to_dial(room, now, seeds=self.state == "downloading"):
            swarm.dialing += 1
            self._owner.dial(address, swarm)

    # ------------------------------------------------------------------ what the swarm tells (SwarmOwner)

    def publish(self, event: Event) -> None:
        self._owner.bus.publish(event)

    def piece_completed(self, piece: int) -> None:
        """Nothing to do yet; the record of what we have will be kept here."""

    def download_completed(self) -> None:
        if self.state == "downloading":  # else the last piece was written while we were leaving
            self._tasks.spawn(self._complete(), "complete")

    async def _complete(self) -> None:
        """The last piece is written; are the files still there? Who deletes one meanwhile leaves us writing into nothing."""
        lost = await on_thread(self._contents.lost_files)
        if lost:
            self._known_have = None
            more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            self._fail(
                StorageError(f"{lost[0]} was changed or deleted{more} while it was downloaded; start again", lost[0])
            )
            return
        if self.state != "downloading":
            return
        now = self._owner.now()
        if self._announcer is not None:
            self._announcer.completed()
        self._owner.bus.publish(TorrentCompleted(self.infohash))
        self._enter_seeding(now)

    def storage_failed(self, error: StorageError) -> None:
        if self.state not in ("error", "stopping", "stopped"):
            self._fail(error)

    def peers_changed(self, change: int) -> None:
        self._owner.peers_changed(change)

    def peers_needed(self) -> None:
        if self._announcer is not None:
            self._announcer.want_more_peers()

    # ------------------------------------------------------------------ what the announcer asks (AnnouncerOwner)

    def announce_counts(self) -> AnnounceCounts:
        snapshot = self.snapshot()
        return AnnounceCounts(
            uploaded=snapshot.uploaded, downloaded=snapshot.downloaded, left=snapshot.wanted - snapshot.done
        )

    def peers_wanted(self) -> int:
        """How many addresses would help. A seed that nobody can dial must dial itself, but needs few."""
        if self._swarm is None or self.state not in ("downloading", "seeding"):
            return 0
        most = self._owner.settings.network.max_connections_per_torrent if self.state == "downloading" else FEW_PEERS
        return max(0, most - len(self._swarm.peers))

    def peers_found(self, addresses: Sequence[Address], tracker: str) -> None:
        if self._swarm is not None:
            self._swarm.peerlist.add(addresses, Source.TRACKER, self._owner.now())
            self._owner.bus.publish(TrackerAnnounced(self.infohash, tracker, len(addresses)))
            self._dial(self._owner.now())

    def tracker_changed(self, state: TrackerState) -> None:
        if state.error:
            self._owner.bus.publish(TrackerFailed(self.infohash, state.url, state.error))

    async def delete_data(self) -> None:
        """Delete its files, and the folders they leave empty; for ``Session.remove``, after ``aclose``. Raises StorageError."""
        await self._contents.delete(self._known_have)

    @property
    def swarm(self) -> Swarm | None:
        """The live peers, while it runs (for the session and tests)."""
        return self._swarm if self.state in ("downloading", "seeding") else None

    def __repr__(self) -> str:
        return f"<Torrent {self.name[:40]!r} {self.infohash.hex()[:8]} [{self.state}]>"
