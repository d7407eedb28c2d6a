"""Lsd: peers on the local network (BEP 14): the session's torrents are announced by multicast, and neighbours' announces heard.

Each torrent is announced when it is followed and every five minutes, many to a packet, over every interface; soon again when
somebody new announces it, who would otherwise not hear of us for minutes. What may be sent, and what one neighbour may
make us do, is bounded. Never for private torrents (BEP 27); whoever follows one sees to that.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from unchoke.engine.net.multicast import Multicast
from unchoke.engine.settings import LsdSettings
from unchoke.engine.tasks import Executor, Tasks
from unchoke.errors import ProtocolError
from unchoke.policy.bandwidth import TokenBucket
from unchoke.protocol.lsd import GROUP4, GROUP6, announces, decode_lsd, most_in_packet
from unchoke.types import Address, InfoHash

if TYPE_CHECKING:
    from random import Random

log = logging.getLogger(__name__)

#: Hears of addresses that have a torrent.
Found = Callable[[Sequence[Address]], None]

#: Seconds between two announces of one torrent, at least; and between two that answer somebody new, which count apart.
LEAST_INTERVAL = 60.0
#: Packets over each interface: so many at once (one a torrent at the start of a session), then one every six seconds. BEP 14
#: wants one a minute of clients that put one torrent in each; these hold 25.
BURST = 10
PACKETS_A_SECOND = 1 / 6
#: Seconds by which an answer waits at most, by chance, so that not all answer at once.
DITHER = 2.0
#: Seconds between two looks for new interfaces.
LOOK_INTERVAL = 60.0

#: Packets of one neighbour that are read: so many at once, since some clients send one for each torrent, then one a second.
HOST_BURST = 30
HOST_RATE = 1.0
#: Neighbours whose packets are counted, and those of one torrent that count as known.
MOST_HOSTS = 1000
MOST_KNOWN = 50


@dataclass(frozen=True, slots=True)
class LsdTold:
    """What was said and heard of one torrent. Times are the loop's; ``asked_at`` (its last announce) None: not yet."""

    asked_at: float | None
    next_at: float
    peers: int
    """Neighbours that announced it."""
    links: int
    """Interfaces, one for each family, that it is announced over."""
    trouble: str
    """Why it is announced nowhere; empty: it is."""


class _Followed:
    """One torrent."""

    __slots__ = ("announced_at", "answered_at", "found", "known", "next_at", "peers_found")

    def __init__(self, found: Found, next_at: float) -> None:
        self.found = found
        self.announced_at: float | None = None
        self.answered_at = -inf
        self.next_at = next_at
        self.known: dict[Address, None] = {}  # who announced it, the latest last
        self.peers_found = 0


