"""Peer: one conversation. A socket's protocol object with a ``PeerWire`` in it; purely reactive.

It frames what comes and hands each item to its owner, a plain synchronous call, and ends every wake-up with ``peer_rests``:
there the owner asks, serves and flushes, one write for all. No ``await`` between the socket and the swarm, so nobody sees a
half-made state. Payload views it hands out are borrowed: valid until the call returns (``CHECK_BORROWED`` releases them
then, so that a keeper fails loudly).

The owner at first is whoever listens or dials (it waits for the handshake), then the torrent's swarm (``hand_over``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, cast

from unchoke.engine.net.transport import ReceiveBuffer
from unchoke.errors import ProtocolError
from unchoke.layout import TorrentLayout
from unchoke.protocol.extended import DEFAULT_REQQ
from unchoke.protocol.handshake import Handshake
from unchoke.protocol.messages import Blocks, Message, Requests
from unchoke.protocol.wire import PeerWire
from unchoke.types import Address, PeerId

if TYPE_CHECKING:
    from unchoke.engine.download import Download
    from unchoke.engine.upload import Upload
    from unchoke.policy.bandwidth import Limit

log = logging.getLogger(__name__)

#: Seconds of our silence after which a keep-alive is sent (BEP 3: two minutes, with some room for slow lines).
KEEP_ALIVE = 100.0

#: Bytes a peer may leave unread. We queue at most one batch of blocks (256 KiB) and small messages; more is answers to a
#: flood of questions from a peer that does not read them.
MOST_UNSENT = 1024 * 1024

#: Messages telling nothing new that a peer is forgiven at once, and how many of them are forgotten each second: a correct
#: client sends a few, yet in a conversation of days its chokes alone are thousands.
MOST_REDUNDANT = 1000
REDUNDANT_FORGIVEN = 5

#: Of a peer that has said nothing of extensions.
NO_EXTENSIONS: Mapping[str, int] = MappingProxyType({})

#: Release borrowed views after each call. Tests switch it on.
CHECK_BORROWED = False


class PeerOwner(Protocol):
    """What a peer tells whoever it belongs to. All calls are synchronous and must not raise."""

    def peer_connected(self, peer: Peer) -> None:
        """The transport stands."""

    def peer_shook_hands(self, peer: Peer, handshake: Handshake) -> None:
        """Its handshake came. The owner hands it over, or closes it."""

    def peer_sent(self, peer: Peer, blocks: Blocks) -> None:
        """Blocks came; their payloads are borrowed."""

    def peer_asked(self, peer: Peer, requests: Requests) -> None:
        """It wants blocks of us."""

    def peer_said(self, peer: Peer, message: Message) -> None:
        """Anything else."""

    def peer_rests(self, peer: Peer) -> None:
        """The end of a wake-up, or room to write again: ask, serve, flush."""

    def peer_gone(self, peer: Peer, reason: str, *, fault: bool) -> None:
        """It is closed, once. ``fault``: it broke the protocol."""


class Peer(asyncio.BufferedProtocol):
    """``dialed``: the address we dialled; None for a peer that dialled us."""

    __slots__ = (
        "_buffer",
        "_closing",
        "_framed",
        "_heard_at",
        "_loop",
        "_owner",
        "_said_at",
        "_transport",
        "_written_at",
        "address",
        "client",
        "connected_at",
        "dialed",
        "down",
        "download",
        "extensions",
        "incoming",
        "is_closed",
        "listen_address",
        "metadata_size",
        "moved",
        "moved_at",
        "peer_id",
        "received",
        "redundant",
        "reqq",
        "sent",
        "upload",
        "upload_only",
        "wire",
    )

    download: Download
    upload: Upload
    down: Limit

    def __init__(
        self,
        owner: PeerOwner,
        buffer: ReceiveBuffer,
        *,
        max_message: int,
        dialed: Address | None = None,
    ) -> None:
        self._owner = owner
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._closing: tuple[str, bool] | None = None
        self.wire = PeerWire(max_message=max_message)
        self._framed = 0
        self.incoming = dialed is None
        self.dialed = dialed
        self.address = dialed or Address("", 0)
        self.listen_address = dialed  # where it can be dialled; for incoming ones learnt by BEP 10
        self.peer_id: PeerId | None = None
        self.client = ""
        self.extensions: Mapping[str, int] = NO_EXTENSIONS  # the numbers it wants them under (BEP 10)
        self.reqq = DEFAULT_REQQ  # requests that it queues (BEP 10)
        self.metadata_size: int | None = None  # bytes of the info dict, as it says (BEP 9)
        self.is_closed = False
        self.connected_at = self._heard_at = self._said_at = self._loop.time()
        self.received = 0  # bytes of everything
        self.sent = 0
        self.redundant = 0  # messages that told nothing new
        self.upload_only = False  # it downloads nothing (BEP 21)
        self.moved = 0  # payload bytes both ways when last looked, and when they last changed
        self.moved_at = self.connected_at

    # ------------------------------------------------------------------ the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._closing is not None:  # while the transport was being made
            self._transport.abort()
            return
        # Pause as soon as anything is unsent, resume when all is sent: then pooled buffers are free.
        self._transport.set_write_buffer_limits(high=0, low=0)
        name = transport.get_extra_info("peername")
        if name:
            scope = f"%{name[3]}" if len(name) == 4 and name[3] and "%" not in name[0] else ""  # link-local
            self.address = Address(name[0] + scope, name[1])
        self._owner.peer_connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer.get()

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        self._process(self._buffer.get()[:nbytes])

    def _process(self, data: memoryview) -> None:
        if self._closing is not None:
            return
        try:
            items = self.wire.receive(data)
        except ProtocolError as error:
            self.close(f"broke the protocol: {error}", fault=True)
            return
        if self.wire.framed != self._framed:
            self._framed = self.wire.framed
            self._heard_at = self._loop.time()
        if self.wire.ignored:
            ignored, self.wire.ignored = self.wire.ignored, 0
            self.count_redundant(ignored)
            if self.is_closed:
                return
        if items:
            for item in items:
                kind = type(item)
                if kind is Blocks:
                    self._owner.peer_sent(self, cast(Blocks, item))
                    if CHECK_BORROWED:
                        for _, _, view in cast(Blocks, item):
                            view.release()
                elif kind is Requests:
                    self._owner.peer_asked(self, cast(Requests, item))
                elif kind is Handshake:
                    handshake = cast(Handshake, item)
                    self.peer_id = handshake.peer_id
                    self._owner.peer_shook_hands(self, handshake)
                else:
                    self._owner.peer_said(self, cast(Message, item))
                if self.is_closed:
                    return
            self._owner.peer_rests(self)

    def pause_writing(self) -> None:
        pass  # ``unsent`` says so

    def resume_writing(self) -> None:
        self.rest()

    def rest(self) -> None:
        """There is room to write again: let the owner go on."""
        if self._closing is None:
            self._owner.peer_rests(self)

    def eof_received(self) -> bool:
        self.close("closed by the peer")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._closing is None:
            self._closing = (f"connection lost: {exc}" if exc else "closed by the peer", False)
        if not self.is_closed:
            self.is_closed = True
            reason, fault = self._closing
            self._owner.peer_gone(self, reason, fault=fault)

    # ------------------------------------------------------------------ the owner calls

    def hand_over(self, owner: PeerOwner, layout: TorrentLayout | None) -> None:
        """From here on the peer belongs to ``owner``, and messages are read; those that need the layout are kept until it is known."""
        self._owner = owner
        if layout is None:
            self.wire.hold()
        else:
            self.wire.begin(layout)

    def resume(self) -> None:
        """Read what came right behind the handshake."""
        self._process(memoryview(b""))

    def flush(self) -> None:
        """Write what the wire has queued, as vectors."""
        data = self.wire.data_to_send()
        if not data or self._transport is None or self._closing is not None:
            return
        self._said_at = self._loop.time()
        for part in data:
            self.sent += len(part)
        if len(data) == 1:
            self._transport.write(data[0])
        else:
            self._transport.writelines(data)
        if self.unsent > MOST_UNSENT:
            self.close("does not read what we send", fault=True)

    @property
    def unsent(self) -> int:
        """Bytes the transport has not given to the kernel yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def has_transport(self) -> bool:
        """Connected, and not closed yet."""
        return self._transport is not None

    def count_redundant(self, count: int = 1) -> None:
        """``count`` messages told nothing new; too many of them end the conversation."""
        self.redundant += count
        if self.redundant > MOST_REDUNDANT:
            self.close("floods us with messages that say nothing", fault=True)

    def note_traffic(self, payload: int, now: float) -> None:
        """``payload`` bytes went both ways so far; ``moved_at`` follows."""
        if payload != self.moved:
            self.moved, self.moved_at = payload, now

    def close(self, reason: str, *, fault: bool = False) -> None:
        """End the conversation; the owner hears ``peer_gone`` once, before this returns."""
        if self._closing is not None:
            return
        self._closing = (reason, fault)
        log.debug("= %s closed: %s", self, reason)
        if self._transport is not None:
            self._transport.abort()
        if not self.is_closed:
            self.is_closed = True
            self._owner.peer_gone(self, reason, fault=fault)

    def heartbeat(self, now: float, idle_timeout: float) -> None:
        """Once a second: keep-alives out, dead peers closed. Only whole messages count as life."""
        self.redundant = max(0, self.redundant - REDUNDANT_FORGIVEN)
        if now - self._heard_at > idle_timeout:
            self.close(f"said nothing for {idle_timeout:.0f} s")
        elif now - self._said_at > KEEP_ALIVE and not self.unsent:
            self.wire.send_keep_alive()
            self.flush()

    @property
    def age(self) -> float:
        """Seconds since the transport was made."""
        return self._loop.time() - self.connected_at

    def __repr__(self) -> str:
        way = "from" if self.incoming else "to"
        return f"<Peer {way} {self.address} {self.client or self.peer_id or '?'}>"
