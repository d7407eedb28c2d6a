"""Pipe: one direction of a simulated stream: the socket's buffer, the line, and the far side's window.

What is unread over there holds up what is unsent here. Nothing overtakes; a partition holds all that is on its way.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from unchoke.testing.clock import virtual_loop

if TYPE_CHECKING:
    from unchoke.testing.streams import SimTransport

#: Bytes that a socket takes before the writer has to wait: at least and at most, and in between the line's of so many
#: seconds (Linux begins with 16 KiB and grows with what is on its way).
LEAST_BUFFER = 16 * 1024
MOST_BUFFER = 256 * 1024
BUFFERED = 0.1

#: Bytes on their way or unread at the far side (a receive window that Linux's tuning reaches soon).
WINDOW = 256 * 1024

#: The end of a stream, and its breaking off, among the chunks on their way.
FIN = b""
RESET = None
Chunk = bytes | bytearray | None


class Pipe:
    """One direction: from ``source`` to ``target``."""

    __slots__ = (
        "_armed",
        "_buffer",
        "_ended",
        "_flying",
        "_last_arrival",
        "_loop",
        "_window",
        "queued",
        "source",
        "target",
    )

    def __init__(self, source: SimTransport, target: SimTransport) -> None:
        self.source = source
        self.target = target
        self.queued = False
        self._loop = virtual_loop()
        self._buffer = bytearray()  # the socket's
        self._ended = False
        self._flying: deque[tuple[float, Chunk]] = deque()
        self._last_arrival = 0.0
        self._window = WINDOW
        self._armed = False  # an event is posted for what flies first

    @property
    def room(self) -> int:
        """Bytes that the socket takes now."""
        size = max(LEAST_BUFFER, int(min(self.source.host.uplink.rate * BUFFERED, MOST_BUFFER)))
        return size - len(self._buffer)

    def put(self, data: bytes | bytearray | memoryview) -> None:
        self._buffer += data
        self.source.host.uplink.wake(self)

    def end(self) -> None:
        """After what is in the socket's buffer, the end."""
        self._ended = True
        self.source.host.uplink.wake(self)

    def forget(self) -> None:
        """What has not left is lost."""
        self._buffer.clear()
        self._ended = False

    def reset(self) -> None:
        """Break off."""
        self.forget()
        self._launch(RESET, self._loop.time(), 0)

    def send_some(self, most: int, now: float, rate: float) -> int:
        """Part of links.Sender."""
        count = min(most, self._window, len(self._buffer))
        if count > 0:
            chunk = self._buffer[:count]
            del self._buffer[:count]
            self._window -= count
            self._launch(chunk, now + count / rate, count)
            self.source.drained()
        if self._ended and not self._buffer:
            self._ended = False
            self._launch(FIN, now + count / rate, 0)
        return max(0, count)

    def _launch(self, chunk: Chunk, leaves: float, size: int) -> None:
        """Off it goes; nothing overtakes on a stream."""
        network = self.source.host.network
        arrives = leaves + network.delay(self.source.host, self.target.host, stream=True)
        self._last_arrival = max(self._last_arrival, self.target.host.downlink.take(size, arrives))
        self._flying.append((self._last_arrival, chunk))
        if not self._armed:
            self._armed = True
            self._loop.post_at(self._last_arrival, self._arrive)

    def _arrive(self) -> None:
        self._armed = False
        if not self.source.host.network.reaches(self.source.host, self.target.host):
            self.source.host.network.hold(self)
            return
        now = self._loop.time()
        flying = self._flying
        while flying and flying[0][0] <= now:
            self.target.heard(flying.popleft()[1])
        if flying and not self._armed:
            self._armed = True
            self._loop.post_at(flying[0][0], self._arrive)

    def go_on(self, at: float) -> None:
        """The way is free again: what was held up arrives at ``at``, the rest behind it."""
        self._flying = deque((max(when, at), chunk) for when, chunk in self._flying)
        self._last_arrival = max(self._last_arrival, at)
        if not self._armed:
            self._armed = True
            self._loop.post_at(at, self._arrive)

    def consumed(self, count: int) -> None:
        """The target's protocol has read so much."""
        self._window += count
        if self._buffer:
            self.source.host.uplink.wake(self)
