"""Pex, one swarm's, between peers of clay: what goes out when, what is taken in, and what a flood costs."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any, cast

import pytest

from unchoke.engine.extension import Extension
from unchoke.engine.peer import Peer
from unchoke.engine.pex import MOST_AT_ONCE, Pex
from unchoke.errors import ProtocolError
from unchoke.policy.peerlist import PeerList, Source
from unchoke.policy.pex import PexSettings
from unchoke.protocol.ut_pex import PexFlag, PexMessage, PexPeer, decode_pex
from unchoke.types import Address

THEIR_NUMBER = 9


class ClayPeer:
    """As much of a peer as Pex touches; it remembers what it was sent."""

    def __init__(self, number: int, *, dialed: bool = True, pex: bool = True, host: str = "") -> None:
        self.address = Address(host or f"203.0.{number >> 8}.{number & 255}", 6881 if dialed else 50000)
        self.listen_address: Address | None = self.address if dialed else None
        self.dialed = self.listen_address
        self.extensions = {"ut_pex": THEIR_NUMBER} if pex else {}
        self.upload_only = False
        self.messages: list[PexMessage] = []
        self.flushed = 0
        self.wire = self

    def send_extended(self, number: int, payload: bytes) -> None:
        assert number == THEIR_NUMBER
        self.messages.append(decode_pex(payload))

    def flush(self) -> None:
        self.flushed += 1
        assert self.flushed == len(self.messages)


class ClaySwarm:
    """A swarm of them, with a Pex."""

    def __init__(self, count: int = 0, **changes: Any) -> None:
        self.peers: dict[Any, None] = {}
        self.peerlist = PeerList(Random(1))
        self.ours: Address | None = None
        self.pex = Pex(cast(Any, self), PexSettings(**changes), Random(2), ours=lambda family: self.ours)
        self.clay = [self.join(ClayPeer(number), 0.0) for number in range(count)]

    def join(self, peer: ClayPeer, now: float) -> ClayPeer:
        self.peers[peer] = None
        self.pex.greeted(cast(Peer, peer), now)
        return peer

    def leave(self, peer: ClayPeer) -> None:
        del self.peers[peer]
        self.pex.gone(cast(Peer, peer))

    def hear(self, peer: ClayPeer, *added: Address, now: float = 0.0, flags: int = 0) -> None:
        message = PexMessage(tuple(PexPeer(address, flags) for address in added))
        self.pex.received(cast(Peer, peer), message.encode(), now)

    def beat(self, first: int, last: int) -> None:
        for now in range(first, last):
            self.pex.heartbeat(float(now))

    @property
    def known(self) -> set[Address]:
        return set(self.peerlist.next_to_dial(1000, 0.0))


def told(message: PexMessage) -> set[Address]:
    return {peer.address for peer in message.added}


def test_it_is_an_extension() -> None:
    extension: Extension = ClaySwarm().pex
    assert (extension.name, extension.number) == ("ut_pex", 2)


# ---------------------------------------------------------------------- telling


def test_each_hears_of_the_others_soon_and_then_of_what_changed() -> None:
    swarm = ClaySwarm(3)
    first, second, third = swarm.clay
    swarm.beat(0, 10)
    assert [told(peer.messages[0]) for peer in swarm.clay] == [
        {second.address, third.address},
        {first.address, third.address},
        {first.address, second.address},
    ]
    swarm.leave(third)
    fourth = swarm.join(ClayPeer(4), 10.0)
    swarm.beat(10, 200)
    assert [len(peer.messages) for peer in (first, second, third, fourth)] == [2, 2, 1, 1]
    assert told(first.messages[1]) == {fourth.address}
    assert first.messages[1].dropped == (third.address,)


def test_one_message_a_minute_however_much_happens() -> None:
    swarm = ClaySwarm(1)
    (one,) = swarm.clay
    sent: list[int] = []
    for now in range(1000):
        newcomer = swarm.join(ClayPeer(1000 + now, pex=False), float(now))
        before = len(one.messages)
        swarm.pex.heartbeat(float(now))
        sent += [now] * (len(one.messages) - before)
        if now % 3:
            swarm.leave(newcomer)
    assert len(sent) >= 14
    assert min(later - sooner for sooner, later in pairwise(sent)) >= 60


def test_who_does_not_listen_is_told_nothing() -> None:
    swarm = ClaySwarm(2)
    deaf = swarm.join(ClayPeer(9, pex=False), 0.0)
    turned_off = swarm.join(ClayPeer(10), 0.0)
    turned_off.extensions = {"ut_pex": 0}
    swarm.join(turned_off, 0.0)
    swarm.beat(0, 100)
    assert deaf.messages == turned_off.messages == []
    assert deaf.address in told(swarm.clay[0].messages[0]), "but is told of"


def test_who_came_in_is_told_of_when_its_port_is_known() -> None:
    swarm = ClaySwarm(1)
    incoming = swarm.join(ClayPeer(5, dialed=False), 0.0)
    swarm.beat(0, 30)
    assert swarm.clay[0].messages == []
    incoming.listen_address = Address(incoming.address.host, 7000)
    swarm.beat(30, 40)
    (message,) = swarm.clay[0].messages
    assert message.added == (PexPeer(Address(incoming.address.host, 7000), 0),)


def test_flags_say_what_a_peer_is() -> None:
    swarm = ClaySwarm(2)
    one, other = swarm.clay
    other.upload_only = True
    other.extensions["ut_holepunch"] = 3
    swarm.beat(0, 10)
    assert one.messages[0].added == (PexPeer(other.address, PexFlag.SEED | PexFlag.HOLEPUNCH | PexFlag.REACHABLE),)


def test_a_seed_that_left_on_good_terms_is_told_of_and_one_that_did_not_is_not() -> None:
    swarm = ClaySwarm(1)
    good, bad, banned = (swarm.join(ClayPeer(number), 0.0) for number in (5, 6, 7))
    for peer in (good, bad, banned):
        peer.upload_only = True
        swarm.peerlist.add([peer.address], Source.TRACKER, 0.0)
        swarm.leave(peer)
    swarm.peerlist.left(good.address, "both have everything", 0.0)
    swarm.peerlist.failed(bad.address, "broke the protocol", 0.0)
    swarm.peerlist.ban(banned.address.host, "sent wrong data")
    swarm.beat(0, 100)
    first, second = swarm.clay[0].messages
    assert told(first) == {good.address}
    assert second.dropped == (good.address,)


def test_a_crowd_is_told_in_turns() -> None:
    swarm = ClaySwarm(MOST_AT_ONCE + 20, first_wait=0.0)
    swarm.pex.heartbeat(1.0)
    assert swarm.pex.messages_sent == MOST_AT_ONCE
    swarm.pex.heartbeat(2.0)
    assert swarm.pex.messages_sent == MOST_AT_ONCE + 20


def test_with_nobody_due_a_heartbeat_looks_at_nobody() -> None:
    swarm = ClaySwarm(3)
    swarm.beat(0, 10)
    swarm.pex.owner = cast(Any, None)
    swarm.beat(10, 60)
    assert swarm.pex.messages_sent == 3


# ---------------------------------------------------------------------- hearing


def test_what_peers_tell_goes_into_the_list() -> None:
    swarm = ClaySwarm(1)
    new = [Address("198.51.100.1", 1), Address("2a00::1", 2)]
    swarm.hear(swarm.clay[0], *new)
    assert swarm.known == set(new)
    assert swarm.pex.peers_found == 2
    known = swarm.peerlist.get(new[0])
    assert known is not None
    assert (known.sources, known.teller, known.is_seed) == (Source.PEX, swarm.clay[0].address.host, False)


def test_who_has_not_greeted_may_tell() -> None:
    swarm = ClaySwarm()
    swarm.hear(ClayPeer(1), Address("198.51.100.1", 1))
    assert len(swarm.known) == 1


def test_seeds_are_known_as_such_if_we_do_not_know_better() -> None:
    swarm = ClaySwarm(1)
    ours, new = Address("198.51.100.1", 1), Address("198.51.100.2", 1)
    swarm.peerlist.add([ours], Source.TRACKER, 0.0)
    swarm.hear(swarm.clay[0], ours, new, flags=PexFlag.SEED)
    assert swarm.peerlist.next_to_dial(9, 0.0, seeds=False) == [ours]
    assert swarm.peerlist.next_to_dial(9, 0.0) == [new]


def test_rubbish_and_ourselves_are_left_out() -> None:
    swarm = ClaySwarm(1)
    swarm.ours = Address("198.51.100.7", 6881)
    swarm.hear(
        swarm.clay[0],
        swarm.ours,
        Address("127.0.0.1", 1),
        Address("192.168.0.1", 80),
        Address("10.0.0.1", 80),
        Address("224.0.0.1", 1),
        Address("255.255.255.255", 1),
        Address("198.51.100.1", 0),
        Address("::1", 1),
        Address("fe80::1", 1),
        Address("fd00::1", 1),
    )
    assert swarm.known == set()


def test_of_ten_thousand_addresses_few_are_kept() -> None:
    swarm = ClaySwarm(1)
    (liar,) = swarm.clay
    many = [Address(f"198.{n >> 16}.{n >> 8 & 255}.{n & 255}", 1) for n in range(10_000)]
    with pytest.raises(ProtocolError):
        swarm.hear(liar, *many)
    for minute in range(10):
        swarm.hear(liar, *many[1000 * minute :][:1000], now=60.0 * minute)
    assert len(swarm.peerlist) == swarm.peerlist.settings.most_from_one == 200


def test_too_many_messages_are_not_even_read_and_a_flood_ends_it() -> None:
    swarm = ClaySwarm(1)
    (peer,) = swarm.clay
    for number in range(10):
        swarm.hear(peer, Address("198.51.100.1", 1 + number))
    assert len(swarm.known) == 3
    swarm.pex.received(cast(Peer, peer), b"nonsense, not read", 1.0)
    while swarm.pex._talks[cast(Peer, peer)].allowance.ignored < 60:
        swarm.pex.received(cast(Peer, peer), b"", 1.0)
    with pytest.raises(ProtocolError, match="flood"):
        swarm.pex.received(cast(Peer, peer), b"", 1.0)


def test_nonsense_is_a_protocol_error() -> None:
    swarm = ClaySwarm(1)
    with pytest.raises(ProtocolError):
        swarm.pex.received(cast(Peer, swarm.clay[0]), b"nonsense", 0.0)


def test_nothing_is_left_of_those_that_went() -> None:
    swarm = ClaySwarm(20)
    swarm.beat(0, 10)
    for peer in swarm.clay:
        peer.upload_only = True
        swarm.leave(peer)
    swarm.beat(10, 20)
    assert not swarm.pex._talks
    assert not swarm.pex.contacts.listeners
