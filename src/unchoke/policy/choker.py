"""Choker: which peers may ask us for data (BEP 3: tit for tat, anti-snubbing, optimistic unchoke), and how torrents share the slots.

Leeching, the slots go to the interested peers that have lately given us most: that is what makes giving worth while. One
slot at least is *optimistic*: a random peer for three rounds, newcomers with triple weight, so that a peer with nothing to
offer yet can start, and better partners are found. Slots that no giver has earned are optimistic too; so when all our partners
snub us, more of them look for new ones (BEP 3: "more than one concurrent optimistic unchoke").

Chance is not blind: whoever had more of us than it gave, by some pieces, is drawn less and less. And who gave us next to
nothing, has what we lack and chokes us all the same lives on credit: a piece, and one more for every ``parole``. When it
is spent the peer is a *free rider*, and gets nothing even of an idle line: in a swarm that waits for a seed all lines
idle now and then, and one that took what falls from each would finish first. So that credit is answered, whoever gave us
anything lately is drawn as often as a newcomer.

Seeding, nobody gives, so the slots go round: each is served for its turn, then come those that wait longest, counted from
their last turn or since they came. A turn is ``turn_pieces`` pieces, at least ``rotation``: every change leaves a piece half
given, which is of no use to anybody. Who takes next to nothing gives way after one round.

Called every ``interval``, and when a peer becomes interested or leaves. It returns who should be unchoked; it sends nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unchoke.types import BLOCK_SIZE

if TYPE_CHECKING:
    from random import Random

Key = Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class ChokerSettings:
    """Slots, and how long one keeps them."""

    slots: int = 8
    """Peers of one torrent served at a time, the optimistic one included (libtorrent: 8; BEP 3's four is of slower days)."""

    total_slots: int = 0
    """Peers served at a time over all torrents; 0: no limit of its own. Fewer than there are torrents with somebody waiting,
    and the torrents take turns."""

    interval: float = 10.0
    """Seconds between rounds (BEP 3)."""

    optimistic_rounds: int = 3
    """Rounds an optimistic unchoke lasts (BEP 3: 30 seconds)."""

    rotation: float = 60.0
    """Seconds a peer is served by a seed, at least, before those that wait come first; and ten times as long at most."""

    parole: float = 120.0
    """Seconds in which the credit of a peer that has what we lack, and keeps it to itself, grows by a piece. It has one from the
    start; so a swarm of hundreds gives it the whole in time, and nobody is cast out for ever by a misunderstanding."""

    turn_pieces: int = 8
    """Pieces that a peer takes of a seed in one turn (libtorrent: 20). In a simulated swarm of 51 turns of 60 seconds alone cost
    the seed 2.3 copies until all had it, longer ones 1.7."""

    least_take: int = 1024
    """Bytes per second a peer must take of a seed from its second round on, else its turn is over. A slot is a share of our
    line; below a modem's speed it lies idle. Where all are slow (a low upload limit) a tenth of their mean is enough."""


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
    taken: int = 0
    """Bytes in this turn."""
    owes: int = 0
    """Bytes that it had of us beyond what it gave (negative: that we had of it)."""
    free_rider: bool = False
    """Its credit is spent, and it choked us when we wanted something of it."""

    @property
    def waits_since(self) -> float:
        """When it was served last, or came."""
        return max(self.unchoked_since, self.connected_at)


class Choker:
    """One torrent's, of pieces of ``piece_length`` bytes. Remembers only whose turn the optimistic slots are."""

    __slots__ = ("_optimistic", "_piece_length", "_rng", "_rounds", "settings")

    def __init__(self, rng: Random, settings: ChokerSettings | None = None, *, piece_length: int = 256 * 1024) -> None:
        self.settings = settings or ChokerSettings()
        self._piece_length = piece_length
        self._rng = rng
        self._optimistic: dict[Key, None] = {}
        self._rounds = 0

    def rechoke(
        self, peers: Iterable[Candidate], *, seeding: bool, now: float, slots: int | None = None
    ) -> dict[Key, None]:
        """The regular round: everybody is compared. Returns whom to unchoke, best first; all others are choked.

        ``slots``: how many there are just now; by default those of the settings.
        """
        slots = self.settings.slots if slots is None else slots
        interested = [peer for peer in peers if peer.interested]
        self._rounds += 1
        if seeding:
            self._optimistic = {}
            ranked = self._in_turn(interested, now) if len(interested) > slots else interested
            return dict.fromkeys(peer.key for peer in ranked[:slots])
        return self._partners([peer for peer in interested if not peer.free_rider], slots, now)

    def is_in_debt(self, taken: int, gave: int, since: float) -> bool:
        """A peer took so many bytes of us and gave so many in the ``since`` seconds that we know it: is its credit spent?

        One that gives a tenth of what it takes never is: a slow line is no vice.
        """
        return taken - 10 * gave > self._piece_length * (1 + since / self.settings.parole)

    def _partners(self, interested: list[Candidate], slots: int, now: float) -> dict[Key, None]:
        """Leeching: the best givers, and by chance some others."""
        if len(interested) <= slots:
            self._optimistic = {}
            return dict.fromkeys(peer.key for peer in interested)
        # With a single slot it is the optimistic one's in one round of three.
        regular = slots - 1 if slots > 1 else min(slots, self._rounds % self.settings.optimistic_rounds)
        chosen = dict.fromkeys(peer.key for peer in self._givers(interested)[:regular])
        rest = [peer for peer in interested if peer.key not in chosen]
        self._optimistic = dict.fromkeys(self._draw(rest, slots - len(chosen), now))
        chosen.update(self._optimistic)
        return chosen

    def fill(self, peers: Iterable[Candidate], *, slots: int | None = None) -> dict[Key, None]:
        """Between rounds: nobody is choked who is still interested, and free slots go to those that give, then to those that wait
        longest.

        Whoever owes us more than a piece waits for the next round.
        """
        slots = self.settings.slots if slots is None else slots
        interested = [peer for peer in peers if peer.interested]
        kept = [peer for peer in interested if peer.unchoked]
        waiting = [
            peer for peer in interested if not peer.unchoked and not peer.free_rider and peer.owes <= self._piece_length
        ]
        waiting.sort(key=lambda peer: (-peer.gives, max(peer.owes, 0) // BLOCK_SIZE, peer.waits_since))
        return dict.fromkeys(peer.key for peer in kept + waiting[: max(0, slots - len(kept))])

    def _givers(self, peers: list[Candidate]) -> list[Candidate]:
        """Those that earned a slot, the best first; of equals, those that have one."""
        givers = [peer for peer in peers if peer.gives > 0 and not peer.snubbed]
        return sorted(givers, key=lambda peer: (peer.gives, peer.unchoked), reverse=True)

    def _in_turn(self, peers: list[Candidate], now: float) -> list[Candidate]:
        """A seed's order: those in the middle of their turn, then those that wait, then those that had theirs."""
        served = [peer for peer in peers if peer.unchoked]
        least = min(self.settings.least_take, 0.1 * sum(peer.takes for peer in served) / len(served)) if served else 0.0

        def order(peer: Candidate) -> tuple[int, float]:
            if not peer.unchoked:
                return 1, peer.waits_since
            time = now - peer.unchoked_since
            sips = time >= self.settings.interval and peer.takes <= least
            return (2, -time) if sips or self._had_its_turn(peer, time) else (0, -time)

        return sorted(peers, key=order)

    def _had_its_turn(self, peer: Candidate, time: float) -> bool:
        least = self.settings.rotation
        return time >= least and (
            time >= 10 * least or peer.taken >= self.settings.turn_pieces * self._piece_length or not peer.taken
        )

    def _draw(self, peers: list[Candidate], count: int, now: float) -> list[Key]:
        """The optimistic ones: those of the last round, until their rounds are over; else chance."""
        stay = self._rounds % self.settings.optimistic_rounds != 0
        drawn = [peer.key for peer in peers if stay and peer.key in self._optimistic][:count]
        pool = [peer for peer in peers if peer.key not in drawn]
        while pool and len(drawn) < count:
            (index,) = self._rng.choices(range(len(pool)), [self._weight(peer, now) for peer in pool])
            drawn.append(pool.pop(index).key)
        return drawn

    def _weight(self, peer: Candidate, now: float) -> float:
        """A piece is what a newcomer needs to have something to give; whoever owes more was given its chance. One that gave us
        something, perhaps all that it could on credit, is answered."""
        newcomer = now - peer.connected_at < self.settings.interval * self.settings.optimistic_rounds
        pieces = max(0.0, peer.owes / self._piece_length - 1)
        return (3.0 if newcomer or peer.gives > 0 else 1.0) / (1 + pieces) ** 3

    def __repr__(self) -> str:
        return f"<Choker [{self.settings.slots} slots, round {self._rounds}, {len(self._optimistic)} optimistic]>"


class SlotPool:
    """All torrents' slots: how many of ``total`` (0: no limit) one of them may use just now.

    Each gets an equal share of what the others leave; where there are fewer slots than torrents with somebody waiting, the
    odd ones go round every ``rotation`` seconds.
    """

    __slots__ = ("_demand", "_used", "rotation", "total", "used")

    def __init__(self, total: int = 0, *, rotation: float = 60.0) -> None:
        self.total = total
        self.rotation = rotation
        self._demand: dict[Key, int] = {}
        self._used: dict[Key, int] = {}
        self.used = 0

    def ask(self, key: Key, demand: int, now: float) -> int:
        """``key`` could use ``demand`` slots; returns how many it may have, those it uses now included."""
        if not demand:
            self._demand.pop(key, None)
            return 0
        self._demand[key] = demand
        if self.total <= 0:
            return demand
        others = self.used - self._used.get(key, 0)
        return max(0, min(self._share(key, now), self.total - others))

    def use(self, key: Key, count: int) -> None:
        """``key`` now uses ``count`` slots."""
        self.used += count - self._used.pop(key, 0)
        if count:
            self._used[key] = count

    def forget(self, key: Key) -> None:
        """It needs none any more."""
        self._demand.pop(key, None)
        self.use(key, 0)

    def _share(self, key: Key, now: float) -> int:
        """Fill all demands evenly, the small ones first; what does not divide goes to some of the large ones, in turn."""
        left = self.total
        hungry = list(self._demand)
        while hungry:
            level = left // len(hungry)
            sated = [each for each in hungry if self._demand[each] <= level]
            if not sated:
                first = int(now // self.rotation) * max(1, left) % len(hungry)
                place = (hungry.index(key) - first) % len(hungry)
                return level + (place < left % len(hungry))
            if key in sated:
                return self._demand[key]
            left -= sum(self._demand[each] for each in sated)
            hungry = [each for each in hungry if self._demand[each] > level]
        return 0

    def __repr__(self) -> str:
        return f"<SlotPool [{self.used} of {self.total or 'any number'} used by {len(self._used)} torrents]>"
