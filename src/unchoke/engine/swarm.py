"""Swarm: the live peers of one torrent: who asks whom for what, and who is served.

It owns no choice: ``picker`` says which blocks, ``pipeline`` how many, ``choker`` who is served, ``smartban`` who lied,
``peerlist`` whom to dial. It carries their decisions out, in synchronous calls from its peers (``PeerOwner``), from the disk,
and from one heartbeat a second. The path of a block is told in docs/architecture.md, *A block arrives*.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from unchoke.bitfield import Bitfield
from unchoke.engine import events
from unchoke.engine.disk import Outcome, TorrentDisk
from unchoke.engine.download import FORGIVEN, MOST_ALLOWED_FAST, Download
from unchoke.engine.peer import Peer
from unchoke.engine.settings import Settings
from unchoke.engine.stats import PeerSnapshot
from unchoke.engine.upload import MOST_REQUESTS, Upload
from unchoke.errors import ProtocolError, StorageError
from unchoke.layout import TorrentLayout
from unchoke.policy.bandwidth import TokenBucket
from unchoke.policy.choker import Candidate, Choker
from unchoke.policy.peerlist import PeerList, Source
from unchoke.policy.picker import OpenPiece, PiecePicker
from unchoke.policy.smartban import SmartBan
from unchoke.protocol import extended, handshake
from unchoke.protocol import messages as m
from unchoke.rates import Rate
from unchoke.types import BLOCK_SIZE, Address, Block, InfoHash, PeerId
from unchoke.version import USER_AGENT

if TYPE_CHECKING:
    from random import Random

    from bitarray import bitarray

log = logging.getLogger(__name__)

#: Seconds that a ``have`` may wait for company: one write for several, for peers that are otherwise silent.
HAVE_DELAY = 0.05
#: Seconds until blocks that came free (a reject, a peer gone) are asked of others: one round for all that come free together.
REFILL_DELAY = 0.05
#: Messages telling nothing new that a peer is forgiven at once, and how many of them are forgotten each second: a correct
#: client sends a few, yet in a conversation of days its chokes alone are thousands.
MOST_REDUNDANT = 1000
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
        self.smartban = SmartBan()
        self.have = Bitfield()
        self.have.bits = picker.have  # one bitfield, two views
        self.down_rate = Rate(clock())
        self.up_rate = Rate(clock())
        self.wasted = 0
        self.corrupt = 0
        self.dialing = 0  # dials under way
        self.last_refusal = ""  # why the last dial or conversation failed
        self._down = down
        self._up = up
        self._clock = clock
        self._port = port
        self._call_later = call_later
        self._verifying: dict[int, OpenPiece] = {}
        self._haves_wait = False
        self._refill_waits = False
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
        return self._duplicate(peer, peer_id)

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
        self._stop_asking(peer, now)
        self.picker.remove_peer(peer.download.bits)
        self.smartban.forget(peer)
        peer.upload.close()
        self._drop_untouched()
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

    def _stop_asking(self, peer: Peer, now: float) -> None:
        """Whatever is open with this peer goes back to the picker, and to others."""
        if peer.download.outstanding:
            self._refill_soon()
        self.picker.released(peer.download.let_all_go(now))
        for piece in self.picker.peer_gone(peer):
            self.disk.drop(piece)

    def _refill_soon(self) -> None:
        """Blocks came free: peers that had nothing to ask for are asked."""
        if not self._refill_waits and not self._closed:
            self._refill_waits = True
            self._call_later(REFILL_DELAY, self._refill_freed)

    def _refill_freed(self) -> None:
        self._refill_waits = False
        if not self._closed:
            self.refill_all()

    def _drop_untouched(self) -> None:
        for piece in self.picker.close_untouched():
            self.disk.drop(piece)

    # ------------------------------------------------------------------ what peers give

    def peer_sent(self, peer: Peer, blocks: m.Blocks) -> None:
        """The hot path: one lookup, one copy, one mark a block (the whole way from buffer to new requests is 4 µs a block:
        docs/decisions/0002)."""
        download = peer.download
        asked, received, put = download.outstanding, self.picker.received, self.disk.put
        total = 0
        for piece, begin, payload in blocks:
            length = len(payload)
            if asked.get((piece, begin)) != length:
                if not self._take_unasked(peer, piece, begin, payload):
                    break
                continue
            del asked[piece, begin]
            total += length
            open_piece = received(peer, piece, begin)
            if open_piece is None:  # in the endgame another was faster
                self._waste(peer, length)
                continue
            put(piece, begin, payload)
            if open_piece.asked_twice:
                self._cancel_elsewhere(peer, (piece, begin))
            if not open_piece.left:
                self._finish(open_piece)
        now = self._clock()
        download.rejects = 0
        download.pipeline.received(len(blocks), total, now)
        self.down_rate.add(total, now)

    def _take_unasked(self, peer: Peer, piece: int, begin: int, payload: memoryview) -> bool:
        """A block that is not among the open questions; False if the peer was closed for it.

        The late answer to a question that was let go is used if still missing, and never punished.
        """
        download = peer.download
        length = len(payload)
        if download.let_go.pop((piece, begin), None) is not None and length == self._block_length(piece, begin):
            if self.picker.needs(peer, piece, begin):
                open_piece = self.picker.received(peer, piece, begin)
                assert open_piece is not None
                self.disk.put(piece, begin, payload)
                self._cancel_elsewhere(peer, (piece, begin))
                if not open_piece.left:
                    self._finish(open_piece)
            else:
                self._waste(peer, length)
            return True
        if not self.layout.contains(Block(piece, begin, length)):
            peer.close(f"sent a block outside the torrent: piece {piece}, {begin} + {length}", fault=True)
            return False
        download.unasked += 1
        if peer.wire.fast or download.unasked > FORGIVEN:
            peer.close("sent a block that nobody asked for", fault=True)
            return False
        self._waste(peer, length)
        return True

    def _block_length(self, piece: int, begin: int) -> int:
        return min(BLOCK_SIZE, self.layout.piece_size(piece) - begin)

    def _waste(self, peer: Peer, length: int) -> None:
        peer.download.wasted += length
        self.wasted += length

    def _cancel_elsewhere(self, giver: Peer, block: tuple[int, int]) -> None:
        """The endgame's other half: whoever else was asked for this block need not send it."""
        for peer in list(self.peers):
            if peer is not giver and peer.download.let_one_go(block, self._clock()):
                peer.wire.send_cancel((*block, self._block_length(*block)))
                peer.flush()

    def _finish(self, open_piece: OpenPiece) -> None:
        self._verifying[open_piece.index] = open_piece
        self.disk.finish(open_piece.index, self._finished)

    def _finished(self, piece: int, outcome: Outcome, error: StorageError | None) -> None:
        """The disk's word on a piece."""
        open_piece = self._verifying.pop(piece)
        if outcome is Outcome.GOOD:
            self.picker.piece_good(piece)
            self.smartban.piece_passed(open_piece.givers)
            self._tell_have(piece)
            self.owner.publish(events.PieceCompleted(self.infohash, piece))
            self.owner.piece_completed(piece)
            if self.picker.is_done:
                self._completed()
        elif outcome is Outcome.BAD:
            self._blame(open_piece)
        else:
            self._withdraw(piece)
            self.picker.piece_bad(piece)
            assert error is not None
            self.owner.storage_failed(error)
        if self.disk.refused and not self._closed:
            self.disk.refused = False
            self.refill_all()

    def _blame(self, open_piece: OpenPiece) -> None:
        givers = [giver for giver in open_piece.givers if isinstance(giver, Peer)]
        self.corrupt += open_piece.size
        verdict = self.smartban.piece_failed(givers)
        self._withdraw(open_piece.index)
        self.picker.piece_bad(open_piece.index, single=verdict.single)
        addresses = tuple(sorted({peer.address for peer in givers}))
        log.warning("! piece %d of %s is wrong, from %s", open_piece.index, self, ", ".join(map(str, addresses)))
        self.owner.publish(events.PieceFailed(self.infohash, open_piece.index, addresses))
        for peer in dict.fromkeys(givers):
            if peer in verdict.banned:
                self._ban(peer, "sent wrong data")

    def _withdraw(self, piece: int) -> None:
        """The piece begins again: what is still asked of it (in the endgame) would come in vain."""
        now = self._clock()
        self._refill_soon()
        for peer in self.peers:
            for block in [block for block in peer.download.outstanding if block[0] == piece]:
                peer.download.let_one_go(block, now)
                peer.wire.send_cancel((*block, self._block_length(*block)))

    def _ban(self, peer: Peer, reason: str) -> None:
        self.peerlist.ban(peer.address.host, reason)
        self.owner.publish(events.PeerBanned(self.infohash, peer.address, reason))
        peer.close(f"banned: {reason}", fault=True)

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
                self._choked(peer, now)
            case m.Unchoke():
                peer.download.rejects = 0
                peer.download.paused_until = 0.0
            case m.Interested():
                if peer.wire.we_choke:
                    self._fill_slots(now)
                self._count_redundant(peer)
            case m.NotInterested():
                if not peer.wire.we_choke:
                    self._fill_slots(now)
                self._count_redundant(peer)
            case m.Cancel(block):
                peer.upload.cancelled(block)
            case m.Reject(block):
                self._rejected(peer, block, now)
            case m.AllowedFast(piece):
                if len(peer.download.allowed_fast) < MOST_ALLOWED_FAST:
                    peer.download.allowed_fast.add(piece)
                self._count_redundant(peer)
            case m.Extended(extension, payload):
                if extension == extended.HANDSHAKE:
                    self._heard_hello(peer, payload)
            case m.Suggest() | m.Port():
                self._count_redundant(peer)

    def _count_redundant(self, peer: Peer) -> None:
        peer.redundant += 1
        if peer.redundant > MOST_REDUNDANT:
            peer.close("floods us with messages that say nothing", fault=True)

    def _heard_have(self, peer: Peer, piece: int) -> None:
        download = peer.download
        if download.has_all or download.pieces[piece]:
            self._count_redundant(peer)
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
            self._count_redundant(peer)
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

    def _choked(self, peer: Peer, now: float) -> None:
        if not peer.wire.fast:  # BEP 6: with it a choke rejects nothing by itself, the rejects follow
            self._stop_asking(peer, now)
        else:
            self._begin_again(peer, self.picker.peer_gone(peer), now)
        self._count_redundant(peer)

    def _begin_again(self, peer: Peer, pieces: list[int], now: float) -> None:
        """Pieces that this peer alone was to give start again; what it still sends of them was asked for another try."""
        for piece in pieces:
            self.disk.drop(piece)
            for block in [block for block in peer.download.outstanding if block[0] == piece]:
                peer.download.let_one_go(block, now)

    def _rejected(self, peer: Peer, block: Block, now: float) -> None:
        """Free the block at once."""
        key = (block.piece, block.begin)
        if peer.download.outstanding.pop(key, None) is not None:
            self._down.take(-block.length)
            self.picker.released([key])
            self._begin_again(peer, self.picker.given_up(peer, block.piece), now)
            self._refill_soon()
            peer.download.rejected(block.piece, now, choked=peer.wire.they_choke)
            self._drop_untouched()
        elif peer.download.let_go.pop(key, None) is None:
            self._count_redundant(peer)

    def _heard_hello(self, peer: Peer, payload: bytes) -> None:
        try:
            hello = extended.decode_extended_handshake(payload)
        except ProtocolError as error:
            peer.close(f"broke the protocol: {error}", fault=True)
            return
        peer.download.pipeline.reqq = hello.reqq
        peer.client = hello.client or peer.client
        if peer.incoming and hello.port:
            peer.listen_address = Address(peer.address.host, hello.port)
            self.peerlist.connected(peer.listen_address, Source.INCOMING, self._clock())
        self._count_redundant(peer)

    # ------------------------------------------------------------------ the end of a wake-up

    def peer_rests(self, peer: Peer) -> None:
        now = self._clock()
        self._refill(peer, now)
        peer.upload.sent()
        if peer.upload.queue:
            peer.upload.serve(now)
        peer.flush()

    def _refill(self, peer: Peer, now: float) -> None:
        """Ask for more, when enough has come to be worth a write."""
        wire, download = peer.wire, peer.download
        if not wire.we_interested or self._closed or now < download.paused_until:
            return
        bits = download.bits
        if wire.they_choke:
            if not download.allowed_fast:
                return
            bits = self._allowed(download)
        outstanding = len(download.outstanding)
        room = download.pipeline.room(outstanding)
        if room <= 0 or (outstanding and room * 8 < outstanding):
            return
        limit = self._down.available(now)
        if limit < room * BLOCK_SIZE:
            room = -int(-limit // BLOCK_SIZE)  # a part of a block lets a whole one pass
            if room <= 0:
                return
        blocks = self.picker.next(peer, bits, room, self.disk.may_open, download.outstanding)
        if not blocks and not outstanding and self.disk.refused:
            # All memory waits for others, who may be slow or silent, and this one idles: let it race them.
            blocks = self.picker.again(bits, room, download.outstanding)
        if not blocks:
            self._nothing_to_ask(peer, bits)
            return
        self._down.take(len(blocks) * BLOCK_SIZE)
        asked = download.outstanding
        download.pipeline.asked(outstanding, now)
        for piece, begin, length in blocks:
            asked[piece, begin] = length
        if len(asked) != outstanding + len(blocks):  # a piece that began again: two answers may come for one question
            download.let_go.update(((piece, begin), now) for piece, begin, _ in blocks)
        wire.send_requests(blocks)

    def _allowed(self, download: Download) -> bitarray:
        """What a peer that chokes us still gives (BEP 6)."""
        allowed = Bitfield(self.layout.piece_count)
        for piece in download.allowed_fast:
            if download.has_all or download.pieces[piece]:
                allowed[piece] = 1
        return allowed.bits

    def _nothing_to_ask(self, peer: Peer, bits: bitarray | None) -> None:
        """Either it has nothing more for us, or memory is spent; pieces that wait for peers long gone must not hold it."""
        download = peer.download
        if download.outstanding or peer.wire.they_choke:
            return
        if not self.picker.wants(bits):
            peer.wire.send_interested(False)
        elif self.disk.refused and bits is not None:
            evicted = self.picker.evict(bits)
            if evicted is not None:
                self.disk.drop(evicted)

    def refill_all(self, first: int = 0) -> None:
        """Somebody waited for memory, or for the limit; ``first`` turns the row, so that the same one is not always last."""
        now = self._clock()
        peers = list(self.peers)
        first %= len(peers) or 1
        for peer in peers[first:] + peers[:first]:
            self._refill(peer, now)
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
                self._stop_asking(peer, now)
                download.pipeline.snub()
            if stale and not download.outstanding:
                peer.wire.send_interested(self.picker.wants(download.bits))
            self.peer_rests(peer)
        self._drop_untouched()
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

    @property
    def is_verifying(self) -> bool:
        """Pieces are on their way to the disk."""
        return bool(self._verifying)

    def close(self, reason: str = "the torrent is stopped") -> None:
        """All peers go, for good; what is half received is given up, so that others may have the memory."""
        self._closed = True
        for peer in list(self.peers):
            peer.close(reason)
        self._drop_untouched()
        self.disk.close()

    def __repr__(self) -> str:
        unchoked = sum(not peer.wire.we_choke for peer in self.peers)
        rate = self.down_rate.rate(self._clock()) / 1e6
        return (
            f"<Swarm {self.infohash.hex()[:8]} [{len(self.peers)} peers, {unchoked} unchoked"
            f" | {len(self.picker.open)} pieces open | {rate:.1f} MB/s]>"
        )


def _plain(host: str) -> str | None:
    """The address without a scope, for ``yourip``."""
    return host.partition("%")[0] or None
