"""Dialer: connections before their handshake, both ways: a bounded number of dials, and a lobby where newcomers wait.

Who dials us says which torrent it wants; whom we dial must answer for the torrent we named. A peer that has shaken hands
goes to its torrent (``Target``); one that does not in time is closed. Strangers can fill the lobby only to its bound.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from unchoke.engine.net.transport import Network
from unchoke.engine.settings import NetworkSettings
from unchoke.engine.tasks import Tasks
from unchoke.errors import NetworkError
from unchoke.protocol.handshake import OURS, Handshake, Reserved
from unchoke.protocol.messages import Blocks, Message, Requests
from unchoke.reach import Reach, household, reach_of
from unchoke.types import Address, InfoHash, PeerId

if TYPE_CHECKING:
    from unchoke.engine.peer import Peer, PeerOwner

log = logging.getLogger(__name__)

#: Connections without a handshake that strangers may hold at one time.
MOST_WAITING = 200
#: Of them, those that may stand beyond the session's limit until their handshake says whether somebody makes room for them.
MOST_BEYOND = 10
#: Dials to one household on the internet in so many seconds, over all torrents: whoever names a victim a thousand times must not make
#: us hammer it.
MOST_DIALS = 60
DIALS_COUNTED = 60.0


class Target(Protocol):
    """A torrent's swarm, as far as newcomers are concerned."""

    infohash: InfoHash
    peer_id: PeerId

    def refusal(self, peer: Peer, peer_id: PeerId) -> str | None: ...

    def add(self, peer: Peer) -> None: ...

    def dial_failed(self, address: Address, reason: str) -> None: ...


class Dialer:
    """``make_peer(owner, dialed)`` makes the protocol object of a connection (``dialed`` None: incoming).

    ``find`` gives the target for an infohash. ``room`` says how many more conversations the session may hold (negative: too
    many stand), ``make_room`` ends one of no use, if there is any. ``reserved``: what our handshakes say we can.
    """

    def __init__(
        self,
        network: Network,
        settings: NetworkSettings,
        make_peer: Callable[[PeerOwner, Address | None], Peer],
        find: Callable[[InfoHash], Target | None],
        room: Callable[[], int],
        make_room: Callable[[], bool] | None = None,
        *,
        reserved: Reserved = OURS,
    ) -> None:
        self._network = network
        self._settings = settings
        self._make_peer = make_peer
        self._find = find
        self._room = room
        self._make_room = make_room
        self._reserved = reserved
        self._tasks = Tasks("dialer")
        self._waiting: dict[Peer, Target | None] = {}
        self._closed = False
        self._dials: dict[str, int] = {}  # household → dials since ``_counted_at``
        self._counted_at = 0.0
        self.half_open = 0

    # ------------------------------------------------------------------ both directions

    def accept(self) -> Peer:
        """The protocol object of an incoming connection."""
        return self._make_peer(self, None)

    @property
    def free(self) -> int:
        """How many more dials may start now."""
        return max(0, min(self._settings.max_half_open - self.half_open, self._room()))

    @property
    def waiting(self) -> int:
        """Connections that stand and have not shaken hands."""
        return len(self._waiting)

    def dial(self, address: Address, target: Target) -> None:
        """Connect and shake hands for ``target``; on failure it hears ``dial_failed``."""
        if reach_of(address.host) is Reach.PUBLIC:
            house = household(address.host)
            self._dials[house] = self._dials.get(house, 0) + 1
            if self._dials[house] > MOST_DIALS:
                self._tasks.spawn(_refuse(address, target), f"no dial {address}")
                return
        self.half_open += 1
        self._tasks.spawn(self._dial(address, target), f"dial {address}")

    async def _dial(self, address: Address, target: Target) -> None:
        def make() -> Peer:
            peer = self._make_peer(self, address)
            self._waiting[peer] = target
            return peer

        settings = self._settings
        try:
            await self._network.connect(make, address, bind=settings.bind, timeout=settings.connect_timeout)
        except NetworkError as error:
            target.dial_failed(address, str(error))
        finally:
            self.half_open -= 1

    # ------------------------------------------------------------------ PeerOwner, until the handshake

    def peer_connected(self, peer: Peer) -> None:
        target = self._waiting.get(peer)
        if target is not None:
            peer.wire.send_handshake(Handshake(target.infohash.truncated, target.peer_id, self._reserved))
            peer.flush()
            return
        self._waiting[peer] = None
        if self._closed:  # the kernel had accepted it already
            peer.close("we are closing")
        elif self._room() < (-MOST_BEYOND if self._make_room is not None else 0):
            peer.close("too many connections")
        elif len(self._waiting) > MOST_WAITING:
            # The longest silent one goes, not the newcomer: who means it shakes hands within a round trip.
            next(stranger for stranger, goal in self._waiting.items() if goal is None).close("made room for others")

    def peer_shook_hands(self, peer: Peer, handshake: Handshake) -> None:
        target = self._waiting.get(peer)
        if target is None:
            target = self._find(handshake.infohash)
            if target is None:
                peer.close("wants a torrent we do not have")
                return
            self._waiting[peer] = target
        elif handshake.infohash != target.infohash.truncated:
            peer.close("answered for another torrent", fault=True)
            return
        refusal = target.refusal(peer, handshake.peer_id)
        if refusal is not None:
            if peer.incoming and handshake.peer_id == target.peer_id:
                # Ourselves: our dialling end must see whom it has reached, or it would try again and again.
                peer.wire.send_handshake(Handshake(target.infohash.truncated, target.peer_id))
                peer.flush()
            peer.close(refusal)
            return
        if self._room() < 0 and (self._make_room is None or not self._make_room()):
            peer.close("too many connections")
            return
        del self._waiting[peer]
        target.add(peer)

    def peer_gone(self, peer: Peer, reason: str, *, fault: bool) -> None:
        target = self._waiting.pop(peer, None)
        log.debug("= %s left before its handshake: %s", peer, reason)
        if target is not None and peer.dialed is not None:
            target.dial_failed(peer.dialed, reason)

    def peer_sent(self, peer: Peer, blocks: Blocks) -> None:
        """Part of PeerOwner; nothing is read before the handshake."""

    def peer_asked(self, peer: Peer, requests: Requests) -> None:
        """Part of PeerOwner; nothing is read before the handshake."""

    def peer_said(self, peer: Peer, message: Message) -> None:
        """Part of PeerOwner; nothing is read before the handshake."""

    def peer_rests(self, peer: Peer) -> None:
        """Part of PeerOwner; there is nothing to ask yet."""

    # ------------------------------------------------------------------ time

    def heartbeat(self, now: float) -> None:
        """Close those that do not shake hands in time."""
        if now - self._counted_at >= DIALS_COUNTED:
            self._counted_at = now
            self._dials.clear()
        limit = self._settings.handshake_timeout
        for peer in list(self._waiting):
            if now - peer.connected_at > limit and peer.has_transport:
                peer.close(f"no handshake within {limit:g} s")

    async def aclose(self) -> None:
        self._closed = True
        await self._tasks.aclose()
        for peer in list(self._waiting):
            peer.close("we are closing")

    def __repr__(self) -> str:
        return f"<Dialer [{self.half_open} half-open | {len(self._waiting)} before their handshake]>"


async def _refuse(address: Address, target: Target) -> None:
    """Not within the call that asked for it."""
    target.dial_failed(address, "its host was dialled often enough for now")
