"""Multicast: which links there are, who counts as a neighbour, and sockets on the loopback alone."""

from __future__ import annotations

import asyncio
import socket
import sys
from ipaddress import ip_interface
from types import SimpleNamespace
from typing import Any

import pytest

from fakes import stage
from unchoke.engine.net import multicast
from unchoke.engine.net.multicast import MOST_INTERFACES, Link, Multicast, links, sender_of
from unchoke.types import Address

pytestmark = pytest.mark.usefixtures("no_leaks")

UP, DOWN = "up,broadcast,running,multicast", ""
ETH4, ETH6 = ("192.168.1.2", "255.255.255.0"), ("fe80::2%eth0", "ffff:ffff:ffff:ffff::")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine of clay: ``machine(name=(flags, address, …))``."""

    def made(**interfaces: tuple[Any, ...]) -> None:
        addresses, stats = {}, {}
        for name, (flags, *entries) in interfaces.items():
            stats[name] = SimpleNamespace(isup="up" in flags, flags=flags)
            addresses[name] = [
                SimpleNamespace(
                    family=socket.AF_INET6 if ":" in address else socket.AF_INET, address=address, netmask=mask
                )
                for address, mask in entries
            ]
        psutil = SimpleNamespace(net_if_addrs=lambda: addresses, net_if_stats=lambda: stats)
        monkeypatch.setitem(sys.modules, "psutil", psutil)

    return made


LOOPBACK = ("up,loopback,running", ("127.0.0.1", "255.0.0.0"), ("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))


def names(found: list[Link]) -> list[tuple[str, int]]:
    return [(link.name, link.family) for link in found]


def test_each_interface_that_can_counts_once_for_each_family(machine: Any) -> None:
    machine(
        lo=LOOPBACK,
        eth0=(UP, ETH4, ("192.168.7.2", "255.255.0.0"), ETH6),
        wlan0=(UP, ("10.0.0.5", "255.0.0.0")),
        tun0=("up,pointopoint,running,multicast", ("10.8.0.2", "255.255.255.255")),
        dull0=("up,broadcast,running", ("10.9.0.2", "255.255.255.0")),
        eth1=(DOWN, ("192.168.9.2", "255.255.255.0")),
    )
    found = links()
    assert names(found) == [("eth0", 4), ("eth0", 6), ("wlan0", 4)]
    assert found[0].subnets == (ip_interface("192.168.1.2/24"), ip_interface("192.168.7.2/16"))
    assert found[1].subnets == (ip_interface("fe80::2/64"),)


def test_the_loopback_counts_where_there_is_nothing_else(machine: Any) -> None:
    machine(lo=LOOPBACK)
    assert names(links()) == [("lo", 4), ("lo", 6)]


def test_with_a_bind_address_its_interface_is_the_only_one(machine: Any) -> None:
    machine(lo=LOOPBACK, eth0=(UP, ETH4, ETH6), wlan0=(UP, ("10.0.0.5", "255.0.0.0")))
    assert names(links("10.0.0.5")) == [("wlan0", 4)]
    assert names(links("127.0.0.1")) == [("lo", 4)]
    assert names(links("fe80::2%eth0")) == [("eth0", 6)]
    assert links("192.0.2.1") == []


def test_the_bind_address_is_the_one_that_neighbours_see(machine: Any) -> None:
    """An IPv4 packet to a group comes from the first address of its link."""
    machine(eth0=(UP, ETH4, ("192.168.1.9", "255.255.255.0")))
    (link,) = links("192.168.1.9")
    assert [str(subnet.ip) for subnet in link.subnets] == ["192.168.1.9", "192.168.1.2"]


def test_a_machine_of_many_interfaces_is_heard_on_some(machine: Any) -> None:
    machine(**{f"veth{n}": (UP, (f"10.{n}.0.1", "255.255.0.0")) for n in range(200)})
    assert len(links()) == MOST_INTERFACES


def test_strange_addresses_are_left_out(machine: Any) -> None:
    machine(eth0=(UP, ("nonsense", "255.0.0.0"), ("10.0.0.1", "nonsense"), ("fe80::1%eth0", None), ("10.0.0.2", None)))
    found = links()
    assert names(found) == [("eth0", 4), ("eth0", 6)]
    assert found[0].subnets == (ip_interface("10.0.0.2/32"),)


FOUR = Link("eth0", 4, (ip_interface("192.168.1.2/24"), ip_interface("10.0.0.2/8")))
SIX = Link("eth0", 6, (ip_interface("fe80::2/64"), ip_interface("2001:db8:1::2/64")))


@pytest.mark.parametrize(
    ("link", "addr", "sender"),
    [
        (FOUR, ("192.168.1.77", 6771), Address("192.168.1.77", 6771)),
        (FOUR, ("10.200.0.1", 5), Address("10.200.0.1", 5)),
        (FOUR, ("192.168.2.77", 6771), None),
        (FOUR, ("8.8.8.8", 6771), None),
        (FOUR, ("fe80::9", 6771, 0, 2), None),
        (SIX, ("fe80::9", 6771, 0, 2), Address("fe80::9%2", 6771)),
        (SIX, ("fe80::9%eth0", 6771, 0, 2), Address("fe80::9%2", 6771)),
        (SIX, ("2001:db8:1::77", 6771, 0, 0), Address("2001:db8:1::77", 6771)),
        (SIX, ("2001:db8:2::77", 6771, 0, 0), None),
        (SIX, ("nonsense", 6771, 0, 0), None),
    ],
)
def test_only_neighbours_are_heard(link: Link, addr: tuple[Any, ...], sender: Address | None) -> None:
    assert sender_of(addr, link) == sender


def free_group() -> Address:
    """LSD's group, on a port that nothing else here speaks on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return Address("239.192.152.143", sock.getsockname()[1])