class Lsd:
    """The session's. ``port()``: where peers reach us (0: nowhere yet); ``bind``: our address, and then its interface alone.

    ``rng``: chance; ``secret`` gives so many bits that nobody can guess, for the mark by which we know our own packets.
    """

    def __init__(
        self,
        settings: LsdSettings,
        *,
        port: Callable[[], int],
        rng: Random,
        secret: Callable[[int], int],
        bind: str = "",
        executor: Executor | None = None,
    ) -> None:
        self.settings = settings
        self.cookie = f"{secret(32):08x}"
        self.packets_sent = 0
        self.packets_heard = 0  # that said something
        self.packets_dropped = 0  # garbage, or too many
        self._port = port
        self._rng = rng
        self._multicast = Multicast({4: GROUP4, 6: GROUP6}, self.received, bind=bind, executor=executor)
        self._tasks = Tasks("lsd")
        self._looking = False
        self._look_at = 0.0
        self._closed = False
        self._followed: dict[InfoHash, _Followed] = {}
        self._due: list[tuple[float, int, InfoHash]] = []  # a heap with stale entries: when, a number, which
        self._numbers = itertools.count()
        self._budget = TokenBucket(PACKETS_A_SECOND, burst=BURST / PACKETS_A_SECOND)
        self._hosts: dict[str, TokenBucket] = {}

    # ------------------------------------------------------------------ what the session asks

    def start(self) -> None:
        """Look for interfaces and join the groups, by and by. Never raises."""
        self._look_at = 0.0
        self._look(0.0)

    def follow(self, infohash: InfoHash, found: Found) -> None:
        """Announce a torrent, and tell ``found`` who else has it. Followed already: ``found`` changes."""
        infohash = infohash.truncated
        followed = self._followed.get(infohash)
        if followed is not None:
            followed.found = found
            return
        self._followed[infohash] = _Followed(found, 0.0)
        self._schedule(infohash, 0.0)

    def unfollow(self, infohash: InfoHash) -> None:
        """Done already is fine."""
        self._followed.pop(infohash.truncated, None)

    def hasten(self, infohash: InfoHash) -> None:
        """Peers are wanted: announce it at the next heartbeat, or a minute after the last time."""
        followed = self._followed.get(infohash.truncated)
        if followed is not None:
            self._hasten(infohash.truncated, followed)

    def told(self, infohash: InfoHash) -> LsdTold | None:
        """What was said and heard of a torrent; None if it is not followed."""
        one = self._followed.get(infohash.truncated)
        if one is None:
            return None
        return LsdTold(one.announced_at, one.next_at, one.peers_found, len(self._multicast.links), self._trouble())

    def _trouble(self) -> str:
        if self._multicast.links or self._looking:
            return ""
        return self._multicast.problem or "no interface of this machine has a local network"

    # ------------------------------------------------------------------ what is announced

    def heartbeat(self, now: float) -> None:
        """Once a second: announce what is due."""
        if now >= self._look_at:
            self._look(now)
        families = {link.family for link in self._multicast.links}
        port = self._port()
        packets = int(self._budget.available(now))
        if not families or not port or not packets or not self._due or self._due[0][0] > now:
            return
        infohashes = self._take_due(packets * most_in_packet(self.cookie, GROUP4), now)
        for family in families:
            for packet in announces(infohashes, port, self.cookie, GROUP6 if family == 6 else GROUP4):
                self.packets_sent += self._multicast.send(family, packet)
        self._budget.take(-(-len(infohashes) // most_in_packet(self.cookie, GROUP4)))
        if infohashes:
            log.debug("> %d torrents announced over %r", len(infohashes), self._multicast)

    def _take_due(self, most: int, now: float) -> list[InfoHash]:
        """Up to ``most`` torrents whose time has come; their next one is set."""
        taken: list[InfoHash] = []
        while self._due and self._due[0][0] <= now and len(taken) < most:
            due, _, infohash = heapq.heappop(self._due)
            followed = self._followed.get(infohash)
            if followed is None or followed.next_at != due:
                continue
            taken.append(infohash)
            followed.announced_at = now
            self._schedule(infohash, now + self.settings.announce_interval * self._rng.uniform(1.0, 1.05))
        return taken

    def _schedule(self, infohash: InfoHash, at: float) -> None:
        self._followed[infohash].next_at = at
        heapq.heappush(self._due, (at, next(self._numbers), infohash))
        if len(self._due) > 2 * len(self._followed) + 64:  # mostly stale
            self._due = [(one.next_at, next(self._numbers), key) for key, one in self._followed.items()]
            heapq.heapify(self._due)

    def _hasten(self, infohash: InfoHash, followed: _Followed) -> None:
        at = 0.0 if followed.announced_at is None else followed.announced_at + LEAST_INTERVAL
        if at < followed.next_at:
            self._schedule(infohash, at)

    def _answer(self, infohash: InfoHash, followed: _Followed, now: float) -> None:
        """Somebody came who may not have heard of us: announce it again, once a minute for all that come."""
        at = max(now + self._rng.uniform(0, DITHER), followed.answered_at + LEAST_INTERVAL)
        if at < followed.next_at:
            followed.answered_at = at
            self._schedule(infohash, at)

    # ------------------------------------------------------------------ what is heard

    def received(self, packet: bytes, sender: Address, now: float) -> None:
        """A packet of a neighbour, whatever is in it."""
        if not self._may_speak(sender.host, now):
            self.packets_dropped += 1
            return
        try:
            announce = decode_lsd(packet)
        except ProtocolError as error:
            self.packets_dropped += 1
            log.debug("! from %s: %s", sender, error)
            return
        if announce.cookie == self.cookie:
            return
        self.packets_heard += 1
        peer = Address(sender.host, announce.port)
        for infohash in announce.infohashes:
            followed = self._followed.get(infohash)
            if followed is not None:
                self._heard(infohash, followed, peer, now)

    def _heard(self, infohash: InfoHash, followed: _Followed, peer: Address, now: float) -> None:
        if peer in followed.known:
            del followed.known[peer]
        else:
            log.debug("< %s has %s", peer, infohash)
            followed.peers_found += 1
            self._answer(infohash, followed, now)
        followed.known[peer] = None
        if len(followed.known) > MOST_KNOWN:
            del followed.known[next(iter(followed.known))]
        followed.found([peer])

    def _may_speak(self, host: str, now: float) -> bool:
        bucket = self._hosts.pop(host, None) or TokenBucket(HOST_RATE, burst=HOST_BURST / HOST_RATE, now=now)
        self._hosts[host] = bucket  # the latest last
        if len(self._hosts) > MOST_HOSTS:
            del self._hosts[next(iter(self._hosts))]
        if bucket.available(now) < 1:
            return False
        bucket.take(1)
        return True

    # ------------------------------------------------------------------ interfaces

    def _look(self, now: float) -> None:
        if self._looking or self._closed:
            return
        self._looking = True
        self._look_at = now + LOOK_INTERVAL
        self._tasks.spawn(self._look_around(), "look for interfaces")

    async def _look_around(self) -> None:
        try:
            if await self._multicast.look():
                log.info("= local peers are looked for over %r", self._multicast)
                for infohash, followed in self._followed.items():  # neighbours that have not heard of us
                    if followed.announced_at is not None:
                        self._hasten(infohash, followed)
        except (OSError, ImportError) as error:
            self._multicast.problem = f"its interfaces cannot be listed: {error}"
            log.info("! no look for local peers: %s", error)
        finally:
            self._looking = False

    async def aclose(self) -> None:
        """Leave the groups. Safe to call twice."""
        self._closed = True
        await self._tasks.aclose()
        await self._multicast.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"over {len(self._multicast.links)} links"
        return f"<Lsd [{len(self._followed)} torrents, {state} | {self.packets_sent} sent, {self.packets_heard} heard]>"
