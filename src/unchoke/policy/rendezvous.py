"""Rendezvous: a tracker's memory: who is in which swarm, and whom a peer that asks is told about (BEP 3, 7).

Seeds are not told to seeds (but when these have just started, and may be magnet links), nobody is told about itself, and which of
many are told is chance. Whoever is silent for ``lifetime`` is forgotten. Every number a stranger can drive up has a bound. Time
(seconds) and chance are arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from random import Random

    from unchoke.types import Address, InfoHash, PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class RendezvousSettings:
    """Bounds of a tracker."""

    lifetime: float = 240.0
    """Seconds without an announce after which a peer is forgotten (two intervals, as trackers do)."""

    max_torrents: int = 10_000
    """Swarms at one time; announces for further ones are refused. An empty swarm is forgotten."""

    max_peers: int = 2_000
    """Peers of one swarm; the one silent for longest makes room. Choosing among them costs 0.2 ms at this number."""

    max_total: int = 100_000
    """Peers of all swarms together (about 70 MB); newcomers are refused beyond."""


#: Who a peer is: its id and the ``key`` that only it and we know, so that nobody else can sign it off (BEP 7).
Who: TypeAlias = "tuple[PeerId, int]"


class Told(NamedTuple):
    """The answer to an announce. ``refusal`` in words, and then nothing else."""

    peers: tuple[Address, ...] = ()
    seeds: int = 0
    leechers: int = 0
    downloaded: int = 0
    refusal: str = ""


class _Member:
    """A peer with its address in each family (by IP version), complete or not, last heard at ``seen``."""

    __slots__ = ("addresses", "is_seed", "seen")

    def __init__(self) -> None:
        self.addresses: dict[int, Address] = {}
        self.is_seed = False
        self.seen = 0.0


class _Swarm:
    """Members, the one silent for longest first; and whose each address is, since two programs cannot share one."""

    __slots__ = ("by_address", "downloaded", "members", "seeds")

    def __init__(self) -> None:
        self.members: dict[Who, _Member] = {}
        self.by_address: dict[Address, Who] = {}
        self.seeds = 0
        self.downloaded = 0

    def take_out(self, who: Who) -> _Member | None:
        member = self.members.pop(who, None)
        if member is not None:
            self.seeds -= member.is_seed
            for address in member.addresses.values():
                self.by_address.pop(address, None)
        return member

    def put_in(self, who: Who, member: _Member) -> None:
        for address in member.addresses.values():
            other = self.by_address.get(address)
            if other is not None:
                self.take_out(other)
        self.members[who] = member
        self.seeds += member.is_seed
        self.by_address.update((address, who) for address in member.addresses.values())

    def expire(self, before: float) -> None:
        while self.members:
            who, member = next(iter(self.members.items()))
            if member.seen > before:
                return
            self.take_out(who)

    def told(self, peers: tuple[Address, ...] = ()) -> Told:
        return Told(peers, self.seeds, len(self.members) - self.seeds, self.downloaded)


class Rendezvous:
    """All swarms of one tracker."""

    def __init__(self, settings: RendezvousSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        self._swarms: dict[InfoHash, _Swarm] = {}
        self._total = 0

    def announce(
        self,
        infohash: InfoHash,
        who: Who,
        address: Address,
        now: float,
        *,
        event: str = "",
        is_seed: bool = False,
        wanted: int = 50,
        only_family: bool = False,
    ) -> Told:
        """A peer reports. ``event`` is BEP 3's word. At most ``wanted`` peers are told, of each family, or
        (``only_family``) of the one of ``address``. Port 0 is a peer that cannot be dialled: told, not remembered."""
        swarm = self._swarms.get(infohash)
        if event == "stopped":
            return self._sign_off(infohash, swarm, who)
        if swarm is None:
            if len(self._swarms) >= self._settings.max_torrents:
                return Told(refusal="this tracker is full: it knows as many torrents as it may")
            swarm = self._swarms[infohash] = _Swarm()
        self._total -= len(swarm.members)
        swarm.expire(now - self._settings.lifetime)
        refusal = self._note(swarm, who, address, now, event == "completed", is_seed) if address.port else ""
        self._total += len(swarm.members)
        if not swarm.members:
            del self._swarms[infohash]
        if refusal:
            return Told(refusal=refusal)
        families = (_version(address),) if only_family else (4, 6)
        # aria2 says left=0 for a magnet link of which it knows nothing yet.
        needs_nobody = is_seed and event != "started"
        peers = [
            peer for family in families for peer in self._choose(swarm, who, address, family, needs_nobody, wanted)
        ]
        return swarm.told(tuple(peers))

    def _sign_off(self, infohash: InfoHash, swarm: _Swarm | None, who: Who) -> Told:
        if swarm is None:
            return Told()
        self._total -= swarm.take_out(who) is not None
        if not swarm.members:
            del self._swarms[infohash]
        return swarm.told()

    def _note(self, swarm: _Swarm, who: Who, address: Address, now: float, completed: bool, is_seed: bool) -> str:
        """Remember the peer; returns why not, if so. The swarm's members are not in ``_total`` meanwhile."""
        member = swarm.take_out(who)
        if member is None:
            if self._total + len(swarm.members) >= self._settings.max_total:
                return "this tracker is full: it knows as many peers as it may"
            if len(swarm.members) >= self._settings.max_peers:
                swarm.take_out(next(iter(swarm.members)))
            member = _Member()
        if completed and not member.is_seed:
            swarm.downloaded += 1
        member.addresses[_version(address)] = address
        member.is_seed, member.seen = is_seed or completed, now
        swarm.put_in(who, member)
        return ""

    def _choose(
        self, swarm: _Swarm, who: Who, address: Address, family: int, for_seed: bool, wanted: int
    ) -> list[Address]:
        found = list(self._others(swarm, who, address, family, for_seed))
        return self._rng.sample(found, wanted) if 0 <= wanted < len(found) else found

    @staticmethod
    def _others(swarm: _Swarm, who: Who, address: Address, family: int, for_seed: bool) -> Iterator[Address]:
        for other, member in swarm.members.items():
            theirs = member.addresses.get(family)
            if theirs is None or theirs == address or other[0] == who[0] or (for_seed and member.is_seed):
                continue
            yield theirs

    def scrape(self, infohash: InfoHash) -> Told | None:
        """The counts of one swarm; None if it is not known."""
        swarm = self._swarms.get(infohash)
        return swarm.told() if swarm is not None else None

    def expire(self, now: float) -> None:
        """Forget who has been silent, and swarms that are empty. Once an interval is often enough."""
        for infohash, swarm in list(self._swarms.items()):
            self._total -= len(swarm.members)
            swarm.expire(now - self._settings.lifetime)
            self._total += len(swarm.members)
            if not swarm.members:
                del self._swarms[infohash]

    @property
    def torrents(self) -> int:
        return len(self._swarms)

    @property
    def peers(self) -> int:
        return self._total

    @property
    def seeds(self) -> int:
        return sum(swarm.seeds for swarm in self._swarms.values())

    def __repr__(self) -> str:
        return f"<Rendezvous [{len(self._swarms)} torrents | {self._total} peers]>"


def _version(address: Address) -> int:
    return 6 if ":" in address.host else 4