async def test_two_programs_on_one_interface_hear_each_other_and_themselves() -> None:
    heard: dict[str, list[tuple[bytes, str]]] = {"one": [], "other": []}
    groups = {4: free_group()}
    one = Multicast(groups, lambda data, sender, now: heard["one"].append((data, sender.host)), bind="127.0.0.1")
    other = Multicast(groups, lambda data, sender, now: heard["other"].append((data, sender.host)), bind="127.0.0.1")
    assert await one.look()
    assert await other.look()
    assert not await one.look(), "nothing new"
    assert [(link.family, link.is_loopback) for link in one.links] == [(4, True)]
    assert one.send(4, b"hello") == 1
    await stage.until(lambda: heard["one"] and heard["other"])
    assert heard == {"one": [(b"hello", "127.0.0.1")], "other": [(b"hello", "127.0.0.1")]}
    await one.aclose()
    await other.aclose()
    assert one.send(4, b"hello") == 0


async def test_an_interface_that_went_is_closed_and_one_that_came_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    lo = Link("lo", 4, (ip_interface("127.0.0.1/8"),))
    here: list[list[Link]] = [[lo], [], [lo], [lo, Link("gone0", 6, (ip_interface("fe80::5/64"),))]]
    monkeypatch.setattr(multicast, "links", lambda bind: here.pop(0))
    air = Multicast({4: free_group(), 6: Address("ff15::efc0:988f", 6771)}, lambda data, sender, now: None)
    looks = [(await air.look(), len(air.links)) for _ in range(3)]
    assert looks == [(True, 1), (False, 0), (True, 1)]
    assert not await air.look()
    assert len(air.links) == 1
    assert "gone0" in air.problem
    await air.aclose()


async def test_closed_while_it_looks_it_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    air = Multicast({4: free_group()}, lambda data, sender, now: None, bind="127.0.0.1")
    looking = asyncio.get_running_loop().create_task(air.look())
    await asyncio.sleep(0)
    await air.aclose()
    assert not await looking
    assert air.links == ()
    await asyncio.sleep(0)
