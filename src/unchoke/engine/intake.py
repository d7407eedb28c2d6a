"""Intake: what a swarm takes in: from the blocks asked of its peers to verified pieces on disk.

It owns no choice: ``picker`` says which blocks, ``pipeline`` how many, ``smartban`` who lied. It knows its peers as
conversations it may ask, and tells its swarm of good pieces, wrong ones and liars. (What the swarm gives is in ``upload``
and ``choker``.) The path of a block is told in docs/architecture.md, *A block arrives*.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from unchoke.bitfield import Bitfield
from unchoke.engine import partials
from unchoke.engine.download import FORGIVEN, Download
from unchoke.engine.pieces import IDLE_SHARE, TorrentDisk
from unchoke.engine.verify import Outcome, Result
from unchoke.engine.webseed import WebSeed, WebSeeds
from unchoke.errors import StorageError
from unchoke.layout import TorrentLayout
from unchoke.policy.bandwidth import Limit
from unchoke.policy.picker import Key, OpenPiece, PiecePicker
from unchoke.policy.smartban import SmartBan, Verdict
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

    def ban(self, address: Address, reason: str) -> None: ...

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
        down: Limit,
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
        self.web_seeds: WebSeeds | None = None
        self.down = down
        self._clock = clock
        self._call_later = call_later
        self._verifying: dict[int, OpenPiece] = {}
        self._refill_waits = False
        self._ended = False
        self._idle = self._urgent = False  # of the peer that is being asked
        disk.owner = self

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
            if not put(piece, begin, payload):
                self._overflow(peer, piece, begin, length)
                continue
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
            peer.down.take(length)
            if self.picker.needs(peer, piece, begin):
                open_piece = self.picker.received(peer, piece, begin)
                assert open_piece is not None
                if not self.disk.put(piece, begin, payload):
                    self._overflow(peer, piece, begin, length)
                    return True
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

    def _overflow(self, peer: Peer, piece: int, begin: int, length: int) -> None:
        """The disk has fallen so far behind that the block cannot be kept: it is asked for again."""
        self.picker.lost(piece, begin)
        self._waste(peer, length)
        self._refill_soon()

    def _block_length(self, piece: int, begin: int) -> int:
        return min(BLOCK_SIZE, self.layout.piece_size(piece) - begin)

    def _waste(self, peer: Peer, length: int) -> None:
        peer.download.wasted += length
        self.wasted += length

    def _cancel_elsewhere(self, giver: Key, block: tuple[int, int]) -> None:
        """The endgame's other half: whoever else was asked for this block need not send it."""
        for peer in list(self.owner.peers):
            if peer is not giver and peer.download.let_one_go(block, self._clock()):
                peer.down.take(-self._block_length(*block))
                peer.wire.send_cancel((*block, self._block_length(*block)))
                peer.flush()

    def _finish(self, open_piece: OpenPiece) -> None:
        index = open_piece.index
        self._verifying[index] = open_piece
        self.disk.finish(index, self._finished, examine=self.smartban.examines(index))

    def _finished(self, piece: int, result: Result) -> None:
        """The disk's word on a piece."""
        open_piece = self._verifying.pop(piece)
        if result.outcome is Outcome.GOOD:
            self.picker.piece_good(piece)
            liars = self.smartban.piece_passed(piece, result.digests)
            self.owner.piece_good(piece)
            self._ban(liars, piece)
        elif result.outcome is Outcome.BAD:
            self._blame(open_piece, result.digests)
        else:
            self._withdraw((piece,))
            self.picker.piece_bad(piece)
            assert result.error is not None
            self.owner.storage_failed(result.error)
        if self.disk.refused and not self.owner.is_closed:
            self.disk.refused = False
            self.owner.refill_all()

    def _blame(self, open_piece: OpenPiece, digests: bytes) -> None:
        givers = cast("list[Peer | WebSeed | None]", open_piece.givers)
        self.corrupt += open_piece.size
        suspects = [giver for giver in dict.fromkeys(givers) if giver is not None]
        if len(suspects) == 1 and isinstance(suspects[0], WebSeed) and None not in givers:
            verdict = Verdict(
                (suspects[0].address,)
            )  # smart ban names a liar once; a web seed is judged piece by piece
        else:
            addresses = [giver.address if giver is not None else None for giver in givers]
            verdict = self.smartban.piece_failed(open_piece.index, addresses, digests)
        self._withdraw((open_piece.index,))
        self.picker.piece_bad(open_piece.index, suspects=suspects, single=verdict.single)
        self.owner.piece_wrong(open_piece.index, tuple(sorted({giver.address for giver in suspects})))
        self._ban(verdict.banned, open_piece.index)

    def _ban(self, liars: Collection[Address], piece: int) -> None:
        """What else they gave is forgotten; but not of spilled pieces, where a late write of theirs could hit the better block."""
        for liar in liars:
            if self.web_seeds is not None and self.web_seeds.accuse(liar, piece):
                continue
            self.picker.discard(lambda key: cast("Peer", key).address.host == liar.host, self.disk.spilled)  # noqa: B023
            self.owner.ban(liar, "sent wrong data")

    def _withdraw(self, pieces: Collection[int]) -> None:
        """These begin again, or are given up: what is still asked of them would come in vain."""
        if not pieces:
            return
        now = self._clock()
        self._refill_soon()
        for peer in self.owner.peers:
            for block in [block for block in peer.download.outstanding if block[0] in pieces]:
                peer.download.let_one_go(block, now)
                peer.wire.send_cancel((*block, self._block_length(*block)))

    # ------------------------------------------------------------------ what the disk says (DiskOwner)

    def room_came(self) -> None:
        if not self.owner.is_closed:
            self.owner.refill_all()

    def write_failed(self, piece: int, error: StorageError) -> None:
        if piece in self.picker.open:
            self._withdraw((piece,))
            self.picker.piece_bad(piece)
        if not self.owner.is_closed:
            self.owner.storage_failed(error)

    # ------------------------------------------------------------------ what web seeds give (FetchOwner)

    def take(self, seed: Key, piece: int, begin: int, length: int, data: memoryview | None) -> None:
        """Blocks of an open piece, as ``sent`` takes a peer's; in the piece's memory already, or in ``data``."""
        received = self.picker.received
        self.rate.add(length, self._clock())
        for at in range(0, length, BLOCK_SIZE):
            block = begin + at
            open_piece = received(seed, piece, block)
            if open_piece is None:
                self.waste(seed, min(BLOCK_SIZE, length - at))
                continue
            if data is not None and not self.disk.put(piece, block, data[at : at + BLOCK_SIZE]):
                self.picker.lost(piece, block)
                self.waste(seed, min(BLOCK_SIZE, length - at))
                self._refill_soon()
                continue
            if open_piece.asked_twice:
                self._cancel_elsewhere(seed, (piece, block))
            if not open_piece.left:
                self._finish(open_piece)

    def view(self, piece: int) -> memoryview | None:
        return self.disk.view(piece)

    def waste(self, seed: Key, length: int) -> None:
        cast(WebSeed, seed).wasted += length
        self.wasted += length

    def may_open(self, piece: int) -> bool:
        return self.disk.may_open(piece, asked=self._asked())

    def may_take(self, piece: int) -> bool:
        """A spilled piece has no memory of its own, so what comes for it waits for the disk."""
        return piece not in self.disk.spilled or self.disk.spill_room(0, spare=1) > 0

    def free(self, pieces: Collection[int]) -> None:
        for piece in pieces:
            self.disk.drop(piece)
        self.drop_untouched()
        self._refill_soon()

    @property
    def has_peers(self) -> bool:
        return bool(self.owner.peers)

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
            peer.down.take(-block.length)
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
        if not wire.we_interested or self._ended or self.owner.is_closed or now < download.paused_until:
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
        limit = peer.down.available(now)
        if limit < room * BLOCK_SIZE:
            room = -int(-limit // BLOCK_SIZE)  # a part of a block lets a whole one pass
            if room <= 0:
                return
        self._idle = not outstanding
        blocks = self._pick(peer, bits, room)
        if not blocks and not outstanding and self.disk.refused:
            # All memory waits for others, who may be slow or silent, and this one idles: let it race them, or go round them.
            blocks = self.picker.again(bits, room, download.outstanding) or self._pick_urgently(peer, bits, room)
        if not blocks:
            self._nothing_to_ask(peer, bits)
            return
        peer.down.take(len(blocks) * BLOCK_SIZE)
        asked = download.outstanding
        download.pipeline.asked(outstanding, now)
        for piece, begin, length in blocks:
            asked[piece, begin] = length
        if len(asked) != outstanding + len(blocks):  # a piece that began again: two answers may come for one question
            download.let_go.update(((piece, begin), now) for piece, begin, _ in blocks)
        wire.send_requests(blocks)

    def _pick(self, peer: Peer, bits: bitarray | None, room: int) -> list[Block]:
        download = peer.download
        blocks = self.picker.next(
            peer,
            bits,
            room,
            self._may_open,
            download.outstanding,
            self.disk.spilled,
            self._allowance,
            download.suggested,
        )
        if download.suggested:
            for piece in [piece for piece in download.suggested if not self.picker.may_be_opened(piece)]:
                download.suggested.remove(piece)
                peer.redundant -= 1  # it told something new after all: followed, or overtaken by others
        return blocks

    def _pick_urgently(self, peer: Peer, bits: bitarray | None, room: int) -> list[Block]:
        self._urgent = True
        try:
            return self._pick(peer, bits, room)
        finally:
            self._urgent = False

    def _may_open(self, piece: int) -> bool:
        return self.disk.may_open(piece, asked=self._asked(), urgent=self._urgent)

    def _allowance(self, chosen: int) -> int:
        """How many more blocks of spilled pieces may be asked for."""
        return self.disk.spill_room(self._asked(), spare=IDLE_SHARE - chosen if self._idle else 0)

    def _asked(self) -> int:
        """Blocks of spilled pieces that are asked for. Those of web seeds wait for room before they are read."""
        pieces = self.picker.open
        theirs = self.web_seeds.pieces() if self.web_seeds is not None and self.disk.spilled else ()
        return sum(pieces[index].asked for index in self.disk.spilled if index in pieces and index not in theirs)

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
            evicted = self.picker.evict(bits, self.disk.spilled)
            if evicted is not None:
                self.disk.drop(evicted)

    def stop_asking(self, peer: Peer, now: float) -> None:
        """Whatever is open with this peer goes back to the picker, and to others."""
        if peer.download.outstanding:
            self._refill_soon()
            peer.down.take(-sum(peer.download.outstanding.values()))  # else who never answers eats the limit of all
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

    # ------------------------------------------------------------------ told from above

    def select(self, wanted: bitarray, high: bitarray | None = None, low: bitarray | None = None) -> None:
        """Other pieces are wanted from now on, or other ones first; peers hear whether that makes them interesting.

        Whether the download is complete by it is the caller's to ask (``picker.is_done``).
        """
        dropped = self.picker.select(wanted, high, low)
        self._withdraw(frozenset(dropped))
        self._refill_soon()
        for piece in dropped:
            self.disk.drop(piece)
        for peer in list(self.owner.peers):
            peer.wire.send_interested(self.picker.wants(peer.download.bits))
            peer.flush()

    def take_up(self, partial: Mapping[int, bytes]) -> None:
        """Go on with pieces that an earlier run left unfinished: what its ``save_partials`` returned. Before peers come."""
        for open_piece in partials.take_up(self.disk, self.picker, self.layout, partial):
            self._finish(open_piece)

    async def save_partials(self) -> dict[int, bytes]:
        """The end of taking: what is held of unfinished pieces is written, and pieces that are complete get their verdict.

        Returns piece → a bit a block (the first block is the first byte's highest bit), for those whose blocks all lie in the
        storage now. A piece that cannot be written is left out, and logged. Nothing is asked for or taken afterwards.
        """
        self._ended = True
        self._withdraw({piece.index: None for piece in self.picker.open.values() if piece.left})
        return await partials.save(self.disk, self.picker)

    def __repr__(self) -> str:
        return f"<Intake [{len(self.picker.open)} pieces open | {len(self._verifying)} on their way to the disk]>"
