"""Extension: one extension of the peer protocol (BEP 10) in one swarm: what it hears, and when it may speak.

A swarm has a row of them and knows none: it passes on each peer's extended handshake, the messages under the extension's
number, and its heartbeat. Their numbers are the peer's (``Peer.extensions``), ours are ``protocol.extended.OURS``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from unchoke.engine.peer import Peer


class Extension(Protocol):
    """``name`` as the handshake has it, ``number`` under which we receive it. All calls are synchronous."""

    name: str
    number: int

    def greeted(self, peer: Peer, now: float) -> None:
        """Its extended handshake came, perhaps again: ``peer.extensions`` has its numbers."""

    def received(self, peer: Peer, payload: bytes, now: float) -> None:
        """A message under our number. Raises ProtocolError: then the conversation ends, with fault."""

    def gone(self, peer: Peer) -> None:
        """It left."""

    def heartbeat(self, now: float) -> None:
        """Once a second."""
