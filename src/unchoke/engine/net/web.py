"""WebConnection: one HTTP/1.1 connection: a request, and an answer whose body is received straight to where it belongs.

The body's bytes go from the socket into memory that the *sink* names (``BufferedProtocol``): nothing is joined or copied on
the way, which is what makes a web seed as fast as curl (docs/decisions/0013). Where there is no room reading stops. What is in
the answer's head is looked at by whoever asked, before a byte of the body is taken.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast

from unchoke.errors import NetworkError, ProtocolError
from unchoke.protocol.webseed.answer import Answer, ChunkReader, HeadReader

#: Bytes of the memory for heads, chunks, and what came before there was room.
SCRATCH = 32 * 1024


class Sink(Protocol):
    """Where a body goes."""

    @property
    def is_done(self) -> bool:
        """Nothing more is wanted."""

    def room(self) -> memoryview | None:
        """Where its next bytes belong. None: nowhere now; then ``WebConnection.go_on`` is called when there is room again."""

    def came(self, count: int) -> None:
        """So many bytes are there, where ``room`` said last."""


class WebConnection(asyncio.BufferedProtocol):
    """``host`` names the server in errors, ``key`` says for whose requests it may be used. All errors are NetworkError.

    ``direct``: the memory that ``get_buffer`` gives is filled before anything else happens. (Not so on Windows' Proactor loop.)
    """

    def __init__(self, host: str, key: str, *, direct: bool) -> None:
        self.host = host
        self.key = key
        self.is_open = False
        self.served = 0  # answers
        self._direct = direct
        self._transport: asyncio.Transport | None = None
        self._scratch = memoryview(bytearray(SCRATCH))
        self._view: memoryview | None = None
        self._head: HeadReader | None = None
        self._answer: Answer | None = None
        self._chunks: ChunkReader | None = None
        self._left: int | None = None  # of the body
        self._pending = memoryview(b"")  # of the body, received and not handed on
        self._sink: Sink | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: NetworkError | None = None
        self._paused = False
        self._ended = False  # the server sends no more

    # ------------------------------------------------------------------ whoever asks

    async def secure(self, context: ssl.SSLContext, name: str, *, timeout: float) -> None:
        """Speak TLS from here on. Raises ssl.SSLError, OSError, NetworkError."""
        loop, plain = asyncio.get_running_loop(), self._transport
        if plain is None:
            raise NetworkError(f"{self.host} closed the connection", "connect")
        self._transport = await loop.start_tls(
            plain, self, context, server_hostname=name, ssl_handshake_timeout=timeout
        )

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for the head of its answer; its body waits for ``receive``."""
        if self._transport is None:
            raise self._error or NetworkError(f"{self.host} closed the connection", "connect")
        self._head, self._answer, self._sink = HeadReader(), None, None
        self._chunks, self._left, self._pending = None, None, memoryview(b"")
        self._transport.write(request)
        self._resume()
        await self._wait()
        answer = cast("Answer | None", self._answer)
        assert answer is not None
        return answer

    async def receive(self, sink: Sink) -> None:
        """Give the answer's body to ``sink``, until either has enough."""
        self._sink = sink
        try:
            self._pump()
            if not self._is_over():
                self._resume_if_room()
                await self._wait()
        finally:
            self._sink = None

    @property
    def is_reusable(self) -> bool:
        """The answer was read to its end, and the server waits for the next request."""
        answer = self._answer
        surplus = len(self._pending) > 0 or (self._chunks is not None and self._chunks.surplus)
        return self.is_open and answer is not None and answer.keeps and self._is_complete() and not surplus

    def rest(self) -> None:
        """Nothing is asked for now."""
        self.served += 1
        self._sink = None
        self._resume()  # to hear of its end

    def go_on(self) -> None:
        """There may be room again."""
        if self._paused and self._sink is not None and self._waiter is not None:
            self._pump()
            if self._is_over():
                self._finish()
            else:
                self._resume_if_room()

    def abort(self, reason: str = "given up") -> None:
        """Close it, whatever comes."""
        self._fail(NetworkError(f"{self.host}: {reason}", "timeout"))
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------ the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def get_buffer(self, sizehint: int) -> memoryview:
        self._view = None
        if self._sink is not None and self._direct and self._chunks is None and not self._pending:
            view = self._sink.room()
            if view is not None:
                self._view = view if self._left is None else view[: self._left]
                if self._view:
                    return self._view
                self._view = None
        return self._scratch  # to pause here crashes uvloop; ``_pump`` does it

    def buffer_updated(self, nbytes: int) -> None:
        if self._view is not None and self._sink is not None:
            self._view = None
            if self._left is not None:
                self._left -= nbytes
            self._sink.came(nbytes)
        elif self._waiter is None or self._waiter.done():
            self._unasked(nbytes)
            return
        else:
            try:
                self._take(bytes(self._scratch[:nbytes]))
            except ProtocolError as error:
                self._fail(NetworkError(f"{self.host} {error}", "garbage"))
                return
        if self._sink is not None and self._is_over():
            self._finish()

    def _unasked(self, nbytes: int) -> None:
        """What comes while nobody waits: of a body before it is received it is kept, else it is no answer to anything."""
        if self._answer is not None and self._sink is None and self._paused:
            self._pending = memoryview(bytes(self._pending) + bytes(self._scratch[:nbytes]))
        else:
            self.abort("sent what nobody asked for")

    def eof_received(self) -> bool:
        self._over()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._over()
        self._transport = None

    def _over(self) -> None:
        """The server has closed the connection."""
        self.is_open = False
        self._ended = True
        if self._sink is not None and self._is_complete():
            self._finish()
        elif self._answer is None:
            self._fail(NetworkError(f"{self.host} closed the connection without an answer", "connect"))
        else:
            self._fail(NetworkError(f"{self.host} broke off in the middle of its answer", "connect"))

    # ------------------------------------------------------------------ reading

    def _take(self, data: bytes) -> None:
        """Of a head, or of a body that does not go straight to its place."""
        if self._answer is None:
            assert self._head is not None
            data = self._head.feed(data)
            answer = self._answer = self._head.answer
            if answer is None:
                return
            self._left = answer.length
            self._chunks = ChunkReader() if answer.chunked else None
            self._pause()
            self._finish()
        if self._chunks is not None:
            data = self._chunks.feed(data)
        self._pending = memoryview(bytes(self._pending) + data) if self._pending else memoryview(data)
        if self._sink is not None:
            self._pump()
        if self._chunks is not None and not self._paused:  # a body of tiny chunks must not hold the loop
            self._pause()
            asyncio.get_running_loop().call_soon(self._resume_if_room)

    def _pump(self) -> None:
        """Hand on what has come already, as far as there is room."""
        sink = self._sink
        while self._pending and sink is not None and not sink.is_done and self._left != 0:
            view = sink.room()
            if view is None:
                self._pause()
                return
            count = min(len(view), len(self._pending), len(view) if self._left is None else self._left)
            view[:count] = self._pending[:count]
            self._pending = self._pending[count:]
            if self._left is not None:
                self._left -= count
            sink.came(count)

    def _is_complete(self) -> bool:
        """The whole body is in, and handed on."""
        if self._chunks is not None:
            return self._chunks.done and not self._pending
        return self._left == 0 if self._left is not None else self._ended and not self._pending

    def _is_over(self) -> bool:
        return self._is_complete() or (self._sink is not None and self._sink.is_done)

    # ------------------------------------------------------------------ waiting

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _finish(self) -> None:
        """Whoever waits has what he waited for."""
        self._sink = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: NetworkError) -> None:
        self.is_open = False
        self._error = self._error or error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        if self._transport is not None:
            self._transport.abort()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _resume_if_room(self) -> None:
        if self._paused and self._sink is not None and not self._pending and self._sink.room() is not None:
            self._resume()

    def __repr__(self) -> str:
        state = "closed" if not self.is_open else "paused" if self._paused else "open"
        return f"<WebConnection to {self.host} [{state} | {self.served} answers]>"
