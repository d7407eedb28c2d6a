"""A host's line to the simulated world: an uplink shared fairly by whoever has something to send, and a downlink.

Nothing is counted in packets. The uplink takes turns: a chunk of each sender that has any, and a timer for when they have
left; a chunk is as long as the line needs ``TURN`` seconds for, so a slow line costs no more events than a fast one.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Protocol

from unchoke.testing.clock import virtual_loop

#: Seconds of the line that one turn takes.
TURN = 0.02

#: Bytes of a turn, at least (an Ethernet packet's payload) and at most.
LEAST_TURN = 1460
MOST_TURN = 64 * 1024

#: Seconds of data that may wait in front of a downlink before packets are dropped (the buffer of the router there).
MOST_QUEUED = 1.0


class Sender(Protocol):
    """Has bytes for the uplink: one direction of a stream, or a host's packets."""

    queued: bool

    def send_some(self, most: int, now: float, rate: float) -> int:
        """Give up to ``most`` bytes (packets go whole) to the line; returns how many left. 0: nothing may leave."""
        ...


class Uplink:
    """``rate`` in bytes/s; ``inf``: as fast as may be. ``sent``: bytes that have left."""

    __slots__ = ("_loop", "_resting", "_ring", "_turning", "rate", "sent")

    def __init__(self, rate: float = inf) -> None:
        self.rate = rate
        self.sent = 0
        self._loop = virtual_loop()
        self._ring: deque[Sender] = deque()
        self._resting = True  # nothing is on the line
        self._turning = False

    def wake(self, sender: Sender) -> None:
        """``sender`` has something to send."""
        if not sender.queued:
            sender.queued = True
            self._ring.append(sender)
        if self._resting and not self._turning:
            self._turn()

    def _turn(self) -> None:
        """Everybody in the ring sends a share until the turn is full; the next turn is when all that has left."""
        self._turning = True
        now = self._loop.time()
        ring, rate = self._ring, self.rate
        most = max(LEAST_TURN, int(min(rate * TURN, MOST_TURN)))
        taken = 0
        while ring and (taken < most or rate == inf):
            sender = ring.popleft()
            sender.queued = False
            count = sender.send_some(most, now + taken / rate, rate)
            if count:
                taken += count
                if not sender.queued:
                    sender.queued = True
                    ring.append(sender)
        self._turning = False
        self.sent += taken
        self._resting = not taken or rate == inf
        if not self._resting:
            self._loop.post_at(now + taken / rate, self._turn)

    def __repr__(self) -> str:
        return f"<Uplink {self.rate:g} B/s [{len(self._ring)} sending | {self.sent} B sent]>"


class Downlink:
    """``rate`` in bytes/s. First come, first served; ``received``: bytes that have come."""

    __slots__ = ("_free_at", "rate", "received")

    def __init__(self, rate: float = inf) -> None:
        self.rate = rate
        self.received = 0
        self._free_at = 0.0

    def take(self, size: int, at: float) -> float:
        """``size`` bytes reach the line's far end at ``at``; returns when the last of them is through."""
        self.received += size
        if self.rate == inf:
            return at
        self._free_at = max(at, self._free_at) + size / self.rate
        return self._free_at

    def is_full(self, at: float) -> bool:
        """So much waits that a packet would be dropped."""
        return self._free_at - at > MOST_QUEUED

    def __repr__(self) -> str:
        return f"<Downlink {self.rate:g} B/s [{self.received} B received]>"
