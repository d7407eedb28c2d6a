"""Swarm: the live peers of one torrent: who asks whom for what, and who is served.

It owns no choice: ``choker`` says who is served, ``peerlist`` whom to dial; what is taken in, and from whom, is the business
of ``intake``. It carries their decisions out, in synchronous calls from its peers (``PeerOwner``) and from one heartbeat a
second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from unchoke.bitfield import Bitfield
from unchoke.engine import events
from unchoke.engine.disk import TorrentDisk
from unchoke.engine.download import MOST_ALLOWED_FAST, Download
from unchoke.engine.intake import Intake
from unchoke.engine.peer import Peer
from unchoke.engine.settings import Settings
from unchoke.engine.stats import PeerSnapshot
from unchoke.engine.upload import MOST_REQUESTS, Upload
from unchoke.errors import ProtocolError, StorageError
from unchoke.layout import TorrentLayout
from unchoke.policy.bandwidth import TokenBucket
from unchoke.policy.choker import Candidate, Choker
from unchoke.policy.peerlist import PeerList, Source
from unchoke.policy.picker import PiecePicker
from unchoke.protocol import extended, handshake
from unchoke.protocol import messages as m
from unchoke.rates import Rate
from unchoke.types import Address, InfoHash, PeerId
from unchoke.version import USER_AGENT

if TYPE_CHECKING:
    from random import Random


log = logging.getLogger(__name__)

#: Seconds that a ``have`` may wait for company: one write for several, for peers that are otherwise silent.
HAVE_DELAY = 0.05
#: Messages telling nothing new that a peer is forgiven at once, and how many of them are forgotten each second: a correct
#: client sends a few, yet in a conversation of days its chokes alone are thousands.
MOST_REDUNDANT = 1000
#: Bytes of an extended handshake that count as one such message: ours has 100, and reading 64 KiB of nested lists takes 3 ms.
HELLO_SIZE = 256
REDUNDANT_FORGIVEN = 5


class SwarmOwner(Protocol):
    """What a swarm asks of its torrent, and tells it."""

    def publish(self, event: events.Event) -> None: ...

    def piece_completed(self, piece: int) -> None: ...

    def download_completed(self) -> None: ...

    def storage_failed(self, error: StorageError) -> None: ...

    def peers_changed(self, change: int) -> None: ...

    def peers_needed(self) -> None: ...


class Swarm:
    """``down`` and ``up`` are the session's limits; ``clock`` its loop's time."""

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
        self.choker = Choker(rng, settings.choker)
        self.have = Bitfield()
        self.have.bits = picker.have  # one bitfield, two views
        self.up_rate = Rate(clock())
        self.dialing = 0  # dials under way
        self.last_refusal = ""  # why the last dial or conversation failed
        self.intake = Intake(self, layout, disk, picker, down=down, clock=clock, call_later=call_later)
        self._up = up
        self._clock = clock
        self._port = port
        self._call_later = call_later
        self._haves_wait = False
        self._rechoke_at = 0.0
        self._forget_at = 0.0
        self._interest_stale = False
        self._closed = False

    # ------------------------------------------------------------------ peers come and go

    def refusal(self, peer: Peer, peer_id: PeerId) -> str | None:
        """Why this peer may not join, or None."""
        if self._closed:
            return "the torrent is stopped"
        if peer_id == self.peer_id:
            if peer.dialed is not None:
                self.peerlist.exclude(peer.dialed)
            return "it is ourselves"
        if self.peerlist.is_banned(peer.address.host):
            return "banned: " + self.peerlist.banned[peer.address.host]
        if len(self.peers) >= self.settings.network.max_connections_per_torrent:
            return "enough peers"
        if peer.incoming and self._from_host(peer.address.host) >= self.settings.network.max_connections_per_host:
            return "enough peers from this address"
        return self._duplicate(peer, peer_id)

    def _from_host(self, host: str) -> int:
        return sum(peer.incoming and peer.address.host == host for peer in self.peers)

    def _duplicate(self, peer: Peer, peer_id: PeerId) -> str | None:
        """Two conversations with one peer: both sides must keep the same one, so the one the greater peer id dialled stays."""
        for other in self.peers:
            if other.peer_id == peer_id:
                keep_incoming = peer_id > self.peer_id
                if other.incoming != peer.incoming and peer.incoming == keep_incoming:
                    other.close("the same peer connected a second time")
                    return None
                if other.listen_address is None and other.address.host == peer.address.host:
                    other.listen_address = peer.dialed
                return "connected already"
        return None

    def add(self, peer: Peer) -> None:
        """A peer that shook hands joins: it is told what we have, and its messages are read from here on."""
        now = self._clock()
        peer.download = Download(self.layout.piece_count, self.settings.pipeline, now)
        peer.upload = Upload(peer, self, self.disk, self.layout, self._up, now)
        self.picker.add_peer(peer.download.pieces.bits)
        self.peers[peer] = None
        self.owner.peers_changed(1)
        if peer.dialed is not None:
            self.dialing -= 1
            self.peerlist.connected(peer.dialed, Source(0), now)
            self.peerlist.succeeded(peer.dialed)
        peer.hand_over(self, self.layout)
        wire = peer.wire
        if wire.our_handshake is None:
            wire.send_handshake(handshake.Handshake(self.infohash, self.peer_id))
        wire.send_pieces(self.have)
        if wire.extended:
            hello = extended.ExtendedHandshake(
                client=USER_AGENT,
                port=self._port() or None,
                reqq=MOST_REQUESTS,
                yourip=_plain(peer.address.host),
                upload_only=self.picker.is_done,
            )
            wire.send_extended(extended.HANDSHAKE, hello.encode())
        peer.flush()
        log.debug("= %s joined %s", peer, self)
        self.owner.publish(events.PeerConnected(self.infohash, peer.address, peer.incoming))
        peer.resume()

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
        self.intake.smartban.forget(peer)
        peer.upload.close()
        self.intake.drop_untouched()
        if fault:
            self.last_refusal = reason
        if peer.listen_address is not None:
            (self.peerlist.failed if fault else self.peerlist.left)(peer.listen_address, reason, now)
        if peer.wire.they_interested and not self._closed:
            self._fill_slots(now)
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

    # ------------------------------------------------------------------ what peers give

    def peer_sent(self, peer: Peer, blocks: m.Blocks) -> None:
        self.intake.sent(peer, blocks)

    # ------------------------------------------------------------------ what the intake tells (IntakeOwner)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def piece_good(self, piece: int) -> None:
        self._tell_have(piece)
        self.owner.publish(events.PieceCompleted(self.infohash, piece))
        self.owner.piece_completed(piece)
        if self.picker.is_done:
            self._completed()

    def piece_wrong(self, piece: int, givers: tuple[Address, ...]) -> None:
        log.warning("! piece %d of %s is wrong, from %s", piece, self, ", ".join(map(str, givers)))
        self.owner.publish(events.PieceFailed(self.infohash, piece, givers))

    def storage_failed(self, error: StorageError) -> None:
        self.owner.storage_failed(error)

    def ban(self, peer: Peer, reason: str) -> None:
        self.peerlist.ban(peer.address.host, reason)
        self.owner.publish(events.PeerBanned(self.infohash, peer.address, reason))
        for other in list(self.peers):  # whoever lies has more than one port
            if other.address.host == peer.address.host:
                other.close(f"banned: {reason}", fault=True)

    def _completed(self) -> None:
        self.owner.download_completed()
        for peer in list(self.peers):
            if peer.download.has_all:
                peer.close("both have everything")
            else:
                peer.wire.send_interested(False)
                peer.flush()

    def _tell_have(self, piece: int) -> None:
        """Tell those that lack it. Busy peers get it with their next write, silent ones within HAVE_DELAY."""
        self._interest_stale = True
        for peer in self.peers:
            if not peer.download.has_all and not peer.download.pieces[piece]:
                peer.wire.send_have(piece)
        if not self._haves_wait:
            self._haves_wait = True
            self._call_later(HAVE_DELAY, self._flush_haves)

    def _flush_haves(self) -> None:
        self._haves_wait = False
        for peer in list(self.peers):
            peer.flush()

    # ------------------------------------------------------------------ what peers ask and say

    def peer_asked(self, peer: Peer, requests: m.Requests) -> None:
        peer.upload.asked(requests)

    def peer_said(self, peer: Peer, message: m.Message) -> None:
        now = self._clock()
        match message:
            case m.Have(piece):
                self._heard_have(peer, piece)
            case m.HaveBitfield(pieces):
                self._heard_pieces(peer, pieces)
            case m.HaveAll():
                self._heard_pieces(peer, Bitfield(self.layout.piece_count, filled=True))
            case m.HaveNone():
                pass
            case m.Choke():
                self.intake.choked(peer, now)
            case m.Unchoke():
                peer.download.rejects = 0
                peer.download.paused_until = 0.0
                self.count_redundant(peer)
            case m.Interested():
                if peer.wire.we_choke:
                    self._fill_slots(now)
                self.count_redundant(peer)
            case m.NotInterested():
                if not peer.wire.we_choke:
                    self._fill_slots(now)
                self.count_redundant(peer)
            case m.Cancel(block):
                if not peer.upload.cancelled(block):
                    self.count_redundant(peer)
            case m.Reject(block):
                self.intake.rejected(peer, block, now)
            case m.AllowedFast(piece):
                if len(peer.download.allowed_fast) < MOST_ALLOWED_FAST:
                    peer.download.allowed_fast.add(piece)
                self.count_redundant(peer)
            case m.Extended(extension, payload):
                if extension == extended.HANDSHAKE:
                    self._heard_hello(peer, payload)
                else:
                    self.count_redundant(peer)
            case m.Suggest() | m.Port():
                self.count_redundant(peer)

    def count_redundant(self, peer: Peer, weight: int = 1) -> None:
        peer.redundant += weight
        if peer.redundant > MOST_REDUNDANT:
            peer.close("floods us with messages that say nothing", fault=True)

    def _heard_have(self, peer: Peer, piece: int) -> None:
        download = peer.download
        if download.has_all or download.pieces[piece]:
            self.count_redundant(peer)
            return
        download.pieces[piece] = 1
        self.picker.add_have(piece)
        if not peer.wire.we_interested and self.picker.wants_piece(piece):
            peer.wire.send_interested(True)
        if download.pieces.all():
            self._is_seed(peer)

    def _heard_pieces(self, peer: Peer, pieces: Bitfield) -> None:
        """``bitfield`` or ``have all``: at first, and from some clients again in place of many ``have``."""
        download = peer.download
        if download.has_all or not pieces.has_any_missing_from(download.pieces):
            self.count_redundant(peer)
            return
        self.picker.remove_peer(download.pieces.bits)
        download.pieces.bits |= pieces.bits
        self.picker.add_peer(download.pieces.bits)
        if download.pieces.all():
            self._is_seed(peer)
        if not peer.is_closed:
            peer.wire.send_interested(self.picker.wants(download.bits))

    def _is_seed(self, peer: Peer) -> None:
        """From counted bits to one integer; and two seeds have nothing to say to each other."""
        self.picker.remove_peer(peer.download.pieces.bits)
        peer.download.has_all = True
        if peer.listen_address is not None:
            self.peerlist.is_seed(peer.listen_address)
        self.picker.add_peer(None)
        if self.picker.is_done and not self._closed:
            peer.close("both have everything")

    def _heard_hello(self, peer: Peer, payload: bytes) -> None:
        try:
            hello = extended.decode_extended_handshake(payload)
        except ProtocolError as error:
            peer.close(f"broke the protocol: {error}", fault=True)
            return
        peer.download.pipeline.reqq = hello.reqq
        peer.client = hello.client or peer.client
        if (
            peer.incoming and hello.port and peer.listen_address is None
        ):  # said once; strangers change their minds for fun
            peer.listen_address = Address(peer.address.host, hello.port)
            self.peerlist.connected(peer.listen_address, Source.INCOMING, self._clock())
        self.count_redundant(peer, 1 + len(payload) // HELLO_SIZE)

    # ------------------------------------------------------------------ the end of a wake-up

    def peer_rests(self, peer: Peer) -> None:
        now = self._clock()
        self.intake.refill(peer, now)
        peer.upload.sent()
        if peer.upload.queue:
            peer.upload.serve(now)
        peer.flush()

    def refill_all(self, first: int = 0) -> None:
        """Somebody waited for memory, or for the limit; ``first`` turns the row, so that the same one is not always last."""
        now = self._clock()
        peers = list(self.peers)
        first %= len(peers) or 1
        for peer in peers[first:] + peers[:first]:
            self.intake.refill(peer, now)
            if peer.upload.is_waiting:
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
            if peer.redundant > MOST_REDUNDANT:
                self.count_redundant(peer)
                continue
            if peer.upload.is_stuck(now):
                peer.close("takes nothing of what it asked for")
                continue
            download = peer.download
            peer.redundant = max(0, peer.redundant - REDUNDANT_FORGIVEN)
            if forget:
                download.forget(now)
            download.pipeline.adjust(now)
            if download.pipeline.is_overdue(len(download.outstanding), now):
                log.debug("= %s snubs us", peer)
                self.intake.stop_asking(peer, now)
                download.pipeline.snub()
            if stale and not download.outstanding:
                peer.wire.send_interested(self.picker.wants(download.bits))
            self.peer_rests(peer)
        self.intake.drop_untouched()
        if now >= self._rechoke_at:
            self._rechoke_at = now + self.settings.choker.interval
            chosen = self.choker.rechoke(self._candidates(now), seeding=self.picker.is_done, now=now)
            self._apply(chosen, now)

    def _candidates(self, now: float) -> list[Candidate]:
        return [
            Candidate(
                key=peer,
                interested=peer.wire.they_interested,
                unchoked=not peer.wire.we_choke,
                gives=peer.download.pipeline.rate.rate(now),
                takes=peer.upload.rate.rate(now),
                unchoked_since=peer.upload.unchoked_since,
                connected_at=peer.connected_at,
                snubbed=peer.download.pipeline.snubbed,
            )
            for peer in self.peers
        ]

    def _fill_slots(self, now: float) -> None:
        self._apply(self.choker.fill(self._candidates(now)), now)

    def _apply(self, chosen: Iterable[object], now: float) -> None:
        chosen = set(chosen)
        for peer in list(self.peers):
            if peer in chosen and peer.wire.we_choke:
                peer.wire.send_unchoke()
                peer.upload.unchoked_since = now
            elif peer not in chosen and not peer.wire.we_choke:
                peer.upload.choke()
            else:
                continue
            peer.flush()

    # ------------------------------------------------------------------ what uploads ask (UploadOwner)

    def has_piece(self, piece: int) -> bool:
        return bool(self.picker.have[piece])

    def uploaded(self, length: int) -> None:
        self.up_rate.add(length, self._clock())

    def read_failed(self, error: StorageError) -> None:
        self.owner.storage_failed(error)

    # ------------------------------------------------------------------ seen from outside

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
            )
            for peer in self.peers
        )

    def close(self, reason: str = "the torrent is stopped") -> None:
        """All peers go, for good; what is half received is given up, so that others may have the memory."""
        self._closed = True
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
