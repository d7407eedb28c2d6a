"""The relay of BEP 55, between peers of clay."""

from __future__ import annotations

from typing import Any, cast

import pytest

from unchoke.engine.extension import Extension
from unchoke.engine.holepunch import BURST, RATE, Holepunch
from unchoke.engine.peer import Peer
from unchoke.errors import ProtocolError
from unchoke.protocol.ut_holepunch import HolepunchError, HolepunchKind, HolepunchMessage, decode_holepunch
from unchoke.types import Address

CONNECT, ERROR, RENDEZVOUS = HolepunchKind.CONNECT, HolepunchKind.ERROR, HolepunchKind.RENDEZVOUS
MOST = int(RATE * BURST)


class ClayPeer:
    """As much of a peer as the relay touches."""

    def __init__(self, host: str, *, speaks: bool = True, listens: bool = True) -> None:
        self.address = Address(host, 50000)
        self.listen_address = Address(host, 6881) if listens else None
        self.extensions = {"ut_holepunch": 4} if speaks else {}
        self.heard: list[HolepunchMessage] = []
        self.wire = self

    def send_extended(self, number: int, payload: bytes) -> None:
        assert number == 4
        self.heard.append(decode_holepunch(payload))

    def flush(self) -> None:
        """Sent at once already."""


class Relay:
    """Three peers around us."""

    def __init__(self) -> None:
        self.one, self.other = ClayPeer("203.0.113.1"), ClayPeer("203.0.113.2")
        self.mute = ClayPeer("203.0.113.3", speaks=False)
        self.peers: dict[Any, None] = dict.fromkeys((self.one, self.other, self.mute))
        self.connects: list[tuple[Address, Peer]] = []
        self.punch = Holepunch(
            cast(Any, self),
            ours=lambda family: Address("198.51.100.7", 6881) if family == 4 else None,
            connect=lambda address, peer: self.connects.append((address, peer)),
        )

    def ask(self, peer: ClayPeer, wanted: Address, now: float = 0.0) -> None:
        self.say(peer, HolepunchMessage(RENDEZVOUS, wanted), now)

    def say(self, peer: ClayPeer, message: HolepunchMessage, now: float = 0.0) -> None:
        self.punch.received(cast(Peer, peer), message.encode(), now)


@pytest.fixture
def relay() -> Relay:
    return Relay()


def test_it_is_an_extension(relay: Relay) -> None:
    extension: Extension = relay.punch
    assert (extension.name, extension.number) == ("ut_holepunch", 3)


def test_two_are_brought_together(relay: Relay) -> None:
    relay.ask(relay.one, Address("203.0.113.2", 6881))
    assert relay.one.heard == [HolepunchMessage(CONNECT, Address("203.0.113.2", 6881))]
    assert relay.other.heard == [HolepunchMessage(CONNECT, Address("203.0.113.1", 6881))]
    assert relay.punch.relayed == 1


def test_who_has_not_said_where_it_listens_is_met_where_it_comes_from(relay: Relay) -> None:
    relay.one.listen_address = relay.other.listen_address = None
    relay.ask(relay.one, relay.other.address)
    assert relay.other.heard == [HolepunchMessage(CONNECT, relay.one.address)]


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Address("203.0.113.9", 6881), HolepunchError.NOT_CONNECTED),
        (Address("203.0.113.2", 1), HolepunchError.NOT_CONNECTED),
        (Address("203.0.113.3", 6881), HolepunchError.NO_SUPPORT),
        (Address("198.51.100.7", 6881), HolepunchError.NO_SELF),
        (Address("203.0.113.1", 6881), HolepunchError.NO_SUCH_PEER),
        (Address("203.0.113.2", 0), HolepunchError.NO_SUCH_PEER),
        (Address("224.0.0.1", 1), HolepunchError.NO_SUCH_PEER),
        (Address("2a00::1", 1), HolepunchError.NOT_CONNECTED),
    ],
)
def test_what_cannot_be_done_is_answered(relay: Relay, wanted: Address, error: HolepunchError) -> None:
    relay.ask(relay.one, wanted)
    assert relay.one.heard == [HolepunchMessage(ERROR, wanted, error)]
    assert relay.other.heard == relay.mute.heard == []


def test_two_of_two_families_cannot_meet(relay: Relay) -> None:
    six = ClayPeer("2a00::1")
    relay.peers[six] = None
    relay.ask(six, Address("203.0.113.2", 6881))
    assert [message.error for message in six.heard] == [HolepunchError.NO_SUCH_PEER]
    assert relay.other.heard == []


def test_a_neighbour_of_ours_is_not_shown_to_a_stranger(relay: Relay) -> None:
    lan = ClayPeer("192.168.1.5")
    relay.peers[lan] = None
    relay.ask(lan, Address("203.0.113.2", 6881))
    relay.ask(relay.one, Address("192.168.1.5", 6881))
    assert relay.other.heard == []
    assert [message.kind for message in lan.heard] == [ERROR]


def test_who_does_not_speak_it_is_not_answered(relay: Relay) -> None:
    relay.ask(relay.mute, Address("203.0.113.2", 6881))
    assert relay.other.heard == relay.mute.heard == []


def test_a_flood_is_answered_in_part(relay: Relay) -> None:
    for _ in range(1000):
        relay.ask(relay.one, Address("203.0.113.9", 6881))
    assert len(relay.one.heard) == MOST
    relay.ask(relay.one, Address("203.0.113.9", 6881), now=1 / RATE)
    assert len(relay.one.heard) == MOST + 1


def test_nobody_is_called_by_everybody(relay: Relay) -> None:
    for number in range(300):
        relay.ask(ClayPeer(f"203.0.114.{number % 250}"), Address("203.0.113.2", 6881))
    assert len(relay.other.heard) == MOST
    relay.punch.gone(cast(Peer, relay.other))
    relay.punch.gone(cast(Peer, relay.one))
    assert not relay.punch._called


def test_a_call_to_us_is_handed_on_and_an_error_is_not(relay: Relay) -> None:
    relay.say(relay.one, HolepunchMessage(CONNECT, Address("203.0.113.9", 7)))
    relay.say(relay.one, HolepunchMessage(CONNECT, Address("224.0.0.1", 7)))
    relay.say(relay.one, HolepunchMessage(CONNECT, Address("192.168.0.1", 7)))
    relay.say(relay.one, HolepunchMessage(ERROR, Address("203.0.113.9", 7), 77))
    assert relay.connects == [(Address("203.0.113.9", 7), cast(Any, relay.one))]
    relay.punch = Holepunch(cast(Any, relay))
    relay.say(relay.one, HolepunchMessage(CONNECT, Address("203.0.113.9", 7)))
    assert relay.one.heard == []


def test_nonsense_is_a_protocol_error(relay: Relay) -> None:
    with pytest.raises(ProtocolError):
        relay.punch.received(cast(Peer, relay.one), b"nonsense", 0.0)
