"""Lsd over air of clay: what is announced when, and what a neighbour may make us do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any, cast

import pytest

from unchoke.engine.lsd import BURST, HOST_BURST, MOST_HOSTS, MOST_KNOWN, Lsd
from unchoke.engine.net.multicast import Link
from unchoke.engine.settings import LsdSettings
from unchoke.protocol.lsd import GROUP4, GROUP6, LsdAnnounce, decode_lsd
from unchoke.types import Address, InfoHash

pytestmark = pytest.mark.usefixtures("no_leaks")

NEIGHBOUR = Address("192.168.1.9", 6771)


def infohash(number: int) -> InfoHash:
    return InfoHash(number.to_bytes(20, "big"))


class Air:
    """What a Lsd speaks into, in place of Multicast."""

    def __init__(self, *families: int) -> None:
        self.links: tuple[Link, ...] = tuple(Link("eth0", family, ()) for family in families)
        self.problem = ""
        self.packets: list[tuple[int, LsdAnnounce]] = []
        self.raw: list[bytes] = []
        self.new_links = False

    def send(self, family: int, packet: bytes) -> int:
        assert family in {link.family for link in self.links}
        self.packets.append((family, decode_lsd(packet)))
        self.raw.append(packet)
        return 1

    async def look(self) -> bool:
        return self.new_links

    async def aclose(self) -> None:
        self.links = ()

    def take(self) -> list[LsdAnnounce]:
        """What was said since the last time."""
        taken, self.packets = [announce for _, announce in self.packets], []
        return taken


class Speaker:
    """A Lsd with its air and what it found."""

    def __init__(self, *families: int, port: int = 6881, seed: int = 1) -> None:
        rng = Random(seed)
        self.port = port
        self.air = Air(*families)
        self.lsd = Lsd(LsdSettings(), port=lambda: self.port, rng=rng, secret=rng.getrandbits)
        self.lsd._multicast = cast(Any, self.air)
        self.lsd._look_at = 1e9  # the air has no interfaces to look for
        self.found: list[Address] = []

    def follow(self, *numbers: int) -> None:
        for number in numbers:
            self.lsd.follow(infohash(number), self._heard)

    def _heard(self, addresses: Sequence[Address]) -> None:
        self.found += addresses

    def beat(self, first: int, last: int) -> list[int]:
        """Heartbeats, one a second; the times at which something was said, once for each packet."""
        times: list[int] = []
        for now in range(first, last):
            before = len(self.air.packets)
            self.lsd.heartbeat(float(now))
            times += [now] * (len(self.air.packets) - before)
        return times

    def hear(self, *numbers: int, sender: Address = NEIGHBOUR, port: int = 7000, now: float = 0.0) -> None:
        packet = LsdAnnounce(tuple(map(infohash, numbers)), port, "other").encode(GROUP4)
        self.lsd.received(packet, sender, now)


# ---------------------------------------------------------------------- announcing


async def test_a_torrent_is_announced_at_once_and_every_five_minutes() -> None:
    one = Speaker(4)
    one.follow(1)
    times = one.beat(0, 1000)
    assert times[0] == 0
    assert [300 <= later - sooner <= 316 for sooner, later in pairwise(times)] == [True] * 3
    assert set(one.air.take()) == {LsdAnnounce((infohash(1),), 6881, one.lsd.cookie)}


async def test_many_share_a_packet_over_each_family() -> None:
    one = Speaker(4, 6)
    one.follow(*range(20))
    one.beat(0, 2)
    assert {family: len(announce.infohashes) for family, announce in one.air.packets} == {4: 20, 6: 20}
    groups = {4: GROUP4, 6: GROUP6}
    for (family, _), packet in zip(one.air.packets, one.air.raw, strict=True):
        assert f"\r\nHost: {groups[family]}\r\n".encode() in packet
    assert len(one.air.packets) == 2


async def test_nothing_is_said_where_nobody_is_or_nobody_could_come() -> None:
    nowhere, closed = Speaker(), Speaker(4, port=0)
    for speaker in (nowhere, closed):
        speaker.follow(1)
        assert speaker.beat(0, 20) == []
    assert nowhere.lsd.told(infohash(1)) is not None
    nowhere.air.links = Air(4).links
    closed.port = 6881
    assert nowhere.beat(20, 30) == closed.beat(20, 30) == [20]


async def test_what_is_no_longer_followed_is_not_announced() -> None:
    one = Speaker(4)
    one.follow(1, 2)
    one.lsd.unfollow(infohash(1))
    one.lsd.unfollow(infohash(1))
    one.beat(0, 10)
    assert [announce.infohashes for announce in one.air.take()] == [(infohash(2),)]
    one.hear(1)
    assert one.found == []
    assert one.lsd.told(infohash(1)) is None


async def test_who_is_in_a_hurry_is_heard_once_a_minute() -> None:
    one = Speaker(4)
    one.follow(1)
    times: list[int] = []
    for now in range(200):
        one.lsd.hasten(infohash(1))
        times += one.beat(now, now + 1)
    assert times == [0, 60, 120, 180]
    one.lsd.hasten(infohash(99))  # nobody we follow


async def test_of_ten_thousand_torrents_each_has_its_turn_and_the_air_stays_clear() -> None:
    one = Speaker(4)
    one.follow(*range(10_000))
    times = one.beat(0, 2500)
    assert len(times) <= BURST + 2500 / 6 + 1
    assert max(times.count(now) for now in set(times)) <= BURST
    said = [each for announce in one.air.take() for each in announce.infohashes]
    assert set(said) == {infohash(number) for number in range(10_000)}
    assert len(one.lsd._due) <= 2 * 10_000 + 64


async def test_v2_torrents_are_known_by_their_first_twenty_bytes() -> None:
    one = Speaker(4)
    long = InfoHash(infohash(5) + b"x" * 12)
    one.lsd.follow(long, one._heard)
    one.beat(0, 1)
    assert one.air.take()[0].infohashes == (infohash(5),)
    assert one.lsd.told(long) == one.lsd.told(infohash(5)) is not None


# ---------------------------------------------------------------------- hearing


async def test_two_find_each_other() -> None:
    one, other = Speaker(4, seed=1), Speaker(4, seed=2, port=6999)
    one.follow(1, 2)
    other.follow(2, 3)
    one.beat(0, 1)
    for packet in one.air.raw:
        other.lsd.received(packet, Address("192.168.1.1", 6771), 0.0)
        one.lsd.received(packet, Address("192.168.1.1", 6771), 0.0)
    assert other.found == [Address("192.168.1.1", 6881)]
    assert one.found == [], "it hears itself"
    told = other.lsd.told(infohash(2))
    assert told is not None
    assert (told.peers, told.links, told.trouble) == (1, 1, "")


async def test_a_newcomer_is_answered_soon_and_a_known_one_is_not() -> None:
    one = Speaker(4)
    one.follow(1)
    one.beat(0, 100)
    one.hear(1, now=100.0)
    answered = one.beat(100, 110)
    assert len(answered) == 1
    assert answered[0] <= 103
    one.hear(1, now=200.0)
    assert one.beat(200, 290) == []
    assert one.found == [Address(NEIGHBOUR.host, 7000)] * 2


async def test_however_many_come_answers_go_once_a_minute() -> None:
    one = Speaker(4)
    one.follow(1)
    times: list[int] = []
    for now in range(300):
        one.hear(1, sender=Address(f"192.168.{now >> 8}.{now & 255}", 6771), now=float(now))
        times += one.beat(now, now + 1)
    assert len(times) <= 7
    assert min(later - sooner for sooner, later in pairwise(times[1:])) >= 59
    assert len(one.lsd._followed[infohash(1)].known) == MOST_KNOWN


async def test_one_neighbour_is_listened_to_for_so_long() -> None:
    one = Speaker(4)
    one.follow(1)
    for port in range(1, 1000):
        one.hear(1, port=port, now=1.0)
    assert len(one.found) == HOST_BURST
    one.hear(1, port=5, now=3.0)
    one.hear(1, sender=Address("192.168.1.10", 1), port=5, now=1.0)
    assert len(one.found) == HOST_BURST + 2


async def test_neighbours_are_counted_in_bounded_memory() -> None:
    one = Speaker(4)
    for number in range(3 * MOST_HOSTS):
        one.hear(1, sender=Address(f"10.0.{number >> 8}.{number & 255}", 1))
    assert len(one.lsd._hosts) == MOST_HOSTS


async def test_garbage_does_nothing() -> None:
    one = Speaker(4)
    one.follow(1)
    for packet in (b"", b"\xff" * 1400, b"x" * 60_000, b"BT-SEARCH * HTTP/1.1\r\n\r\n"):
        one.lsd.received(packet, NEIGHBOUR, 0.0)
    assert one.found == []
    assert one.lsd.packets_dropped == 4


# ---------------------------------------------------------------------- interfaces


async def looked(one: Speaker) -> None:
    """Until it has looked around."""
    while len(one.lsd._tasks):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_new_interface_hears_of_everything_again() -> None:
    one = Speaker(4)
    one.follow(1)
    one.beat(0, 1)
    one.air.new_links = True
    one.lsd._look_at = 61.0
    assert one.beat(61, 62) == []
    await looked(one)
    assert one.beat(62, 70) == [62]


async def test_what_cannot_be_listed_is_told_and_looked_for_again() -> None:
    one = Speaker()
    one.follow(1)

    async def fail() -> bool:
        raise OSError("no such device")

    one.air.look = fail  # type: ignore[method-assign]
    one.lsd.start()
    await looked(one)
    told = one.lsd.told(infohash(1))
    assert told is not None
    assert "no such device" in told.trouble
    assert one.lsd._look_at == 60.0


async def test_closing_ends_it() -> None:
    one = Speaker(4)
    one.lsd.start()
    await one.lsd.aclose()
    await one.lsd.aclose()
    one.lsd.start()
    assert not len(one.lsd._tasks)
    assert "closed" in repr(one.lsd)
