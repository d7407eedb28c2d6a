"""Suggester: which piece a seed suggests to each peer that it serves, so that it gives all once before it gives any twice (BEP 6).

Peers that a seed serves at the same time do not know what the others ask for; each takes one of the rarest by chance, and a
young swarm gets two copies of much before it has one of everything. So each is suggested pieces of its own: first such as
nobody has shown and nobody was given; then those that hardly anybody shows, for their owner may keep them to himself. When it
asks for one, it is told of the next, so that some are always ahead; one that goes its own way several times in a row is left alone.

It is advice: any piece is served to anybody, and a healthy swarm, where every piece is at several peers, hears nothing of it.
(To hide pieces is ``superseed``'s.)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from unchoke.layout import TorrentLayout
from unchoke.types import BLOCK_SIZE

if TYPE_CHECKING:
    from random import Random

    from bitarray import bitarray

Key = Hashable

#: Bytes that a peer asks for at once when its turn begins: 8 blocks (ours, and about what others ask a peer they do not know).
FIRST_ASKED = 8 * BLOCK_SIZE
#: Pieces suggested ahead, and pieces under way with one peer, at most.
MOST_AHEAD = 8
MOST_UNDER_WAY = 64
#: Pieces in a row that a peer began against our advice: from then on it gets none. A few are the rest of an earlier turn.
IGNORED = 8
#: Peers that show a piece from which on it is safe: one may leave, and one give nothing.
ENOUGH = 3


class _Turn:
    """One peer's: what it was told of and has not asked for, and the bytes that it has yet to get of pieces that it asked for."""

    __slots__ = ("advised", "ahead", "ignored", "under_way")

    def __init__(self, *, advised: bool) -> None:
        self.advised = advised
        self.ahead: dict[int, None] = {}
        self.under_way: dict[int, int] = {}
        self.ignored = 0


class Suggester:
    """``fresh``: the pieces that nobody shows. ``rarest(candidates)`` are those of the candidates that fewest peers have,
    ``copies(piece)`` says how many have one."""

    __slots__ = ("_ahead", "_copies", "_fresh", "_layout", "_rarest", "_rng", "_seen", "_turns")

    def __init__(
        self,
        rng: Random,
        fresh: bitarray,
        layout: TorrentLayout,
        *,
        rarest: Callable[[bitarray], bitarray],
        copies: Callable[[int], int],
    ) -> None:
        self._rng = rng
        self._fresh = fresh.copy()  # seen at nobody, and given to nobody
        self._seen = ~fresh
        self._layout = layout
        self._rarest = rarest
        self._copies = copies
        self._ahead = min(1 + FIRST_ASKED // layout.piece_length, MOST_AHEAD)
        self._turns: dict[Key, _Turn] = {}

    def begin(self, key: Key, *, advised: bool) -> None:
        """A peer's turn begins; ``advised``: it understands suggestions."""
        self._turns[key] = _Turn(advised=advised)

    def end(self, key: Key) -> None:
        """It is choked, or gone: what it was told of, and what it has only a part of, is for others."""
        self._turns.pop(key, None)

    def suggest(self, key: Key, lacks: bitarray) -> list[int]:
        """The pieces to suggest to this peer now; ``lacks`` are those that it lacks and we have. None if enough are ahead."""
        turn = self._turns.get(key)
        if turn is None or not turn.advised or len(turn.under_way) >= MOST_UNDER_WAY:
            return []
        found: list[int] = []
        while len(turn.ahead) < self._ahead:
            candidates = self._candidates(lacks)
            if not candidates.any():
                break
            piece = candidates.find(1, self._rng.randrange(len(candidates)))  # chance enough, and without counting
            if piece < 0:
                piece = candidates.find(1)
            turn.ahead[piece] = None
            found.append(piece)
        return found

    def _candidates(self, lacks: bitarray) -> bitarray:
        fresh = self._without_busy(self._fresh & lacks)
        if fresh.any():
            return fresh
        rare = self._rarest(self._without_busy(self._seen & lacks))
        if rare.any() and self._copies(rare.find(1)) >= ENOUGH:
            rare.setall(0)
        return rare

    def _without_busy(self, pieces: bitarray) -> bitarray:
        for turn in self._turns.values():
            for piece in turn.ahead:
                pieces[piece] = 0
            for piece in turn.under_way:
                pieces[piece] = 0
        return pieces

    def asked(self, key: Key, piece: int) -> bool:
        """A peer asked for a block of this piece, and before for one of another. True: it began it, and may hear of the next.

        One that jumps to and fro between pieces begins none, and costs nothing.
        """
        turn = self._turns.get(key)
        if turn is None or piece in turn.under_way or len(turn.under_way) >= MOST_UNDER_WAY:
            return False
        if piece in turn.ahead:
            del turn.ahead[piece]
            turn.ignored = 0
        elif turn.ahead:
            turn.ignored += 1
            if turn.ignored >= IGNORED:
                turn.advised = False
                turn.ahead.clear()
        turn.under_way[piece] = self._layout.piece_size(piece)
        return turn.advised

    def gave(self, key: Key, piece: int, length: int) -> None:
        """So many bytes of the piece went to this peer."""
        turn = self._turns.get(key)
        if turn is not None and piece in turn.under_way:
            turn.under_way[piece] -= length
            if turn.under_way[piece] <= 0:
                del turn.under_way[piece]
                self._fresh[piece] = 0

    def seen(self, pieces: int | bitarray) -> None:
        """Somebody shows a piece, or many."""
        if isinstance(pieces, int):
            self._fresh[pieces] = 0
            self._seen[pieces] = 1
        else:
            self._fresh &= ~pieces
            self._seen |= pieces

    def __repr__(self) -> str:
        ahead = sum(len(turn.ahead) for turn in self._turns.values())
        return f"<Suggester [{len(self._turns)} peers served | {self._fresh.count(1)} fresh pieces, {ahead} suggested]>"
