"""PeerList: every address a torrent has heard of, where from, and whom to dial next.

Addresses come from strangers by the thousand, so the list is bounded; what is evicted first is what failed most and was
heard of longest ago. A dial that fails, or a peer that misbehaves, backs off for ever longer times. A ban is for the address
(all ports), and only for wrong data; it is forgotten with the session.
"""

from __future__ import annotations

import heapq
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from math import inf
from typing import TYPE_CHECKING

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerListSettings:
    """What is kept, and how soon is tried again."""

    most: int = 4000
    """Addresses kept per torrent (libtorrent: 3,000)."""

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


class PeerList:
    """One torrent's."""

    __slots__ = ("_due", "_excluded", "_offenders", "_peers", "_resting", "_rng", "banned", "settings")

    def __init__(self, rng: Random, settings: PeerListSettings | None = None) -> None:
        self.settings = settings or PeerListSettings()
        self._rng = rng
        self._peers: dict[Address, KnownPeer] = {}
        self._due: list[tuple[float, float, Address]] = []  # (next_try, dice, address): a heap with stale entries
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

    def add(self, addresses: Iterable[Address], source: Source, now: float) -> int:
        """Hear of addresses; returns how many were new and usable."""
        new = 0
        for address in addresses:
            known = self._peers.get(address)
            if known is not None:
                known.sources |= source
                if source & Source.USER:  # who names it again means now
                    self._hasten(known, now)
                continue
            if (
                address in self._excluded
                or not is_dialable(address)
                or address.host in self.banned
                or not self._make_room()
            ):
                continue
            self._peers[address] = KnownPeer(address, source, now)
            self._schedule(self._peers[address])
            new += 1
        return new

    def next_to_dial(self, count: int, now: float, *, seeds: bool = True) -> list[Address]:
        """Up to ``count`` addresses whose time has come; they count as connected until told otherwise.

        ``seeds`` False: not those known to have everything (a seed needs none; they rest until it does).
        """
        chosen: list[Address] = []
        if seeds and self._resting:
            self._wake()
        while self._due and len(chosen) < count and self._due[0][0] <= now:
            due, _, address = heapq.heappop(self._due)
            known = self._peers.get(address)
            if known is None or known.connected or known.next_try != due or address.host in self.banned:
                continue
            if known.is_seed and not seeds:
                self._resting.append(address)
                continue
            known.connected = True
            chosen.append(address)
        return chosen

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
        return self._due[0][0] if self._due else None

    def connected(self, address: Address, source: Source, now: float) -> None:
        """A conversation with this address stands (incoming or dialled)."""
        known = self._peers.get(address)
        if known is None:
            if not self._make_room():
                return
            known = self._peers[address] = KnownPeer(address, source, now)
        known.connected = True
        known.sources |= source

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
            del self._peers[address]
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
            del self._peers[address]
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
        self._peers.pop(address, None)

    def ban(self, host: str, reason: str) -> None:
        self.banned[host] = reason

    def is_banned(self, host: str) -> bool:
        return host in self.banned

    def _schedule(self, known: KnownPeer) -> None:
        heapq.heappush(self._due, (known.next_try, self._rng.random(), known.address))
        if len(self._due) > 4 * self.settings.most:  # mostly stale
            self._due = [
                (peer.next_try, self._rng.random(), peer.address) for peer in self._peers.values() if not peer.connected
            ]
            heapq.heapify(self._due)

    def _make_room(self) -> bool:
        if len(self._peers) < self.settings.most:
            return True
        idle = [peer for peer in self._peers.values() if not peer.connected and not peer.sources & Source.USER]
        if not idle:
            return False
        # A tenth at a time, so that a flood of new addresses does not sort the list for each.
        idle.sort(key=lambda peer: (-peer.failures, peer.heard_at))
        for peer in idle[: max(1, self.settings.most // 10)]:
            del self._peers[peer.address]
        return True

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
