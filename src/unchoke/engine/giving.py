"""Giving: what a swarm gives: who is served (the choker's rounds), what peers are told that we have, and super-seeding.

It owns no choice: ``choker`` says who is served, ``superseed`` which piece is shown to whom, the slot pool how many may be
served at a time. How one peer is served is in ``upload``. (What the swarm takes is ``intake``'s.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Protocol, cast

from bitarray import bitarray
from bitarray.util import zeros

from unchoke.bitfield import Bitfield
from unchoke.engine.settings import Settings
from unchoke.errors import StorageError
from unchoke.layout import TorrentLayout
from unchoke.policy.choker import Candidate, Choker, SlotPool
from unchoke.policy.picker import PiecePicker
from unchoke.policy.suggest import Suggester
from unchoke.policy.superseed import SuperSeed
from unchoke.rates import Rate

if TYPE_CHECKING:
    from random import Random

    from unchoke.engine.peer import Peer

log = logging.getLogger(__name__)

#: Seconds that a ``have`` may wait for company: one write for several, for peers that are otherwise silent.
HAVE_DELAY = 0.05
#: Seconds in which those that have become interested are heard before free slots are given to the best of them.
FILL_DELAY = 0.1
#: ``have`` messages sent in one heartbeat when super-seeding ends and all peers are to be told of everything: 10 ms of work.
MOST_HAVES = 40_000
#: Super-seeding, a peer is told of as many pieces as it takes in so many seconds, and of at least one and at most so many:
#: otherwise a fast line waits a tenth of a second for each.
SHOWN_SECONDS = 1.0
MOST_SHOWN = 32


class GivingOwner(Protocol):
    """What a giving asks of its swarm."""

    peers: dict[Peer, None]

    @property
    def is_closed(self) -> bool: ...

    def storage_failed(self, error: StorageError) -> None: ...


class Giving:
    """``slots``: what all torrents share. ``rate``: payload bytes given. ``most``: peers served at a time, changeable."""

    def __init__(
        self,
        owner: GivingOwner,
        picker: PiecePicker,
        settings: Settings,
        rng: Random,
        *,
        layout: TorrentLayout,
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
        slots: SlotPool | None = None,
        super_seed: bool = False,
    ) -> None:
        self.owner = owner
        self.picker = picker
        self.choker = Choker(rng, settings.choker, piece_length=layout.piece_length)
        self.rate = Rate(clock())
        self.slots = slots or SlotPool(settings.choker.total_slots)
        self.most = settings.choker.slots
        self.super_seed: SuperSeed | None = None
        if super_seed and picker.have.all():
            self.super_seed = SuperSeed(
                len(picker.have),
                rng,
                clock(),
                rarest=picker.rarest,
                copies=picker.availability,
                settings=settings.superseed,
            )
        self._layout = layout
        self._rng = rng
        self._suggester: Suggester | None = None
        self._interval = settings.choker.interval
        self._untold: dict[Peer, bitarray] = {}  # what peers were not told of while we were super-seeding
        self._clock = clock
        self._call_later = call_later
        self._haves_wait = False
        self._fill_waits = False
        self._rechoke_at = 0.0

    # ------------------------------------------------------------------ peers come and go

    def joined(self, peer: Peer, now: float) -> None:
        """Tell it what we have: right after the handshakes."""
        if self.super_seed is None:
            have = Bitfield()
            have.bits = self.picker.have
            peer.wire.send_pieces(have)
        else:
            peer.wire.send_pieces(Bitfield(len(self.picker.have)))
            self.super_seed.joined(peer, now)

    def gone(self, peer: Peer, now: float) -> None:
        self._untold.pop(peer, None)
        if self._suggester is not None:
            self._suggester.end(peer)
        if self.super_seed is not None:
            self.super_seed.gone(peer)
        if not peer.wire.we_choke:
            self._count_slots()
        if self.owner.is_closed:
            self.slots.forget(self)
        elif peer.wire.they_interested:
            self.fill_slots(now)

    # ------------------------------------------------------------------ who is served

    def heartbeat(self, now: float) -> None:
        """Once a second."""
        if self.super_seed is not None:
            self._show_more(self.super_seed, now)
        if self._untold:
            self._tell_untold()
        if not self.picker.is_done:
            for peer in list(self.owner.peers):
                self._weigh(peer, now)
        if now >= self._rechoke_at:
            self._rechoke_at = now + self._interval
            self.rechoke(now)

    def _weigh(self, peer: Peer, now: float) -> None:
        """Credit is no turn: it ends as soon as it is spent, for an idle line gives many pieces in a round."""
        upload, got = peer.upload, peer.download.pipeline.rate.total
        upload.weigh(in_debt=self.choker.is_in_debt(upload.rate.total, got, now - peer.connected_at))
        if upload.free_rider and not peer.wire.we_choke:
            upload.choke(now)
            peer.flush()
            self._count_slots()
            self._fill_soon()

    def rechoke(self, now: float) -> None:
        """The choker's round: everybody is compared."""
        for peer in self.owner.peers:
            peer.upload.settle(peer.download.pipeline.rate.total, now)
        candidates = self._candidates(now)
        slots = self._ask_slots(candidates, now)
        self.apply(self.choker.rechoke(candidates, seeding=self.picker.is_done, now=now, slots=slots), now)

    def fill_slots(self, now: float) -> None:
        """Between rounds: slots that fell free go to those that wait.

        A piece that we got first makes all our peers interested at once; then not the quickest is to be served but who gives
        most, so all are heard before.
        """
        if self.picker.is_done or len(self.owner.peers) <= self.most:
            self._fill(now)
        else:
            self._fill_soon()

    def _fill_soon(self) -> None:
        if not self._fill_waits:
            self._fill_waits = True
            self._call_later(FILL_DELAY, self._fill_now)

    def _fill_now(self) -> None:
        self._fill_waits = False
        if not self.owner.is_closed:
            self._fill(self._clock())

    def _fill(self, now: float) -> None:
        candidates = self._candidates(now)
        self.apply(self.choker.fill(candidates, slots=self._ask_slots(candidates, now)), now)

    def _ask_slots(self, candidates: list[Candidate], now: float) -> int:
        return self.slots.ask(self, min(self.most, sum(candidate.interested for candidate in candidates)), now)

    def _candidates(self, now: float) -> list[Candidate]:
        seeding = self.picker.is_done
        return [
            Candidate(
                key=peer,
                interested=peer.wire.they_interested,
                unchoked=not peer.wire.we_choke,
                gives=0.0 if seeding else peer.upload.gives,
                takes=peer.upload.rate.rate(now),
                taken=peer.upload.rate.total - peer.upload.taken_before,
                owes=0 if seeding else peer.upload.rate.total - peer.download.pipeline.rate.total,
                unchoked_since=peer.upload.unchoked_since,
                connected_at=peer.connected_at,
                snubbed=peer.download.pipeline.snubbed,
                free_rider=not seeding and peer.upload.free_rider,
            )
            for peer in self.owner.peers
        ]

    def apply(self, chosen: Mapping[object, None], now: float) -> None:
        """Unchoke these, choke all others."""
        for peer in list(self.owner.peers):
            if peer in chosen and peer.wire.we_choke:
                self._advise(peer)
                peer.upload.unchoke(now)
            elif peer not in chosen and not peer.wire.we_choke:
                peer.upload.choke(now)
                if self._suggester is not None:
                    self._suggester.end(peer)
            else:
                continue
            peer.flush()
        self._count_slots()

    def _count_slots(self) -> None:
        self.slots.use(self, sum(not peer.wire.we_choke for peer in self.owner.peers))

    # ------------------------------------------------------------------ what uploads ask (UploadOwner)

    def may_serve(self, peer: Peer, piece: int) -> bool:
        """We have it, and it was not hidden from this peer."""
        return bool(self.picker.have[piece]) and (self.super_seed is None or self.super_seed.may_have(peer, piece))

    def now(self) -> float:
        return self._clock()

    def asked(self, peer: Peer, piece: int) -> None:
        """It asked for a block of another piece than before."""
        if self._suggester is not None and self._suggester.asked(peer, piece):
            self._suggest(self._suggester, peer)

    def uploaded(self, peer: Peer, piece: int, length: int) -> None:
        now = self._clock()
        self.rate.add(length, now)
        if self.super_seed is not None:
            if self.super_seed.gave(peer, piece, length, self._layout.piece_size(piece), now):
                self._show(self.super_seed, [peer])
        elif self._suggester is not None:
            self._suggester.gave(peer, piece, length)
        if not self.picker.is_done:
            self._weigh(peer, now)

    def read_failed(self, error: StorageError) -> None:
        self.owner.storage_failed(error)

    # ------------------------------------------------------------------ what peers are advised to ask for

    def _advise(self, peer: Peer) -> None:
        """Its turn begins: an ordinary seed tells it what to ask for, so that it need not guess what others ask for."""
        if not self.picker.is_done or self.super_seed is not None:
            return
        if self._suggester is None:
            picker = self.picker
            unseen = picker.rarest(picker.have)
            if picker.availability(unseen.find(1)):
                unseen = zeros(len(unseen), "big")
            self._suggester = Suggester(
                self._rng, unseen, self._layout, rarest=picker.rarest, copies=picker.availability
            )
        self._suggester.begin(peer, advised=peer.wire.fast)
        self._suggest(self._suggester, peer)

    def _suggest(self, suggester: Suggester, peer: Peer) -> None:
        for piece in suggester.suggest(peer, self.picker.have & ~peer.download.pieces.bits):
            peer.wire.send_suggest(piece)

    # ------------------------------------------------------------------ what peers are told that we have

    def tell_have(self, piece: int) -> None:
        """Tell those that lack it, and seeds, that they know what to suggest.

        Busy peers get it with their next write, silent ones within HAVE_DELAY.
        """
        for peer in self.owner.peers:
            if peer.download.has_all or not peer.download.pieces[piece]:
                peer.wire.send_have(piece)
        if not self._haves_wait:
            self._haves_wait = True
            self._call_later(HAVE_DELAY, self._flush_haves)

    def _flush_haves(self) -> None:
        self._haves_wait = False
        for peer in list(self.owner.peers):
            peer.flush()

    # ------------------------------------------------------------------ super-seeding

    def seen(self, peer: Peer, piece: int) -> None:
        """A peer told us of a piece it has."""
        if self.super_seed is not None:
            self._show(self.super_seed, cast("list[Peer]", self.super_seed.seen(peer, piece, self._clock())))
        elif self._suggester is not None:
            self._suggester.seen(piece)

    def seen_many(self, peer: Peer) -> None:
        """A peer told us of many, or that it has none."""
        if self.super_seed is not None:
            free = cast("list[Peer]", self.super_seed.seen(peer, peer.download.pieces.bits, self._clock()))
            self._show(self.super_seed, [*free, peer])
        elif self._suggester is not None:
            self._suggester.seen(peer.download.pieces.bits)

    def _show(self, super_seed: SuperSeed, peers: Iterable[Peer]) -> None:
        """Tell each of more pieces, if it has too few to give on."""
        now = self._clock()
        for peer in peers:
            if peer in self.owner.peers:
                self._show_one(super_seed, peer, now)

    def _show_one(self, super_seed: SuperSeed, peer: Peer, now: float) -> None:
        depth = max(1, min(MOST_SHOWN, int(peer.upload.rate.rate(now) * SHOWN_SECONDS / self._layout.piece_length)))
        shown = False
        while (piece := super_seed.reveal(peer, peer.download.pieces.bits, now, depth)) is not None:
            peer.wire.send_have(piece)
            shown = True
        if shown:
            peer.flush()

    def _show_more(self, super_seed: SuperSeed, now: float) -> None:
        """Those that were told of nothing, or are due one more because the line idles; and the end of it all."""
        lacking: dict[Hashable, bitarray] = {
            peer: peer.download.pieces.bits for peer in self.owner.peers if not peer.download.has_all
        }
        super_seed.tick(lacking, len(self.owner.peers) - len(lacking), now)
        if super_seed.ended:
            self._end_super_seeding(super_seed)
            return
        self._show(super_seed, cast("Iterable[Peer]", lacking))

    def _end_super_seeding(self, super_seed: SuperSeed) -> None:
        """From here on an ordinary seed: everybody is told of everything, some in each heartbeat."""
        log.info("= super-seeding ends: %s", super_seed.ended)
        self.super_seed = None
        for peer in self.owner.peers:
            if not peer.download.has_all:
                self._untold[peer] = self.picker.have & ~super_seed.told(peer)

    def _tell_untold(self) -> None:
        most = max(1, MOST_HAVES // len(self._untold))
        for peer, untold in list(self._untold.items()):
            untold &= ~peer.download.pieces.bits
            for piece in list(islice(untold.search(1), most)):
                untold[piece] = 0
                peer.wire.send_have(piece)
            peer.flush()
            if not untold.any():
                self._untold.pop(peer, None)

    def __repr__(self) -> str:
        unchoked = sum(not peer.wire.we_choke for peer in self.owner.peers)
        return f"<Giving [{unchoked} of {len(self.owner.peers)} unchoked | {self.super_seed or 'ordinary'}]>"
