"""MetadataSwarm: the live peers of a torrent of which only the infohash is known, until they have given its info dictionary (BEP 9).

To the dialer and its peers it is what ``swarm`` is later; but it has no layout, so what peers tell of their pieces waits in their
wires, and requests are rejected. What is said of the metadata itself is ``metadata_fetch``'s. When it is there the peers stay, and
are handed on to the swarm of the download (``release``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from unchoke.engine import events
from unchoke.engine.admission import Admission
from unchoke.engine.extension import Extension
from unchoke.engine.hearing import HELLO_SIZE, introduce
from unchoke.engine.metadata_fetch import MetadataFetch
from unchoke.engine.peer import Peer
from unchoke.engine.settings import Settings
from unchoke.engine.stats import PeerSnapshot
from unchoke.engine.tasks import Executor
from unchoke.engine.upload import MOST_REQUESTS
from unchoke.errors import ProtocolError
from unchoke.policy.eviction import Occupant
from unchoke.policy.peerlist import PeerList, Source
from unchoke.protocol import extended, handshake
from unchoke.protocol import messages as m
from unchoke.types import Address, InfoHash, PeerId
from unchoke.version import USER_AGENT

log = logging.getLogger(__name__)

#: Seconds in which a peer that has no metadata for us keeps its place: it may tell of peers that have.
STAY = 60.0
#: Seconds between two times that a full swarm gives up a peer of no use for one that it may dial.
TURN_OVER = 10.0


class MetadataOwner(Protocol):
    """What a metadata swarm tells its torrent."""

    def metadata_completed(self, info: bytes) -> None: ...

    def peers_changed(self, change: int) -> None: ...

    def peers_needed(self) -> None: ...

    def publish(self, event: events.Event) -> None: ...

    def node_found(self, address: Address) -> None: ...

    def seen_as(self, address: str, voter: str) -> None: ...


class Successor(Protocol):
    """The swarm of the download, as far as dials are concerned that were under way when it began."""

    dialing: int

    def refusal(self, peer: Peer, peer_id: PeerId) -> str | None: ...

    def add(self, peer: Peer) -> None: ...

    def dial_failed(self, address: Address, reason: str) -> None: ...


class MetadataProgress(NamedTuple):
    """``size`` in bytes, None as long as nobody has said; ``received`` of them (not checked). ``offering``: peers that say that they
    have it, of ``peers``. ``trouble``: in words, why what is offered cannot be used; empty for none."""

    size: int | None
    received: int
    offering: int
    peers: int
    trouble: str = ""


class MetadataSwarm:
    """``infohash`` is the torrent's name among peers, v1 or v2; ``infohash_v2`` must fit too, if the link has both (BEP 9).

    ``executor``: where large metadata is hashed. ``extensions`` are those spoken besides ut_metadata. ``dht_port``: where our DHT
    node listens, 0 for none; ``reserved``: what our handshakes say.
    """

    def __init__(
        self,
        owner: MetadataOwner,
        infohash: InfoHash,
        infohash_v2: InfoHash | None,
        peer_id: PeerId,
        settings: Settings,
        *,
        peerlist: PeerList,
        clock: Callable[[], float],
        port: Callable[[], int],
        executor: Executor | None,
        extensions: Sequence[Extension] = (),
        dht_port: Callable[[], int] = lambda: 0,
        reserved: handshake.Reserved = handshake.OURS,
    ) -> None:
        self.owner = owner
        self.infohash = infohash
        self.peer_id = peer_id
        self.settings = settings
        self.peerlist = peerlist
        self.peers: dict[Peer, None] = {}  # in the order of joining
        self.dialing = 0  # dials under way
        self.last_refusal = ""  # why the last dial or conversation failed
        self.extensions: dict[int, Extension] = {}  # by the numbers under which we receive them
        hashes = (infohash,) if infohash_v2 is None else (infohash, infohash_v2)
        self.fetch = MetadataFetch(self, hashes, settings.metadata, clock=clock, executor=executor)
        self.extend(self.fetch, *extensions)
        self.admission = Admission(self, settings, clock)
        self._clock = clock
        self._port = port
        self._dht_port = dht_port
        self._reserved = reserved
        self._turn_over_at = 0.0
        self._successor: Successor | None = None
        self._closed = False

    def extend(self, *extensions: Extension) -> None:
        """Speak these too, with whoever does."""
        self.extensions.update((extension.number, extension) for extension in extensions)

    # ------------------------------------------------------------------ peers come and go

    def refusal(self, peer: Peer, peer_id: PeerId) -> str | None:
        """Why this peer may not join, or None. (Part of the dialer's Target.)"""
        return (self._successor or self.admission).refusal(peer, peer_id)

    def add(self, peer: Peer) -> None:
        """A peer that shook hands joins: it is told that we have nothing, and its messages are read from here on."""
        if self._successor is not None:
            self._successor.add(peer)
            return
        now = self._clock()
        self.peers[peer] = None
        self.owner.peers_changed(1)
        if peer.dialed is not None:
            self.dialing -= 1
            self.peerlist.connected(peer.dialed, Source(0), now)
            self.peerlist.succeeded(peer.dialed)
        peer.hand_over(self, None)
        if peer.wire.our_handshake is None:
            peer.wire.send_handshake(handshake.Handshake(self.infohash.truncated, self.peer_id, self._reserved))
        peer.wire.send_have_none()
        self._welcome(peer)
        log.debug("= %s joined %s", peer, self)
        self.owner.publish(events.PeerConnected(self.infohash, peer.address, peer.incoming))
        peer.resume()

    def _welcome(self, peer: Peer) -> None:
        """Our extended handshake (BEP 10)."""
        wire = peer.wire
        if wire.extended:
            hello = extended.ExtendedHandshake(
                extensions={extension.name: number for number, extension in self.extensions.items()},
                client=USER_AGENT,
                port=self._port() or None,
                reqq=MOST_REQUESTS,
                yourip=peer.address.host.partition("%")[0] or None,
            )
            wire.send_extended(extended.HANDSHAKE, hello.encode())
        theirs = wire.handshake
        if self._dht_port() and theirs is not None and handshake.Reserved.DHT in theirs.reserved:
            wire.send_port(self._dht_port())
        peer.flush()

    def peer_connected(self, peer: Peer) -> None:
        """Part of PeerOwner; a swarm gets its peers connected."""

    def peer_shook_hands(self, peer: Peer, handshake: handshake.Handshake) -> None:
        """Part of PeerOwner; a swarm gets its peers after their handshake."""

    def peer_gone(self, peer: Peer, reason: str, *, fault: bool) -> None:
        if peer not in self.peers:
            return
        self._forget(peer)
        self.owner.peers_changed(-1)
        now = self._clock()
        if fault:
            self.last_refusal = reason
            if peer.incoming:
                self.peerlist.offended(peer.address.host, now)
        if peer.listen_address is not None:
            (self.peerlist.failed if fault else self.peerlist.left)(peer.listen_address, reason, now)
        self.owner.publish(events.PeerDisconnected(self.infohash, peer.address, reason))
        if not self._closed and self.fetch.info is None and not self.peers:
            self.owner.peers_needed()

    def _forget(self, peer: Peer) -> None:
        del self.peers[peer]
        for extension in self.extensions.values():
            extension.gone(peer)

    def dial_failed(self, address: Address, reason: str) -> None:
        """Part of the dialer's Target."""
        if self._successor is not None:
            self._successor.dial_failed(address, reason)
            return
        self.dialing -= 1
        self.last_refusal = f"{address}: {reason}"
        now = self._clock()
        self.peerlist.failed(address, reason, now)
        if any(peer.listen_address == address for peer in self.peers):  # it had dialled us: no need to try again
            self.peerlist.connected(address, Source(0), now)

    def occupants(self) -> Iterator[Occupant]:
        """Its peers, for a choice of whose place is given away over all torrents."""
        return self.admission.occupants()

    def is_hopeless(self, peer: Peer) -> bool:
        """It has had time to tell of others, and has no metadata for us."""
        old = self._clock() - peer.connected_at > STAY
        return old and self.fetch.info is None and not self.fetch.has_hope(peer)

    # ------------------------------------------------------------------ what peers say

    def peer_sent(self, peer: Peer, blocks: m.Blocks) -> None:
        """Part of PeerOwner; a wire on hold gives none."""

    def peer_asked(self, peer: Peer, requests: m.Requests) -> None:
        """We have nothing, and they are choked."""
        for block in requests:
            peer.wire.send_reject(block)
        peer.count_redundant(len(requests))

    def peer_said(self, peer: Peer, message: m.Message) -> None:
        if self._closed:
            return
        match message:
            case m.Extended(extended.HANDSHAKE, payload):
                self._heard(peer, self._hello, payload)
            case m.Extended(number, payload) if number in self.extensions:
                if number != self.fetch.number:  # which counts for itself: what we asked for is no flood
                    peer.count_redundant()
                self._heard(peer, self.extensions[number].received, payload)
            case m.Port(port):
                self.owner.node_found(Address(peer.address.host, port))
                peer.count_redundant()
            case _:  # chokes and interest, which the wire has noted
                peer.count_redundant()

    def _heard(self, peer: Peer, hear: Callable[[Peer, bytes, float], None], payload: bytes) -> None:
        try:
            hear(peer, payload, self._clock())
        except ProtocolError as error:
            peer.close(f"broke the protocol: {error}", fault=True)

    def _hello(self, peer: Peer, payload: bytes, now: float) -> None:
        """Its extended handshake (BEP 10); it may come again, when something has changed."""
        hello = extended.decode_extended_handshake(payload)
        introduce(peer, hello, self.peerlist, now)
        peer.count_redundant(1 + len(payload) // HELLO_SIZE)
        for extension in self.extensions.values():
            if not peer.is_closed:
                extension.greeted(peer, now)
        if hello.yourip is not None:
            self.owner.seen_as(hello.yourip, peer.address.host)

    # ------------------------------------------------------------------ the end of a wake-up

    def peer_rests(self, peer: Peer) -> None:
        self.fetch.ask(peer, self._clock())
        peer.flush()

    # ------------------------------------------------------------------ what the fetch tells (FetchOwner)

    def ban(self, address: Address, reason: str) -> None:
        if self.peerlist.is_banned(address.host):
            return
        log.warning("! %s of %s is banned: %s", address, self, reason)
        self.peerlist.ban(address.host, reason)
        self.owner.publish(events.PeerBanned(self.infohash, address, reason))
        for other in list(self.peers):  # whoever lies has more than one port
            if other.address.host == address.host:
                other.close(f"banned: {reason}", fault=True)

    def fetched(self, info: bytes) -> None:
        self.owner.metadata_completed(info)

    # ------------------------------------------------------------------ the heartbeat

    def heartbeat(self, now: float) -> None:
        """Once a second: dead peers out, questions that were not answered asked of others."""
        idle_timeout = self.settings.network.idle_timeout
        for peer in list(self.peers):
            peer.heartbeat(now, idle_timeout)
        for extension in self.extensions.values():
            extension.heartbeat(now)
        if now >= self._turn_over_at:
            self._turn_over_at = now + TURN_OVER
            self.admission.turn_over(now)

    # ------------------------------------------------------------------ seen from outside

    def peer_snapshots(self) -> tuple[PeerSnapshot, ...]:
        """Its peers, with whom nothing but words can be exchanged yet."""
        return tuple(
            PeerSnapshot(
                address=peer.address,
                client=peer.client,
                incoming=peer.incoming,
                progress=0.0,
                down_rate=0.0,
                up_rate=0.0,
                downloaded=0,
                uploaded=0,
                we_choke=peer.wire.we_choke,
                we_interested=peer.wire.we_interested,
                they_choke=peer.wire.they_choke,
                they_interested=peer.wire.they_interested,
                snubbed=False,
                requests=0,
                upload_only=peer.upload_only,
            )
            for peer in self.peers
        )

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def is_idle(self) -> bool:
        """Nobody is here, and nobody is being dialled."""
        return not self.peers and not self.dialing

    @property
    def progress(self) -> MetadataProgress:
        fetch = self.fetch
        return MetadataProgress(fetch.size, fetch.held, fetch.picker.offering, len(self.peers), fetch.trouble)

    # ------------------------------------------------------------------ the end

    def release(self, successor: Successor | None = None) -> list[Peer]:
        """Give up the peers, to whom the download will talk: they keep what they said, and who dials for us dials for it.

        They count as nobody's until they are taken over, and may end meanwhile (``is_closed``); what they say waits no longer than
        that. Afterwards this is closed.
        """
        peers = list(self.peers)
        self._closed = True
        for peer in peers:
            self._forget(peer)
        self.owner.peers_changed(-len(peers))
        if successor is not None:
            self._successor = successor
            successor.dialing += self.dialing
            self.dialing = 0
        self.fetch.close()
        return peers

    def close(self, reason: str = "the torrent is stopped") -> None:
        """All peers go, for good, and what came is let go. Safe to call again."""
        self._closed = True
        for peer in list(self.peers):
            peer.close(reason)
        self.fetch.close()

    async def aclose(self) -> None:
        """Close, and wait for the threads that hash."""
        self.close()
        await self.fetch.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "complete" if self.fetch.info is not None else "seeking"
        return f"<MetadataSwarm {self.infohash.hex()[:8]} [{state} | {len(self.peers)} peers | {self.fetch.picker!r}]>"
