"""Seeker: a torrent of which only the infohash is known, until peers have given its info dictionary (BEP 9).

It makes a metainfo of what the swarm of that time has fetched and checked, and hands its peers on to the swarm of the download.
What becomes of the torrent then is ``life``'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from unchoke.engine.events import Event
from unchoke.engine.metadata import MetadataSwarm
from unchoke.engine.parsing import no_collector
from unchoke.engine.tasks import Executor, on_thread
from unchoke.errors import MetainfoError
from unchoke.policy.peerlist import Source
from unchoke.protocol.metainfo import Metainfo
from unchoke.types import Address, InfoHash

if TYPE_CHECKING:
    from unchoke.engine.swarm import Swarm

log = logging.getLogger(__name__)

#: Where peers of a private torrent may come from (BEP 27).
PRIVATE_SOURCES = Source.TRACKER | Source.USER | Source.MAGNET | Source.INCOMING


class SeekerOwner(Protocol):
    """What a seeker tells its torrent."""

    def learned(self, metainfo: Metainfo) -> None: ...

    def unusable(self, error: MetainfoError) -> None: ...

    def peers_changed(self, change: int) -> None: ...

    def peers_needed(self) -> None: ...

    def publish(self, event: Event) -> None: ...

    def node_found(self, address: Address) -> None: ...

    def seen_as(self, address: str, voter: str) -> None: ...

    @property
    def infohash(self) -> InfoHash: ...


class Seeker:
    """One torrent's. ``make_swarm`` makes the swarm that tells us; ``trackers`` and ``web_seeds`` are what is known besides."""

    __slots__ = ("_executor", "_owner", "_spawn", "_trackers", "_web_seeds", "is_done", "swarm")

    def __init__(
        self,
        owner: SeekerOwner,
        make_swarm: Callable[[Seeker], MetadataSwarm],
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
        *,
        trackers: Sequence[Sequence[str]],
        web_seeds: Sequence[str],
        executor: Executor | None,
    ) -> None:
        self._owner = owner
        self._spawn = spawn
        self._trackers = trackers
        self._web_seeds = web_seeds
        self._executor = executor
        self.is_done = False
        self.swarm = make_swarm(self)

    def heartbeat(self, now: float) -> None:
        """Once a second."""
        self.swarm.heartbeat(now)

    def hand_over(self, swarm: Swarm, *, private: bool, now: float) -> None:
        """The download begins: peers go where their data is wanted, unless a private torrent must not know them."""
        heard = swarm.peerlist = self.swarm.peerlist
        if private:
            heard.keep(PRIVATE_SOURCES)
        for peer in self.swarm.release(swarm):
            if private and peer.listen_address is not None and heard.get(peer.listen_address) is None:
                peer.close("the torrent is private")
            else:
                swarm.take_over(peer)
        heard.again(now)

    def close(self, reason: str) -> None:
        """Nobody wants to know any more. Safe to call again."""
        self.is_done = True
        self.swarm.close(reason)

    async def aclose(self, reason: str) -> None:
        """Close, and wait for what is being hashed."""
        self.close(reason)
        await self.swarm.aclose()

    # ------------------------------------------------------------------ what the swarm tells (MetadataOwner)

    def metadata_completed(self, info: bytes) -> None:
        """An info dictionary that has the digest we wanted."""
        self._spawn(self._read(info), "read metadata")

    async def _read(self, info: bytes) -> None:
        try:
            metainfo = await on_thread(self._executor, make_metainfo, info, self._trackers, self._web_seeds)
        except MetainfoError as error:
            self._owner.unusable(error)
            return
        self.is_done = True
        self._owner.learned(metainfo)

    def peers_changed(self, change: int) -> None:
        self._owner.peers_changed(change)

    def peers_needed(self) -> None:
        if not self.is_done:
            self._owner.peers_needed()

    def publish(self, event: Event) -> None:
        """The swarm may go by the whole v2 infohash, of which the torrent's name are the first 20 bytes."""
        self._owner.publish(replace(event, torrent=self._owner.infohash))

    def node_found(self, address: Address) -> None:
        self._owner.node_found(address)

    def seen_as(self, address: str, voter: str) -> None:
        self._owner.seen_as(address, voter)

    def __repr__(self) -> str:
        return f"<Seeker [{'done' if self.is_done else 'seeking'} | {self.swarm!r}]>"


def make_metainfo(info: bytes, trackers: Sequence[Sequence[str]], web_seeds: Sequence[str]) -> Metainfo:
    """The .torrent file of an info dictionary, with where else it can be had. Blocking. Raises MetainfoError."""
    with no_collector:
        return Metainfo.from_info(info, trackers, web_seeds)
