"""Pex: one swarm's peer exchange (BEP 11): its peers hear whom we have met, and what they tell goes into the list of peers.

Who is told what, and how much is believed, is ``policy/pex``'s choice. It has no timers: the swarm's heartbeat says when. There
is none for a private torrent (BEP 27); whoever makes one sees to that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from unchoke.errors import ProtocolError
from unchoke.policy.peerlist import PeerList, Source
from unchoke.policy.pex import Contact, Contacts, Listener, PexAllowance, PexSettings, believable
from unchoke.protocol.extended import OURS
from unchoke.protocol.ut_pex import PexFlag, PexMessage, PexPeer, decode_pex
from unchoke.types import Address

if TYPE_CHECKING:
    from random import Random

    from unchoke.engine.peer import Peer

log = logging.getLogger(__name__)

#: Seconds until somebody who could have been told, but of nothing new, is looked at again.
LOOK_AGAIN = 5.0
#: Messages sent in one heartbeat: 120 µs each in a swarm of 500, which may all have come at the same moment.
MOST_AT_ONCE = 50
#: Seeds that went and are noted until the next heartbeat.
MOST_LEFT = 100


class PexOwner(Protocol):
    """What it asks of its swarm (before or after the metadata is known)."""

    peers: dict[Peer, None]
    peerlist: PeerList


class _Talk:
    """What passes with one peer."""

    __slots__ = ("allowance", "listener", "next_at")

    def __init__(self, allowance: PexAllowance, next_at: float) -> None:
        self.allowance = allowance
        self.listener = Listener()
        self.next_at = next_at


class Pex:
    """An ``Extension``. ``ours(family)``: our own address as others would tell it, which is not worth dialling."""

    name = "ut_pex"
    number = OURS["ut_pex"]

    def __init__(
        self,
        owner: PexOwner,
        settings: PexSettings,
        rng: Random,
        *,
        ours: Callable[[int], Address | None] = lambda family: None,
    ) -> None:
        self.owner = owner
        self.settings = settings
        self.contacts = Contacts(settings)
        self.messages_sent = 0
        self.messages_heard = 0
        self.peers_found = 0  # new ones, over all messages
        self._rng = rng
        self._ours = ours
        self._talks: dict[Peer, _Talk] = {}
        self._left: dict[
            Address, int
        ] = {}  # seeds that went since the last heartbeat that told anybody, with their flags
        self._next_at = 0.0  # nobody is due before

    # ------------------------------------------------------------------ Extension

    def greeted(self, peer: Peer, now: float) -> None:
        talk = self._talk(peer, now)
        if peer.extensions.get(self.name):
            self.contacts.listeners.add(talk.listener)
            self._next_at = min(self._next_at, talk.next_at)
        else:
            self.contacts.listeners.discard(talk.listener)

    def received(self, peer: Peer, payload: bytes, now: float) -> None:
        """Believe what may be believed. Raises ProtocolError: no message of BEP 11, or far too many."""
        hearing = self._talk(peer, now).allowance.hear(now)
        if hearing == "flood":
            raise ProtocolError("a flood of ut_pex messages")
        if hearing == "ignored":
            return
        message = decode_pex(payload)
        told: dict[Address, int] = {}
        for address, flags in message.added:
            told.setdefault(address, flags)
        kept = believable(told, peer.address.host, self.settings.most_kept)
        for family in (4, 6):
            if (own := self._ours(family)) is not None:
                kept.pop(own, None)
        self._found(peer, kept, told, now)

    def _found(self, peer: Peer, kept: dict[Address, None], told: dict[Address, int], now: float) -> None:
        peerlist = self.owner.peerlist
        fresh = [address for address in kept if peerlist.get(address) is None]
        found = peerlist.add(kept, Source.PEX, now, teller=peer.address.host)
        for address in fresh:  # of those we know, we have seen ourselves what they have
            if told[address] & PexFlag.SEED:
                peerlist.is_seed(address)
        self.messages_heard += 1
        self.peers_found += found
        log.debug("< %s tells of %d peers, %d new", peer, len(told), found)

    def gone(self, peer: Peer) -> None:
        talk = self._talks.pop(peer, None)
        if talk is not None:
            self.contacts.listeners.discard(talk.listener)
        if peer.listen_address is not None and (flags := _flags(peer)) & PexFlag.SEED:
            self._left[peer.listen_address] = flags
            if len(self._left) > MOST_LEFT:
                del self._left[next(iter(self._left))]

    def heartbeat(self, now: float) -> None:
        if now < self._next_at:
            return
        self._note_left(now)
        due = [(peer, talk) for peer, talk in self._talks.items() if talk.next_at <= now and self._hears(peer)]
        if due:
            self.contacts.update(self._here(), now)
            for peer, talk in due[:MOST_AT_ONCE]:
                self._tell(peer, talk, now)
        self._next_at = min((talk.next_at for peer, talk in self._talks.items() if self._hears(peer)), default=now)

    def _note_left(self, now: float) -> None:
        """Seeds that went: whoever still downloads may want them, unless they broke the protocol."""
        peerlist = self.owner.peerlist
        for address, flags in self._left.items():
            known = peerlist.get(address)
            failing = known is not None and known.failures
            if not (failing or peerlist.is_banned(address.host) or peerlist.must_wait(address.host, now)):
                self.contacts.left(Contact(address, flags), now)
        self._left.clear()

    # ------------------------------------------------------------------ what we tell

    def _talk(self, peer: Peer, now: float) -> _Talk:
        talk = self._talks.get(peer)
        if talk is None:
            settings = self.settings
            first = now + settings.first_wait * self._rng.uniform(0.5, 1.0)
            talk = self._talks[peer] = _Talk(PexAllowance(settings.interval, now), first)
        return talk

    def _hears(self, peer: Peer) -> bool:
        return bool(peer.extensions.get(self.name))

    def _here(self) -> dict[Address, int]:
        """Whom others could dial, of those in conversation with us."""
        return {peer.listen_address: _flags(peer) for peer in self.owner.peers if peer.listen_address is not None}

    def _tell(self, peer: Peer, talk: _Talk, now: float) -> None:
        news = self.contacts.news(talk.listener, peer.address.host, peer.listen_address)
        if not (news.added or news.dropped):
            talk.next_at = now + LOOK_AGAIN * self._rng.uniform(1.0, 1.5)
            return
        talk.next_at = now + self.settings.interval * self._rng.uniform(1.0, 1.1)
        message = PexMessage(tuple(PexPeer(*contact) for contact in news.added), tuple(news.dropped))
        peer.wire.send_extended(peer.extensions[self.name], message.encode())
        peer.flush()
        self.messages_sent += 1
        log.debug("> %s is told of %d peers, and that %d left", peer, len(news.added), len(news.dropped))

    def __repr__(self) -> str:
        return f"<Pex [{len(self._talks)} talk | {self.peers_found} peers found in {self.messages_heard} messages]>"


def _flags(peer: Peer) -> int:
    """What others may want to know of it (BEP 11)."""
    download = getattr(peer, "download", None)  # there is none before the metadata is known
    flags = PexFlag(0)
    if peer.upload_only or (download is not None and download.has_all):
        flags |= PexFlag.SEED
    if peer.extensions.get("ut_holepunch"):
        flags |= PexFlag.HOLEPUNCH
    if peer.dialed is not None:
        flags |= PexFlag.REACHABLE
    return flags
