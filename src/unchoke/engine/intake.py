"""Intake: what a swarm takes in: from the blocks asked of its peers to verified pieces on disk.

It owns no choice: ``picker`` says which blocks, ``pipeline`` how many, ``smartban`` who lied. It knows its peers as
conversations it may ask, and tells its swarm of good pieces, wrong ones and liars. (What the swarm gives is in ``upload``
and ``choker``.) The path of a block is told in docs/architecture.md, *A block arrives*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from unchoke.bitfield import Bitfield
from unchoke.engine.disk import Outcome, TorrentDisk
from unchoke.engine.download import FORGIVEN, Download
from unchoke.errors import StorageError
from unchoke.layout import TorrentLayout
from unchoke.policy.bandwidth import TokenBucket
from unchoke.policy.picker import OpenPiece, PiecePicker
from unchoke.policy.smartban import SmartBan
from unchoke.protocol import messages as m
from unchoke.rates import Rate
from unchoke.types import BLOCK_SIZE, Address, Block

if TYPE_CHECKING:
    from bitarray import bitarray

    from unchoke.engine.peer import Peer

#: Seconds until blocks that came free (a reject, a peer gone) are asked of others: one round for all that come free together.
REFILL_DELAY = 0.05


class IntakeOwner(Protocol):
    """What an intake asks of its swarm, and tells it."""

    peers: dict[Peer, None]

    @property
    def is_closed(self) -> bool: ...

    def count_redundant(self, peer: Peer) -> None: ...

    def piece_good(self, piece: int) -> None: ...

    def piece_wrong(self, piece: int, givers: tuple[Address, ...]) -> None: ...

    def ban(self, peer: Peer, reason: str) -> None: ...

    def storage_failed(self, error: StorageError) -> None: ...

    def refill_all(self) -> None: ...


class Intake:
    """``down``: the session's limit. ``wasted``: bytes that came twice or late; ``corrupt``: bytes of pieces that failed."""

    def __init__(
        self,
        owner: IntakeOwner,
        layout: TorrentLayout,
        disk: TorrentDisk,
        picker: PiecePicker,
        *,
        down: TokenBucket,
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.owner = owner
        self.layout = layout
        self.disk = disk
        self.picker = picker
        self.smartban = SmartBan()
        self.rate = Rate(clock())
        self.wasted = 0
        self.corrupt = 0
        self._down = down
        self._clock = clock
        self._call_later = call_later
        self._verifying: dict[int, OpenPiece] = {}
        self._refill_waits = False

    @property
    def is_verifying(self) -> bool:
        """Pieces are on their way to the disk."""
        return bool(self._verifying)

    # ------------------------------------------------------------------ what peers give

    def sent(self, peer: Peer, blocks: m.Blocks) -> None:
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
        self.rate.add(total, now)

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
        for peer in list(self.owner.peers):
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
            self.owner.piece_good(piece)
        elif outcome is Outcome.BAD:
            self._blame(open_piece)
        else:
            self._withdraw(piece)
            self.picker.piece_bad(piece)
            assert error is not None
            self.owner.storage_failed(error)
        if self.disk.refused and not self.owner.is_closed:
            self.disk.refused = False
            self.owner.refill_all()

    def _blame(self, open_piece: OpenPiece) -> None:
        givers = cast("list[Peer]", open_piece.givers)  # complete, so every block has its giver
        self.corrupt += open_piece.size
        verdict = self.smartban.piece_failed(givers)
        self._withdraw(open_piece.index)
        self.picker.piece_bad(open_piece.index, single=verdict.single)
        self.owner.piece_wrong(open_piece.index, tuple(sorted({peer.address for peer in givers})))
        for peer in dict.fromkeys(givers):
            if peer in verdict.banned:
                self.owner.ban(peer, "sent wrong data")

    def _withdraw(self, piece: int) -> None:
        """The piece begins again: what is still asked of it (in the endgame) would come in vain."""
        now = self._clock()
        self._refill_soon()
        for peer in self.owner.peers:
            for block in [block for block in peer.download.outstanding if block[0] == piece]:
                peer.download.let_one_go(block, now)
                peer.wire.send_cancel((*block, self._block_length(*block)))

    # ------------------------------------------------------------------ what they do not give

    def choked(self, peer: Peer, now: float) -> None:
        if not peer.wire.fast:  # BEP 6: with it a choke rejects nothing by itself, the rejects follow
            self.stop_asking(peer, now)
        else:
            self._begin_again(peer, self.picker.peer_gone(peer), now)
        self.owner.count_redundant(peer)

    def _begin_again(self, peer: Peer, pieces: list[int], now: float) -> None:
        """Pieces that this peer alone was to give start again; what it still sends of them was asked for another try."""
        for piece in pieces:
            self.disk.drop(piece)
            for block in [block for block in peer.download.outstanding if block[0] == piece]:
                peer.download.let_one_go(block, now)

    def rejected(self, peer: Peer, block: Block, now: float) -> None:
        """Free the block at once."""
        key = (block.piece, block.begin)
        if peer.download.outstanding.pop(key, None) is not None:
            self._down.take(-block.length)
            self.picker.released([key])
            self._begin_again(peer, self.picker.given_up(peer, block.piece), now)
            self._refill_soon()
            peer.download.rejected(block.piece, now, choked=peer.wire.they_choke)
            self.drop_untouched()
        elif peer.download.let_go.pop(key, None) is None:
            self.owner.count_redundant(peer)

    # ------------------------------------------------------------------ asking

    def refill(self, peer: Peer, now: float) -> None:
        """Ask for more, when enough has come to be worth a write."""
        wire, download = peer.wire, peer.download
        if not wire.we_interested or self.owner.is_closed or now < download.paused_until:
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

    def stop_asking(self, peer: Peer, now: float) -> None:
        """Whatever is open with this peer goes back to the picker, and to others."""
        if peer.download.outstanding:
            self._refill_soon()
        self.picker.released(peer.download.let_all_go(now))
        for piece in self.picker.peer_gone(peer):
            self.disk.drop(piece)

    def _refill_soon(self) -> None:
        """Blocks came free: peers that had nothing to ask for are asked."""
        if not self._refill_waits and not self.owner.is_closed:
            self._refill_waits = True
            self._call_later(REFILL_DELAY, self._refill_freed)

    def _refill_freed(self) -> None:
        self._refill_waits = False
        if not self.owner.is_closed:
            self.owner.refill_all()

    def drop_untouched(self) -> None:
        for piece in self.picker.close_untouched():
            self.disk.drop(piece)

    def __repr__(self) -> str:
        return f"<Intake [{len(self.picker.open)} pieces open | {len(self._verifying)} on their way to the disk]>"
