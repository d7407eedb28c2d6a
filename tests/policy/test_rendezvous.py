"""A tracker's memory: peers as letters, seeds as capitals; who is told about whom, as a string."""

from __future__ import annotations

from random import Random

from unchoke.policy.rendezvous import Rendezvous, RendezvousSettings, Told
from unchoke.types import Address, InfoHash, PeerId

HASH = InfoHash(b"h" * 20)


class Swarm:
    """Each letter is a peer at 192.0.2.<its number> (and, with ``v6``, at 2001:db8::<its number>)."""

    def __init__(self, **options: float) -> None:
        self.memory = Rendezvous(RendezvousSettings(**options), Random(1))  # type: ignore[arg-type]

    def say(
        self,
        name: str,
        now: float = 0,
        event: str = "",
        *,
        wanted: int = 50,
        v6: bool = False,
        only: bool = False,
        infohash: InfoHash = HASH,
        port: int = 1,
        key: int = 0,
    ) -> Told:
        number = ord(name.lower()) - 96
        address = Address(f"2001:db8::{number:x}" if v6 else f"192.0.2.{number}", port)
        who = (PeerId(name.lower().encode() * 20), key)
        return self.memory.announce(
            infohash, who, address, now, event=event, is_seed=name.isupper(), wanted=wanted, only_family=only
        )


def names(told: Told) -> str:
    return "".join(
        sorted(chr(96 + int(peer.host.rpartition(":" if ":" in peer.host else ".")[2], 16)) for peer in told.peers)
    )


def test_everybody_is_told_about_the_others() -> None:
    swarm = Swarm()
    assert names(swarm.say("a")) == ""
    assert names(swarm.say("b")) == "a"
    told = swarm.say("C")
    assert names(told) == "ab"
    assert (told.seeds, told.leechers, told.downloaded) == (1, 2, 0)
    assert names(swarm.say("a")) == "bc"


def test_seeds_are_not_told_to_seeds() -> None:
    swarm = Swarm()
    for name in "aBC":
        told = swarm.say(name)
    assert names(told) == "a"


def test_who_has_just_started_is_told_of_seeds_too() -> None:
    """aria2 says left=0 for a magnet link, and would find nobody."""
    swarm = Swarm()
    swarm.say("A")
    assert names(swarm.say("B", event="started")) == "a"
    assert names(swarm.say("B")) == ""


def test_stopped_takes_out_and_only_who_holds_the_key_can() -> None:
    swarm = Swarm()
    swarm.say("a", key=7)
    swarm.say("b")
    swarm.say("a", event="stopped", key=8)
    assert names(swarm.say("b")) == "a"
    assert swarm.say("a", event="stopped", key=7).leechers == 1
    assert names(swarm.say("b")) == ""
    swarm.say("b", event="stopped")
    assert swarm.say("b", event="stopped") == Told()
    assert (swarm.memory.torrents, swarm.memory.peers) == (0, 0)


def test_completed_counts_once_for_each() -> None:
    swarm = Swarm()
    swarm.say("a")
    assert swarm.say("A", event="completed").downloaded == 1
    assert swarm.say("A", event="completed").downloaded == 1
    assert swarm.memory.scrape(HASH) == Told((), 1, 0, 1)
    assert swarm.memory.scrape(InfoHash(b"x" * 20)) is None
    assert swarm.memory.seeds == 1


def test_the_silent_are_forgotten() -> None:
    swarm = Swarm(lifetime=100)
    swarm.say("a", 0)
    swarm.say("b", 60)
    assert names(swarm.say("c", 100.5)) == "b"
    swarm.memory.expire(300)
    assert (swarm.memory.torrents, swarm.memory.peers) == (0, 0)


def test_as_many_as_wanted_by_chance() -> None:
    swarm = Swarm()
    for name in "abcdefghijkl":
        swarm.say(name)
    seen = {names(swarm.say("m", wanted=3)) for _ in range(20)}
    assert all(len(one) == 3 for one in seen)
    assert len(seen) > 1
    assert names(swarm.say("m", wanted=0)) == ""


def test_both_families_of_one_peer() -> None:
    swarm = Swarm()
    swarm.say("a")
    told = swarm.say("a", v6=True)
    assert names(told) == ""
    assert told.leechers == 1
    assert len(swarm.say("b").peers) == 2
    assert [peer.host for peer in swarm.say("b", v6=True, only=True).peers] == ["2001:db8::1"]


def test_a_program_started_again_replaces_the_one_before() -> None:
    swarm = Swarm()
    swarm.say("a", key=1)
    again = swarm.memory.announce(HASH, (PeerId(b"z" * 20), 2), Address("192.0.2.1", 1), 1)
    assert (again.peers, again.leechers) == ((), 1)
    assert swarm.memory.peers == 1


def test_who_cannot_be_dialled_is_told_and_not_remembered() -> None:
    swarm = Swarm()
    swarm.say("a")
    assert names(swarm.say("b", port=0)) == "a"
    assert names(swarm.say("a")) == ""
    swarm.say("b", port=0, infohash=InfoHash(b"x" * 20))
    assert swarm.memory.torrents == 1


def test_bounds() -> None:
    swarm = Swarm(max_torrents=2, max_peers=3, max_total=5)
    for name in "abcd":
        swarm.say(name)
    assert names(swarm.say("e", port=0)) == "bcd"  # the one silent for longest made room
    other = InfoHash(b"x" * 20)
    for name in "ab":
        assert swarm.say(name, infohash=other).refusal == ""
    assert "as many peers" in swarm.say("c", infohash=other).refusal
    assert swarm.say("b", infohash=other).refusal == ""
    assert "as many torrents" in swarm.say("a", infohash=InfoHash(b"y" * 20)).refusal
    assert swarm.memory.peers == 5
    assert "2 torrents" in repr(swarm.memory)
