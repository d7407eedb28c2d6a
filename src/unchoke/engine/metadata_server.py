"""MetadataServer: gives peers the info dictionary of a torrent that runs (BEP 9).

Each peer may have it a few times over, at a bounded rate. What it asks for too early waits, up to a short row, and goes out with the
heartbeat; more than that, and what it has had often enough, is rejected. Nothing is read, copied whole or waited for. Metadata is no
payload, so the session's rate limits do not hold for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from unchoke.policy.bandwidth import TokenBucket
from unchoke.policy.metadata.settings import MetadataSettings
from unchoke.protocol import extended, ut_metadata

if TYPE_CHECKING:
    from unchoke.engine.peer import Peer

#: Requests of one peer that may wait (Transmission: 64; libtorrent has 2 open at a time).
MOST_WAITING = 64
#: Seconds of the rate that may go out at once.
BURST = 4.0
#: Bytes that a peer has not read yet, above which it gets no more.
MOST_UNSENT = 4 * ut_metadata.PIECE


class _Client:
    """What one peer has had, and waits for."""

    __slots__ = ("bucket", "given", "waiting")

    def __init__(self, rate: float, now: float) -> None:
        self.bucket = TokenBucket(rate, burst=BURST, now=now)
        self.given = 0  # bytes
        self.waiting: deque[int] = deque()


class MetadataServer:
    """One swarm's extension. ``info``: the bytes of the info dictionary, or none while it cannot be given."""

    name = ut_metadata.NAME
    number = extended.OURS[ut_metadata.NAME]

    def __init__(self, info: Callable[[], bytes | memoryview], settings: MetadataSettings | None = None) -> None:
        self._info = info
        self._settings = settings or MetadataSettings()
        self._clients: dict[Peer, _Client] = {}

    def greeted(self, peer: Peer, now: float) -> None:
        """Part of Extension; nothing is said unasked."""

    def received(self, peer: Peer, payload: bytes, now: float) -> None:
        """A request is answered, now or soon. Raises ProtocolError; data that nobody asked for is one."""
        message = ut_metadata.decode(payload)
        if not isinstance(message, ut_metadata.Request):
            peer.count_redundant()  # late answers to questions from before we had it
            return
        client = self._clients.get(peer)
        if client is None:
            client = self._clients[peer] = _Client(self._settings.serve_rate, now)
        if len(client.waiting) < MOST_WAITING:
            client.waiting.append(message.piece)
            self._serve(peer, client, now)
        else:
            self._reject(peer, message.piece)

    def _serve(self, peer: Peer, client: _Client, now: float) -> None:
        """Answer what waits, as far as the peer's share goes."""
        info = self._info() if client.waiting else b""
        size = len(info)
        while client.waiting:
            piece = client.waiting[0]
            length = ut_metadata.piece_size(piece, size)
            if length <= 0 or client.given + length > self._settings.served * size:
                self._reject(peer, client.waiting.popleft())
                continue
            if client.bucket.available(now) <= 0 or peer.unsent > MOST_UNSENT:
                return
            client.waiting.popleft()
            client.bucket.take(length)
            client.given += length
            peer.redundant = max(0, peer.redundant - 1)  # whatever it was counted as: what we answer is no flood
            start = piece * ut_metadata.PIECE
            part = memoryview(info)[start : start + length]
            self._send(peer, ut_metadata.Data(piece, size, part).encode())

    def _reject(self, peer: Peer, piece: int) -> None:
        peer.count_redundant()
        self._send(peer, ut_metadata.Reject(piece).encode())

    def _send(self, peer: Peer, message: bytes) -> None:
        number = peer.extensions.get(self.name, 0)
        if number and not peer.is_closed:
            peer.wire.send_extended(number, message)
            peer.flush()

    def gone(self, peer: Peer) -> None:
        self._clients.pop(peer, None)

    def heartbeat(self, now: float) -> None:
        """What waits goes on."""
        for peer, client in list(self._clients.items()):
            if client.waiting:
                self._serve(peer, client, now)

    def __repr__(self) -> str:
        waiting = sum(len(client.waiting) for client in self._clients.values())
        return f"<MetadataServer [{len(self._clients)} peers have asked | {waiting} requests wait]>"
