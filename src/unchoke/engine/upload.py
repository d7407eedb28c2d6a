"""Upload: what one peer takes from us. Its queue of requests, and how they are served. (Its twin is ``download``.)

Every request is answered exactly once with the fast extension (BEP 6): by the piece, or by a reject. Adjacent requests are
read together into one pooled buffer, in place when the page cache has it, else with one hop to a thread; header and
payload go out as vectors, unjoined. A slow peer holds at most one such batch: the next is read when the transport has
sent the last, and it is about as much as the peer takes in a second, so that a choke holds soon and no long row of old data
stands before the next one's turn.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

from unchoke.engine.disk import READ_SIZE, TorrentDisk
from unchoke.errors import StorageError
from unchoke.layout import TorrentLayout
from unchoke.policy.bandwidth import Limit
from unchoke.rates import Rate
from unchoke.types import BLOCK_SIZE, Block

if TYPE_CHECKING:
    from unchoke.engine.peer import Peer

log = logging.getLogger(__name__)

#: Requests one peer may have waiting; we say so in the extended handshake (libtorrent: 2,000, Transmission: 512).
MOST_REQUESTS = 2000
#: Seconds, and bytes that a peer must take in them of what is there for it. Half a KiB a second is less than a telephone line,
#: and more than a sip to stay alive. It is asked only while others wait for the memory: it may be our line that is slow.
STUCK = 30.0
LEAST_TAKEN = BLOCK_SIZE
#: Bytes read ahead for a peer that we know nothing of; then as many as it takes in about a second.
FIRST_AHEAD = 2 * BLOCK_SIZE
#: Seconds after a choke in which requests may still be on their way to us; those that come later were sent in spite of it.
CHOKE_CROSSING = 10.0


class UploadOwner(Protocol):
    """What an upload asks of its swarm."""

    def may_serve(self, peer: Peer, piece: int) -> bool: ...

    def now(self) -> float: ...

    def asked(self, peer: Peer, piece: int) -> None: ...

    def uploaded(self, peer: Peer, piece: int, length: int) -> None: ...

    def read_failed(self, error: StorageError) -> None: ...


class Upload:
    """One peer's. ``limit``: what holds for it.

    ``gives``: bytes/s that the peer gave us over the last two of the choker's rounds (BEP 3: 20 seconds).
    """

    __slots__ = (
        "_ahead",
        "_asked_last",
        "_batch",
        "_choked_at",
        "_disk",
        "_got",
        "_last_gave",
        "_layout",
        "_limit",
        "_owner",
        "_peer",
        "_reading",
        "_sending",
        "_sending_since",
        "_settled_at",
        "_stuck_at",
        "_stuck_since",
        "free_rider",
        "gives",
        "queue",
        "rate",
        "taken_before",
        "unchoked_since",
    )

    def __init__(
        self,
        peer: Peer,
        owner: UploadOwner,
        disk: TorrentDisk,
        layout: TorrentLayout,
        limit: Limit,
        now: float,
    ) -> None:
        self._peer = peer
        self._owner = owner
        self._disk = disk
        self._layout = layout
        self._limit = limit
        self.queue: deque[Block] = deque()
        self.rate = Rate(now)
        self.unchoked_since = 0.0
        self.taken_before = 0  # bytes it had when its present turn began
        self._reading = False
        self._batch: list[Block] = []  # being read by a thread
        self._sending: list[bytearray] = []  # buffers the transport still points into
        self._sending_since = now
        self._ahead = FIRST_AHEAD
        self._asked_last = -1  # the piece of its last request
        self._stuck_at = 0  # bytes taken when its present STUCK seconds began, and when that was
        self._stuck_since: float | None = None
        self._choked_at = -CHOKE_CROSSING
        self.gives = self._last_gave = 0.0
        self.free_rider = False
        self._got = 0
        self._settled_at = now

    def asked(self, requests: list[Block], now: float) -> None:
        """Requests came. What cannot be served is rejected at once. (Bounds were checked by the wire.)"""
        wire = self._peer.wire
        in_vain = 0
        for block in requests:
            if not wire.we_choke and len(self.queue) < MOST_REQUESTS and self._owner.may_serve(self._peer, block.piece):
                self.queue.append(block)
                if block.piece != self._asked_last:
                    self._asked_last = block.piece
                    self._owner.asked(self._peer, block.piece)
                continue
            wire.send_reject(block)
            in_vain += not wire.we_choke or now - self._choked_at > CHOKE_CROSSING
        if in_vain:
            self._peer.count_redundant(in_vain)

    def cancelled(self, block: Block) -> None:
        """The peer withdrew a request; if it still waits it is rejected, as BEP 6 wants."""
        try:
            self.queue.remove(block)
        except ValueError:
            return  # on its way already, or never asked
        self._peer.wire.send_reject(block)

    def unchoke(self, now: float) -> None:
        """Its turn begins."""
        self._peer.wire.send_unchoke()
        self.unchoked_since = now
        self._asked_last = -1
        self.taken_before = self.rate.total

    def choke(self, now: float) -> None:
        """Choke the peer, and reject what waits."""
        wire = self._peer.wire
        wire.send_choke()
        self.unchoked_since = self._choked_at = now
        waiting, self.queue = self.queue, deque()
        for block in waiting:
            wire.send_reject(block)

    def serve(self, now: float) -> None:
        """Send what may be sent now. Called at the end of each wake-up, when the transport has drained, and when the limit allows."""
        peer = self._peer
        while self.queue and not self._reading and not self._sending:
            limit = self._limit.available(now)
            if limit <= 0:
                return
            if not self._disk.may_read(peer.rest):
                return
            batch = self._next_batch(min(limit, self._ahead))
            start = batch[0].piece * self._layout.piece_length + batch[0].begin
            length = batch[-1].begin + batch[-1].length - batch[0].begin
            self._limit.take(length)
            self.rate.add(length, now)
            found = self._disk.try_read(start, length)
            if found is None:
                self._reading = True
                self._batch = batch
                self._disk.read(start, length, self._read)
                return
            self._send(batch, *found, now)
            peer.flush()
            self.sent(now)

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

    def _send(self, batch: list[Block], buffer: bytearray, view: memoryview, now: float) -> None:
        wire = self._peer.wire
        base = batch[0].begin
        for piece, begin, length in batch:
            wire.send_block(piece, begin, view[begin - base : begin - base + length])
        self._sending.append(buffer)
        self._sending_since = now
        self._owner.uploaded(self._peer, batch[0].piece, len(view))

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
        now = self._owner.now()
        self._send(batch, buffer, view, now)
        self._peer.flush()
        self.sent(now)
        if not self._sending:
            self._peer.rest()

    def sent(self, now: float) -> None:
        """If the transport holds nothing any more, the buffers are free, and the next batch is fitted to the time it took."""
        if self._sending and not self._peer.unsent:
            took = now - self._sending_since
            if took < 0.5:
                self._ahead = min(2 * self._ahead, READ_SIZE)
            elif took > 1.0:
                self._ahead = max(self._ahead // 2, BLOCK_SIZE)
            for buffer in self._sending:
                self._disk.free(buffer)
            self._sending.clear()

    def is_stuck(self, now: float) -> bool:
        """It takes nothing, or next to nothing while others wait for the memory, for STUCK seconds. Asked once a second."""
        unsent = self._peer.unsent if self._sending else 0
        if not unsent:
            self._stuck_since = None
            return False
        taken = self.rate.total - unsent
        least = LEAST_TAKEN if self._disk.reads_wait else 1
        if self._stuck_since is None or taken - self._stuck_at >= least:
            self._stuck_at, self._stuck_since = taken, now
        return now - self._stuck_since > STUCK

    def weigh(self, *, in_debt: bool) -> None:
        """Is it a free rider? It stays one, once found out, until it is out of debt."""
        wire = self._peer.wire
        self.free_rider = in_debt and (self.free_rider or (wire.we_interested and wire.they_choke))

    def settle(self, got: int, now: float) -> None:
        """A round of the choker's: ``got`` are all bytes that the peer ever gave us."""
        gave = (got - self._got) / max(now - self._settled_at, 1.0)
        self.gives = (gave + self._last_gave) / 2
        self._got, self._last_gave, self._settled_at = got, gave, now

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
