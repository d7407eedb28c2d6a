"""Portmap against a scripted router, on virtual time: who is asked, what is kept, what others are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fakes.household import FIREWALL, HOME6, IP1, IP2, PPP1, ROUTER, US, at_home, simulate, upnp_only
from fakes.router import Entry
from unchoke.engine.net.gateway import Gateway
from unchoke.engine.settings import NetworkSettings, PortmapSettings

# ---------------------------------------------------------------------------------------------- each method


@pytest.mark.parametrize(
    ("method", "router"),
    [
        ("PCP", {}),
        ("NAT-PMP", {"pcp": False}),
        ("NAT-PMP", {"pcp": False, "says_version": False}),
        ("UPnP", upnp_only(IP1)),
        ("UPnP", upnp_only(IP2)),
        ("UPnP", upnp_only(PPP1)),
    ],
    ids=["PCP", "NAT-PMP", "NAT-PMP that ignores PCP", "IGD 1", "IGD 2", "PPP"],
)
def test_both_ports_are_mapped_and_given_back(method: str, router: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with at_home(**router) as home:
            snapshot = await home.until("mapped")
            assert sorted(home.router.entries) == [("TCP", 51413), ("UDP", 51413)]
            assert [entry.internal for entry in home.router.entries.values()] == [51413, 51413]
            assert (snapshot.method(True), snapshot.method(False)) == (method, method)
            assert (snapshot.external_port(True), snapshot.external_address()) == (51413, "198.51.100.7")
            assert home.portmap.external_port(True) == 51413
            assert snapshot.state == (
                f"TCP and UDP port 51413 over IPv4: mapped by {method} to 198.51.100.7 port 51413"
            )
            assert set(home.external) == {("198.51.100.7", ROUTER)}
        assert home.router.entries == {}
        assert home.portmap.snapshot().status == "closed"

    simulate(scenario)


def test_the_first_method_wins_and_the_others_are_not_used() -> None:
    async def scenario() -> None:
        async with at_home(upnp=(IP1,)) as home:
            await home.until("mapped")
            await home.pass_time(10)
            assert home.router.count("SEARCH") == 0
            assert {entry.method.split()[0] for entry in home.router.entries.values()} == {"PCP"}

    simulate(scenario)


def test_an_answer_that_comes_during_the_search_makes_upnp_superfluous() -> None:
    async def scenario() -> None:
        async with at_home(natpmp=False, upnp=(IP1,)) as home:
            asked, searched, begin = home.router._asked, home.router._searched, asyncio.get_running_loop().time()

            def hears(after: float) -> bool:
                return asyncio.get_running_loop().time() - begin > after

            home.router._asked = lambda *packet: asked(*packet) if hears(1.5) else None  # type: ignore[method-assign]
            home.router._searched = lambda *packet: searched(*packet) if hears(2.5) else None  # type: ignore[method-assign]
            snapshot = await home.until("mapped")
            await home.pass_time(10)
            assert snapshot.method(True) == "PCP"
            assert home.router.count("DESCRIPTION") == 1, "UPnP was about to begin"
            assert home.router.count("WANIPConnection") == 0

    simulate(scenario)


def test_what_pcp_refuses_upnp_maps() -> None:
    async def scenario() -> None:
        async with at_home(natpmp=False, result=8, upnp=(IP1,)) as home:
            snapshot = await home.until("mapped")
            assert snapshot.method(True) == "UPnP"

    simulate(scenario)


def test_a_hole_in_the_ipv6_firewall_by_pcp() -> None:
    async def scenario() -> None:
        async with at_home(HOME6) as home:
            snapshot = await home.until("mapped")
            assert (snapshot.external_port(True, 6), snapshot.external_port(True, 4)) == (51413, None)
            assert snapshot.external_address(6) == HOME6.local
        assert home.router.entries == {}

    simulate(scenario)


def test_a_hole_in_the_ipv6_firewall_by_upnp_is_renewed_and_closed() -> None:
    async def scenario() -> None:
        async with at_home(HOME6, **upnp_only(FIREWALL)) as home:
            snapshot = await home.until("mapped")
            assert snapshot.method(False, 6) == "UPnP"
            assert sorted(home.router.holes.values()) == [(HOME6.local, 51413, "17"), (HOME6.local, 51413, "6")]
            await home.pass_time(4000)
            assert home.router.count(f"{FIREWALL} UpdatePinhole") >= 2
            home.router.restart()
            await home.pass_time(1300)
            assert len(home.router.holes) == 2
        assert home.router.holes == {}

    simulate(scenario)


def test_an_ipv6_firewall_that_is_off_needs_no_hole() -> None:
    async def scenario() -> None:
        async with at_home(HOME6, **upnp_only(FIREWALL, firewall="0")) as home:
            snapshot = await home.until("not needed")
            assert snapshot.state == "TCP and UDP port 51413 over IPv6: no mapping needed"
            assert home.router.holes == {}

    simulate(scenario)


# ---------------------------------------------------------------------------------------------- ports that are taken


@pytest.mark.parametrize("router", [{}, {"pcp": False}, upnp_only(IP1), upnp_only(IP2)])
def test_a_taken_port_becomes_another_and_is_told(router: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with at_home(**router) as home:
            home.router.entries["TCP", 51413] = Entry("192.168.1.77", 51413, "", None, "somebody")
            snapshot = await home.until("mapped")
            port = snapshot.external_port(True)
            assert port is not None
            assert port != 51413
            assert home.router.entries["TCP", port].client == US
            assert snapshot.external_port(False) == 51413
            assert f"port {port}" in snapshot.state
        assert list(home.router.entries) == [("TCP", 51413)], "somebody else's mapping stays"

    simulate(scenario)


def test_a_mapping_that_a_dead_run_left_behind_is_replaced() -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1, faults={})) as home:
            home.router.entries["TCP", 51413] = Entry(US, 51413, "UPnP", None, "unchoke 51413")
            refused = iter([718])
            real = home.router._add

            def add(action: str, key: tuple[str, int], given: dict[str, str]) -> dict[str, str] | int:
                return next(refused, 0) or real(action, key, given)

            home.router._add = add  # type: ignore[method-assign]
            snapshot = await home.until("mapped")
            assert snapshot.external_port(True) == 51413
            assert home.router.count("WANIPConnection:1 DeletePortMapping") == 1

    simulate(scenario)


def test_a_router_that_maps_only_for_ever() -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1, permanent_only=True)) as home:
            snapshot = await home.until("mapped")
            assert {entry.expires for entry in home.router.entries.values()} == {None}
            assert [one.expires_in for one in snapshot.mappings] == [None, None]
        assert home.router.entries == {}

    simulate(scenario)


# ---------------------------------------------------------------------------------------------- for as long as we live


@pytest.mark.parametrize("router", [{}, {"pcp": False}, upnp_only(IP1), upnp_only(IP2)])
def test_mappings_are_renewed_before_they_expire(router: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with at_home(**router) as home:
            await home.until("mapped")
            for _ in range(8):
                snapshot = await home.pass_time(1800)
                assert snapshot.status == "mapped"
                now = asyncio.get_running_loop().time()
                assert all(entry.expires is None or entry.expires > now for entry in home.router.entries.values())

    simulate(scenario)


@pytest.mark.parametrize("router", [{}, {"pcp": False}, upnp_only(IP1)])
def test_a_router_that_was_restarted_is_asked_again(router: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with at_home(**router) as home:
            await home.until("mapped")
            await home.pass_time(300)
            home.router.restart()
            home.router.external = "198.51.100.99"
            snapshot = await home.pass_time(1210 if router.get("upnp") else 605)
            assert len(home.router.entries) == 2
            assert snapshot.status == "mapped"
            assert snapshot.external_address() == "198.51.100.99"
            assert home.external[-1] == ("198.51.100.99", ROUTER)

    simulate(scenario)


@pytest.mark.parametrize("router", [{}, upnp_only(IP1)])
def test_a_router_that_falls_silent_and_comes_back(router: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with at_home(**router) as home:
            await home.until("mapped")
            home.router.silent = True
            snapshot = await home.pass_time(8000)
            assert snapshot.status == "failed"
            assert "no answer" in snapshot.error
            assert snapshot.external_port(True) is None
            assert snapshot.next_try_in is not None
            assert snapshot.next_try_in <= 1200
            home.router.silent = False
            assert (await home.pass_time(1215)).status == "mapped"

    simulate(scenario)


def test_silence_is_known_within_ten_seconds_and_asked_about_again_later() -> None:
    async def scenario() -> None:
        async with at_home(pcp=False, natpmp=False) as home:
            snapshot = await home.pass_time(10)
            assert snapshot.status == "failed"
            assert snapshot.error == (
                f"PCP and NAT-PMP: no answer from the router {ROUTER}; UPnP: no router answered the search"
            )
            home.router.pcp = True
            assert (await home.pass_time(580)).status == "failed", "not before ten minutes"
            assert (await home.pass_time(630)).status == "mapped"

    simulate(scenario)


def test_another_port_and_another_router() -> None:
    async def scenario() -> None:
        async with at_home() as home:
            await home.until("mapped")
            home.port = 6000
            snapshot = await home.pass_time(3)
            assert snapshot.external_port(True) == 6000
            assert sorted(home.router.entries) == [("TCP", 6000), ("UDP", 6000)]
            home.routes = []
            snapshot = await home.pass_time(125)
            assert snapshot.status == "no router"
            assert home.router.entries == {}

    simulate(scenario)


def test_no_port_yet_nothing_asked() -> None:
    async def scenario() -> None:
        async with at_home() as home:
            home.port = 0
            assert (await home.pass_time(5)).status == "waiting"
            assert home.router.asked == []
            home.port = 7000
            assert (await home.pass_time(3)).external_port(False) == 7000

    simulate(scenario)


def test_closing_is_bounded_when_the_router_is_gone() -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1)) as home:
            await home.until("mapped")
            home.router.silent = True
            before = asyncio.get_running_loop().time()
            await home.portmap.aclose()
            assert asyncio.get_running_loop().time() - before <= 2.1

    simulate(scenario)


@pytest.mark.parametrize("seconds", [0, 1, 2, 3])
def test_closing_in_the_middle_of_a_round(seconds: int) -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1)) as home:
            await home.pass_time(seconds)
        assert home.router.entries == {}

    simulate(scenario)


# ---------------------------------------------------------------------------------------------- when it is not worth it


@pytest.mark.parametrize(
    "off", [{"settings": PortmapSettings(enabled=False)}, {"network": NetworkSettings(discovery=False)}]
)
def test_switched_off_nothing_is_asked(off: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with at_home(**off) as home:
            snapshot = await home.pass_time(5)
            assert snapshot.status == "off"
            assert "is switched off" in snapshot.state
            assert home.router.asked == []

    simulate(scenario)


def test_the_suite_itself_asks_no_router() -> None:
    assert not NetworkSettings().discovery


def test_the_router_that_the_user_names_is_asked() -> None:
    async def scenario() -> None:
        named = PortmapSettings(router=ROUTER)
        bound = NetworkSettings(discovery=True, bind=US)
        async with at_home(settings=named, network=bound) as home:
            home.routes = []
            assert (await home.until("mapped")).routers == (ROUTER,)

    simulate(scenario)


def test_a_public_address_needs_no_router() -> None:
    async def scenario() -> None:
        async with at_home(Gateway(4, "9.9.9.1", "9.9.9.9", "eth0", 0, "9.9.9.0/24")) as home:
            snapshot = await home.pass_time(5)
            assert snapshot.status == "not needed"
            assert "9.9.9.9" in snapshot.state
            assert home.router.asked == []

    simulate(scenario)


def test_ipv6_addresses_that_nobody_can_reach_are_not_mapped() -> None:
    async def scenario() -> None:
        async with at_home(Gateway(6, "fd00::1", "fd00::2", "eth0", 2, "fd00::/64")) as home:
            assert (await home.pass_time(5)).status == "no router"
            assert home.router.asked == []

    simulate(scenario)


@pytest.mark.parametrize("external", ["10.1.2.3", "100.64.0.9", "192.168.7.7"])
def test_a_router_behind_another_nat_is_warned_of(external: str) -> None:
    async def scenario() -> None:
        async with at_home(external=external) as home:
            snapshot = await home.until("mapped")
            assert len(snapshot.warnings) == 1
            assert external in snapshot.warnings[0]
            assert "behind another NAT" in snapshot.warnings[0]
            assert home.external == [], "no address of ours for anybody outside"

    simulate(scenario)


def test_the_line_that_is_up_is_used() -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1, PPP1, status={IP1: "Disconnected"})) as home:
            await home.until("mapped")
            assert home.router.count("WANPPPConnection:1 AddPortMapping") == 2
            assert home.router.count("WANIPConnection:1 AddPortMapping") == 0

    simulate(scenario)
