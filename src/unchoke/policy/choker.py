"""Choker: which peers may ask us for data (BEP 3: tit for tat, optimistic unchoke).

Leeching, the slots go to interested peers that give us most: that is what makes giving worth while. Seeding, nobody gives,
so they go to those that take fastest, and each gives way after its turn (``rotation``; who takes nothing, after one round),
so that all are served and fresh pieces spread. One slot is *optimistic*: a random peer for three rounds, newcomers with
triple weight, so that a peer with nothing to offer yet can start, and better partners are found. Free slots are filled at
once, not at the next round.

Called every ``interval``, and when a peer becomes interested or leaves. It returns who should be unchoked; it sends nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

Key = Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class ChokerSettings:
    """Slots count per torrent."""

    slots: int = 8
    """Peers served at a time, the optimistic one included (libtorrent: 8; BEP 3's four is of slower days)."""

    interval: float = 10.0
    """Seconds between rounds (BEP 3)."""

    optimistic_rounds: int = 3
    """Rounds an optimistic unchoke lasts (BEP 3: 30 seconds)."""

    rotation: float = 60.0
    """Seconds a peer is served by a seed before those that wait come first."""


@dataclass(slots=True)
class Candidate:
    """What the choker knows of a peer. Rates are bytes/s; times are seconds of one clock."""

    key: Key
    interested: bool
    unchoked: bool
    gives: float
    takes: float
    unchoked_since: float
    connected_at: float
    snubbed: bool = False


class Choker:
    """One torrent's. Remembers only whose turn the optimistic slot is."""

    __slots__ = ("_optimistic", "_rng", "_rounds", "settings")

    def __init__(self, rng: Random, settings: ChokerSettings | None = None) -> None:
        self.settings = settings or ChokerSettings()
        self._rng = rng
        self._optimistic: Key = None
        self._rounds = 0

    def rechoke(self, peers: Iterable[Candidate], *, seeding: bool, now: float) -> set[Key]:
        """The regular round: everybody is compared. Returns the keys to be unchoked; all others are choked."""
        interested = [peer for peer in peers if peer.interested]
        self._rounds += 1
        if len(interested) <= self.settings.slots:
            self._optimistic = None
            return {peer.key for peer in interested}
        regular = self._ranked(interested, seeding, now)[: self.settings.slots - 1]
        chosen = {peer.key for peer in regular}
        rest = [peer for peer in interested if peer.key not in chosen]
        stays = any(peer.key == self._optimistic for peer in rest)
        if not stays or self._rounds % self.settings.optimistic_rounds == 0:
            self._optimistic = self._draw(rest, now)
        chosen.add(self._optimistic)
        return chosen

    def fill(self, peers: Iterable[Candidate]) -> set[Key]:
        """Between rounds: nobody is choked who is still interested, and free slots go to those that wait longest."""
        interested = [peer for peer in peers if peer.interested]
        kept = [peer for peer in interested if peer.unchoked]
        waiting = sorted((peer for peer in interested if not peer.unchoked), key=lambda peer: peer.connected_at)
        return {peer.key for peer in kept + waiting[: max(0, self.settings.slots - len(kept))]}

    def _ranked(self, peers: list[Candidate], seeding: bool, now: float) -> list[Candidate]:
        if not seeding:
            return sorted(peers, key=lambda peer: (not peer.snubbed, peer.gives, peer.unchoked), reverse=True)

        def merit(peer: Candidate) -> tuple[bool, bool, float]:
            served = now - peer.unchoked_since if peer.unchoked else 0.0
            had_its_turn = served >= self.settings.rotation or (served >= self.settings.interval and peer.takes < 1)
            return not had_its_turn, peer.unchoked, peer.takes if peer.unchoked else -peer.unchoked_since

        return sorted(peers, key=merit, reverse=True)

    def _draw(self, peers: list[Candidate], now: float) -> Key:
        newcomer = self.settings.interval * self.settings.optimistic_rounds
        weights = [3 if now - peer.connected_at < newcomer else 1 for peer in peers]
        return self._rng.choices(peers, weights)[0].key

    def __repr__(self) -> str:
        return f"<Choker [{self.settings.slots} slots, round {self._rounds}, optimistic: {self._optimistic}]>"
