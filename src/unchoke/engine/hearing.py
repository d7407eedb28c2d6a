"""Hearing: what peers say besides blocks and requests, and what is noted of it: what they have, whether they want of us, who they are.

It decides nothing: whom that makes worth asking is ``intake``'s, whom it makes worth serving ``giving``'s. A message
that tells nothing new is *redundant*; each peer is forgiven some of these, and a flood of them ends the conversation.
(BEP 3, 6, 10, 21.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from unchoke.bitfield import Bitfield
from unchoke.engine.download import MOST_ALLOWED_FAST
from unchoke.errors import ProtocolError
from unchoke.layout import TorrentLayout
from unchoke.policy.peerlist import PeerList, Source
from unchoke.policy.picker import PiecePicker
from unchoke.protocol import extended
from unchoke.protocol import messages as m
from unchoke.types import Address

if TYPE_CHECKING:
    from unchoke.engine.extension import Extension
    from unchoke.engine.giving import Giving
    from unchoke.engine.intake import Intake
    from unchoke.engine.peer import Peer

#: Bytes of an extended handshake that count as one redundant message: ours has 100, and reading 64 KiB of nested lists
#: takes 3 ms.
HELLO_SIZE = 256


def introduce(peer: Peer, hello: extended.ExtendedHandshake, peerlist: PeerList, now: float) -> None:
    """Note who a peer says it is."""
    peer.client = hello.client or peer.client
    peer.reqq = hello.reqq
    peer.upload_only = hello.upload_only
    peer.metadata_size = hello.metadata_size
    known = {name: number for name, number in hello.extensions.items() if name in extended.OURS}
    peer.extensions = {**peer.extensions, **known}
    if peer.incoming and hello.port and peer.listen_address is None:
        # Said once; strangers change their minds for fun.
        peer.listen_address = Address(peer.address.host, hello.port)
        peerlist.connected(peer.listen_address, Source.INCOMING, now)


class HearingOwner(Protocol):
    """What a hearing asks of its swarm."""

    intake: Intake
    giving: Giving
    peerlist: PeerList
    extensions: dict[int, Extension]

    @property
    def is_closed(self) -> bool: ...

    def close_if_useless(self, peer: Peer) -> None: ...

    def node_found(self, address: Address) -> None: ...

    def seen_as(self, address: str, peer: Peer) -> None: ...


class Hearing:
    """One swarm's."""

    def __init__(
        self, owner: HearingOwner, layout: TorrentLayout, picker: PiecePicker, clock: Callable[[], float]
    ) -> None:
        self.owner = owner
        self.layout = layout
        self.picker = picker
        self._clock = clock

    def said(self, peer: Peer, message: m.Message) -> None:
        """Everything that is neither blocks nor requests."""
        match message:
            case m.Have(piece):
                self._have(peer, piece)
            case m.HaveBitfield(pieces):
                self._pieces(peer, pieces)
            case m.HaveAll():
                self._pieces(peer, Bitfield(self.layout.piece_count, filled=True))
            case m.HaveNone():
                pass
            case m.Reject(block):
                self.owner.intake.rejected(peer, block, self._clock())
            case m.Extended(extension, payload) if extension == extended.HANDSHAKE:
                self._hello(peer, payload)
            case m.Extended(extension, payload) if extension in self.owner.extensions:
                self._extended(peer, extension, payload)
            case m.Port(port):
                self.owner.node_found(Address(peer.address.host, port))
                peer.count_redundant()
            case _:
                self._said_again(peer, message)

    def _said_again(self, peer: Peer, message: m.Message) -> None:
        """What a peer may say any number of times, and mostly for nothing."""
        match message:
            case m.Choke():
                self.owner.intake.choked(peer, self._clock())
                return  # it counted the message
            case m.Unchoke():
                peer.download.rejects = 0
                peer.download.paused_until = 0.0
            case m.Interested() | m.NotInterested():
                if peer.wire.we_choke is peer.wire.they_interested:
                    self.owner.giving.fill_slots(self._clock())
            case m.Cancel(block):
                peer.upload.cancelled(block)
            case m.AllowedFast(piece):
                if len(peer.download.allowed_fast) < MOST_ALLOWED_FAST:
                    peer.download.allowed_fast.add(piece)
            case m.Suggest(piece):
                if piece not in peer.download.suggested and self.picker.may_be_opened(piece):
                    peer.download.suggested.append(piece)
            case _:  # ports, extensions that we did not offer
                pass
        peer.count_redundant()

    # ------------------------------------------------------------------ what they have

    def _have(self, peer: Peer, piece: int) -> None:
        download = peer.download
        if download.has_all or download.pieces[piece]:
            peer.count_redundant()
            return
        download.pieces[piece] = 1
        self.picker.add_have(piece)
        if not peer.wire.we_interested and self.picker.wants_piece(piece):
            peer.wire.send_interested(True)
        if download.pieces.all():
            self._has_all(peer)
        self.owner.giving.seen(peer, piece)

    def _pieces(self, peer: Peer, pieces: Bitfield) -> None:
        """``bitfield`` or ``have all``: at first, and from some clients again in place of many ``have``."""
        download = peer.download
        if download.has_all or not pieces.has_any_missing_from(download.pieces):
            peer.count_redundant()
            return
        self.picker.remove_peer(download.pieces.bits)
        download.pieces.bits |= pieces.bits
        self.picker.add_peer(download.pieces.bits)
        if download.pieces.all():
            self._has_all(peer)
        if not peer.is_closed:
            peer.wire.send_interested(self.picker.wants(download.bits))
        self.owner.giving.seen_many(peer)

    def _has_all(self, peer: Peer) -> None:
        """From counted bits to one integer; and two seeds have nothing to say to each other."""
        self.picker.remove_peer(peer.download.pieces.bits)
        peer.download.has_all = True
        if peer.listen_address is not None:
            self.owner.peerlist.is_seed(peer.listen_address)
        self.picker.add_peer(None)
        self.owner.close_if_useless(peer)

    # ------------------------------------------------------------------ who they are

    def _extended(self, peer: Peer, number: int, payload: bytes) -> None:
        """It is for the extension to say what it tells; but a flood is a flood."""
        peer.count_redundant()
        try:
            self.owner.extensions[number].received(peer, payload, self._clock())
        except ProtocolError as error:
            peer.close(f"broke the protocol: {error}", fault=True)

    def _hello(self, peer: Peer, payload: bytes) -> None:
        """The extended handshake (BEP 10); it may come again, when something has changed."""
        try:
            hello = extended.decode_extended_handshake(payload)
        except ProtocolError as error:
            peer.close(f"broke the protocol: {error}", fault=True)
            return
        introduce(peer, hello, self.owner.peerlist, self._clock())
        peer.download.pipeline.reqq = hello.reqq
        peer.count_redundant(1 + len(payload) // HELLO_SIZE)
        for extension in self.owner.extensions.values():
            extension.greeted(peer, self._clock())
        if hello.yourip is not None:
            self.owner.seen_as(hello.yourip, peer)
        self.owner.close_if_useless(peer)

    def __repr__(self) -> str:
        return f"<Hearing of {self.owner}>"
