"""Small DHTs on virtual time: what one node leaves another finds, over both families, on one machine, and as nodes come and go."""

from __future__ import annotations

import pytest

from unchoke.protocol.dht.ids import distance
from unchoke.protocol.dht.item import Item
from unchoke.protocol.dht.node import ItemFound, LookupDone, NodeSettings, PeersFound, SamplesFound
from unchoke.testing.dht import DhtWorld, simulate
from unchoke.types import Address, InfoHash, NodeId

HASH = InfoHash(b"h" * 20)


def found_by(world: DhtWorld, address: Address) -> set[Address]:
    events = world.do(address, lambda node: node.find_peers(HASH, world.now))
    return {peer for event in events if isinstance(event, PeersFound) for peer in event.addresses}


@pytest.mark.parametrize("family", [4, 6])
def test_what_one_announces_all_find(family: int) -> None:
    world = DhtWorld(seed=1, family=family, loss=0).grow(25)
    announcer, *others = world.honest()
    done = world.do(announcer, lambda node: node.find_peers(HASH, world.now, announce_port=51413))[-1]
    assert isinstance(done, LookupDone)
    assert done.announced == 8
    for other in others[:10]:
        assert found_by(world, other) == {Address(announcer.host, 51413)}


def test_a_handful_of_nodes_on_one_machine_is_a_dht_too() -> None:
    world = DhtWorld(seed=2, loss=0)
    first, second, third = (world.join(Address("127.0.0.1", port)) for port in (1001, 1002, 1003))
    for address in (second, third):
        world.do(address, lambda node: node.bootstrap([first], world.now))
    world.run(30)
    assert all(node.counts.good == 2 for node in world.nodes.values())
    world.do(second, lambda node: node.find_peers(HASH, world.now, announce_port=0))
    assert found_by(world, third) == {second}


def test_two_nodes_that_only_know_each_other_by_a_port_message() -> None:
    world = DhtWorld(seed=2, loss=0)
    one, other = world.join(), world.join()
    world.nodes[one].add_node(other, world.now)
    world.kick(one)
    world.run(10)
    assert [contact.address for contact in world.nodes[one].good_nodes()] == [other]
    assert [contact.address for contact in world.nodes[other].good_nodes()] == [one]


def test_everybody_knows_its_neighbours() -> None:
    world = DhtWorld(seed=4).grow(60)
    world.run(120)
    ids = [node.id for node in world.nodes.values()]
    missing = 0
    for node in world.nodes.values():
        nearest = sorted((one for one in ids if one != node.id), key=lambda one: distance(one, node.id))[:8]
        missing += len(set(nearest) - {contact.id for contact in node.good_nodes()})
    assert missing < 60 * 8 * 0.1


def test_items_are_put_and_got() -> None:
    world = DhtWorld(seed=5).grow(20)
    writer, reader = world.honest()[:2]
    item = Item(b"12:Hello World!")
    done = world.do(writer, lambda node: node.put_item(item, world.now))[-1]
    assert isinstance(done, LookupDone)
    assert done.announced >= 6
    got = world.do(reader, lambda node: node.get_item(item.target, world.now))
    assert ItemFound(got[-1].handle, item) in got  # type: ignore[union-attr]


def test_a_swarm_is_counted() -> None:
    world = DhtWorld(seed=6, loss=0).grow(30)
    for number, address in enumerate(world.honest()[:24]):
        is_seed = number % 3 == 0
        world.do(address, lambda node, s=is_seed: node.find_peers(HASH, world.now, announce_port=1, seed=s))  # type: ignore[misc]
    done = world.do(world.honest()[-1], lambda node: node.find_peers(HASH, world.now, scrape=True))[-1]
    assert isinstance(done, LookupDone)
    assert done.scrape is not None
    seeds, leechers = done.scrape
    assert 6 <= seeds <= 10
    assert 13 <= leechers <= 19


def test_infohashes_are_sampled() -> None:
    world = DhtWorld(seed=7).grow(12)
    world.do(world.honest()[0], lambda node: node.find_peers(HASH, world.now, announce_port=1))
    told = world.do(world.honest()[1], lambda node: node.sample(NodeId(HASH), world.now))
    assert {infohash for event in told if isinstance(event, SamplesFound) for infohash in event.infohashes} == {HASH}


def test_read_only_nodes_find_and_are_not_asked() -> None:
    world = DhtWorld(seed=8, loss=0).grow(15)
    world.nodes[shy := world.join()].read_only = True
    world.do(shy, lambda node: node.bootstrap(world.honest()[:2], world.now))
    world.run(60)
    assert world.nodes[shy].counts.good >= 8
    assert all(shy not in {c.address for c in node.good_nodes()} for node in world.nodes.values())
    world.do(world.honest()[0], lambda node: node.find_peers(HASH, world.now, announce_port=5))
    assert found_by(world, shy) == {Address(world.honest()[0].host, 5)}


def test_the_dead_are_forgotten_and_what_they_kept_is_announced_anew() -> None:
    world = DhtWorld(seed=9).grow(30)
    announcer, finder = world.honest()[:2]
    world.do(announcer, lambda node: node.find_peers(HASH, world.now, announce_port=5))
    world.dead.update(world.honest()[2:17])
    world.run(2400)  # announces have expired, and nobody names the dead any more
    living = set(world.honest())
    assert all({c.address for c in world.nodes[one].good_nodes()} <= living for one in living)
    assert found_by(world, finder) == set()
    world.do(announcer, lambda node: node.find_peers(HASH, world.now, announce_port=5))
    assert found_by(world, finder) == {Address(announcer.host, 5)}


def test_an_outage_of_ten_minutes_costs_nobody_the_table() -> None:
    world = DhtWorld(seed=10, loss=0).grow(20)
    world.loss = 1.0
    world.run(600)
    world.loss = 0.0
    world.run(900)
    assert all(node.counts.good >= 8 for node in world.nodes.values())


def test_nodes_keep_few_timers_and_little_traffic_when_nothing_is_asked() -> None:
    world = DhtWorld(seed=11).grow(20)
    world.run(60)
    before = world.messages
    world.run(3600)
    assert (world.messages - before) / 20 < 2500  # messages an hour and node


def test_a_small_world_with_dead_and_hostile_nodes_is_the_same_every_time() -> None:
    settings = {"nodes": 60, "trials": 10}
    report = simulate(seed=7, **settings)
    assert report.found == report.trials
    assert report.most_queries <= 60
    assert report == simulate(seed=7, **settings)
    assert report.digest != simulate(seed=8, **settings).digest
    assert NodeSettings().max_queries + NodeSettings().k <= 60
