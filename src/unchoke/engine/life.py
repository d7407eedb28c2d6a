"""Life: what happens to one torrent: (metadata ▸) checking ▸ downloading ▸ seeding, queued, stopped, no space, error.

It decides when which phase begins and carries files, trackers, peers and the record from one to the next. While idle it owns
no task and looks at nothing until its due time: it moves by the session's timetable, by its swarm's calls and by what
``torrent`` asks for its user. A seed without peers sleeps: metainfo, files and swarm are let go, and a peer that comes wakes it.

    added ──▸ checking ──▸ (queued ◂──▸) downloading ──▸ seeding ◂──▸ asleep
                 │  ▴           │              │             │
                 ▾  └─ start ───┼──────────────┴─── stop ────┴──▸ stopped
         no space, error ◂──────┘      (goes on by itself when the cause is gone)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from unchoke.engine.contents import Contents, Found
from unchoke.engine.doorbell import Doorbell
from unchoke.engine.events import (
    Event,
    MetadataReceived,
    TorrentCompleted,
)
from unchoke.engine.metadata import MetadataSwarm
from unchoke.engine.named import meet
from unchoke.engine.options import TorrentOptions, numbers_below
from unchoke.engine.resume import TorrentRow
from unchoke.engine.seeker import Seeker
from unchoke.engine.swarm import Swarm
from unchoke.engine.tasks import finish
from unchoke.engine.trackers import Trackers
from unchoke.engine.upkeep import Upkeep
from unchoke.engine.vitals import FAILED, LIVE, RUNNING, LifeOwner, Vitals
from unchoke.errors import (
    ForeignFileError,
    GoneError,
    MetainfoError,
    NoSpaceError,
    StoppedError,
    StorageError,
    UnchokeError,
    UnsupportedError,
)
from unchoke.policy.peerlist import Source
from unchoke.policy.picker import PickerSettings, PiecePicker
from unchoke.protocol.metainfo import Metainfo
from unchoke.storage.base import Storage
from unchoke.types import Address, PeerId

if TYPE_CHECKING:
    from bitarray import bitarray

log = logging.getLogger(__name__)

#: Peers below which the trackers are asked for more, as soon as they allow.
FEW_PEERS = 20
#: Seconds a seed waits for peers before it sleeps.
SLEEP_AFTER = 30.0
#: Seconds until a torrent in error, or without space, looks whether the cause is gone: at first, and at most.
FIRST_RETRY, LAST_RETRY = 5.0, 60.0

#: Seconds between two looks at a torrent that seeks its metadata and knows nobody: ten thousand of them took a tenth of a core
#: with one. Who comes, or is heard of, is dealt with at once all the same.
LONELY_LOOK = 15.0

#: Bytes that trackers are told are left while we do not know the torrent's size: none would make us a seed.
UNKNOWN_LEFT = 16 * 1024


class Life(Vitals):
    """One torrent's."""

    __slots__ = ()

    def __init__(
        self, owner: LifeOwner, row: TorrentRow, options: TorrentOptions, peer_id: PeerId, metainfo: Metainfo | None
    ) -> None:
        super().__init__(owner, row, options, peer_id, metainfo)
        self.trackers = Trackers(
            self, self.ledger, partial(owner.make_announcer, self), owner.settings.announce.stop_timeout
        )

    async def _restart(self) -> None:
        """Begin again. A caller that may be cancelled runs it with ``finish``."""
        rested = self.state in ("stopped", "queued")
        if self.trackers.know_us or self._swarm is not None:  # after an error it is still half in the swarm
            await self._leave("stopped", "")
        if rested:
            self._have = None  # its files were anybody's meanwhile: what was recorded of them says whether they are as we left them
        self.trackers.calm()
        self.error = None
        if self.has_metainfo:
            self._set_state("checking" if self._have is None else "starting")
        else:
            self._set_state("metadata")
        self._beginning = self._spawn(self._begin(), "begin")

    # ------------------------------------------------------------------ beginning

    async def _begin(self, *, join: bool = True) -> None:
        """Find what is there, refuse what is not ours, ``join`` the swarm. Without a metainfo, ask for one first."""
        try:
            if self._contents is None and not self.row.piece_count and await self._lacks_metainfo():
                self._seek()
                return
            contents = await self._loaded()
            if contents.metainfo.infohash_v1 is None:
                raise UnsupportedError(
                    f"{self.name}: a v2-only torrent; it is kept, and waits until transferring these is built"
                    " (hybrid ones go as v1)"
                )
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

    # ------------------------------------------------------------------ metadata

    async def _lacks_metainfo(self) -> bool:
        try:
            return await self._owner.resume.metainfo(self.key) is None
        except StorageError as error:  # what cannot be read can be asked of peers
            log.info("! %s: its records: %s", self.name, error)
            return True

    def _seek(self) -> None:
        """Only the infohash is known: meet peers, and ask them."""
        owner, now = self._owner, self._owner.now()
        if self._seeker is None or self._seeker.is_done:
            self._seeker = Seeker(
                self,
                partial(owner.make_metadata_swarm, self),
                self._spawn,
                trackers=self.row.trackers,
                web_seeds=self.options.web_seeds,
                executor=owner.executor,
            )
        if self.state != "metadata":
            self._set_state("metadata")
        self.trackers.heartbeat(now)
        self._seeker.swarm.peerlist.add(self._given_peers, Source.USER, now)
        self._meet_others()
        self._dial(now)
        owner.due(self, now + 1.0)

    def _meet_others(self) -> None:
        """Peers by other ways than trackers: those the magnet link names, the DHT, the local network."""
        self._owner.seek_peers(self)
        if self.options.peers:
            self._spawn(meet(self.options.peers, self._named_found), "named peers")

    def _named_found(self, addresses: Sequence[Address]) -> None:
        self.addresses_found(addresses, Source.MAGNET)

    def learned(self, metainfo: Metainfo) -> None:
        """Part of SeekerOwner: it is known now."""
        if self.state == "metadata":
            self._beginning = self._spawn(self._take_metainfo(metainfo), "learn")

    def unusable(self, error: MetainfoError) -> None:
        """Part of SeekerOwner: what the infohash stands for is no torrent."""
        self._fail(
            MetainfoError(f"{self.name}: peers gave what its infohash stands for, and it is no torrent: {error}")
        )

    async def _take_metainfo(self, metainfo: Metainfo) -> None:
        """Keep it, choose of its files, and begin."""
        # Whoever stops, selects or verifies meanwhile finds it known altogether, or not at all.
        async with self._moving:
            if self.has_metainfo:
                return
            await finish(self._keep_metainfo(metainfo))
        if self.error is not None:
            return
        if self.options.metadata_only:
            self._owner.goal_reached(self, "stop", "its metadata is here")
            return
        self._set_state("checking")
        await self._begin()

    async def _keep_metainfo(self, metainfo: Metainfo) -> None:
        row, options, layout = self.row, replace(self.options, private=metainfo.private), metainfo.layout
        try:
            await self._owner.now_called(self, metainfo)
            row.name, row.size, row.piece_count = metainfo.name, layout.total_length, layout.piece_count
            await self._owner.resume.add(row, metainfo.data)
            if self._choose is not None:
                chosen = self._choose(metainfo)
                options = replace(options, files=None if chosen is None else frozenset(chosen), select="")
            elif options.select:
                options = replace(options, files=numbers_below(options.select, len(layout.files)), select="")
            self.options = options
            self._load_contents(metainfo)
        except UnchokeError as error:
            self._fail(error)
            return
        except ValueError as error:
            self._fail(UnchokeError(f"{self.name}: {error}"))
            return
        self._keep(options)
        self._owner.bus.publish(MetadataReceived(self.infohash, self.name))
        if self._outcome is not None:
            self._outcome.known()
        if metainfo.private:
            self._owner.seek_no_peers(self)

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
        if self._seeker is not None:
            seeker, self._seeker = self._seeker, None
            seeker.hand_over(swarm, private=contents.metainfo.private, now=now)
        swarm.peerlist.add(self._given_peers, Source.USER, now)
        self._meet_others()
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

    def target(self) -> Swarm | Doorbell | MetadataSwarm | None:
        """Whom a peer that dials us speaks to; None: it is not wanted."""
        if self._seeker is not None and not self._seeker.swarm.is_closed:
            return self._seeker.swarm
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
        if self._seeker is not None:
            seeker, self._seeker = self._seeker, None
            await seeker.aclose("the torrent is stopped")
        self._owner.seek_no_peers(self)
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
            if swarm.web_seeds is not None:
                await swarm.web_seeds.aclose()
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
        if self._seeker is not None:
            self._seeker.close("the torrent is in error")
        self._owner.seek_no_peers(self)
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

    # ------------------------------------------------------------------ time

    def heartbeat(self, now: float) -> None:
        """It is due: once a second while it has peers or wants some, else when the trackers or a goal want it."""
        if self.state in FAILED:
            if self.running and self.retry_at > now:  # this look was asked for while it ran
                self._owner.due(self, self.retry_at)
            elif self.running and self.retry_at and not self._looking:
                self._spawn(self._retry(), "retry")
            return
        if self.state not in LIVE:
            return
        self.trackers.heartbeat(now)
        if self._seeker is not None:
            self._seeker.heartbeat(now)
            self._want_more(self._seeker.swarm)
            self._dial(now)
            self._owner.due(self, self._look_again(self._seeker.swarm, now))
            return
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
        if self.state == "downloading":
            self._want_more(self._swarm)
        self._dial(now)
        self.ledger.count(now)
        self._keep_up(now, self._swarm)

    def _look_again(self, swarm: MetadataSwarm, now: float) -> float:
        """When there is something to do for a torrent that seeks its metadata: each second only while somebody is there."""
        if not swarm.is_idle:
            return now + 1.0
        dial = swarm.peerlist.next_due
        return max(now + 1.0, min(self.trackers.next_look, now + LONELY_LOOK, inf if dial is None else dial))

    def _want_more(self, swarm: Swarm | MetadataSwarm) -> None:
        if len(swarm.peers) < FEW_PEERS and not swarm.dialing:
            self.peers_needed()

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
    def _live(self) -> Swarm | MetadataSwarm | None:
        """What holds its peers at this time, before or after the metainfo is known."""
        if self.state in RUNNING:
            return self._swarm
        return self._seeker.swarm if self._seeker is not None and self.state == "metadata" else None

    def _dial(self, now: float) -> None:
        swarm = self._live
        if swarm is None:
            return
        most = self._owner.settings.network.max_connections_per_torrent
        room = min(self._owner.dial_room(), most - len(swarm.peers) - swarm.dialing)
        for address in swarm.peerlist.next_to_dial(room, now, seeds=self.state != "seeding"):
            swarm.dialing += 1
            self._owner.dial(address, swarm)
        due = swarm.peerlist.next_due
        if swarm.dialing or (room <= 0 and due is not None and due <= now):
            self._owner.due(self, now + 1.0)

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
        if change > 0:
            self._owner.due(self, self._owner.now() + 1.0)

    def node_found(self, address: Address) -> None:
        self._owner.node_found(address)

    def seen_as(self, address: str, voter: str) -> None:
        self._owner.seen_as(address, voter)

    def peers_needed(self) -> None:
        if self.state in LIVE:
            self.trackers.want_more_peers()
            self._owner.hasten_peers(self)

    # ------------------------------------------------------------------ what its trackers ask (TrackersOwner)

    def bytes_left(self) -> int:
        """Wanted bytes that are not there, as far as is known."""
        contents, have = self._contents, self.have
        if have is None or contents is None:
            return 0 if self.row.complete else self.row.size or UNKNOWN_LEFT
        return contents.bytes_of(contents.wanted & ~have)

    def peers_wanted(self) -> int:
        """How many addresses would help. A seed that nobody can dial must dial itself, but needs few."""
        if self.state not in LIVE:
            return 0
        most = self._owner.settings.network.max_connections_per_torrent if self.state != "seeding" else FEW_PEERS
        return max(0, most - (len(self._live.peers) if self._live is not None else 0))

    def addresses_found(self, addresses: Sequence[Address], source: Source = Source.TRACKER) -> None:
        """Peers, perhaps. Who sleeps wakes for them."""
        if self._live is not None:
            self._live.peerlist.add(addresses, source, self._owner.now())
            self._dial(self._owner.now())
        elif self.is_asleep and addresses:
            self._given_peers = list(addresses[:FEW_PEERS])
            self._wake()

    def trackers_moved(self) -> None:
        """They want to be looked at at another time; who has a swarm looks each second anyway."""
        if self._swarm is None:
            self._owner.due(self, self.trackers.next_look)

    def __repr__(self) -> str:
        asleep = ", asleep" if self.is_asleep else ""
        return f"<Torrent {self.name[:40]!r} {self.row.infohash.hex()[:8]} [{self.state}{asleep}]>"
