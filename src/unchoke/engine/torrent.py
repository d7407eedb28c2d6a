"""Torrent: one torrent as its user has it: what may be asked of it, and what it tells. How it lives is ``life``'s.

Made by ``Session.add``. Safe to await from several tasks; its calls are for the session's loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NoReturn

from unchoke.engine.contents import Contents
from unchoke.engine.events import Subscription, TorrentRemoved
from unchoke.engine.life import Life
from unchoke.engine.named import meet, written
from unchoke.engine.options import TorrentOptions
from unchoke.engine.outcome import Outcome
from unchoke.engine.parsing import parse_kept
from unchoke.engine.picture import picture
from unchoke.engine.reasons import Source as Told
from unchoke.engine.scraper import Counts
from unchoke.engine.stats import PeerSnapshot, TorrentSnapshot
from unchoke.engine.swarm import Swarm
from unchoke.engine.tasks import finish
from unchoke.engine.vitals import FAILED, RUNNING
from unchoke.errors import NotFoundError, StoppedError, StorageError, TrackerError
from unchoke.policy.peerlist import Source
from unchoke.policy.queue import Held
from unchoke.protocol.magnet import Magnet
from unchoke.protocol.metainfo import Metainfo
from unchoke.types import Address

log = logging.getLogger(__name__)


#: Addresses given by the user that are remembered beyond one run, the last ones.
MOST_GIVEN = 200


class Torrent(Life):
    """See ``docs/howto/use-the-library.md``."""

    __slots__ = ()

    async def done(self) -> None:
        """Wait until every wanted piece is verified and on disk.

        Raises what ended it instead: StorageError and its kin (also if it may recover), or StoppedError when it is stopped or
        removed before.
        """
        if self.state == "seeding":
            return
        if self.error is not None:
            raise self.error.with_traceback(None)
        if self.state in ("stopping", "stopped", "queued") and self.is_complete and not self._removed:
            return
        if self._removed or (not self.running and self.state in ("stopping", "stopped")):  # else it goes on by itself
            raise StoppedError(f"{self.name}: {'removed' if self._removed else self.reason or 'stopped'}")
        await self._waiters().wait_done()

    async def metadata(self) -> Metainfo:
        """Wait until its metainfo is known (of a magnet link), and give it. Raises what ``done`` raises."""
        if not self.has_metainfo:
            if self.error is not None:
                raise self.error.with_traceback(None)
            if self._removed or not self.running:
                raise StoppedError(f"{self.name}: {'removed' if self._removed else self.reason or 'stopped'}")
            await self._waiters().wait_known()
        return self.metainfo

    async def failed(self) -> NoReturn:
        """Wait until the torrent cannot go on, and raise why. (A torrent that seeds can still lose its disk.)"""
        while self.error is None:
            if self._removed:
                raise StoppedError(f"{self.name}: removed")
            await self._waiters().wait_failed()
        raise self.error.with_traceback(None)

    def _waiters(self) -> Outcome:
        if self._outcome is None:
            self._outcome = Outcome()
        return self._outcome

    def events(self) -> Subscription:
        """What happens to this torrent from now on, until it is removed: ``async for event in torrent.events()``.

        A reader that is slow loses the oldest, and its next one is ``EventsLost``.
        """
        subscription = self._owner.bus.subscribe(self.infohash)
        if self.closed:
            subscription.close()
        return subscription

    async def start(self, *, forced: bool | None = None) -> None:
        """Go on after ``stop``, or after an error whose cause is gone. ``done()`` waits for what follows.

        ``forced``: run whatever the queue says (False: no longer).
        """
        async with self._moving:
            self.refuse_removed()
            if forced is not None and forced != self.options.forced:
                self._keep(replace(self.options, forced=forced))
            self.running = True
            self.note()
            if (
                self.state in FAILED
                or self.state == "stopped"
                or (self.state == "starting" and self._beginning is None)
            ):
                self._retries = 0
                await finish(self._restart(), self.hurry)
            self._owner.rearrange()

    async def stop(self) -> None:
        """Leave the swarm: trackers hear ``stopped`` (bounded wait), peers are closed, data is written out.

        Cancelled, it does not wait for the trackers, but for the rest.
        """
        await self._stop("stopped by its user")

    async def retire(self, reason: str) -> None:
        """It has done its part: stop it. For the session."""
        await self._stop(f"stopped: {reason}")

    async def began(self) -> None:
        """Wait until a start under way has found what is there. For the session."""
        if self._beginning is not None:
            await asyncio.wait([self._beginning])

    async def _stop(self, reason: str) -> None:
        async with self._moving:
            self.running = False
            if self.state != "stopped":
                self._tell_failure(StoppedError(f"{self.name}: {reason} before it was complete"))
                await finish(self._leave("stopped", reason), self.hurry)
            self.note()
            self._owner.rearrange()

    async def verify(self) -> None:
        """Check all data on disk again, whatever the record says, then go on as before. Returns when the check has begun."""
        async with self._moving:
            self.refuse_removed()
            if self.has_metainfo:
                await finish(self._verify(), self.hurry)

    async def _verify(self) -> None:
        was_stopped = self.state == "stopped"
        if not was_stopped:
            await self._leave("stopped", "verifying")
        if self._contents is not None:
            self._contents.check_anew()
        if self.options.trust:
            self._keep(replace(self.options, trust=False))
        self._have = self.error = None
        self._recheck = True  # until it is done, however often it is stopped meanwhile
        self.row.complete = False
        self._set_state("checking")
        self._beginning = self._spawn(self._begin(join=not was_stopped), "verify")

    async def select(
        self, files: Collection[int] | None, *, high: Collection[int] = (), low: Collection[int] = ()
    ) -> None:
        """Want these files (indexes from 0; None: all), some of them first or last. Anything fetched stays.

        Raises ValueError for an index that is none, StorageError.
        """
        async with self._moving:
            self.refuse_removed()
            options = replace(
                self.options,
                files=None if files is None else frozenset(files),
                high=frozenset(high),
                low=frozenset(low),
                select="",
            )
            if not self.has_metainfo:
                self._choose = None
                self._keep(options)  # looked at when the number of files is known
                return
            if self._contents is None and self.state in FAILED:  # perhaps because of its wishes
                self.options = replace(self.options, files=None, high=frozenset(), low=frozenset())
            contents = await self._loaded()
            await contents.on_thread(contents.refuse_unknown, options)
            await finish(self._select(contents, options))

    async def _select(self, contents: Contents, options: TorrentOptions) -> None:
        interrupted = await self._interrupt()
        before = self.options.files
        await contents.on_thread(contents.select, options)  # of 100,000 files it takes a while
        self._keep(options, await contents.on_thread(options.to_record))
        self.wanted_bytes = contents.wanted_bytes
        live = self._swarm if self.state in RUNNING else None
        if live is not None and await contents.find_strangers(live.disk.storage, before):
            await self._put_down()  # they must be hashed before anything is written to them
            self._have, live, interrupted = None, None, True
        if live is not None:
            await self._reselect(live, contents)
        elif self.is_asleep or interrupted:
            self._set_state("starting")
            self._beginning = self._spawn(self._begin(join=self.running), "select")
        self.row.complete = self.is_complete
        self.note()

    async def _interrupt(self) -> bool:
        """End a start that is under way, which must begin again with other wishes (a check goes on where it was)."""
        beginning = self._beginning
        if beginning is None or beginning.done():
            return False
        beginning.cancel()
        await asyncio.wait([beginning])
        return True

    async def _reselect(self, swarm: Swarm, contents: Contents) -> None:
        """The files are made, and marked open, before a peer is asked for anything of them."""
        storage = swarm.disk.storage
        try:
            await contents.on_thread(storage.select, self.options.files)
            await contents.begin_writing(swarm.picker.have)
        except StorageError as error:
            self._fail(error)
            raise
        if self.state not in RUNNING:
            return
        swarm.intake.select(contents.wanted, contents.high, contents.low)
        swarm.peerlist.again(self._owner.now())
        if self.state == "seeding" and not swarm.picker.is_done:
            self._set_state("downloading")
            self._owner.rearrange()
        elif self.state == "downloading" and swarm.picker.is_done:
            self.download_completed()
        elif self.state == "seeding":
            await self._take_in(swarm, contents)

    async def _take_in(self, swarm: Swarm, contents: Contents) -> None:
        """All pieces of the files newly wanted were there: these got their bytes from the part file, and are complete."""
        try:
            await contents.on_thread(contents.finish_files)
            contents.record.is_open = True  # it knows nothing of them yet
            await contents.settle(swarm.picker.have, {})
        except StorageError as error:
            self._fail(error)
            raise

    def limit(self, *, down: int | None = None, up: int | None = None) -> None:
        """Bytes/s for this torrent alone; 0: no limit of its own; None: as it is. ValueError for less than nothing."""
        if (down or 0) < 0 or (up or 0) < 0:
            raise ValueError(f"a limit of {down} down, {up} up; 0 is no limit")
        options = self.options
        self._keep(replace(options, down=options.down if down is None else down, up=options.up if up is None else up))
        if self._swarm is not None:
            self._swarm.limit(down=self.options.down, up=self.options.up)
        self._owner.rearrange()

    def add_peers(self, addresses: Sequence[Address], source: Source = Source.USER) -> None:
        """Addresses to dial."""
        self._given_peers = [*self._given_peers, *addresses][-MOST_GIVEN:]
        if self._live is not None:
            self._live.peerlist.add(addresses, source, self._owner.now())
            self._dial(self._owner.now())
        elif addresses and self.is_asleep:
            self._wake()

    async def take_hints(self, source: Metainfo | Magnet) -> None:
        """It was added again: what this source names besides."""
        known = {url for tier in self.row.trackers for url in tier} | set(self.options.trackers)
        tiers = tuple((url,) for url in source.trackers) if isinstance(source, Magnet) else source.trackers
        more = tuple(fresh for tier in tiers if (fresh := tuple(url for url in tier if url not in known)))
        if more:
            self.row.trackers = (*self.row.trackers, *more)
            self._owner.resume.update(self.key, trackers=self.row.trackers)
            for tier in more:
                for url in tier:
                    self.trackers.add(url, given=False)
        if isinstance(source, Magnet):
            await meet(written(source.peers), self._named_found)
        elif not self.has_metainfo:
            self.learned(source)

    def told(self, now: float) -> tuple[Told, ...]:
        """What DHT and local network said of its peers."""
        return self._owner.told(self, now)

    @property
    def named_nodes(self) -> tuple[tuple[str, int], ...]:
        """DHT hosts that its .torrent names."""
        return self._metainfo.nodes if self._metainfo is not None else ()

    def choose_with(self, choose: Callable[[Metainfo], Collection[int] | None] | None) -> None:
        """What chooses its files once they are known. For the session."""
        self._choose = choose

    def add_tracker(self, url: str) -> None:
        """One more tracker, a tier of its own: it is contacted."""
        if url not in self.options.trackers:
            self._keep(replace(self.options, trackers=(*self.options.trackers, url)))
        self.trackers.add(url)

    async def scrape(self) -> dict[str, Counts | TrackerError]:
        """What each of its trackers counts, by URL, asked now (BEP 48), running or not; failures are values, None is unknown there."""
        given = self.options.trackers
        urls = [*chain.from_iterable(self.row.trackers), *given]
        return await self.trackers.scrape(self._owner.scraper, urls, given)

    def snapshot(self) -> TorrentSnapshot:
        """What is now. Cheap."""
        return picture(self, self._owner.now())

    def peers(self) -> tuple[PeerSnapshot, ...]:
        """Its peers, in the order they joined."""
        live = self._live
        return live.peer_snapshots() if live is not None else ()

    def file_progress(self) -> list[int]:
        """Verified bytes of each file, by index."""
        if not self.has_metainfo:
            return []
        contents, have = self._contents or self._make_contents(self.metainfo), self.have
        if have is None and self.row.complete:
            return contents.file_progress(contents.wanted)
        return contents.file_progress(have) if have is not None else [0] * len(contents.metainfo.layout.files)

    @property
    def metainfo(self) -> Metainfo:
        """The metainfo; that of a torrent that sleeps is read from the session's state, so this may touch the disk."""
        if self._metainfo is not None:
            return self._metainfo
        if not self.has_metainfo:
            raise NotFoundError(f"{self.name}: its metadata has not come yet")
        data = self._owner.resume.metainfo_now(self.key)
        if data is None:
            raise NotFoundError(f"{self.name}: the session's state has lost its .torrent; add it again")
        return parse_kept(data)

    @property
    def path(self) -> Path:
        """Its file, or its folder if it is of several files. NotFoundError while neither is known."""
        return (self._contents or self._make_contents(self.metainfo)).path

    async def queue(self) -> None:
        """Others come first: leave the swarm until it is our turn. For the session."""
        async with self._moving:
            if self.state in RUNNING:
                await finish(self._leave("queued", ""), self.hurry)
                self.note()

    async def unqueue(self) -> None:
        """It is our turn. For the session."""
        async with self._moving:
            if self.state == "queued":
                await self._restart()

    async def aclose(self) -> None:
        """The session ends, or the torrent is removed. Cancelled, it does not wait for trackers, but for the rest."""
        self._removed = True
        self._tell_failure(StoppedError(f"{self.name}: removed before it was complete"))
        async with self._moving:
            if not self.closed:
                await finish(self._end(), self.hurry)

    async def _end(self) -> None:
        await self._leave("stopped", "the session closed it")
        if self._tasks is not None:
            await self._tasks.aclose()
        self.note()
        self.closed = True
        self._owner.bus.publish(TorrentRemoved(self.infohash))

    async def delete_data(self) -> None:
        """Delete its files, and the folders they leave empty; for ``Session.remove``, after ``aclose``. Raises StorageError."""
        if self.has_metainfo:
            contents = await self._loaded()
            await contents.delete(self._have)

    @property
    def held(self) -> Held | None:
        """What it waits for in the queue."""
        return self._owner.held(self) if self.state == "queued" else None

    @property
    def session_limits(self) -> tuple[float, float]:
        """Bytes/s down and up over all torrents; 0: none."""
        return self._owner.limits()
