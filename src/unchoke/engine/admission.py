"""Admission: who may join a swarm: no stranger to the torrent, no double, nobody banned; and who makes room when it is full.

Whose place is given away is ``eviction``'s choice. ``Places`` does the same for the session as a whole, which the dialer asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, cast

from unchoke.engine.settings import Settings
from unchoke.policy.eviction import EvictionSettings, Occupant, least_useful
from unchoke.policy.peerlist import PeerList
from unchoke.types import PeerId

if TYPE_CHECKING:
    from unchoke.engine.peer import Peer

#: Seconds in which nobody is looked for again after nobody was found who could make room: a siege must not cost a search each.
SEARCH_AGAIN = 1.0


class Places:
    """Room for one more, by closing the least useful peer of all that ``occupants`` gives."""

    def __init__(
        self, occupants: Callable[[], Iterable[Occupant]], settings: EvictionSettings, clock: Callable[[], float]
    ) -> None:
        self._occupants = occupants
        self._settings = settings
        self._clock = clock
        self._search_at = 0.0

    def make_room(self) -> bool:
        """Close the peer that is least useful, if any is useless enough."""
        now = self._clock()
        if now < self._search_at:
            return False
        peer = least_useful(self._occupants(), self._settings, now)
        if peer is None:
            self._search_at = now + SEARCH_AGAIN
            return False
        cast("Peer", peer).close("made room for another")
        return True

    def __repr__(self) -> str:
        return f"<Places [next search at {self._search_at:.1f}]>"


class AdmissionOwner(Protocol):
    """What an admission asks of its swarm."""

    peers: dict[Peer, None]
    peer_id: PeerId
    peerlist: PeerList

    @property
    def is_closed(self) -> bool: ...

    def is_hopeless(self, peer: Peer) -> bool:
        """No data will ever flow between us."""


class Admission:
    """One swarm's. ``most``: conversations it holds at a time, changeable."""

    def __init__(self, owner: AdmissionOwner, settings: Settings, clock: Callable[[], float]) -> None:
        self.owner = owner
        self.most = settings.network.max_connections_per_torrent
        self._settings = settings
        self._clock = clock
        self._places = Places(self.occupants, settings.eviction, clock)

    def refusal(self, peer: Peer, peer_id: PeerId) -> str | None:
        """Why this peer may not join, or None. Somebody of no use may be closed for it, or its double."""
        owner = self.owner
        host = peer.address.host
        if owner.is_closed:
            return "the torrent is stopped"
        if peer_id == owner.peer_id:
            if peer.dialed is not None:
                owner.peerlist.exclude(peer.dialed)
            return "it is ourselves"
        if owner.peerlist.is_banned(host):
            return "banned: " + owner.peerlist.banned[host]
        if peer.incoming and owner.peerlist.must_wait(host, self._clock()):
            return "it broke the protocol a moment ago"
        if peer.incoming and self._from_host(host) >= self._settings.network.max_connections_per_host:
            return "enough peers from this address"
        double = self._double(peer, peer_id)
        if double is None and len(owner.peers) >= self.most and not self._places.make_room():
            return "enough peers"
        return double

    def _from_host(self, host: str) -> int:
        return sum(peer.incoming and peer.address.host == host for peer in self.owner.peers)

    def _double(self, peer: Peer, peer_id: PeerId) -> str | None:
        """Two conversations with one peer: both sides must keep the same one, so the one the greater peer id dialled stays."""
        for other in self.owner.peers:
            if other.peer_id == peer_id:
                keep_incoming = peer_id > self.owner.peer_id
                if other.incoming != peer.incoming and peer.incoming == keep_incoming:
                    other.close("the same peer connected a second time")
                    return None
                if other.listen_address is None and other.address.host == peer.address.host:
                    other.listen_address = peer.dialed
                return "connected already"
        return None

    # ------------------------------------------------------------------ making room

    def occupants(self) -> Iterator[Occupant]:
        """Who holds a place here, for the choice of whose is given away."""
        for peer in self.owner.peers:
            yield Occupant(
                key=peer,
                moved_at=peer.moved_at,
                we_interested=peer.wire.we_interested,
                they_interested=peer.wire.they_interested,
                hopeless=self.owner.is_hopeless(peer),
            )

    def turn_over(self, now: float) -> None:
        """Full of peers, and others wait to be dialled: the least useful gives way to one of them."""
        due = self.owner.peerlist.next_due
        if len(self.owner.peers) >= self.most and due is not None and due <= now:
            self._places.make_room()

    def __repr__(self) -> str:
        return f"<Admission [{len(self.owner.peers)} of {self.most} places taken]>"
