"""Life: what happens to one torrent: checking ▸ downloading ▸ seeding, queued, stopped, no space, error.

It decides when which phase begins and carries files, trackers, peers and the record from one to the next. While idle it owns
no task and looks at nothing until its due time: it moves by the session's timetable, by its swarm's calls and by what
``torrent`` asks for its user. A seed without peers sleeps: metainfo, files and swarm are let go, and a peer that comes wakes it.

    added ──▸ checking ──▸ (queued ◂──▸) downloading ──▸ seeding ◂──▸ asleep
                 │  ▴           │              │             │
                 ▾  └─ start ───┼──────────────┴─── stop ────┴──▸ stopped
         no space, error ◂──────┘      (goes on by itself when the cause is gone)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from unchoke.engine.announcer import Announcer, AnnouncerOwner
from unchoke.engine.contents import Contents, Found, MakeStorage
from unchoke.engine.doorbell import Doorbell
from unchoke.engine.events import (
    Event,
    EventBus,
    StateChanged,
    TorrentCompleted,
)
from unchoke.engine.ledger import Ledger
from unchoke.engine.options import TorrentOptions
from unchoke.engine.outcome import Outcome
from unchoke.engine.parsing import parse
from unchoke.engine.record import Record
from unchoke.engine.resume import Resume, TorrentRow
from unchoke.engine.settings import Settings
from unchoke.engine.swarm import Swarm
from unchoke.engine.tasks import Executor, Tasks, finish, on_thread
from unchoke.engine.trackers import Trackers
from unchoke.engine.upkeep import Upkeep
from unchoke.errors import (
    ForeignFileError,
    GoneError,
    NoSpaceError,
    NotFoundError,
    StoppedError,
    StorageError,
    UnchokeError,
)
from unchoke.policy.goals import GoalSettings, next_look, reached
from unchoke.policy.peerlist import Source
from unchoke.policy.picker import PickerSettings, PiecePicker
from unchoke.policy.queue import Held
from unchoke.protocol.metainfo import Metainfo
from unchoke.storage.base import Storage
from unchoke.storage.handles import FilePool
from unchoke.types import Address, InfoHash, PeerId

if TYPE_CHECKING:
    from random import Random

    from bitarray import bitarray

log = logging.getLogger(__name__)

#: Peers below which the trackers are asked for more, as soon as they allow.
FEW_PEERS = 20
#: Seconds a seed waits for peers before it sleeps.
SLEEP_AFTER = 30.0
#: Seconds until a torrent in error, or without space, looks whether the cause is gone: at first, and at most.
FIRST_RETRY, LAST_RETRY = 5.0, 60.0

RUNNING = frozenset(("downloading", "seeding"))
FAILED = frozenset(("error", "no space"))


class LifeOwner(Protocol):
    """What a torrent asks of its session, which knows it as the ``Torrent`` it is."""

    settings: Settings
    rng: Random
    file_pool: FilePool
    bus: EventBus
    executor: Executor | None
    make_storage: MakeStorage | None
    resume: Resume
    wake_room: asyncio.Semaphore

    def now(self) -> float: ...

    def peers_changed(self, change: int) -> None: ...

    def dial_room(self) -> int: ...

    def dial(self, address: Address, swarm: Swarm) -> None: ...

    def make_announcer(self, torrent: Any, owner: AnnouncerOwner) -> Announcer: ...

    def make_swarm(self, torrent: Any, metainfo: Metainfo, storage: Storage, picker: PiecePicker) -> Swarm: ...

    def due(self, torrent: Any, when: float) -> None: ...

    def may_run(self, torrent: Any) -> bool: ...

    def rearrange(self) -> None: ...

    @property
    def may_sleep(self) -> bool: ...

    def held(self, torrent: Any) -> Held | None: ...

    def limits(self) -> tuple[float, float]: ...

    def promised(self, device: int, torrent: Any) -> int: ...

    def wall_clock(self) -> float: ...

    def turn(self, device: int) -> asyncio.Lock: ...

    def goal_reached(self, torrent: Any, action: str, words: str) -> None: ...


class Life:
    """One torrent's. ``row``: what is recorded of it; ``running``: its user wants it to run."""

    __slots__ = (
        "__weakref__",
        "_awake_since",
        "_beginning",
        "_contents",
        "_doorbell",
        "_given_peers",
        "_have",
        "_looking",
        "_metainfo",
        "_moving",
        "_outcome",
        "_owner",
        "_partial",
        "_recheck",
        "_removed",
        "_retries",
        "_swarm",
        "_tasks",
        "_upkeep",
        "_waived",
        "closed",
        "error",
        "error_since",
        "ledger",
        "options",
        "peer_id",
        "reason",
        "retry_at",
        "row",
        "running",
        "state",
        "trackers",
        "wanted_bytes",
    )

    def __init__(
        self, owner: LifeOwner, row: TorrentRow, options: TorrentOptions, peer_id: PeerId, metainfo: Metainfo | None
    ) -> None:
        self.row = row
        self.options = options
        self.peer_id = peer_id
        self.running = row.running  # its user wants it to run
        self.state = "stopped"
        self.reason = "not started yet"
        self.error: UnchokeError | None = None
        self.error_since = self.retry_at = 0.0
        self.wanted_bytes = row.size
        self.ledger = Ledger(row)
        self.trackers = Trackers(
            self, self.ledger, partial(owner.make_announcer, self), owner.settings.announce.stop_timeout
        )
        self.closed = False
        self._owner = owner
        self._metainfo = metainfo
        self._tasks: Tasks | None = None
        self._outcome: Outcome | None = None
        self._swarm: Swarm | None = None
        self._doorbell: Doorbell | None = None
        self._contents: Contents | None = None
        self._have: bitarray | None = None  # what is known while no swarm knows better
        self._partial: dict[int, bytes] = {}
        self._given_peers: list[Address] = []
        self._awake_since = 0.0
        self._upkeep: Upkeep | None = None
        self._beginning: asyncio.Task[None] | None = None
        self._waived = self._removed = self._looking = self._recheck = False
        self._retries = 0
        self._moving = asyncio.Lock()  # start, stop, verify, sleep and the end come one after the other
        if metainfo is not None:
            self._load_contents(metainfo)

    # ------------------------------------------------------------------ what it is

    @property
    def infohash(self) -> InfoHash:
        return InfoHash(self.row.infohash)

    @property
    def key(self) -> tuple[bytes, str]:
        """What it is recorded under."""
        return self.row.infohash, self.row.folder

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def folder(self) -> Path:
        return Path(self.row.folder)

    @property
    def swarm(self) -> Swarm | None:
        """The live peers, while it runs and is awake (for the session and tests)."""
        return self._swarm if self.state in RUNNING else None

    @property
    def is_asleep(self) -> bool:
        """A seed without peers, that keeps nothing in memory which it could read again."""
        return self.state == "seeding" and self._swarm is None

    @property
    def is_complete(self) -> bool:
        """Every wanted piece is there, as far as is known."""
        have = self.have
        if have is None or self._contents is None:
            return self.row.complete
        return not (self._contents.wanted & ~have).any()

    @property
    def have(self) -> bitarray | None:
        """The pieces we have, as far as is known: while it runs the swarm knows, else what was found or left."""
        if self._swarm is not None:
            return self._swarm.picker.have
        return self._have

    @property
    def contents(self) -> Contents | None:
        return self._contents

    async def _restart(self) -> None:
        """Begin again. A caller that may be cancelled runs it with ``finish``."""
        rested = self.state in ("stopped", "queued")
        if self.trackers.know_us or self._swarm is not None:  # after an error it is still half in the swarm
            await self._leave("stopped", "")
        if rested:
            self._have = None  # its files were anybody's meanwhile: what was recorded of them says whether they are as we left them
        self.trackers.calm()
        self.error = None
        self._set_state("checking" if self._have is None else "starting")
        self._beginning = self._spawn(self._begin(), "begin")

    def refuse_removed(self) -> None:
        """Raise StoppedError if it was removed, or is about to be."""
        if self._removed:
            raise StoppedError(f"{self.name}: removed")

    # ------------------------------------------------------------------ beginning

    def _make_contents(self, metainfo: Metainfo) -> Contents:
        owner = self._owner
        return Contents(
            metainfo,
            self.folder,
            self.options,
            owner.settings.disk,
            owner.file_pool,
            Record(owner.resume, self.key),
            executor=owner.executor,
            storage=owner.make_storage,
        )

    def _load_contents(self, metainfo: Metainfo) -> Contents:
        self._metainfo = metainfo
        contents = self._contents = self._make_contents(metainfo)
        self.wanted_bytes = contents.wanted_bytes
        return contents

    async def _loaded(self) -> Contents:
        """The contents, read again if it slept. Raises NotFoundError if the state has lost the metainfo."""
        if self._contents is None:
            data = await self._owner.resume.metainfo(self.key)
            if data is None:
                raise NotFoundError(f"{self.name}: the session's state has lost its .torrent; add it again")
            metainfo = await on_thread(self._owner.executor, parse, data)
            if metainfo.infohash != self.infohash:
                raise NotFoundError(
                    f"{self.name}: the .torrent in the session's state is of another torrent; add it again"
                )
            if self._contents is None:
                try:
                    self._load_contents(metainfo)
                except ValueError as error:
                    raise UnchokeError(
                        f"{self.name}: its wishes in the session's state do not fit it: {error}"
                    ) from error
        assert self._contents is not None
        return self._contents

    async def _begin(self, *, join: bool = True) -> None:
        """Find what is there, refuse what is not ours, ``join`` the swarm."""
        try:
            contents = await self._loaded()
            storage = await contents.open(complete=self.row.complete)
            if self._have is None:
                if self.state == "starting":
                    self._set_state("checking")
                found: Found = await contents.find(storage, self._owner.turn, recheck=self._recheck)
                self._recheck = False
                self._have, self._partial = found.have, found.partial
            have = self._have
            complete = not (contents.wanted & ~have).any()
            join = join or self.running  # its user may have started it while it was looked at
            if self.options.seed_only:
                await contents.on_thread(contents.refuse_incomplete, storage, have)
            elif join:
                await contents.on_thread(storage.prepare)
                if not complete:
                    device = contents.room.device if contents.room is not None else 0
                    contents.refuse_no_space(self._owner.promised(device, self))
            if complete and join:
                await contents.on_thread(contents.finish_files)  # a crash may have come before
            self.row.complete = complete
            runs = join and self._owner.may_run(self)
            if complete or not runs:
                await contents.settle(have, self._partial)
            else:
                await contents.begin_writing(have)
        except UnchokeError as error:
            self._fail(error)
            return
        if runs:
            self._join(contents, storage, have)
            return
        await contents.close()
        if self.running and not join:  # its user has started it meanwhile
            await self._begin()
            return
        self._set_state("queued" if join else "stopped", "" if join else "verified")
        self.note()
        if complete and self._outcome is not None:
            self._outcome.succeed()
        elif not join:
            self._tell_failure(StoppedError(f"{self.name}: verified, and not complete"))

    def _join(self, contents: Contents, storage: Storage, have: bitarray) -> None:
        """Files, picker, swarm, trackers; then it runs."""
        owner, now = self._owner, self._owner.now()
        picker = PiecePicker(
            contents.metainfo.layout,
            owner.rng,
            settings=PickerSettings(sequential=True) if self.options.sequential else owner.settings.picker,
            have=have,
            wanted=contents.wanted,
            high=contents.high,
            low=contents.low,
        )
        self._swarm = swarm = owner.make_swarm(self, contents.metainfo, storage, picker)
        self._upkeep = Upkeep(self, contents, picker.have, owner.settings.disk, now)
        self.ledger.attach(swarm)
        self._retries = 0
        self.error = None
        self._awake_since = now
        half, self._partial = self._partial, {}
        if half and not picker.is_done:
            swarm.intake.take_up(half)
        if picker.is_done:
            if self.state != "seeding":  # else it slept
                self._enter_seeding()
                self._waived = self._goal_words(now) is not None  # its user wants more of it
        else:
            self._set_state("downloading")
        self.trackers.heartbeat(now)
        swarm.peerlist.add(self._given_peers, Source.USER, now)
        if self._doorbell is not None:
            doorbell, self._doorbell = self._doorbell, None
            doorbell.open(swarm)
        self.note()
        self._dial(now)
        owner.due(self, now + 1.0)

    def _enter_seeding(self) -> None:
        self._waived = False
        self.row.complete = True
        self._set_state("seeding")
        if self._outcome is not None:
            self._outcome.succeed()

    def restore(self, state: str = "seeding") -> None:
        """The session begins, and its record is all we look at: a complete torrent seeds, asleep, or waits for its turn."""
        self.state, self.reason = state, ""
        self.ledger.entered(state, self._owner.now())

    # ------------------------------------------------------------------ sleeping

    def target(self) -> Swarm | Doorbell | None:
        """Whom a peer that dials us speaks to; None: it is not wanted."""
        if self._swarm is None and self.is_asleep:
            if self._doorbell is None:
                self._doorbell = Doorbell(self.infohash, self.peer_id, self._wake)
            return self._doorbell
        return self.swarm

    def _wake(self) -> None:
        if self.is_asleep and not self._looking:
            self._looking = True
            self._beginning = self._spawn(self._wake_up(), "wake")

    async def _wake_up(self) -> None:
        try:
            async with self._owner.wake_room:  # whoever knows ten thousand infohashes must not wake them all at once
                await self._begin()
        finally:
            self._looking = False
            if self._doorbell is not None:
                self._doorbell.close(f"the torrent is {self.state}")

    async def _sleep(self) -> None:
        """Let go of all that can be read again."""
        try:
            async with self._moving:
                swarm = self._swarm
                if self.state != "seeding" or swarm is None or not swarm.is_idle or not self._owner.may_sleep:
                    return
                self._given_peers = []
                await finish(self._put_down())
                self._contents = self._metainfo = self._have = None
        finally:
            self._looking = False
        self._owner.due(self, self._owner.now())
        if self._given_peers or (self._doorbell is not None and len(self._doorbell)):  # they came while it fell asleep
            self._wake()

    # ------------------------------------------------------------------ ending

    async def _leave(self, state: str, reason: str) -> None:
        """Trackers, peers, disk, in this order; then it is stopped. To be run with ``finish``: it ends what it begins."""
        self.ledger.entered("stopping", self._owner.now())
        self.state = "stopping"
        if self._tasks is not None:
            tasks, self._tasks = self._tasks, None
            await tasks.aclose()
        if self._doorbell is not None:
            self._doorbell.close("the torrent is stopped")
        try:
            await self.trackers.leave()
        finally:
            await self._put_down()
        self.trackers.calm()
        self._set_state(state, reason)

    async def _put_down(self) -> None:
        """Peers go, what is received is written, and the record is settled."""
        swarm, contents = self._swarm, self._contents
        if swarm is not None:
            for peer in list(swarm.peers):
                peer.close("the torrent is stopped")
            await swarm.disk.flush()
            if self.error is None:
                self._partial = await swarm.intake.save_partials()
            swarm.close()
            self._have = swarm.picker.have.copy()
            self.ledger.detach(self._owner.now())
            self._swarm = self._upkeep = None
        if contents is None:
            return
        try:  # a full disk is no reason to doubt what it holds
            if self._have is not None and (self.error is None or isinstance(self.error, NoSpaceError)):
                await contents.settle(self._have, self._partial)
        except StorageError as error:
            log.warning("! %s: its record stays open: %s", self.name, error)
        if self.error is not None:
            self._have = None  # the record knows better what is left
        await contents.close()

    def hurry(self) -> None:
        """Whoever waits for our leaving, now or in a moment, waits no longer for trackers."""
        self.trackers.hurry()

    # ------------------------------------------------------------------ failing, and going on

    def _fail(self, error: UnchokeError) -> None:
        """No going on for now; ``start()`` tries again, and so do we if the cause may go away by itself."""
        now = self._owner.now()
        if self.error is None:
            self.error_since = now
        self.error = error
        log.info("! %s: %s", self.name, error)  # whoever waits is told
        if self._swarm is not None:
            self._swarm.close(str(error))
        if self._doorbell is not None:
            self._doorbell.close("the torrent is in error")
        self._set_state("no space" if isinstance(error, NoSpaceError) else "error", str(error))
        self._tell_failure(error)
        self._owner.rearrange()
        self.retry_at = 0.0
        if isinstance(error, StorageError) and not isinstance(error, ForeignFileError):
            self._retry_later(now)
        if self._contents is not None and not self._removed:
            self._spawn(self._let_go(self._contents), "let go")

    def _retry_later(self, now: float) -> None:
        self.retry_at = now + min(FIRST_RETRY * 2**self._retries, LAST_RETRY)
        self._retries += 1
        self._owner.due(self, self.retry_at)

    async def _let_go(self, contents: Contents) -> None:
        """A disk that fails must be free to be unmounted."""
        if self._swarm is not None:
            await self._swarm.disk.flush()
        if isinstance(self.error, NoSpaceError) and (have := self.have) is not None:
            try:  # a full disk is no reason to doubt what it holds
                await contents.settle(have, {})
            except StorageError as error:
                log.warning("! %s: its record stays open: %s", self.name, error)
        await contents.close()

    async def _retry(self) -> None:
        """Look quietly whether the cause is gone, and go on if it is."""
        async with self._moving:
            if self.state not in FAILED or not self.running or self._removed:
                return
            error = self.error
            if isinstance(error, NoSpaceError | GoneError) and (still := await self._still(error)) is not None:
                self.error, self.reason = still, str(still)
                self._retry_later(self._owner.now())
                return
            log.info("= %s tries again", self.name)
            await self._restart()

    async def _still(self, error: UnchokeError) -> UnchokeError | None:
        """The same trouble, as it stands now; None: it is over."""
        try:
            contents = await self._loaded()
            storage = await contents.open()
            try:
                if isinstance(error, NoSpaceError):
                    device = contents.room.device if contents.room is not None else 0
                    contents.refuse_no_space(self._owner.promised(device, self))
                elif not any(await contents.on_thread(storage.status)):
                    return error
            finally:
                await contents.close()
        except UnchokeError as found:
            return found
        return None

    def _crashed(self, error: BaseException) -> None:
        self._fail(UnchokeError(f"{self.name}: internal error: {error!r}"))

    def _tell_failure(self, error: UnchokeError) -> None:
        if self._outcome is not None:
            self._outcome.fail(error)

    def _set_state(self, state: str, reason: str = "") -> None:
        self.ledger.entered(state, self._owner.now())
        self.state, self.reason = state, reason
        log.info("= %s: %s", self.name, f"{state}: {reason}" if reason else state)
        self._owner.bus.publish(StateChanged(self.infohash, state, reason))

    def _spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        if self._tasks is None:
            self._tasks = Tasks(f"torrent {self.name[:40]!r}", self._crashed)
        return self._tasks.spawn(work, name)

    # ------------------------------------------------------------------ the record

    def _keep(self, options: TorrentOptions, record: dict[str, object] | None = None) -> None:
        """``record``: that of the options, where it was made already."""
        self.options = options
        if self._contents is not None:
            self._contents.options = options
        self.row.options = options.to_record() if record is None else record
        self._owner.resume.update(self.key, options=self.row.options)
        self.note()

    def note(self) -> None:
        """Note what changed: counters, times, whether it shall run."""
        now, row = self._owner.now(), self.row
        self.ledger.count(now)
        self.ledger.account(now)
        row.running = self.running
        self._owner.resume.update(
            self.key,
            running=row.running,
            complete=row.complete,
            completed_at=row.completed_at,
            uploaded=row.uploaded,
            downloaded=row.downloaded,
            wasted=row.wasted,
            active_time=row.active_time,
            seeding_time=row.seeding_time,
        )

    # ------------------------------------------------------------------ time

    def heartbeat(self, now: float) -> None:
        """It is due: once a second while it has peers or wants some, else when the trackers or a goal want it."""
        if self.state in FAILED:
            if self.running and self.retry_at > now:  # this look was asked for while it ran
                self._owner.due(self, self.retry_at)
            elif self.running and self.retry_at and not self._looking:
                self._spawn(self._retry(), "retry")
            return
        if self.state not in RUNNING:
            return
        self.trackers.heartbeat(now)
        if self._swarm is None:
            goal_after = self._goal_after(now)
            if goal_after <= 0:
                self._owner.goal_reached(self, self.goals.action, self._goal_words(now) or "")
            else:
                self._owner.due(self, min(self.trackers.next_look, now + goal_after))
            return
        self._owner.due(self, now + 1.0)
        self._swarm.heartbeat(now)
        if self._swarm is None or self.state not in RUNNING:
            return  # it failed in the midst of that
        if self.state == "downloading" and len(self._swarm.peers) < FEW_PEERS and not self._swarm.dialing:
            self.trackers.want_more_peers()
        self._dial(now)
        self.ledger.count(now)
        self._keep_up(now, self._swarm)

    def _keep_up(self, now: float, swarm: Swarm) -> None:
        """What comes only now and then: looks at the disk, records, goals, sleep."""
        idle = swarm.is_idle
        if self._upkeep is not None:
            self._upkeep.heartbeat(now, self._spawn, idle=idle)
        if self.state != "seeding":
            return
        if self._goal_after(now) <= 0:
            self._owner.goal_reached(self, self.goals.action, self._goal_words(now) or "")
        elif not idle:
            self._awake_since = now
        elif now - self._awake_since >= SLEEP_AFTER and not self._looking:
            self._looking = True
            self._spawn(self._sleep(), "sleep")

    @property
    def goals(self) -> GoalSettings:
        """When its seeding ends."""
        return self.options.goals or self._owner.settings.goals

    def _goal_after(self, now: float) -> float:
        """Seconds until a goal of seeding may be reached; 0: one is."""
        if self.state != "seeding" or self.options.forced or self._waived:
            return inf
        if self._goal_words(now) is not None:
            return 0.0
        idle_for = now - self.ledger.idle_since
        return max(1.0, next_look(self.goals, self.ledger.seeding_time(now), idle_for))

    def _goal_words(self, now: float) -> str | None:
        ledger = self.ledger
        ratio = ledger.uploaded / self.wanted_bytes if self.wanted_bytes else 0.0
        return reached(self.goals, ratio, ledger.seeding_time(now), now - ledger.idle_since)

    def _dial(self, now: float) -> None:
        swarm = self._swarm
        if swarm is None or self.state not in RUNNING:
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
        """It is written: the record may say so."""
        if self._swarm is not None and self._contents is not None:
            self._contents.record.written(self._swarm.picker.have)

    def download_completed(self) -> None:
        if self.state == "downloading":  # else the last piece was written while we were leaving
            self._spawn(self._complete(), "complete")

    async def _complete(self) -> None:
        """The last piece is written. Nobody may choose other files meanwhile: they would be noted as closed while they are written."""
        async with self._moving:
            contents, swarm = self._contents, self._swarm
            if self.state == "downloading" and contents is not None and swarm is not None and swarm.picker.is_done:
                await self._close_files(contents, swarm)

    async def _close_files(self, contents: Contents, swarm: Swarm) -> None:
        """Are the files still there? Who deletes one meanwhile leaves us writing into nothing."""
        lost = await contents.on_thread(contents.lost_files)
        if lost:
            more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            self._fail(
                StorageError(f"{lost[0]} was changed or deleted{more} while it was downloaded; start again", lost[0])
            )
            return
        self.row.complete = True
        self.note()
        try:
            if self.options.suffix or self._owner.settings.disk.incomplete_dir:
                await self._owner.resume.flush()  # a move that is cut short must be known to be one
            await contents.on_thread(contents.finish_files)
            await contents.settle(swarm.picker.have, {})
        except StorageError as error:
            self.storage_failed(error)
            return
        if self.state != "downloading" or not swarm.picker.is_done:
            return
        self.trackers.completed()
        self.row.completed_at = self._owner.wall_clock()
        self._owner.bus.publish(TorrentCompleted(self.infohash))
        self._enter_seeding()
        self.note()
        self._owner.rearrange()

    def storage_failed(self, error: StorageError) -> None:
        if self.state in ("error", "no space", "stopping", "stopped", "queued"):
            return
        contents, have = self._contents, self.have
        if isinstance(error, NoSpaceError) and contents is not None and have is not None:
            error = contents.full(error, have)
        self._fail(error)

    def peers_changed(self, change: int) -> None:
        self._owner.peers_changed(change)

    def peers_needed(self) -> None:
        if self.state in RUNNING:
            self.trackers.want_more_peers()

    # ------------------------------------------------------------------ what its trackers ask (TrackersOwner)

    def bytes_left(self) -> int:
        """Wanted bytes that are not there, as far as is known."""
        contents, have = self._contents, self.have
        if have is None or contents is None:
            return 0 if self.row.complete else self.row.size
        return contents.bytes_of(contents.wanted & ~have)

    def peers_wanted(self) -> int:
        """How many addresses would help. A seed that nobody can dial must dial itself, but needs few."""
        if self.state not in RUNNING:
            return 0
        most = self._owner.settings.network.max_connections_per_torrent if self.state == "downloading" else FEW_PEERS
        return max(0, most - (len(self._swarm.peers) if self._swarm is not None else 0))

    def addresses_found(self, addresses: Sequence[Address]) -> None:
        """Peers, perhaps. Who sleeps wakes for them."""
        if self._swarm is not None:
            self._swarm.peerlist.add(addresses, Source.TRACKER, self._owner.now())
            self._dial(self._owner.now())
        elif self.is_asleep and addresses:
            self._given_peers = list(addresses[:FEW_PEERS])
            self._wake()

    def trackers_moved(self) -> None:
        """They want to be looked at at another time; who is awake looks each second anyway."""
        if self._swarm is None:
            self._owner.due(self, self.trackers.next_look)

    def __repr__(self) -> str:
        asleep = ", asleep" if self.is_asleep else ""
        return f"<Torrent {self.name[:40]!r} {self.row.infohash.hex()[:8]} [{self.state}{asleep}]>"
