"""Vitals: what is known of one torrent at any time, and how that is noted: state, wishes, contents, record, counters, goals.

What happens to it is ``life``'s, which builds on this. Also what both ask of the session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from unchoke.engine.announcer import Announcer, AnnouncerOwner
from unchoke.engine.contents import Contents, MakeStorage
from unchoke.engine.doorbell import Doorbell
from unchoke.engine.events import (
    EventBus,
    StateChanged,
)
from unchoke.engine.ledger import Ledger
from unchoke.engine.metadata import MetadataSwarm
from unchoke.engine.options import TorrentOptions
from unchoke.engine.outcome import Outcome
from unchoke.engine.parsing import parse_kept
from unchoke.engine.reasons import Source as Told
from unchoke.engine.record import Record
from unchoke.engine.resume import Resume, TorrentRow
from unchoke.engine.scraper import Scraper
from unchoke.engine.seeker import Seeker
from unchoke.engine.settings import Settings
from unchoke.engine.swarm import Swarm
from unchoke.engine.tasks import Executor, Tasks, on_thread
from unchoke.engine.trackers import Trackers
from unchoke.engine.upkeep import Upkeep
from unchoke.errors import (
    NotFoundError,
    StoppedError,
    UnchokeError,
)
from unchoke.policy.goals import GoalSettings, next_look, reached
from unchoke.policy.picker import PiecePicker
from unchoke.policy.queue import Held
from unchoke.protocol.metainfo import Metainfo
from unchoke.storage.base import Storage
from unchoke.storage.handles import FilePool
from unchoke.types import Address, InfoHash, PeerId

if TYPE_CHECKING:
    from random import Random

    from bitarray import bitarray

log = logging.getLogger(__name__)

RUNNING = frozenset(("downloading", "seeding"))
#: It has peers, or wants some.
LIVE = RUNNING | {"metadata"}
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
    scraper: Scraper
    wake_room: asyncio.Semaphore

    def now(self) -> float: ...

    def peers_changed(self, change: int) -> None: ...

    def dial_room(self) -> int: ...

    def dial(self, address: Address, swarm: Swarm | MetadataSwarm) -> None: ...

    def seek_peers(self, torrent: Any) -> None: ...

    def seek_no_peers(self, torrent: Any) -> None: ...

    def hasten_peers(self, torrent: Any) -> None: ...

    def told(self, torrent: Any, now: float) -> tuple[Told, ...]: ...

    def node_found(self, address: Address) -> None: ...

    def seen_as(self, address: str, voter: str) -> None: ...

    def make_announcer(self, torrent: Any, owner: AnnouncerOwner) -> Announcer: ...

    def make_swarm(self, torrent: Any, metainfo: Metainfo, storage: Storage, picker: PiecePicker) -> Swarm: ...

    def make_metadata_swarm(self, torrent: Any, seeker: Seeker) -> MetadataSwarm: ...

    async def now_called(self, torrent: Any, metainfo: Metainfo) -> None: ...

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


class Vitals:
    """``row``: what is recorded of it; ``running``: its user wants it to run."""

    __slots__ = (
        "__weakref__",
        "_awake_since",
        "_beginning",
        "_choose",
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
        "_seeker",
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

    trackers: Trackers

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
        self.closed = False
        self._owner = owner
        self._metainfo = metainfo
        self._tasks: Tasks | None = None
        self._outcome: Outcome | None = None
        self._swarm: Swarm | None = None
        self._seeker: Seeker | None = None
        self._choose: Callable[[Metainfo], Collection[int] | None] | None = None
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
    def seeker(self) -> Seeker | None:
        """What looks for its metainfo, while that is not known (for the session and pictures)."""
        return self._seeker

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
    def has_metainfo(self) -> bool:
        """Files and pieces are known; of a magnet link only once peers have told."""
        return self._metainfo is not None or self.row.piece_count > 0 or self.row.complete

    @property
    def contents(self) -> Contents | None:
        return self._contents

    def refuse_removed(self) -> None:
        """Raise StoppedError if it was removed, or is about to be."""
        if self._removed:
            raise StoppedError(f"{self.name}: removed")

    # ------------------------------------------------------------------ its contents

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
            metainfo = await on_thread(self._owner.executor, parse_kept, data)
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

    # ------------------------------------------------------------------ its state

    def _tell_failure(self, error: UnchokeError) -> None:
        if self._outcome is not None:
            self._outcome.fail(error)

    def _set_state(self, state: str, reason: str = "") -> None:
        self.ledger.entered(state, self._owner.now())
        self.state, self.reason = state, reason
        log.info("= %s: %s", self.name, f"{state}: {reason}" if reason else state)
        self._owner.bus.publish(StateChanged(self.infohash, state, reason))

    def _crashed(self, error: BaseException) -> None:
        """A task of its own failed by a mistake of ours."""
        raise NotImplementedError

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

    # ------------------------------------------------------------------ its goals

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
