"""The session's DHT in a simulated network: torrents find each other in it, items are kept, nodes survive a run, trouble has words."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.dht import PORT, DhtWorld, Follower, dht_world, infohash
from unchoke.engine.dht import Dht, signing
from unchoke.engine.dht.bootstrap import parse_routers
from unchoke.engine.dht.dht import REOPEN
from unchoke.engine.dht.rounds import LONGEST_LOOKUP, MOST_LOOKUPS
from unchoke.engine.net.udp import UdpEndpoint
from unchoke.engine.net.udp_trackers import UdpTrackers
from unchoke.engine.settings import DhtSettings
from unchoke.errors import NetworkError
from unchoke.protocol.dht.ids import host_of, is_secure
from unchoke.protocol.tracker.models import AnnounceRequest
from unchoke.storage.nodes import SavedNodes, load_nodes, save_nodes
from unchoke.testing import SimNetwork, SimTracker, elapsed, run
from unchoke.types import Address, InfoHash, PeerId

Scenario = Callable[[], Coroutine[Any, Any, None]]


def asked(dht: Dht, one: InfoHash) -> bool:
    told = dht.told(one)
    return told is not None and told.asked_at is not None and not told.looking


def test_two_torrents_find_each_other() -> None:
    async def scenario() -> None:
        async with dht_world(20) as world:
            seed, leech = world.hosts[3], world.hosts[11]
            theirs, ours = Follower(seed=True), Follower()
            seed.dht.follow(infohash(1), theirs)
            await world.until(lambda: asked(seed.dht, infohash(1)))
            leech.dht.follow(infohash(1), ours)
            await ours.event.wait()
            assert ours.found == [seed.peer]
            await world.until(lambda: asked(leech.dht, infohash(1)))
            told = leech.dht.told(infohash(1))
            assert told is not None
            assert told.peers == 1
            assert told.nodes > 0
            assert told.next_at is not None
            assert told.trouble == ""
            other = world.hosts[7].dht
            assert set(await other.get_peers(infohash(1))) == {seed.peer, leech.peer}
            counted = await other.scrape(infohash(1))
            assert (counted.seeds, counted.leechers) == (1, 1)
            await world.until(lambda: leech.peer in theirs.found, limit=1200)  # its next announce finds the other

    run(scenario, seed=1)


def test_over_ipv6_too() -> None:
    async def scenario() -> None:
        world = DhtWorld(SimNetwork())
        hosts = [world.add(address=f"fd00:{number:x}::1") for number in range(1, 7)]
        await asyncio.gather(*(host.dht.joined() for host in hosts[1:]))
        follower = Follower()
        hosts[1].dht.follow(infohash(1), Follower())
        await world.until(lambda: asked(hosts[1].dht, infohash(1)))
        hosts[4].dht.follow(infohash(1), follower)
        await follower.event.wait()
        assert follower.found == [hosts[1].peer]
        assert [family.family for family in hosts[4].dht.snapshot().families] == [6]
        for host in hosts:
            await host.aclose()

    run(scenario, seed=2)


def test_with_nobody_to_ask_it_waits_and_says_why_then_goes_on() -> None:
    async def scenario() -> None:
        world = DhtWorld(SimNetwork())
        lonely = world.add(routers=("router.example:6881",))
        follower = Follower()
        lonely.dht.follow(infohash(1), follower)
        with pytest.raises(NetworkError, match=r"no DHT nodes known.*router\.example"):
            await lonely.dht.joined()
        told = lonely.dht.told(infohash(1))
        assert told is not None
        assert told.asked_at is None
        assert "router.example" in told.trouble
        assert "router.example" in lonely.dht.snapshot().state
        waiting = asyncio.ensure_future(lonely.dht.get_peers(infohash(1)))
        router = world.add(routers=())
        router.dht.follow(infohash(1), Follower())
        loop: Any = asyncio.get_running_loop()
        loop.names["router.example"] = router.address.host
        await world.until(lambda: asked(lonely.dht, infohash(1)), limit=1200)
        assert lonely.dht.trouble == ""
        assert router.peer in await waiting or await waiting == []  # the answer depends on who announced first
        for host in world.hosts:
            await host.aclose()

    run(scenario, seed=3)


def test_no_router_at_all_is_said_too() -> None:
    async def scenario() -> None:
        world = DhtWorld(SimNetwork())
        host = world.add(routers=())
        with pytest.raises(NetworkError, match="there is no router to ask"):
            await host.dht.joined()
        assert host.dht.is_hopeless
        await host.aclose()

    run(scenario)


def test_a_router_that_is_dead_is_asked_with_growing_pauses() -> None:
    async def scenario() -> None:
        world = DhtWorld(SimNetwork())
        world.network.host("10.9.9.9")
        host = world.add(routers=("10.9.9.9:6881",))
        await asyncio.sleep(3600)
        (family,) = host.dht.snapshot().families
        assert 3 <= family.counts.queries_sent <= 30
        assert "no router has answered" in host.dht.trouble
        await host.aclose()

    run(scenario)


def test_nodes_and_ids_survive_a_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with dht_world(20) as world:
            file = tmp_path / "cache" / "dht-nodes"
            first = world.add(nodes_file=file)
            await first.dht.joined()
            await world.until(lambda: first.dht.snapshot().nodes >= 8)
            known = first.dht.snapshot()
            await first.aclose()
            assert load_nodes(str(file))[4].node_id == known.families[0].node_id

            again = world.add(address=first.address.host, nodes_file=file, routers=())
            await again.dht.joined()
            assert again.dht.snapshot().families[0].node_id == known.families[0].node_id
            await world.until(lambda: again.dht.snapshot().nodes >= known.nodes)

    run(scenario, seed=4)


def test_a_run_that_found_nobody_leaves_the_file_of_one_that_did(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "dht-nodes"
        saved = SavedNodes(node_id=b"i" * 20, nodes=(Address("10.9.9.9", 6881),))
        save_nodes(str(file), {4: saved})
        world = DhtWorld(SimNetwork())
        host = world.add(nodes_file=file, routers=())
        await asyncio.sleep(60)
        await host.aclose()
        assert load_nodes(str(file))[4] == saved

    run(scenario)


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        (tmp_path / "file").write_bytes(b"")
        async with dht_world(3) as world:
            host = world.add(nodes_file=tmp_path / "file" / "dht-nodes")
            await host.dht.joined()
            await host.aclose()

    run(scenario)
    assert "DHT nodes not saved" in caplog.text


def test_our_id_fits_the_address_that_others_see() -> None:
    async def scenario() -> None:
        world = DhtWorld(SimNetwork())
        for number in range(1, 9):
            world.add(address=f"{20 + number}.{number}.7.9")
        last = world.hosts[-1]
        await last.dht.joined()
        await world.until(lambda: bool(last.dht.snapshot().families[0].external))
        (family,) = last.dht.snapshot().families
        assert family.external == last.address.host
        assert is_secure(family.node_id, host_of(last.address.host))
        for host in world.hosts:
            await host.aclose()

    run(scenario, seed=5)


def test_a_saved_id_that_does_not_fit_our_new_address_is_dropped(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "dht-nodes"
        world = DhtWorld(SimNetwork())
        for number in range(1, 9):
            world.add(address=f"{20 + number}.{number}.7.9")
        save_nodes(str(file), {4: SavedNodes(node_id=bytes(20), external="198.51.100.7")})
        host = world.add(address="77.7.7.7", nodes_file=file)
        await host.dht.joined()
        await world.until(lambda: host.dht.snapshot().families[0].external == "77.7.7.7")
        assert is_secure(host.dht.snapshot().families[0].node_id, host_of("77.7.7.7"))
        for one in world.hosts:
            await one.aclose()

    run(scenario, seed=6)


def test_ten_thousand_torrents_are_looked_up_a_few_at_a_time() -> None:
    async def scenario() -> None:
        async with dht_world(12) as world:
            dht = world.hosts[5].dht
            follower = Follower()
            for number in range(10_000):
                dht.follow(InfoHash(number.to_bytes(20)), follower)
            tasks = len(asyncio.all_tasks())
            most = 0
            for _ in range(40):
                await asyncio.sleep(0.2)
                most = max(most, dht.snapshot().looking)
                assert len(asyncio.all_tasks()) <= tasks + 4
            assert 1 < most <= MOST_LOOKUPS
            now = asyncio.get_running_loop().time()
            newest = dht.told(InfoHash((9_999).to_bytes(20)))
            assert newest is not None
            assert newest.asked_at is not None
            assert newest.asked_at < now
            snapshot = dht.snapshot()
            assert snapshot.following == 10_000
            assert snapshot.waiting < 10_000
            for number in range(10_000):
                dht.unfollow(InfoHash(number.to_bytes(20)))
            assert dht.snapshot().looking == 0
            assert dht.snapshot().waiting == 0

    run(scenario, seed=7)


def test_who_left_hears_nothing_more() -> None:
    async def scenario() -> None:
        async with dht_world(12) as world:
            world.hosts[2].dht.follow(infohash(1), Follower())
            await world.until(lambda: asked(world.hosts[2].dht, infohash(1)))
            gone = Follower()
            dht = world.hosts[4].dht
            dht.follow(infohash(1), gone)
            dht.heartbeat(asyncio.get_running_loop().time())
            assert dht.snapshot().looking == 1
            dht.unfollow(infohash(1))
            assert dht.snapshot().looking == 0
            await asyncio.sleep(30)
            assert gone.found == []
            assert dht.told(infohash(1)) is None

    run(scenario, seed=8)


def test_a_lookup_that_never_ends_does_not_keep_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with dht_world(4) as world:
            dht = world.hosts[1].dht
            with monkeypatch.context() as broken:
                broken.setattr("unchoke.protocol.dht.node.DhtNode.find_peers", lambda self, infohash, now, **how: -1)
                dht.follow(infohash(1), Follower())
                await world.until(lambda: dht.snapshot().looking == 1)
                await asyncio.sleep(LONGEST_LOOKUP - 5)
                assert dht.snapshot().looking == 1
            await world.until(lambda: dht.snapshot().looking == 0)
            await world.until(lambda: (told := dht.told(infohash(1))) is not None and told.nodes > 0)

    run(scenario)


@given(st.lists(st.binary(max_size=60) | st.binary(max_size=60).map(lambda data: b"d" + data), max_size=20))
@settings(max_examples=25, deadline=None)
def test_garbage_from_anywhere_is_harmless(packets: list[bytes]) -> None:
    async def scenario() -> None:
        async with dht_world(2) as world:
            host = world.hosts[1]
            for data in packets:
                for source in (world.hosts[0].address, Address("203.0.113.9", 1), Address("::1", 5)):
                    for handler in host.endpoint.handlers:
                        handler(data, source, asyncio.get_running_loop().time())
            assert await host.dht.get_peers(infohash(1)) == []

    run(scenario)


def test_a_follower_that_fails_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Follower):
        def dht_found(self, addresses: object) -> None:
            raise RuntimeError("no")

    async def scenario() -> None:
        async with dht_world(12) as world:
            for number in (1, 2):
                world.hosts[2].dht.follow(infohash(number), Follower())
                await world.until(lambda number=number: asked(world.hosts[2].dht, infohash(number)))  # type: ignore[misc]
            dht, good = world.hosts[4].dht, Follower()
            dht.follow(infohash(1), Failing())
            dht.follow(infohash(2), good)
            await good.event.wait()
            await world.until(lambda: asked(dht, infohash(1)))
            assert good.found == [world.hosts[2].peer]

    run(scenario, seed=9)
    assert "PeersFound could not be dealt with" in caplog.text


def test_items_are_put_and_found() -> None:
    async def scenario() -> None:
        async with dht_world(16) as world:
            ours, theirs = world.hosts[3].dht, world.hosts[8].dht
            put = await ours.put(b"hello")
            assert put.stored == 8
            found = await theirs.get(put.item.target)
            assert found is not None
            assert found.value == b"5:hello"
            assert await theirs.get(b"x" * 20) is None

            key = bytes(range(32))  # always the same: so are the nodes near it
            public = signing.public_key(key)
            for number, text in enumerate((b"one", b"two"), 1):
                done = await ours.put([text], key=key, salt=b"s")
                assert (done.item.seq, done.stored) == (number, 8)
            newest = await theirs.get(key=public, salt=b"s")
            assert newest is not None
            assert (newest.value, newest.seq) == (b"l3:twoe", 2)
            assert await theirs.get(key=public) is None  # another salt
            old = await ours.put(b"old", key=key, salt=b"s", seq=1)
            assert old.stored == 0

    run(scenario, seed=10)


def test_what_cannot_be_put_or_looked_for_is_a_value_error() -> None:
    async def scenario() -> None:
        async with dht_world(3) as world:
            dht = world.hosts[1].dht
            with pytest.raises(ValueError, match="1000 bytes"):
                await dht.put(b"x" * 1000)
            with pytest.raises(ValueError, match="private key"):
                await dht.put(b"x", key=b"short")
            with pytest.raises(ValueError, match="salt"):
                await dht.put(b"x", key=signing.new_key(), salt=b"s" * 65)
            with pytest.raises(ValueError, match="public key"):
                await dht.get(key=b"short")
            with pytest.raises(ValueError, match="20 bytes"):
                await dht.get(b"short")

    run(scenario)


def test_whoever_asks_a_dht_that_closes_is_told_and_closing_twice_is_fine() -> None:
    async def scenario() -> None:
        world = DhtWorld(SimNetwork())
        lonely = world.add(routers=())
        hopeless = asyncio.ensure_future(lonely.dht.get_peers(infohash(1)))
        await asyncio.sleep(5)
        async with dht_world(8) as other:
            host = other.hosts[4]
            question = asyncio.ensure_future(host.dht.get_peers(infohash(1)))
            await asyncio.sleep(0)
            await host.dht.aclose()
            with pytest.raises(NetworkError, match="closed"):
                await question
            await host.dht.aclose()
            assert "closed" in repr(host.dht)
            host.dht.heartbeat(0.0)
        assert not hopeless.done()
        await lonely.aclose()
        with pytest.raises(NetworkError, match="closed"):
            await hopeless

    run(scenario, seed=11)


def test_a_cancelled_question_ends_its_lookup() -> None:
    async def scenario() -> None:
        async with dht_world(12) as world:
            dht = world.hosts[4].dht
            await world.until(lambda: dht.snapshot().families[0].counts.lookups == 0)
            question = asyncio.ensure_future(dht.get_peers(infohash(1)))
            await asyncio.sleep(0)
            assert dht.snapshot().families[0].counts.lookups == 1
            question.cancel()
            await asyncio.gather(question, return_exceptions=True)
            assert dht.snapshot().families[0].counts.lookups == 0

    run(scenario, seed=12)


def test_a_node_that_a_peer_names_is_enough_to_join() -> None:
    async def scenario() -> None:
        async with dht_world(10) as world:
            late = world.add(routers=(), start=False)
            late.dht.add_node(world.hosts[3].address)  # before there is a socket
            late.start()
            await late.dht.joined()
            await world.until(lambda: late.dht.snapshot().nodes >= 5)

            torrent = world.add(routers=(), start=False)
            torrent.dht.add_routers([("a.torrent.names.it", PORT)])
            loop: Any = asyncio.get_running_loop()
            loop.names["a.torrent.names.it"] = world.hosts[2].address.host
            torrent.start()
            await torrent.dht.joined()

    run(scenario, seed=13)


def test_ten_thousand_named_nodes_are_no_flood() -> None:
    async def scenario() -> None:
        async with dht_world(3) as world:
            dht = world.hosts[1].dht
            before = dht.snapshot().families[0].counts.queries_sent
            for number in range(10_000):
                dht.add_node(Address(f"10.77.{number >> 8}.{number & 255}", 6881))
            dht.add_node(Address("::1", 6881))
            began = elapsed()
            await asyncio.sleep(60)
            sent = dht.snapshot().families[0].counts.queries_sent - before
            assert 0 < sent <= 500  # a few a second, of a bounded number
            assert elapsed() - began == pytest.approx(60)

    run(scenario, seed=14)


def test_trackers_and_the_dht_share_one_socket() -> None:
    async def scenario() -> None:
        async with dht_world(5) as world:
            host = world.hosts[2]
            tracker = SimTracker(world.network.host("10.3.3.3"))
            await tracker.start()
            trackers = UdpTrackers(host.endpoint)
            request = AnnounceRequest(infohash=infohash(1), peer_id=PeerId(b"p" * 20), port=5)
            reply = await trackers.announce(tracker.url, request, given=True)
            assert reply.interval
            assert await host.dht.get_peers(infohash(1)) == []
            await trackers.aclose()

    run(scenario, seed=15)


def test_what_is_no_message_of_the_dht_is_left_to_others() -> None:
    async def scenario() -> None:
        async with dht_world(2) as world:
            host = world.hosts[1]
            taken = host.endpoint.handlers[0]
            for data in (b"", b"\0\0\0\0", b"\x41\x02utp", b"i1e", b"5:d1:ae"):
                assert not taken(data, Address("10.1.0.9", 1), 5.0)
            assert taken(b"d1:x", Address("10.1.0.9", 1), 5.0)

    run(scenario)


def test_a_read_only_node_answers_nobody_and_is_in_nobodys_table() -> None:
    async def scenario() -> None:
        async with dht_world(6) as world:
            quiet = world.add(settings=DhtSettings(read_only=True))
            await quiet.dht.joined()
            await world.until(lambda: quiet.dht.snapshot().nodes >= 5)
            await asyncio.sleep(120)
            assert quiet.dht.snapshot().families[0].counts.queries_received == 0
            assert await quiet.dht.get_peers(infohash(1)) == []

    run(scenario, seed=16)


def test_a_socket_that_cannot_be_opened_is_tried_again() -> None:
    async def scenario() -> None:
        network = SimNetwork()
        host = network.host("10.1.1.1")
        working = host.open_datagrams

        async def refuse(*args: Any, **how: Any) -> Any:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        host.open_datagrams = refuse  # type: ignore[method-assign]
        endpoint = UdpEndpoint(host, port=PORT)
        dht = Dht(endpoint, DhtSettings(routers=()), port=lambda: 1)
        dht.start()
        await asyncio.sleep(REOPEN - 1)
        assert "cannot open a UDP socket" in dht.trouble
        endpoint._open_datagrams = working
        await asyncio.sleep(REOPEN)
        assert "cannot open" not in dht.trouble
        assert dht.snapshot().families
        await dht.aclose()
        await endpoint.aclose()

    run(scenario)


def test_routers_are_host_and_port(caplog: pytest.LogCaptureFixture) -> None:
    given = ["a.example:6881", "[2001:db8::1]:5", "192.0.2.1:1", "nothing", "a:0", ":5", "a:99999", "a:٣"]
    assert parse_routers(given) == [("a.example", 6881), ("2001:db8::1", 5), ("192.0.2.1", 1)]
    assert caplog.text.count("no host:port") == 5
