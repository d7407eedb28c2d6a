"""Doorbell: where peers wait that want a torrent which sleeps, until it has woken up.

For the dialer it is the torrent's swarm; it reads nothing of what they say (their wire keeps up to one message of it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from unchoke.types import Address, InfoHash, PeerId

if TYPE_CHECKING:
    from unchoke.engine.peer import Peer
    from unchoke.engine.swarm import Swarm

#: Peers that may wait for one torrent.
MOST_WAITING = 50


class Doorbell:
    """``ring`` is called for each that comes: the torrent wakes, and calls ``open``."""

    __slots__ = ("_ring", "_waiting", "infohash", "peer_id")

    def __init__(self, infohash: InfoHash, peer_id: PeerId, ring: Callable[[], None]) -> None:
        self.infohash = infohash
        self.peer_id = peer_id
        self._ring = ring
        self._waiting: list[Peer] = []

    def refusal(self, peer: Peer, peer_id: PeerId) -> str | None:
        """Part of the dialer's Target."""
        if peer_id == self.peer_id:
            return "it is ourselves"
        self._waiting = [other for other in self._waiting if not other.is_closed]
        return "too many wait for this torrent" if len(self._waiting) >= MOST_WAITING else None

    def add(self, peer: Peer) -> None:
        """Part of the dialer's Target."""
        self._waiting.append(peer)
        self._ring()

    def dial_failed(self, address: Address, reason: str) -> None:
        """Part of the dialer's Target; nobody is dialled while it sleeps."""

    def open(self, swarm: Swarm) -> None:
        """It is awake: those that still wait go in."""
        waiting, self._waiting = self._waiting, []
        for peer in waiting:
            if peer.is_closed or peer.peer_id is None:
                continue
            refusal = swarm.refusal(peer, peer.peer_id)
            if refusal is None:
                swarm.add(peer)
            else:
                peer.close(refusal)

    def close(self, reason: str) -> None:
        """It will not wake."""
        waiting, self._waiting = self._waiting, []
        for peer in waiting:
            peer.close(reason)

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Doorbell of {self.infohash.hex()[:8]} [{len(self._waiting)} waiting]>"
