"""SuperSeed: a first seed that shows each peer one piece at a time, so that a whole copy leaves it before any part does twice (BEP 16).

A peer that joins is told nothing of what we have but one piece, different ones for different peers. It is told of the next
when the first was seen at somebody else: then it gave it on, or a third did. What it was not told of it is not given. On a fast
line it is told of several at a time, or each piece would cost a round through the swarm.
A piece counts as out once somebody shows it; one whose only taker left without that is shown again. When every piece
was shown to somebody, only those are shown again that no more than one peer has and nobody is to give on: the rest the peers
have from each other.

``idle_reveal`` seconds of an idle line bring one more piece, the rarest, to whoever waits longest. When nothing at all has moved
for ``patience`` seconds it ends: then the peers are not connected with each other, or keep to themselves. So it does when
there are ``enough_seeds`` others. Ended means an ordinary seed, for good.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitarray import bitarray
from bitarray.util import ones, zeros

if TYPE_CHECKING:
    from random import Random

Key = Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperSeedSettings:
    """Only for the first seed of a torrent, and only while it is alone."""

    idle_reveal: float = 5.0
    """Seconds without an upload until the peer that waits longest is shown one more piece: our line is the scarcest."""

    patience: float = 60.0
    """Seconds in which nothing was given and no peer showed a new piece, though somebody lacks something, until we are an
    ordinary seed again."""

    enough_seeds: int = 2
    """Other seeds among our peers that make it pointless."""


class _Taker:
    """One peer: what it was told of, and the pieces that it is to give on, with the bytes of each that it was given."""

    __slots__ = ("idle", "pieces", "since", "told")

    def __init__(self, count: int, now: float) -> None:
        self.told: bitarray = zeros(count, "big")
        self.pieces: dict[int, int] = {}
        self.since = now  # when it was told of the last
        self.idle = False  # it may be told of any piece, as our line idles


class SuperSeed:
    """``rarest(candidates)`` are those of the candidates that fewest peers have, ``copies(piece)`` says how many have one."""

    __slots__ = (
        "_copies",
        "_fresh",
        "_out",
        "_rarest",
        "_rng",
        "_seen_at",
        "_takers",
        "ended",
        "settings",
        "uploaded_at",
    )

    def __init__(
        self,
        piece_count: int,
        rng: Random,
        now: float,
        *,
        rarest: Callable[[bitarray], bitarray],
        copies: Callable[[int], int],
        settings: SuperSeedSettings | None = None,
    ) -> None:
        self.settings = settings or SuperSeedSettings()
        self.ended = ""  # why, in words
        self.uploaded_at = now
        self._rng = rng
        self._rarest = rarest
        self._copies = copies
        self._seen_at = now
        self._fresh: bitarray = ones(piece_count, "big")  # shown to nobody who is still there
        self._out: bitarray = zeros(piece_count, "big")  # seen at somebody
        self._takers: dict[Key, _Taker] = {}

    def joined(self, key: Key, now: float) -> None:
        """A peer came. What it has is not known yet: ``reveal`` when it has told."""
        self._takers[key] = _Taker(len(self._fresh), now)

    def gone(self, key: Key) -> None:
        """Its piece, if nobody else shows it, goes to another."""
        taker = self._takers.pop(key, None)
        for piece in taker.pieces if taker is not None else ():
            if not self._out[piece]:
                self._fresh[piece] = not any(piece in other.pieces for other in self._takers.values())

    def may_have(self, key: Key, piece: int) -> bool:
        """Was it told of this piece?"""
        taker = self._takers.get(key)
        return taker is not None and bool(taker.told[piece])

    def reveal(self, key: Key, has: bitarray, now: float, depth: int = 1) -> int | None:
        """The piece to tell this peer of now, if it has fewer than ``depth`` to give on. ``has``: what it has."""
        taker = self._takers.get(key)
        if taker is None or (len(taker.pieces) >= depth and not taker.idle):
            return None
        piece = self._choose(~(has | taker.told), any_out=taker.idle)
        if piece is not None:
            taker.pieces[piece], taker.since = 0, now
            taker.idle = False
            taker.told[piece] = 1
            self._fresh[piece] = 0
        return piece

    def seen(self, key: Key, pieces: int | bitarray, now: float) -> list[Key]:
        """A peer shows a piece, or many. Returns those who may be told of another: theirs is at somebody else now."""
        self._seen_at = now
        if isinstance(pieces, int):
            self._out[pieces] = 1
            self._fresh[pieces] = 0
        else:
            self._out |= pieces
            self._fresh &= ~pieces
        free: list[Key] = []
        for other, taker in self._takers.items():
            if other == key and len(self._takers) > 1:  # alone it can give to nobody: then its own word is enough
                continue
            if isinstance(pieces, int):
                shown = [pieces] if pieces in taker.pieces else []
            else:
                shown = [piece for piece in taker.pieces if pieces[piece]]
            for piece in shown:
                del taker.pieces[piece]
            if shown:
                free.append(other)
        return free

    def gave(self, key: Key, piece: int, length: int, size: int, now: float) -> bool:
        """``length`` bytes of a piece of ``size`` went to this peer. True: it is alone and has the whole of it, which many do not say
        to whom they have it from; it may be told of another."""
        self.uploaded_at = now
        taker = self._takers.get(key)
        if taker is None or piece not in taker.pieces:
            return False
        taker.pieces[piece] += length
        if len(self._takers) > 1 or taker.pieces[piece] < size:
            return False
        del taker.pieces[piece]
        self._out[piece] = 1
        return True

    def told(self, key: Key) -> bitarray:
        """All that this peer was told of."""
        taker = self._takers.get(key)
        return taker.told if taker is not None else zeros(len(self._fresh), "big")

    def tick(self, lacking: dict[Key, bitarray], seeds: int, now: float) -> None:
        """Once a second: ``lacking`` are the peers that have not all, with what they have, ``seeds`` counts the others.

        Frees one to be told of one more when the line idles; sets ``ended`` when this is over.
        """
        idle = now - self.uploaded_at
        if not lacking:
            self.uploaded_at = self._seen_at = now
        if seeds >= self.settings.enough_seeds:
            self.ended = f"{seeds} other seeds"
        elif now - max(self.uploaded_at, self._seen_at) > self.settings.patience:
            self.ended = f"nothing moved for {self.settings.patience:g} s"
        elif idle > self.settings.idle_reveal:
            self._free_longest_waiting(lacking)

    def _free_longest_waiting(self, lacking: dict[Key, bitarray]) -> None:
        """Of those who have what they were told of, or were told of nothing, the first."""
        found: Key | None = None
        since = float("inf")
        for key, has in lacking.items():
            taker = self._takers.get(key)
            if taker is not None and all(has[piece] for piece in taker.pieces) and taker.since < since:
                found, since = key, taker.since
        if found is not None:
            self._takers[found].pieces.clear()
            self._takers[found].idle = True

    def _choose(self, candidates: bitarray, *, any_out: bool) -> int | None:
        found = candidates & self._fresh
        if not found.any():
            found = candidates
            if not any_out:  # else the line idles, so nothing is on its way: whoever has it keeps it to himself
                found = candidates & self._out
                for taker in self._takers.values():
                    for piece in taker.pieces:
                        found[piece] = 0
            if not found.any():
                return None
            found = self._rarest(found)
            if not any_out and self._copies(found.find(1)) > 1:
                return None
        start = found.find(1, self._rng.randrange(len(found)))
        return start if start >= 0 else found.find(1)

    def __repr__(self) -> str:
        state = f"ended: {self.ended}" if self.ended else f"{self._fresh.count(1)} pieces shown to nobody yet"
        return f"<SuperSeed [{len(self._takers)} peers | {state}]>"
