"""PeerList: every address a torrent has heard of, where from, and whom to dial next.

Addresses come from strangers by the thousand, so the list is bounded, and so is what one of them adds to it: *hearsay*, what only
peers or DHT nodes have told, never displaces what a tracker or the user gave. What is evicted first is what failed most and was
heard of longest ago. Of those whose time has come, the user's are dialled first, then by rank (BEP 40) or by lot. A dial that
fails, or a peer that misbehaves, backs off for ever longer times. A ban is for the address (all ports), and only for wrong data;
it is forgotten with the session.
"""

from __future__ import annotations

import heapq
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntFlag
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from unchoke.reach import household
from unchoke.types import Address

if TYPE_CHECKING:
    from random import Random


class Source(IntFlag):
    """How we heard of a peer; several may be true."""

    TRACKER = 1
    INCOMING = 2
    USER = 4
    MAGNET = 8
    DHT = 16
    PEX = 32
    LSD = 64


#: Sources that anybody can put words into.
HEARSAY = (Source.PEX, Source.DHT)
_NOTHING = Source(0)
#: Addresses whose time has come that are put in order in one go: ten times what is dialled at once, and a millisecond of work.
_MOST_SORTED = 128
#: Addresses of one call that are looked at.
_MOST_AT_ONCE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerListSettings:
    """What is kept, and how soon is tried again."""

    most: int = 4000
    """Addresses kept per torrent (libtorrent: 3,000)."""

    most_from_pex: int = 2000
    """Of them, those of which only peers have told (BEP 11: not all candidates from one source)."""

    most_from_dht: int = 2000
    """Of them, those of which only the DHT has told."""

    most_from_one: int = 200
    """Of those of which only peers have told, the ones that one host was first to tell of and that never answered."""

    most_per_host: int = 8
    """Ports of one host (of one /64 for IPv6) that are believed of hearsay: room for a household behind one address, while nobody can
    send a whole swarm to knock at a victim's doors."""

    first_retry: float = 15.0
    """Seconds until a failed address is dialled again; doubles each time. A seeder that restarts is back within that."""

    last_retry: float = 3600.0
    """Seconds the wait grows to."""

    user_retry: float = 5.0
    """Seconds between tries of an address the user gave: it is wanted."""

    most_offenders: int = 1000
    """Addresses remembered for breaking the protocol (all ports of each): who comes in names no port to back off from. The one
    that was heard of longest ago is forgotten first."""

    most_failures: int = 10
    """Failures in a row until an address is forgotten (unless the user gave it)."""


@dataclass(slots=True)
class KnownPeer:
    """One address. ``next_try``: not before this time; ``connected``: in conversation or being dialled."""

    address: Address
    sources: Source
    heard_at: float
    next_try: float = 0.0
    failures: int = 0
    connected: bool = False
    is_seed: bool = False
    reason: str = ""
    teller: str = ""  # the host that was first to tell of it, while it is hearsay
    hearsay: Source = _NOTHING  # PEX or DHT: heard of from there first, and confirmed by nothing else yet


class _Ready(NamedTuple):
    """One whose time has come; the least is dialled first."""

    of_others: bool  # the user did not name it
    failures: int
    rank: float  # the higher its priority, the less
    next_try: float
    address: Address


