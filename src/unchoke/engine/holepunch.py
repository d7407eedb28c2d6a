"""Holepunch: the relay's part of BEP 55: of two peers of ours, one wants the other, and neither can be dialled.

Both are told to dial the other now. ``connect`` messages to ourselves are handed to ``connect``; without it they are ignored, as
only uTP can follow them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from unchoke.policy.bandwidth import TokenBucket
from unchoke.policy.peerlist import is_dialable
from unchoke.policy.pex import may_tell
from unchoke.protocol.extended import OURS
from unchoke.protocol.ut_holepunch import HolepunchError, HolepunchKind, HolepunchMessage, decode_holepunch
from unchoke.types import Address

if TYPE_CHECKING:
    from unchoke.engine.peer import Peer

log = logging.getLogger(__name__)

#: Rendezvous that one peer may ask for each second, and those that one peer may be told to take part in; and how many seconds'
#: worth at once. Somebody who joins a swarm wants a few dozen, then hardly any.
RATE = 0.5
BURST = 60.0


class HolepunchOwner(Protocol):
    """What it asks of its swarm."""

    peers: dict[Peer, None]


class Holepunch:
    """An ``Extension``. ``ours(family)``: our own address, as peers would tell it. ``connect(address, peer)``: dial over uTP."""

    name = "ut_holepunch"
    number = OURS["ut_holepunch"]

    def __init__(
        self,
        owner: HolepunchOwner,
        *,
        ours: Callable[[int], Address | None] = lambda family: None,
        connect: Callable[[Address, Peer], None] | None = None,
    ) -> None:
        self.owner = owner
        self.relayed = 0
        self._ours = ours
        self._connect = connect
        self._asks: dict[Peer, TokenBucket] = {}
        self._called: dict[Peer, TokenBucket] = {}

    # ------------------------------------------------------------------ Extension

    def greeted(self, peer: Peer, now: float) -> None:
        """Nothing to say: who wants somebody asks."""

    def received(self, peer: Peer, payload: bytes, now: float) -> None:
        """Raises ProtocolError: no message of BEP 55."""
        message = decode_holepunch(payload)
        if not peer.extensions.get(self.name):
            return  # BEP 55: silently
        if message.kind == HolepunchKind.RENDEZVOUS:
            self._rendezvous(peer, message.address, now)
        elif message.kind == HolepunchKind.CONNECT:
            fit = is_dialable(message.address) and may_tell(message.address, peer.address.host)
            if self._connect is not None and fit:
                self._connect(message.address, peer)
        else:
            log.debug("< %s cannot bring us to %s: error %d", peer, message.address, message.error)

    def gone(self, peer: Peer) -> None:
        self._asks.pop(peer, None)
        self._called.pop(peer, None)

    def heartbeat(self, now: float) -> None:
        """Nothing depends on time but the limits, which look at it when they are asked."""

    # ------------------------------------------------------------------ the relay

    def _rendezvous(self, peer: Peer, wanted: Address, now: float) -> None:
        if not _take(self._asks, peer, now):
            return  # an answer to each of a flood would be one too
        target = self._find(wanted)
        error = self._objection(peer, wanted, target)
        if target is None or error is not None:
            self._say(peer, HolepunchMessage(HolepunchKind.ERROR, wanted, error or HolepunchError.NOT_CONNECTED))
        elif _take(self._called, target, now):
            self.relayed += 1
            log.debug("= %s and %s are brought together", peer, target)
            self._say(target, HolepunchMessage(HolepunchKind.CONNECT, _endpoint(peer)))
            self._say(peer, HolepunchMessage(HolepunchKind.CONNECT, wanted))

    def _objection(self, peer: Peer, wanted: Address, target: Peer | None) -> HolepunchError | None:
        """Why the two cannot be brought together, or None."""
        if wanted == self._ours(6 if ":" in wanted.host else 4):
            return HolepunchError.NO_SELF
        if not is_dialable(wanted) or target is peer:
            return HolepunchError.NO_SUCH_PEER
        if target is None:
            return HolepunchError.NOT_CONNECTED
        if not target.extensions.get(self.name):
            return HolepunchError.NO_SUPPORT
        theirs = _endpoint(peer)
        same_family = (":" in theirs.host) is (":" in wanted.host)
        if not (same_family and may_tell(theirs, wanted.host) and may_tell(wanted, theirs.host)):
            return HolepunchError.NO_SUCH_PEER  # they could not reach each other
        return None

    def _find(self, wanted: Address) -> Peer | None:
        return next((one for one in self.owner.peers if wanted in (one.listen_address, one.address)), None)

    def _say(self, peer: Peer, message: HolepunchMessage) -> None:
        peer.wire.send_extended(peer.extensions[self.name], message.encode())
        peer.flush()

    def __repr__(self) -> str:
        return f"<Holepunch [{self.relayed} brought together]>"


def _endpoint(peer: Peer) -> Address:
    """Where a peer listens, if it has said so; else where it comes from, which over uTP is the same."""
    return peer.listen_address or peer.address


def _take(buckets: dict[Peer, TokenBucket], peer: Peer, now: float) -> bool:
    """One more of what ``peer`` may have."""
    bucket = buckets.get(peer)
    if bucket is None:
        bucket = buckets[peer] = TokenBucket(RATE, burst=BURST, now=now)
    if bucket.available(now) < 1:
        return False
    bucket.take(1)
    return True
