"""PortClient by hand: packets in and out, and a clock that the test moves."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.protocol.portmap.client import PORT, Granted, Lost, PortClient, PortEvent, Refused
from unchoke.types import Address

ROUTER = Address("192.168.1.1", PORT)


class Desk:
    """A client with the router played by the test. ``now`` goes on with ``wait``, which does what is due."""

    def __init__(self, router: str = ROUTER.host, local: str = "192.168.1.2") -> None:
        numbers = itertools.count(1)
        self.client = PortClient(router, local, nonce=lambda: next(numbers).to_bytes(12, "big"))
        self.router = Address(router, PORT)
        self.now = 100.0

    def sent(self) -> list[bytes]:
        packets = self.client.datagrams_to_send(self.now)
        assert all(address == self.router for _, address in packets)
        return [data for data, _ in packets]

    def ask(self, tcp: bool = True, port: int = 6881) -> list[bytes]:
        self.client.ask(tcp, port, port, self.now)
        return self.sent()

    def wait(self, seconds: float) -> list[bytes]:
        """The packets of that time."""
        packets, end = [], self.now + seconds
        while (when := self.client.get_timer()) is not None and when <= end:
            self.now = max(self.now, when)
            self.client.handle_timer(self.now)
            packets += self.sent()
        self.now = end
        return packets

    def hear(self, data: bytes, source: Address | None = None) -> bool:
        return self.client.receive_datagram(data, source or self.router, self.now)

    def events(self) -> list[PortEvent]:
        return self.client.events()


def pcp_reply(request: bytes, *, port: int = 6881, life: int = 7200, result: int = 0, epoch: int = 0) -> bytes:
    head = struct.pack(">BBBBII12x", 2, 0x81, 0, result, life, epoch)
    return head + request[24:42] + port.to_bytes(2, "big") + bytes(10) + b"\xff\xff" + bytes((198, 51, 100, 7))


def natpmp_reply(request: bytes, *, port: int = 6881, life: int = 7200, result: int = 0, epoch: int = 0) -> bytes:
    head = struct.pack(">BBHI", 0, request[1] | 0x80, result, epoch)
    return head + request[4:6] + port.to_bytes(2, "big") + life.to_bytes(4, "big")


def versions(packets: list[bytes]) -> list[int]:
    return [packet[0] for packet in packets]


GRANTED = Granted(True, "PCP", 6881, "198.51.100.7")


def test_pcp_first_then_both_then_silence() -> None:
    desk = Desk()
    assert versions(desk.ask()) == [2]
    assert versions(desk.wait(0.25)) == [2]
    assert versions(desk.wait(0.5)) == [2, 0, 0], "NAT-PMP too: the address outside, and the mapping"
    assert len(desk.wait(6.9)) == 6
    assert desk.events() == []
    assert desk.wait(0.2) == []
    assert desk.events() == [Refused(True, "", "no answer from the router 192.168.1.1")]
    assert desk.client.is_idle
    assert desk.client.get_timer() is None


def test_granted_renewed_and_given_back() -> None:
    desk = Desk()
    (request,) = desk.ask()
    assert desk.hear(pcp_reply(request))
    assert desk.events() == [GRANTED]
    assert desk.client.lifetime(True, desk.now) == 7200
    looks = desk.wait(3599)
    assert {packet[:2] for packet in looks} == {b"\2\0"}, "only looks at the epoch"
    (renewal,) = [packet for packet in desk.wait(1.1) if packet[1] == 1]
    assert renewal == request, "the same nonce and port"
    assert desk.hear(pcp_reply(renewal, epoch=3600))
    assert desk.events() == [], "nothing new"
    desk.client.release(True, desk.now)
    (goodbye,) = desk.sent()
    assert goodbye[4:8] == bytes(4)
    assert desk.hear(pcp_reply(goodbye, port=0, life=0, epoch=3600))
    assert desk.client.is_idle


def test_a_goodbye_without_an_answer_is_said_three_times() -> None:
    desk = Desk()
    desk.hear(pcp_reply(desk.ask()[0]))
    desk.events()
    desk.client.release(True, desk.now)
    assert len(desk.sent() + desk.wait(10)) == 3
    assert desk.client.is_idle
    assert desk.events() == []


def test_a_router_of_natpmp_says_so() -> None:
    desk = Desk()
    desk.ask()
    desk.ask(tcp=False)
    assert desk.hear(bytes.fromhex("0081000100000000"))
    packets = desk.sent()
    assert set(versions(packets)) == {0}
    for packet in packets:
        if packet[1]:
            assert desk.hear(natpmp_reply(packet, port=7000))
    assert set(desk.events()) == {Granted(True, "NAT-PMP", 7000, ""), Granted(False, "NAT-PMP", 7000, "")}
    assert desk.hear(bytes.fromhex("0080000000000000c6336407"))
    assert Granted(True, "NAT-PMP", 7000, "198.51.100.7") in desk.events()
    assert set(versions(desk.wait(3610))) == {0}, "it is spoken from then on"


def test_an_older_pcp_is_no_pcp() -> None:
    desk = Desk()
    desk.ask()
    assert desk.hear(struct.pack(">BBBBII12x", 1, 0x81, 0, 1, 0, 0))
    assert set(versions(desk.sent())) == {0}


def test_over_ipv6_there_is_no_natpmp() -> None:
    desk = Desk("fe80::1", "2001:db8::2")
    packets = desk.ask() + desk.wait(8)
    assert versions(packets) == [2] * 5
    assert desk.events() == [Refused(True, "", "no answer from the router fe80::1")]
    desk.ask()
    assert desk.hear(struct.pack(">BBBBII12x", 1, 0x81, 0, 1, 0, 0))
    assert desk.events() == [Refused(True, "PCP", "the router speaks another version")]


def test_a_refusal_ends_it_in_words() -> None:
    desk = Desk()
    (request,) = desk.ask()
    assert desk.hear(pcp_reply(request, result=8))
    assert desk.events() == [Refused(True, "PCP", "the router has no room for another mapping")]
    assert desk.wait(1000) == []


def test_a_stranger_to_pcp_may_be_none_to_natpmp() -> None:
    desk = Desk()
    (request,) = desk.ask()
    assert desk.hear(pcp_reply(request, result=2))
    packets = desk.sent()
    assert set(versions(packets)) == {0}
    assert desk.hear(natpmp_reply(packets[-1]))
    assert desk.events() == [Granted(True, "NAT-PMP", 6881, "")]


def test_answers_of_strangers_count_for_nothing() -> None:
    desk = Desk()
    (request,) = desk.ask()
    good = pcp_reply(request)
    assert not desk.hear(good, Address("192.168.1.3", PORT))
    assert not desk.hear(good, Address(ROUTER.host, 5352))
    assert not desk.hear(good[:24] + bytes(12) + good[36:]), "another nonce"
    assert not desk.hear(good[:40] + b"\0\1" + good[42:]), "another port of ours"
    assert not desk.hear(good[:36] + b"\x11" + good[37:]), "another protocol"
    assert not desk.hear(b"")
    assert not desk.hear(natpmp_reply(b"\0\2\0\0\x1a\xe1")), "NAT-PMP was not asked"
    assert desk.events() == []
    assert desk.hear(good)
    assert desk.events() == [GRANTED]


def test_a_restart_shows_at_the_next_look() -> None:
    desk = Desk()
    tcp, udp = desk.ask()[0], desk.ask(tcp=False)[0]
    desk.hear(pcp_reply(tcp, epoch=5000))
    desk.hear(pcp_reply(udp, epoch=5000))
    desk.events()
    assert [packet[1] for packet in desk.wait(600)] == [0]
    assert desk.hear(struct.pack(">BBBBII12x", 2, 0x80, 0, 0, 0, 20))
    assert desk.sent() == [tcp, udp]


def test_a_restart_seen_in_one_renewal_renews_the_other() -> None:
    desk = Desk()
    tcp, udp = desk.ask()[0], desk.ask(tcp=False)[0]
    desk.hear(pcp_reply(tcp, epoch=5000))
    desk.hear(pcp_reply(udp, epoch=5000, life=1200))
    desk.wait(601)
    assert desk.hear(pcp_reply(udp, epoch=3))
    assert desk.sent() == [tcp]


@pytest.mark.parametrize("reply", [pcp_reply, natpmp_reply])
def test_a_router_whose_epoch_jumps_with_every_answer_is_asked_seldom(reply: Callable[..., bytes]) -> None:
    desk = Desk()
    packets, sent = desk.ask() + desk.ask(tcp=False), 0
    epochs = itertools.cycle((5000, 9, 70_000, 0))
    while desk.now < 700:
        sent += len(packets)
        for packet in packets:
            if len(packet) >= 12 and packet[0] == (2 if reply is pcp_reply else 0):
                desk.hear(reply(packet, epoch=next(epochs)))
        packets = desk.sent() or desk.wait(1)
        assert sent < 100
    assert desk.client.is_asking(True) is False


def test_a_second_restart_within_a_minute_is_made_good_after_it() -> None:
    desk = Desk()
    tcp, udp = desk.ask()[0], desk.ask(tcp=False)[0]
    desk.hear(pcp_reply(tcp, epoch=5000))
    desk.hear(pcp_reply(udp, epoch=3))
    assert desk.sent() == [tcp]
    desk.hear(pcp_reply(tcp, epoch=1))
    assert desk.sent() == []
    assert udp in desk.wait(61)


def test_silence_at_the_renewal_is_borne_until_the_end() -> None:
    desk = Desk()
    (request,) = desk.ask()
    desk.hear(pcp_reply(request))
    desk.events()
    renewals = [packet for packet in desk.wait(7100) if packet[1] == 1]
    assert 5 * 4 <= len(renewals) <= 5 * 10
    assert desk.events() == []
    desk.wait(120)
    assert desk.events() == [Lost(True, "no answer from the router 192.168.1.1")]
    assert desk.client.is_idle


@pytest.mark.parametrize(("life", "renewed"), [(1, 60), (10**9, 43200)])
def test_lifetimes_are_bounded(life: int, renewed: int) -> None:
    desk = Desk()
    (request,) = desk.ask()
    desk.hear(pcp_reply(request, life=life))
    assert all(packet[1] == 0 for packet in desk.wait(renewed - 1))
    assert any(packet[1] == 1 for packet in desk.wait(2))


def test_what_is_forgotten_is_not_asked_for_again() -> None:
    desk = Desk()
    (request,) = desk.ask()
    desk.client.forget(True)
    assert desk.client.is_idle
    assert not desk.hear(pcp_reply(request))
    assert desk.wait(100) == []
    assert desk.events() == []


STEPS = st.lists(
    st.tuples(st.just("wait"), st.floats(0, 5000))
    | st.tuples(st.just("ask"), st.booleans())
    | st.tuples(st.just("release"), st.booleans())
    | st.tuples(st.sampled_from(["answer", "refuse", "garble"]), st.integers(0, 2**16)),
    max_size=30,
)


@given(steps=STEPS)
@settings(max_examples=60)
def test_whatever_a_router_says_packets_are_few_and_the_end_comes(steps: list[tuple[str, float]]) -> None:
    desk = Desk()
    last: list[bytes] = [b"\2\1" + bytes(58)]
    for what, value in steps:
        if what == "wait":
            last = desk.wait(value) or last
            assert len(last) <= 40 + value
        elif what == "ask":
            last = desk.ask(bool(value))
        elif what == "release":
            desk.client.release(bool(value), desk.now)
            last = desk.sent() or last
        else:
            for packet in last:
                reply = pcp_reply if packet[0] == 2 else natpmp_reply
                data = bytearray(reply(packet, epoch=int(value), result=8 * (what == "refuse")))
                if what == "garble":
                    data[int(value) % len(data)] ^= 1 + int(value) % 255
                desk.hear(bytes(data))
            last = desk.sent() or last
    for tcp in (True, False):
        desk.client.release(tcp, desk.now)
    desk.sent()
    desk.wait(10)
    assert desk.client.is_idle
