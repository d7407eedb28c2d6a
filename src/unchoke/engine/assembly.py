"""Assembly: what the live side of a torrent is put together from: its trackers' announcer, its swarm, and the one before its metadata.

The session makes one of its own parts; a torrent asks the session. Which extensions a swarm speaks is written here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unchoke.engine.announcer import Announcer, AnnouncerOwner, Announcing
from unchoke.engine.discovery import Discovery
from unchoke.engine.disk import Disk
from unchoke.engine.holepunch import Holepunch
from unchoke.engine.limiter import Limiter
from unchoke.engine.metadata import MetadataSwarm
from unchoke.engine.metadata_server import MetadataServer
from unchoke.engine.net.ranges import RangeClient
from unchoke.engine.pex import Pex
from unchoke.engine.seeker import Seeker
from unchoke.engine.settings import Settings
from unchoke.engine.swarm import Swarm
from unchoke.engine.tasks import Executor
from unchoke.policy.choker import SlotPool
from unchoke.policy.peerlist import PeerList
from unchoke.policy.peerlist import Source as PeerSource
from unchoke.policy.picker import PiecePicker
from unchoke.policy.priority import Ranking
from unchoke.protocol.handshake import Reserved
from unchoke.protocol.metainfo import Metainfo
from unchoke.storage.base import Storage
from unchoke.types import Address, InfoHash

if TYPE_CHECKING:
    from random import Random

    from unchoke.engine.peer import Peer
    from unchoke.engine.torrent import Torrent


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """``reserved``: what our handshakes say; ``port``: where peers can dial this machine."""

    settings: Settings
    rng: Random
    secret: Callable[[int], int]
    executor: Executor | None
    disk: Disk
    limiter: Limiter
    slots: SlotPool
    discovery: Discovery
    rank: Ranking
    http: Announcing
    udp: Announcing
    ranges: RangeClient
    clock: Callable[[], float]
    call_later: Callable[[float, Callable[[], None]], object]
    port: Callable[[], int]
    reserved: Reserved

    def announcer(self, torrent: Torrent, owner: AnnouncerOwner) -> Announcer:
        """What speaks to a torrent's trackers, from its start to its end."""
        return Announcer(
            owner,
            torrent.row.trackers,
            user_trackers=torrent.options.trackers,
            infohash=torrent.infohash,
            peer_id=torrent.peer_id,
            port=self.discovery.announced_port,
            key=self.secret(32),
            http=self.http,
            udp=self.udp,
            settings=self.settings.announce,
            rng=self.rng,
        )

    def metadata_swarm(self, torrent: Torrent, seeker: Seeker) -> MetadataSwarm:
        """Where a torrent meets peers while only its infohash is known."""
        v1: InfoHash | None = torrent.infohash
        v2 = InfoHash(bytes.fromhex(torrent.options.infohash_v2)) if torrent.options.infohash_v2 else None
        if v2 is not None and v2.truncated == v1:
            v1 = None  # the link has v2 alone, and the torrent goes by its first bytes
        swarm = MetadataSwarm(
            seeker,
            v1 or v2 or torrent.infohash,
            v2 if v1 is not None else None,
            torrent.peer_id,
            self.settings,
            peerlist=PeerList(self.rng, self.settings.peerlist, rank=self.rank),
            clock=self.clock,
            port=self.port,
            executor=self.executor,
            dht_port=lambda: self.discovery.dht_port,
            reserved=self.reserved,
        )
        if self._uses_pex(torrent):
            swarm.extend(self._make_pex(swarm))
        return swarm

    def swarm(self, torrent: Torrent, metainfo: Metainfo, storage: Storage, picker: PiecePicker) -> Swarm:
        """The live side of a torrent that begins to run."""
        swarm = Swarm(
            torrent,
            metainfo.layout,
            torrent.infohash,
            torrent.peer_id,
            self.disk.torrent(storage, metainfo.layout, metainfo.piece_hashes),
            picker,
            self.settings,
            self.rng,
            down=self.limiter.down,
            up=self.limiter.up,
            clock=self.clock,
            port=self.port,
            call_later=self.call_later,
            slots=self.slots,
            super_seed=torrent.options.super_seed,
            metadata_size=len(metainfo.info_view),
            dht_port=lambda: 0 if metainfo.private else self.discovery.dht_port,
            reserved=self.reserved,
        )
        swarm.extend(MetadataServer(lambda: metainfo.info_view, self.settings.metadata))
        if self._uses_pex(torrent):
            swarm.extend(self._make_pex(swarm), self._make_holepunch(swarm))
        swarm.use_web_seeds(metainfo, self.ranges, torrent.options.web_seeds)
        swarm.peerlist.rank = self.rank
        swarm.limit(down=torrent.options.down, up=torrent.options.up)
        return swarm

    def _make_pex(self, swarm: Swarm | MetadataSwarm) -> Pex:
        return Pex(swarm, self.settings.pex, self.rng, ours=self._our_address)

    def _make_holepunch(self, swarm: Swarm) -> Holepunch:
        """We bring others together; to follow such a call ourselves takes uTP, so whom we are called to is dialled as others are."""

        def connect(address: Address, relay: Peer) -> None:
            swarm.peerlist.add([address], PeerSource.PEX, self.clock(), teller=relay.address.host)

        return Holepunch(swarm, ours=self._our_address, connect=connect)

    def _our_address(self, family: int) -> Address | None:
        """Where others reach us, as far as we know."""
        host = self.discovery.external.best(family)
        return Address(host, self.discovery.announced_port()) if host is not None else None

    def _uses_pex(self, torrent: Torrent) -> bool:
        return self.settings.network.discovery and self.settings.pex.enabled and not torrent.options.private