class PeerList:
    """One torrent's. ``rank``: how much a conversation with an address is preferred; higher is better, None: unknown (BEP 40)."""

    __slots__ = (
        "_due",
        "_excluded",
        "_from_house",
        "_from_teller",
        "_hearsay",
        "_offenders",
        "_peers",
        "_ready",
        "_resting",
        "_rng",
        "banned",
        "rank",
        "settings",
    )

    def __init__(
        self,
        rng: Random,
        settings: PeerListSettings | None = None,
        *,
        rank: Callable[[Address], int | None] | None = None,
    ) -> None:
        self.settings = settings or PeerListSettings()
        self.rank = rank
        self._rng = rng
        self._peers: dict[Address, KnownPeer] = {}
        self._from_house: dict[str, int] = {}  # how many of a host (or /64) are known
        self._from_teller: dict[str, int] = {}  # how many a host was first to tell of
        self._hearsay = dict.fromkeys(HEARSAY, 0)  # how many are
        self._due: list[tuple[float, float, Address]] = []  # (next_try, dice, address): a heap with stale entries
        self._ready: list[_Ready] = []  # those of them whose time has come: a heap with stale entries
        self._resting: list[Address] = []  # seeds that were due while we needed none
        self._offenders: dict[
            str, tuple[int, float]
        ] = {}  # host → how often it broke the protocol, until when it waits
        self._excluded: set[Address] = set()  # ourselves
        self.banned: dict[str, str] = {}  # host → reason

    def __len__(self) -> int:
        return len(self._peers)

    def get(self, address: Address) -> KnownPeer | None:
        return self._peers.get(address)

    def add(self, addresses: Iterable[Address], source: Source, now: float, *, teller: str = "") -> int:
        """Hear of addresses; returns how many were new and usable. ``teller``: the host of the peer that told (PEX).

        Of more than 2,000 at one time the first are looked at: some trackers send whatever fits, and each costs 6 µs.
        """
        new, searched = 0, False
        hearsay = source in self._hearsay
        for address in islice(addresses, _MOST_AT_ONCE):
            known = self._peers.get(address)
            if known is not None:
                self._confirm(known, source)
                if source & Source.USER and not known.connected:  # who names it again means now
                    known.next_try = now
                    self._push_ready(known, self._rng.random())
                continue
            if address in self._excluded or address.host in self.banned or not is_dialable(address):
                continue
            if hearsay and not self._believes(address, teller):
                continue
            if not self._has_room(source):
                if searched or not self._make_room(source):
                    break
                searched = hearsay  # it gets what one search finds, and does not push out itself
            self._insert(KnownPeer(address, source, now, teller=teller))
            new += 1
        return new

    def next_to_dial(self, count: int, now: float, *, seeds: bool = True) -> list[Address]:
        """Up to ``count`` addresses whose time has come; they count as connected until told otherwise.

        ``seeds`` False: not those known to have everything (a seed needs none; they rest until it does).
        """
        chosen: list[Address] = []
        if seeds and self._resting:
            self._wake()
        self._sort_due(now)
        while self._ready and len(chosen) < count:
            ready = heapq.heappop(self._ready)
            known = self._still(ready.address, ready.next_try)
            if known is None:
                continue
            if known.is_seed and not seeds:
                self._resting.append(ready.address)
                continue
            known.connected = True
            chosen.append(ready.address)
        return chosen

    def _sort_due(self, now: float) -> None:
        """Put those whose time has come in their order."""
        for _ in range(_MOST_SORTED):
            if not self._due or self._due[0][0] > now:
                break
            next_try, dice, address = heapq.heappop(self._due)
            known = self._still(address, next_try)
            if known is not None:
                rank = self.rank(address) if self.rank is not None else None
                self._push_ready(known, dice if rank is None else dice - rank)  # lots among equals

    def _push_ready(self, known: KnownPeer, rank: float) -> None:
        of_others = not known.sources & Source.USER
        heapq.heappush(self._ready, _Ready(of_others, known.failures, rank, known.next_try, known.address))

    def _still(self, address: Address, next_try: float) -> KnownPeer | None:
        """The peer that an entry of a heap stands for, unless the entry is stale."""
        known = self._peers.get(address)
        if known is None or known.connected or known.next_try != next_try or address.host in self.banned:
            return None
        return known

    def _wake(self) -> None:
        """Seeds are wanted again."""
        resting, self._resting = self._resting, []
        for address in dict.fromkeys(resting):
            known = self._peers.get(address)
            if known is not None and not known.connected:
                self._schedule(known)

    @property
    def next_due(self) -> float | None:
        """When the next dial may be due (it may turn out to be stale)."""
        if self._ready:
            return self._ready[0].next_try
        return self._due[0][0] if self._due else None

    def connected(self, address: Address, source: Source, now: float) -> None:
        """A conversation with this address stands (incoming or dialled)."""
        known = self._peers.get(address)
        if known is None:
            if not self._has_room(source) and not self._make_room(source):
                return
            known = self._insert(KnownPeer(address, source, now), connected=True)
        known.connected = True
        self._confirm(known, source)

    def is_seed(self, address: Address) -> None:
        """It has everything."""
        known = self._peers.get(address)
        if known is not None:
            known.is_seed = True

    def succeeded(self, address: Address) -> None:
        """It shook hands: past failures are forgiven."""
        known = self._peers.get(address)
        if known is not None:
            known.failures = 0
            known.reason = ""
            self._release(known)

    def failed(self, address: Address, reason: str, now: float) -> None:
        """A dial failed, or the conversation ended with a fault of theirs."""
        known = self._peers.get(address)
        if known is None:
            return
        known.connected = False
        known.failures += 1
        known.reason = reason
        settings = self.settings
        by_user = bool(known.sources & Source.USER)
        if known.failures >= settings.most_failures and not by_user:
            self._remove(known)
            return
        wait = settings.user_retry if by_user else settings.first_retry * 2 ** (known.failures - 1)
        known.next_try = now + min(wait, settings.last_retry) * self._rng.uniform(0.8, 1.2)
        self._schedule(known)

    def left(self, address: Address, reason: str, now: float) -> None:
        """The conversation ended without fault: it may be dialled again after the first wait."""
        known = self._peers.get(address)
        if known is None:
            return
        known.connected = False
        known.reason = reason
        if known.sources == Source.INCOMING:  # we know no port it listens on
            self._remove(known)
            return
        known.next_try = now + self.settings.first_retry
        self._schedule(known)

    def again(self, now: float) -> None:
        """We want other things than before: who left without fault may be dialled at once."""
        for known in self._peers.values():
            if not known.failures:
                self._hasten(known, now)

    def _hasten(self, known: KnownPeer, now: float) -> None:
        if not known.connected and known.next_try > now:
            known.next_try = now
            self._schedule(known)

    def offended(self, host: str, now: float) -> None:
        """A peer at this address broke the protocol: nobody is let in from there for a while, each time longer."""
        times, until = self._offenders.pop(host, (0, 0.0))
        if now - until > self.settings.last_retry:  # long ago
            times = 0
        wait = min(self.settings.first_retry * 2.0 ** min(times, 30), self.settings.last_retry)
        self._offenders[host] = times + 1, now + wait
        if len(self._offenders) > self.settings.most_offenders:
            del self._offenders[next(iter(self._offenders))]

    def must_wait(self, host: str, now: float) -> bool:
        """Did a peer at this address break the protocol a moment ago?"""
        return self._offenders.get(host, (0, -inf))[1] > now

    def exclude(self, address: Address) -> None:
        """Never dial this address again: it is our own."""
        self._excluded.add(address)
        if (known := self._peers.get(address)) is not None:
            self._remove(known)

    def ban(self, host: str, reason: str) -> None:
        self.banned[host] = reason

    def keep(self, sources: Source) -> None:
        """Forget every address that was heard of from none of these (a torrent turned out to be private, BEP 27)."""
        for known in [known for known in self._peers.values() if not known.sources & sources]:
            self._remove(known)

    def is_banned(self, host: str) -> bool:
        return host in self.banned

    def _schedule(self, known: KnownPeer) -> None:
        heapq.heappush(self._due, (known.next_try, self._rng.random(), known.address))
        if len(self._due) + len(self._ready) > 4 * self.settings.most:  # mostly stale
            self._ready.clear()
            self._due = [
                (peer.next_try, self._rng.random(), peer.address) for peer in self._peers.values() if not peer.connected
            ]
            heapq.heapify(self._due)

    # ------------------------------------------------------------------ what is believed, and what has to go

    def _insert(self, known: KnownPeer, *, connected: bool = False) -> KnownPeer:
        self._peers[known.address] = known
        house = household(known.address.host)
        self._from_house[house] = self._from_house.get(house, 0) + 1
        if known.sources in self._hearsay:
            known.hearsay = known.sources
            self._hearsay[known.hearsay] += 1
        if known.teller:
            self._from_teller[known.teller] = self._from_teller.get(known.teller, 0) + 1
        if known.sources & Source.USER:
            self._push_ready(known, self._rng.random())
        elif not connected:
            self._schedule(known)
        return known

    def _remove(self, known: KnownPeer) -> None:
        del self._peers[known.address]
        _count_down(self._from_house, household(known.address.host))
        self._release(known)

    def _confirm(self, known: KnownPeer, source: Source) -> None:
        """Heard of from here too."""
        if known.sources == source or not source:
            return
        known.sources |= source
        if source not in self._hearsay:
            self._release(known)

    def _release(self, known: KnownPeer) -> None:
        """It is no longer hearsay."""
        if known.hearsay:
            self._hearsay[known.hearsay] -= 1
            known.hearsay = _NOTHING
        if known.teller:
            _count_down(self._from_teller, known.teller)
            known.teller = ""

    def _believes(self, address: Address, teller: str) -> bool:
        """Is hearsay of this address taken, by the word of this teller?"""
        settings = self.settings
        if self._from_house.get(household(address.host), 0) >= settings.most_per_host:
            return False
        return not teller or self._from_teller.get(teller, 0) < settings.most_from_one

    def _has_room(self, source: Source) -> bool:
        """For one more, whom ``source`` alone has told of."""
        hearsay = self._hearsay.get(source, 0)
        return len(self._peers) < self.settings.most and (not hearsay or hearsay < self._share(source))

    def _share(self, source: Source) -> int:
        return self.settings.most_from_pex if source == Source.PEX else self.settings.most_from_dht

    def _make_room(self, source: Source) -> bool:
        """Forget the worst, a tenth at a time, so that a flood does not sort the list for each. False: nobody may go.

        What failed goes first, then hearsay, of that what the most talkative told, and what was heard of longest ago. For
        hearsay nothing better goes than that.
        """
        most = self.settings.most
        idle = [peer for peer in self._peers.values() if not peer.connected and not peer.sources & Source.USER]
        worse = [peer for peer in idle if peer.failures or peer.hearsay]
        if source in self._hearsay and self._hearsay[source] >= self._share(source):
            most = self._share(source)
            worse = [peer for peer in worse if peer.hearsay == source]
        candidates = worse if worse or source in self._hearsay else idle
        told = self._from_teller
        candidates.sort(key=lambda one: (-one.failures, not one.hearsay, -told.get(one.teller, 0), one.heard_at))
        for peer in candidates[: max(1, most // 10)]:
            self._remove(peer)
        return bool(candidates)

    def __repr__(self) -> str:
        connected = sum(peer.connected for peer in self._peers.values())
        return f"<PeerList [{len(self._peers)} known | {connected} connected | {len(self.banned)} hosts banned]>"


def is_dialable(address: Address) -> bool:
    """A unicast address with a port; trackers and peers hand out all kinds of rubbish."""
    if not 0 < address.port < 65536:
        return False
    try:
        host = ipaddress.ip_address(address.host.partition("%")[0])
    except ValueError:
        return False
    return not (host.is_multicast or host.is_unspecified or host == ipaddress.IPv4Address("255.255.255.255"))


def _count_down(counts: dict[str, int], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
