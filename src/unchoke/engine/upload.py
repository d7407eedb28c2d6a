"""Upload: what one peer takes from us. Its queue of requests, and how they are served. (Its twin is ``download``.)

Every request is answered exactly once with the fast extension (BEP 6): by the piece, or by a reject. Adjacent requests are
read together into one pooled buffer, in place when the page cache has it, else with one hop to a thread; header and
payload go out as vectors, unjoined. A slow peer holds at most one such batch: the next is read when the transport has
sent the last.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

from unchoke.engine.disk import READ_SIZE, TorrentDisk
from unchoke.errors import StorageError
from unchoke.layout import TorrentLayout
from unchoke.policy.bandwidth import TokenBucket
from unchoke.rates import Rate
from unchoke.types import Block

if TYPE_CHECKING:
    from unchoke.engine.peer import Peer

log = logging.getLogger(__name__)

#: Requests one peer may have waiting; we say so in the extended handshake (libtorrent: 2,000, Transmission: 512).
MOST_REQUESTS = 2000
#: Seconds a peer may take nothing of what it asked for. Its buffer is memory that others wait for.
STUCK = 30.0


class UploadOwner(Protocol):
    """What an upload asks of its swarm."""

    def has_piece(self, piece: int) -> bool: ...

    def uploaded(self, length: int) -> None: ...

    def read_failed(self, error: StorageError) -> None: ...


class Upload:
    """One peer's. ``bucket``: the session's upload limit."""

    __slots__ = (
        "_batch",
        "_bucket",
        "_disk",
        "_layout",
        "_owner",
        "_peer",
        "_reading",
        "_sending",
        "_stuck_at",
        "_stuck_since",
        "optimistic",
        "queue",
        "rate",
        "unchoked_since",
    )

    def __init__(
        self,
        peer: Peer,
        owner: UploadOwner,
        disk: TorrentDisk,
        layout: TorrentLayout,
        bucket: TokenBucket,
        now: float,
    ) -> None:
        self._peer = peer
        self._owner = owner
        self._disk = disk
        self._layout = layout
        self._bucket = bucket
        self.queue: deque[Block] = deque()
        self.rate = Rate(now)
        self.unchoked_since = 0.0
        self._reading = False
        self._batch: list[Block] = []  # being read by a thread
        self._sending: list[bytearray] = []  # buffers the transport still points into
        self._stuck_at = 0  # unsent bytes when last looked, and since when
        self._stuck_since = now

    def asked(self, requests: list[Block]) -> None:
        """Requests came. What cannot be served is rejected at once. (Bounds were checked by the wire.)"""
        wire = self._peer.wire
        for block in requests:
            if wire.we_choke or len(self.queue) >= MOST_REQUESTS or not self._owner.has_piece(block.piece):
                wire.send_reject(block)
            else:
                self.queue.append(block)

    def cancelled(self, block: Block) -> bool:
        """The peer withdrew a request; if it still waits it is rejected, as BEP 6 wants. False if it did not wait."""
        try:
            self.queue.remove(block)
        except ValueError:
            return False  # on its way already, or never asked
        self._peer.wire.send_reject(block)
        return True

    def choke(self) -> None:
        """Choke the peer, and reject what waits."""
        wire = self._peer.wire
        wire.send_choke()
        waiting, self.queue = self.queue, deque()
        for block in waiting:
            wire.send_reject(block)

    def serve(self, now: float) -> None:
        """Send what may be sent now. Called at the end of each wake-up, when the transport has drained, and when the limit allows."""
        peer = self._peer
        while self.queue and not self._reading and not self._sending:
            limit = self._bucket.available(now)
            if limit <= 0:
                return
            if not self._disk.may_read(peer.rest):
                return
            batch = self._next_batch(min(limit, READ_SIZE))
            start = batch[0].piece * self._layout.piece_length + batch[0].begin
            length = batch[-1].begin + batch[-1].length - batch[0].begin
            self._bucket.take(length)
            self.rate.add(length, now)
            found = self._disk.try_read(start, length)
            if found is None:
                self._reading = True
                self._batch = batch
                self._disk.read(start, length, self._read)
                return
            self._send(batch, *found)
            peer.flush()
            self.sent()

    def _next_batch(self, most: float) -> list[Block]:
        """The first request, and those that follow it without a gap, up to ``most`` bytes in all."""
        queue = self.queue
        batch = [queue.popleft()]
        begin = batch[0].begin
        while queue:
            last, following = batch[-1], queue[0]
            if following.piece != last.piece or following.begin != last.begin + last.length:
                break
            if following.begin + following.length - begin > most:
                break
            batch.append(queue.popleft())
        return batch

    def _send(self, batch: list[Block], buffer: bytearray, view: memoryview) -> None:
        wire = self._peer.wire
        base = batch[0].begin
        for piece, begin, length in batch:
            wire.send_block(piece, begin, view[begin - base : begin - base + length])
        self._sending.append(buffer)
        self._stuck_at = 0
        self._owner.uploaded(len(view))

    def _read(self, buffer: bytearray, view: memoryview, error: StorageError | None) -> None:
        self._reading = False
        batch, self._batch = self._batch, []
        if self._peer.is_closed:
            self._disk.free(buffer)
            return
        if error is not None:
            self._disk.free(buffer)
            for block in batch:
                self._peer.wire.send_reject(block)
            self._peer.flush()
            self._owner.read_failed(error)
            return
        self._send(batch, buffer, view)
        self._peer.flush()
        self.sent()
        if not self._sending:
            self._peer.rest()

    def sent(self) -> None:
        """If the transport holds nothing any more, the buffers are free."""
        if self._sending and not self._peer.unsent:
            for buffer in self._sending:
                self._disk.free(buffer)
            self._sending.clear()

    def is_stuck(self, now: float) -> bool:
        """The peer has taken nothing of what we send for STUCK seconds. Asked once a second."""
        unsent = self._peer.unsent if self._sending else 0
        if unsent != self._stuck_at:
            self._stuck_at, self._stuck_since = unsent, now
        return unsent > 0 and now - self._stuck_since > STUCK

    @property
    def is_waiting(self) -> bool:
        """Requests wait and nothing but the limit holds them."""
        return bool(self.queue) and not self._reading and not self._sending

    def close(self) -> None:
        """The peer is gone. Buffers the transport still points into are left to the garbage collector."""
        self.queue.clear()
        for _ in self._sending:
            self._disk.free(None)
        self._sending.clear()

    def __repr__(self) -> str:
        return f"<Upload [{len(self.queue)} waiting | {'reading' if self._reading else 'ready'} | {self.rate.total} B]>"
