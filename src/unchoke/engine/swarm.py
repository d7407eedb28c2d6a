"""Swarm: the live peers of one torrent: who comes and goes, and what holds for all of them.

It owns no choice and little of the work: ``admission`` says who may join, ``hearing`` notes what peers say, ``intake`` takes what
they give, ``giving`` gives what they ask, ``peerlist`` says whom to dial. It carries calls between them, in synchronous calls
from its peers (``PeerOwner``) and from one heartbeat a second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from unchoke.bitfield import Bitfield
from unchoke.engine import events
from unchoke.engine.admission import Admission
from unchoke.engine.disk import TorrentDisk
from unchoke.engine.download import Download
from unchoke.engine.extension import Extension
from unchoke.engine.giving import Giving
from unchoke.engine.hearing import Hearing
from unchoke.engine.intake import Intake
from unchoke.engine.limiter import Lane
from unchoke.engine.peer import Peer
from unchoke.engine.settings import Settings
from unchoke.engine.stats import PeerSnapshot
from unchoke.engine.upload import MOST_REQUESTS, Upload
from unchoke.engine.webseed import Fetcher, WebSeeds
from unchoke.errors import StorageError
from unchoke.layout import TorrentLayout
from unchoke.policy.bandwidth import Limit, TokenBucket, is_local
from unchoke.policy.choker import Choker, SlotPool
from unchoke.policy.eviction import Occupant
from unchoke.policy.peerlist import PeerList, Source
from unchoke.policy.picker import PiecePicker
from unchoke.protocol import extended, handshake
from unchoke.protocol import messages as m
from unchoke.rates import Rate
from unchoke.types import Address, InfoHash, PeerId
from unchoke.version import USER_AGENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

    from unchoke.engine.net.ranges import RangeClient
    from unchoke.protocol.metainfo import Metainfo

log = logging.getLogger(__name__)

#: Seconds between two times that a full swarm gives up a peer of no use for one that it may dial.
TURN_OVER = 10.0


class SwarmOwner(Protocol):
    """What a swarm asks of its torrent, and tells it."""

    def publish(self, event: events.Event) -> None: ...

    def piece_completed(self, piece: int) -> None: ...

    def download_completed(self) -> None: ...

    def storage_failed(self, error: StorageError) -> None: ...

    def peers_changed(self, change: int) -> None: ...

    def peers_needed(self) -> None: ...

    def node_found(self, address: Address) -> None: ...

    def seen_as(self, address: str, voter: str) -> None: ...


class Swarm:
    """``down`` and ``up`` are the session's limits, ``slots`` what all torrents share; ``clock`` is the loop's time.

    ``super_seed``: show each peer one piece at a time (BEP 16); only if we have everything. ``metadata_size``: bytes of the info
    dictionary that we serve (BEP 9). ``dht_port``: where our DHT node listens, 0 for none; ``reserved``: what our handshakes say.
    """

    def __init__(
        self,
        owner: SwarmOwner,
        layout: TorrentLayout,
        infohash: InfoHash,
        peer_id: PeerId,
        disk: TorrentDisk,
        picker: PiecePicker,
        settings: Settings,
        rng: Random,
        *,
        down: TokenBucket,
        up: TokenBucket,
        clock: Callable[[], float],
        port: Callable[[], int],
        call_later: Callable[[float, Callable[[], None]], object],
        slots: SlotPool | None = None,
        super_seed: bool = False,
        metadata_size: int = 0,
        dht_port: Callable[[], int] = lambda: 0,
        reserved: handshake.Reserved = handshake.OURS,
    ) -> None:
        self.owner = owner
        self.layout = layout
        self.infohash = infohash
        self.peer_id = peer_id
        self.disk = disk
        self.picker = picker
        self.settings = settings
        self.peers: dict[Peer, None] = {}  # in the order of joining
        self.peerlist = PeerList(rng, settings.peerlist)
        self.have = Bitfield()
        self.have.bits = picker.have  # one bitfield, two views
        self.dialing = 0  # dials under way
        self.last_refusal = ""  # why the last dial or conversation failed
        burst, now = settings.bandwidth.burst, clock()
        self.own_down, self.own_up = TokenBucket(burst=burst, now=now), TokenBucket(burst=burst, now=now)
        # What waits for a limit, and its turns: down and up.
        self.lanes = (
            Lane(self.own_down, down, self._askable, self._ask_more),
            Lane(self.own_up, up, self._servable, self._serve_more),
        )
        self.down, self.up = self.lanes[0].limit, self.lanes[1].limit
        self.intake = Intake(self, layout, disk, picker, down=self.down, clock=clock, call_later=call_later)
        self.giving = Giving(
            self,
            picker,
            settings,
            rng,
            layout=layout,
            clock=clock,
            call_later=call_later,
            slots=slots,
            super_seed=super_seed,
        )
        self.hearing = Hearing(self, layout, picker, clock)
        self.extensions: dict[int, Extension] = {}  # by the numbers under which we receive them
        self._metadata_size = metadata_size
        self._dht_port = dht_port
        self._reserved = reserved
        self.admission = Admission(self, settings, clock)
        self._clock = clock
        self._port = port
        self._forget_at = self._turn_over_at = 0.0
        self._interest_stale = False
        self._upload_only = self._wants_nothing
        self._closed = False

    def limit(
        self,
        *,
        down: int | None = None,
        up: int | None = None,
        slots: int | None = None,
        connections: int | None = None,
    ) -> None:
        """Change what holds for this torrent alone: bytes/s (0: no limit), peers served at a time, conversations. None: as it is.

        A rate holds at once; surplus peers are choked in the next round, and surplus conversations end by themselves.
        """
        if down is not None:
            self.own_down.rate = down
        if up is not None:
            self.own_up.rate = up
        if slots is not None:
            self.giving.most = slots
        if connections is not None:
            self.admission.most = connections

    # ------------------------------------------------------------------ web seeds come and go

    @property
    def web_seeds(self) -> WebSeeds | None:
        """The web servers we may take from (BEP 19); None: there are none."""
        return self.intake.web_seeds

    def use_web_seeds(self, metainfo: Metainfo, client: RangeClient, more: Sequence[str] = ()) -> None:
        """Take also from the web seeds of ``metainfo`` and from ``more`` of them, from the next turn of the loop on."""
        seeds = tuple(dict.fromkeys((*metainfo.web_seeds, *more)))
        if seeds and self.settings.webseed.enabled and self.web_seeds is None and not self._closed:
            self.intake.web_seeds = WebSeeds(self.intake, seeds, metainfo, self.settings.webseed, client, self._clock)

    # ------------------------------------------------------------------ peers come and go

    def refusal(self, peer: Peer, peer_id: PeerId) -> str | None:
        """Why this peer may not join, or None. (Part of the dialer's Target.)"""
        return self.admission.refusal(peer, peer_id)

    def extend(self, *extensions: Extension) -> None:
        """Speak these too, with whoever does."""
        self.extensions.update((extension.number, extension) for extension in extensions)

    def add(self, peer: Peer) -> None:
        """A peer that shook hands joins: it is told what we have, and its messages are read from here on."""
        self._take_in(peer)
        if peer.dialed is not None:
            self.dialing -= 1
            self.peerlist.connected(peer.dialed, Source(0), self._clock())
            self.peerlist.succeeded(peer.dialed)
        if peer.wire.our_handshake is None:
            peer.wire.send_handshake(handshake.Handshake(self.infohash, self.peer_id, self._reserved))
        self.giving.joined(peer, self._clock())
        self._welcome(peer)
        self.owner.publish(events.PeerConnected(self.infohash, peer.address, peer.incoming))
        peer.resume()

    def take_over(self, peer: Peer) -> None:
        """A peer comes with whom we spoke before the layout was known, and told that we have nothing; its messages that need the
        layout are read now."""
        self._take_in(peer)
        self.giving.joined(peer, self._clock())
        self._welcome(peer)
        for extension in self.extensions.values():
            extension.greeted(peer, self._clock())
        peer.resume()

    def _take_in(self, peer: Peer) -> None:
        now = self._clock()
        exempt = not self.settings.bandwidth.limit_lan and is_local(peer.address.host)
        peer.down = Limit() if exempt else self.down
        peer.download = Download(self.layout.piece_count, self.settings.pipeline, now)
        peer.download.pipeline.reqq = peer.reqq
        peer.upload = Upload(peer, self.giving, self.disk, self.layout, Limit() if exempt else self.up, now)
        self.picker.add_peer(peer.download.pieces.bits)
        self.peers[peer] = None
        self.owner.peers_changed(1)
        peer.hand_over(self, self.layout)

    def _welcome(self, peer: Peer) -> None:
        """Tell it who we are."""
        self._send_hello(peer)
        theirs = peer.wire.handshake
        if self._dht_port() and theirs is not None and handshake.Reserved.DHT in theirs.reserved:
            peer.wire.send_port(self._dht_port())
        peer.flush()
        log.debug("= %s joined %s", peer, self)

    def _send_hello(self, peer: Peer) -> None:
        """Our extended handshake (BEP 10)."""
        if peer.wire.extended:
            hello = extended.ExtendedHandshake(
                extensions={extension.name: number for number, extension in self.extensions.items()},
                client=USER_AGENT,
                port=self._port() or None,
                reqq=MOST_REQUESTS,
                yourip=_plain(peer.address.host),
                metadata_size=self._metadata_size or None,
                upload_only=self._upload_only,
            )
            peer.wire.send_extended(extended.HANDSHAKE, hello.encode())

    def peer_connected(self, peer: Peer) -> None:
        """Part of PeerOwner; a swarm gets its peers connected."""

    def peer_shook_hands(self, peer: Peer, handshake: handshake.Handshake) -> None:
        """Part of PeerOwner; a swarm gets its peers after their handshake."""

    def peer_gone(self, peer: Peer, reason: str, *, fault: bool) -> None:
        if peer not in self.peers:
            return
        del self.peers[peer]
        self.owner.peers_changed(-1)
        now = self._clock()
        self.intake.stop_asking(peer, now)
        self.picker.remove_peer(peer.download.bits)
        peer.upload.close()
        self.intake.drop_untouched()
        if fault:
            self.last_refusal = reason
            if peer.incoming:
                self.peerlist.offended(peer.address.host, now)
        if peer.listen_address is not None:
            (self.peerlist.failed if fault else self.peerlist.left)(peer.listen_address, reason, now)
        self.giving.gone(peer, now)
        for extension in self.extensions.values():
            extension.gone(peer)
        self.owner.publish(events.PeerDisconnected(self.infohash, peer.address, reason))
        if not self._closed and not self.picker.is_done and not self.peers:
            self.owner.peers_needed()

    def dial_failed(self, address: Address, reason: str) -> None:
        """Part of the dialer's Target."""
        self.dialing -= 1
        self.last_refusal = f"{address}: {reason}"
        now = self._clock()
        self.peerlist.failed(address, reason, now)
        if any(peer.listen_address == address for peer in self.peers):  # it had dialled us: no need to try again
            self.peerlist.connected(address, Source(0), now)

    def occupants(self) -> Iterator[Occupant]:
        """Its peers, for a choice of whose place is given away over all torrents."""
        return self.admission.occupants()

    def is_hopeless(self, peer: Peer) -> bool:
        """No data will ever flow between us."""
        return self.picker.is_done and (peer.download.has_all or peer.upload_only)

    def close_if_useless(self, peer: Peer) -> None:
        """Two that download nothing have nothing to say to each other (BEP 21 counts partial seeds in)."""
        if self._closed or not self.picker.is_done:
            return
        if peer.download.has_all:
            peer.close("both have everything")
        elif peer.upload_only and self._wants_nothing:
            peer.close("neither of us downloads")

    # ------------------------------------------------------------------ what peers give

    def peer_sent(self, peer: Peer, blocks: m.Blocks) -> None:
        self.intake.sent(peer, blocks)

    # ------------------------------------------------------------------ what the intake tells (IntakeOwner)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def count_redundant(self, peer: Peer) -> None:
        peer.count_redundant()

    def piece_good(self, piece: int) -> None:
        self._interest_stale = True
        self.giving.tell_have(piece)
        self.owner.publish(events.PieceCompleted(self.infohash, piece))
        self.owner.piece_completed(piece)
        if self.picker.is_done:
            self._completed()

    def piece_wrong(self, piece: int, givers: tuple[Address, ...]) -> None:
        log.warning("! piece %d of %s is wrong, from %s", piece, self, ", ".join(map(str, givers)))
        self.owner.publish(events.PieceFailed(self.infohash, piece, givers))

    def storage_failed(self, error: StorageError) -> None:
        self.owner.storage_failed(error)

    def ban(self, address: Address, reason: str) -> None:
        self.peerlist.ban(address.host, reason)
        self.owner.publish(events.PeerBanned(self.infohash, address, reason))
        for other in list(self.peers):  # whoever lies has more than one port
            if other.address.host == address.host:
                other.close(f"banned: {reason}", fault=True)

    def _completed(self) -> None:
        self.owner.download_completed()
        self._tell_upload_only()
        for peer in list(self.peers):
            self.close_if_useless(peer)
            if not peer.is_closed:
                peer.wire.send_interested(False)
                peer.flush()

    # ------------------------------------------------------------------ what the hearing tells (HearingOwner)

    def node_found(self, address: Address) -> None:
        self.owner.node_found(address)

    def seen_as(self, address: str, peer: Peer) -> None:
        self.owner.seen_as(address, peer.address.host)

    # ------------------------------------------------------------------ what peers ask and say

    def peer_asked(self, peer: Peer, requests: m.Requests) -> None:
        peer.upload.asked(requests, self._clock())

    def peer_said(self, peer: Peer, message: m.Message) -> None:
        self.hearing.said(peer, message)

    @property
    def _wants_nothing(self) -> bool:
        """What we say of ourselves (BEP 21). While super-seeding we pass for somebody who has nothing."""
        return self.picker.is_done and self.giving.super_seed is None

    def _tell_upload_only(self) -> None:
        """Said again when it changes: the last piece came, other files were chosen, super-seeding ended."""
        if self._upload_only is not self._wants_nothing:
            self._upload_only = self._wants_nothing
            for peer in list(self.peers):
                self._send_hello(peer)
                peer.flush()

    # ------------------------------------------------------------------ the end of a wake-up

    def peer_rests(self, peer: Peer) -> None:
        now = self._clock()
        self.intake.refill(peer, now)
        peer.upload.sent(now)
        if peer.upload.queue:
            peer.upload.serve(now)
        peer.flush()

    def refill_all(self, first: int = 0) -> None:
        """Somebody waited for memory, or for the limit; ``first`` turns the row, so that the same one is not always last."""
        now = self._clock()
        if self.web_seeds is not None:
            self.web_seeds.wake()  # first: they are few, and each needs one piece to go on with an answer under way
        peers = list(self.peers)
        first %= len(peers) or 1
        peers = peers[first:] + peers[:first]
        peers.sort(key=lambda peer: peer.download.pipeline.snubbed)  # who does not answer gets what the others leave
        for peer in peers:
            self.intake.refill(peer, now)
            if peer.upload.is_waiting:
                peer.upload.serve(now)
            peer.flush()

    # ------------------------------------------------------------------ turns at a limit

    def _askable(self) -> list[Peer | Fetcher]:
        peers: list[Peer | Fetcher] = [peer for peer in self.peers if peer.wire.we_interested]
        if self.web_seeds is not None:
            peers += self.web_seeds.waiting_for_limit()
        return peers

    def _ask_more(self, peer: Peer | Fetcher, now: float) -> None:
        if isinstance(peer, Fetcher):
            peer.wake()
            return
        self.intake.refill(peer, now)
        peer.flush()

    def _servable(self) -> list[Peer]:
        return [peer for peer in self.peers if peer.upload.is_waiting]

    def _serve_more(self, peer: Peer, now: float) -> None:
        peer.upload.serve(now)
        peer.flush()

    # ------------------------------------------------------------------ the heartbeat

    def heartbeat(self, now: float) -> None:
        """Once a second: dead peers out, snubs, depths, interest, and the choker's rounds."""
        idle_timeout = self.settings.network.idle_timeout
        forget = now >= self._forget_at
        if forget:
            self._forget_at = now + 10.0
        stale, self._interest_stale = self._interest_stale, False
        for peer in list(self.peers):
            peer.heartbeat(now, idle_timeout)
            if peer.is_closed:
                continue
            if peer.upload.is_stuck(now):
                peer.close("takes hardly anything of what it asked for")
                continue
            download = peer.download
            peer.note_traffic(download.pipeline.rate.total + peer.upload.rate.total, now)
            if forget:
                download.forget(now)
            download.pipeline.adjust(now)
            overdue = download.pipeline.is_overdue(len(download.outstanding), now)
            if overdue:
                log.debug("= %s snubs us", peer)
                self.intake.stop_asking(peer, now)
                download.pipeline.snub()
            if stale and not download.outstanding:
                peer.wire.send_interested(self.picker.wants(download.bits))
            if not overdue:  # else the others come first: at once it would take again what it did not give
                self.peer_rests(peer)
        self.intake.drop_untouched()
        self._tell_upload_only()
        self.giving.heartbeat(now)
        if self.web_seeds is not None:
            self.web_seeds.heartbeat(now)
        for extension in self.extensions.values():
            extension.heartbeat(now)
        if now >= self._turn_over_at:
            self._turn_over_at = now + TURN_OVER
            self.admission.turn_over(now)

    # ------------------------------------------------------------------ seen from outside

    @property
    def choker(self) -> Choker:
        return self.giving.choker

    @property
    def is_idle(self) -> bool:
        """Nobody is here, and nobody is being dialled; no web seed gives anything."""
        return not self.peers and not self.dialing and not (self.web_seeds is not None and self.web_seeds.is_busy)

    @property
    def up_rate(self) -> Rate:
        """Payload bytes given."""
        return self.giving.rate

    def held_by(self, now: float) -> tuple[str, str]:
        """Which limit holds data back just now, down and up: "torrent", "session" or ""."""
        return _spent(self.down, now), _spent(self.up, now)

    def peer_snapshots(self) -> tuple[PeerSnapshot, ...]:
        now = self._clock()
        count = self.layout.piece_count or 1
        return tuple(
            PeerSnapshot(
                address=peer.address,
                client=peer.client,
                incoming=peer.incoming,
                progress=1.0 if peer.download.has_all else peer.download.pieces.count() / count,
                down_rate=peer.download.pipeline.rate.rate(now),
                up_rate=peer.upload.rate.rate(now),
                downloaded=peer.download.pipeline.rate.total,
                uploaded=peer.upload.rate.total,
                we_choke=peer.wire.we_choke,
                we_interested=peer.wire.we_interested,
                they_choke=peer.wire.they_choke,
                they_interested=peer.wire.they_interested,
                snubbed=peer.download.pipeline.snubbed,
                requests=len(peer.download.outstanding),
                upload_only=peer.upload_only,
            )
            for peer in self.peers
        )

    def close(self, reason: str = "the torrent is stopped") -> None:
        """All peers go, for good; what is half received is given up, so that others may have the memory."""
        self._closed = True
        if self.web_seeds is not None:
            self.web_seeds.close()
        for peer in list(self.peers):
            peer.close(reason)
        self.intake.drop_untouched()
        self.disk.close()

    def __repr__(self) -> str:
        unchoked = sum(not peer.wire.we_choke for peer in self.peers)
        rate = self.intake.rate.rate(self._clock()) / 1e6
        return (
            f"<Swarm {self.infohash.hex()[:8]} [{len(self.peers)} peers, {unchoked} unchoked"
            f" | {len(self.picker.open)} pieces open | {rate:.1f} MB/s]>"
        )


def _plain(host: str) -> str | None:
    """The address without a scope, for ``yourip``."""
    return host.partition("%")[0] or None


def _spent(limit: Limit, now: float) -> str:
    own, session = limit.buckets
    return "session" if session.is_spent(now) else "torrent" if own.is_spent(now) else ""
