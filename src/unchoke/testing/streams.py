"""SimTransport: one end of a simulated stream, as asyncio has it.

It keeps the contract to the letter: what the socket's buffer has no room for stays with the transport by reference (as
uvloop keeps it, so that whoever changes a buffer too early is found out), ``get_write_buffer_size`` says how much that is,
``pause_writing`` and ``resume_writing`` follow the limits, and an error in the protocol ends the connection.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from unchoke.testing.pipes import RESET, Chunk, Pipe
from unchoke.types import Address

if TYPE_CHECKING:
    from unchoke.testing.network import SimHost


class SimTransport(asyncio.Transport):
    """One end of a stream, at ``host``. ``local`` and ``remote`` are its addresses."""

    def __init__(self, host: SimHost, local: Address, remote: Address) -> None:
        super().__init__({"peername": tuple(remote), "sockname": tuple(local)})
        self.host = host
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.BaseProtocol | None = None
        self._out: Pipe
        self._in: Pipe
        self._unsent: deque[memoryview] = deque()  # the transport's own buffer, by reference
        self._unsent_size = 0
        self._unread: deque[Chunk] = deque()
        self._high, self._low = 64 * 1024, 16 * 1024
        self._writing_paused = False
        self._reading_paused = True  # until it is open
        self._closing = False
        self._lost = False  # connection_lost is on its way
        self._gone = False  # it was called
        self._ending = False  # write_eof
        self._resuming = False

    @classmethod
    def pair(cls, host: SimHost, local: Address, other: SimHost, remote: Address) -> tuple[SimTransport, SimTransport]:
        """Both ends of a stream, neither open yet."""
        here, there = cls(host, local, remote), cls(other, remote, local)
        here._out = there._in = Pipe(here, there)
        there._out = here._in = Pipe(there, here)
        host.transports[here] = None
        other.transports[there] = None
        return here, there

    def open(self, protocol: asyncio.BaseProtocol) -> None:
        """The connection stands."""
        self._protocol = protocol
        protocol.connection_made(self)
        self.resume_reading()

    # ------------------------------------------------------------------ writing

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._ending:
            raise RuntimeError("Cannot call write() after write_eof()")
        if len(data) and not self._closing:
            self._write(data)
            self._maybe_pause()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        if self._ending:
            raise RuntimeError("Cannot call writelines() after write_eof()")
        if self._closing:
            return
        for data in list_of_data:
            if len(data):
                self._write(data)
        self._maybe_pause()

    def _write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        room = 0 if self._unsent else self._out.room
        if len(data) <= room and not isinstance(data, memoryview):
            self._out.put(data)
            return
        view = memoryview(data).cast("B")
        self._unsent.append(view)
        self._unsent_size += len(view)
        self.drained()

    def drained(self) -> None:
        """The socket's buffer has room (its pipe says so)."""
        moved = False
        while self._unsent and (room := self._out.room) > 0:
            view = self._unsent.popleft()
            self._unsent_size -= min(room, len(view))
            if room < len(view):
                self._unsent.appendleft(view[room:])
            self._out.put(view[:room])
            moved = True
        if not moved:
            return
        if not self._unsent and self._closing and not self._lost:
            self._lose(None)
        elif not self._unsent and self._ending:
            self._out.end()
        if self._writing_paused and self._unsent_size <= self._low and not self._resuming:
            self._resuming = True
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._resuming = False
        if self._writing_paused and self._unsent_size <= self._low and not self._lost:
            self._writing_paused = False
            self._tell("resume_writing")

    def _maybe_pause(self) -> None:
        if not self._writing_paused and self._unsent_size > self._high:
            self._writing_paused = True
            self._tell("pause_writing")

    def _tell(self, call: str) -> None:
        try:
            getattr(self._protocol, call)()
        except Exception as error:  # noqa: BLE001  # as asyncio: the loop hears of it, the stream goes on
            self._report(f"protocol.{call}() failed", error)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._maybe_pause()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self._unsent_size

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._closing or self._ending:
            return
        self._ending = True
        if not self._unsent:
            self._out.end()

    # ------------------------------------------------------------------ reading

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if self._reading_paused and not self._closing:
            self._reading_paused = False
            if self._unread:
                self._loop.call_soon(self._read_on)

    def heard(self, chunk: Chunk) -> None:
        """Something came through the pipe."""
        if self._gone:
            if chunk:
                self._out.reset()  # nobody is here any more
        elif chunk is RESET and self._protocol is not None:
            self._broken_off()
        else:
            self._unread.append(chunk)
            self._read_on()

    def _broken_off(self) -> None:
        self._unread.clear()
        self._abort(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))

    def _read_on(self) -> None:
        """Hand over what came, as long as somebody reads."""
        while self._unread and self.is_reading():
            chunk = self._unread.popleft()
            try:
                if chunk is RESET:
                    self._broken_off()
                elif chunk:
                    self._deliver(chunk)
                elif not cast(asyncio.Protocol, self._protocol).eof_received():
                    self.close()
            except Exception as error:  # noqa: BLE001  # as asyncio: the connection ends with it
                self._report("the protocol's handler of incoming data failed", error)
                self._abort(error)

    def _deliver(self, chunk: bytes | bytearray) -> None:
        protocol = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            self._in.consumed(len(chunk))
            cast(asyncio.Protocol, protocol).data_received(bytes(chunk))
            return
        at, size = 0, len(chunk)
        while at < size:
            if not self.is_reading():
                self._unread.appendleft(chunk[at:])
                return
            buffer = protocol.get_buffer(-1)
            if type(buffer) is not memoryview:
                buffer = memoryview(buffer)
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
            count = min(len(buffer), size - at)
            buffer[:count] = chunk[at : at + count]
            at += count
            self._in.consumed(count)
            protocol.buffer_updated(count)

    # ------------------------------------------------------------------ ending

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Write what is unsent, then end. Nothing is read any more."""
        if self._closing:
            return
        self._closing = True
        if not self._unsent:
            self._lose(None)

    def abort(self) -> None:
        """End now; what the socket has not taken is lost."""
        self._abort(None)

    def _abort(self, error: Exception | None) -> None:
        self._unsent.clear()
        self._unsent_size = 0
        self._closing = True
        if not self._lost:
            self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        self._lost = True
        self._loop.call_soon(self._connection_lost, error)

    def _connection_lost(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        self._gone = True
        self.host.transports.pop(self, None)
        if isinstance(error, ConnectionResetError):
            self._out.forget()
        elif any(self._unread):
            self._out.reset()  # as TCP does when what came was not read
        elif not self._ending:
            self._out.end()
        self._unread.clear()
        if protocol is not None:
            protocol.connection_lost(error)

    def _report(self, words: str, error: Exception) -> None:
        self._loop.call_exception_handler(
            {"message": words, "exception": error, "transport": self, "protocol": self._protocol}
        )

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None, "the connection is closed"
        return self._protocol

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        here, there = (Address(*self.get_extra_info(name)) for name in ("sockname", "peername"))
        return f"<SimTransport {here} to {there} [{state} | {self._unsent_size} B unsent | {len(self._unread)} unread]>"
