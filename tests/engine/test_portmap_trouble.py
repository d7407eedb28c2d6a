"""Portmap and routers that refuse, lie, or are somebody else: words for each, nothing asked of anybody else, no harm."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fakes.household import IP1, IP2, PPP1, ROUTER, US, at_home, simulate, upnp_only
from fakes.router import Entry, FakeRouter
from unchoke.engine.portmap import MappingSnapshot, side
from unchoke.engine.portmap.words import picture


@pytest.mark.parametrize(
    ("code", "words"),
    [(606, "it is not allowed for us"), (501, "the router failed to do it"), (999, "UPnP error 999")],
)
def test_a_refusal_in_words(code: int, words: str) -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1, faults={"AddPortMapping": code})) as home:
            snapshot = await home.until("failed")
            assert words in snapshot.error

    simulate(scenario)


# ---------------------------------------------------------------------------------------------- hostile routers and neighbours


@pytest.mark.parametrize(
    "location",
    ["http://192.168.1.50/root.xml", "http://127.0.0.1:80/", "http://example.com/x", "ftp://192.168.1.1/", "x" * 900],
)
def test_an_answer_leads_only_to_who_gave_it(location: str) -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1, location=location)) as home:
            victim = FakeRouter(home.world.host("192.168.1.50"), upnp=(IP1,))
            await victim.start()
            snapshot = await home.until("failed")
            assert "no router answered the search" in snapshot.error
            assert home.router.count("DESCRIPTION") + victim.count("DESCRIPTION") == 0

    simulate(scenario)


@pytest.mark.parametrize(
    "description",
    [
        b"",
        b"not XML",
        b"<root>" * 40 + b"</root>" * 40,
        b'<!DOCTYPE lolz [<!ENTITY lol "lol">]><root>&lol;</root>',
        b"<root>" + b"<a/>" * 30000 + b"</root>",
        b"x" * 300_000,
        b"<root><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>"
        b"<controlURL>http://192.168.1.50:5000/ctl</controlURL></service></root>",
    ],
    ids=["empty", "text", "deep", "entities", "elements", "endless", "another machine"],
)
def test_descriptions_that_are_none(description: bytes) -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1, description=description)) as home:
            snapshot = await home.until("failed")
            assert "UPnP: " in snapshot.error
            assert "no router answered" not in snapshot.error
            assert home.router.count("WANIPConnection") == 0

    simulate(scenario)


def test_an_answer_from_another_network_is_ignored() -> None:
    async def scenario() -> None:
        async with at_home(pcp=False, natpmp=False) as home:
            stranger = home.world.host("203.0.113.66")
            socket = await stranger.open_datagrams(asyncio.DatagramProtocol, port=1900)
            await home.pass_time(2)
            answer = (
                b"HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
                b"LOCATION: http://203.0.113.66/\r\n\r\n"
            )
            pcp = bytes((2, 0x81)) + bytes(58)
            for port in list(home.us.sockets):
                socket.sendto(answer, (US, port))
                socket.sendto(pcp, (US, port))
            snapshot = await home.until("failed")
            assert "no router answered" in snapshot.error

    simulate(scenario)


@pytest.mark.parametrize("port", ["", "0", "70000", "-1", "many"])
def test_a_router_that_gives_no_port_has_mapped_nothing(port: str) -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP2)) as home:
            home.router._add = lambda *_: {"NewReservedPort": port}  # type: ignore[method-assign]
            snapshot = await home.until("failed")
            assert "the router's answer" in snapshot.error
            assert home.portmap.external_port(True) is None

    simulate(scenario)


def test_a_router_that_is_always_in_conflict_is_asked_a_few_times() -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1, faults={"AddPortMapping": 718})) as home:
            snapshot = await home.until("failed")
            assert "another machine" in snapshot.error
            assert home.router.count("WANIPConnection:1 AddPortMapping") <= 16

    simulate(scenario)


def test_a_router_that_maps_only_the_same_port() -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1)) as home:
            real = home.router._add

            def add(action: str, key: tuple[str, int], given: dict[str, str]) -> dict[str, str] | int:
                return real(action, key, given) if given["NewInternalPort"] == given["NewExternalPort"] else 724

            home.router._add = add  # type: ignore[method-assign]
            home.router.entries["TCP", 51413] = Entry("192.168.1.77", 51413, "", None, "somebody")
            snapshot = await home.until("partial")
            assert snapshot.external_port(False) == 51413
            assert "the port is taken by a mapping of another machine" in snapshot.error
            assert snapshot.state.startswith("TCP port 51413 over IPv4: ")
            assert snapshot.state.endswith("; UDP port 51413 over IPv4: mapped by UPnP to 198.51.100.7 port 51413")

    simulate(scenario)


def test_the_second_service_is_tried_when_the_first_refuses() -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1, PPP1)) as home:
            real = home.router._call

            def call(service: str, action: str, given: dict[str, str]) -> dict[str, str] | int:
                return 606 if service == IP1 and action == "AddPortMapping" else real(service, action, given)

            home.router._call = call  # type: ignore[method-assign]
            assert (await home.until("mapped")).method(True) == "UPnP"

    simulate(scenario)


def test_a_router_that_answers_each_call_late_is_given_up() -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1)) as home:
            real = home.router._answer
            calls = 0

            def answer(head: str, body: str) -> tuple[str, bytes]:
                nonlocal calls
                calls += 1
                home.router.silent = "GET" not in head  # from the next connection on
                return real(head, body)

            home.router._answer = answer  # type: ignore[method-assign]
            snapshot = await home.until("failed")
            assert calls >= 2
            assert snapshot.status == "failed"

    simulate(scenario)


def test_no_socket_is_said_in_words() -> None:
    async def scenario() -> None:
        async with at_home() as home:

            async def refuse(*_: Any, **__: Any) -> asyncio.DatagramTransport:
                raise OSError(99, "Cannot assign requested address")

            home.us.open_datagrams = refuse  # type: ignore[method-assign]
            snapshot = await home.until("failed")
            assert snapshot.error == (
                "PCP: no socket: Cannot assign requested address; UPnP: Cannot assign requested address"
            )

    simulate(scenario)


def test_a_defect_of_ours_does_not_come_back_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    times = 0

    async def broken(*_: Any) -> list[Any]:
        nonlocal times
        times += 1
        raise RuntimeError("a defect")

    monkeypatch.setattr(side, "search", broken)

    async def scenario() -> None:
        async with at_home(pcp=False, natpmp=False) as home:
            snapshot = await home.until("failed")
            assert "a defect" in snapshot.error
            await home.pass_time(500)

    simulate(scenario)
    assert times == 1


def test_the_router_itself_is_asked_before_its_neighbours() -> None:
    async def scenario() -> None:
        async with at_home(**upnp_only(IP1)) as home:
            neighbour = FakeRouter(home.world.host("192.168.1.9"), pcp=False, natpmp=False, upnp=(IP1,))
            await neighbour.start()
            searched = home.router._searched

            def both(data: bytes, source: str) -> bytes | None:
                """Multicast: the neighbour hears it too, and is faster."""
                answer = neighbour._searched(data, source)
                if answer is not None:
                    for port in home.us.sockets:
                        neighbour_socket.sendto(answer, (US, port))
                return searched(data, source)

            neighbour_socket = await neighbour.host.open_datagrams(asyncio.DatagramProtocol, port=1901)
            home.router._searched = both  # type: ignore[method-assign]
            snapshot = await home.until("mapped")
            assert snapshot.method(True) == "UPnP"
            assert neighbour.count("WANIPConnection") == 0
            assert home.router.count("WANIPConnection:1 AddPortMapping") == 2

    simulate(scenario)


def mapping(family: int, tcp: bool, status: Any, **more: Any) -> MappingSnapshot:
    return MappingSnapshot(family, tcp, status, 6881, **more)


def test_ipv4_decides_and_ipv6_is_told() -> None:
    mapped = {"method": "PCP", "external_port": 6881, "external": "198.51.100.7"}
    found = picture(
        (ROUTER, "fe80::1%eth0"),
        (
            mapping(4, True, "mapped", **mapped),
            mapping(4, False, "mapped", **mapped),
            mapping(6, True, "failed", error="PCP: no answer"),
            mapping(6, False, "failed", error="PCP: no answer"),
        ),
        600.0,
    )
    assert found.status == "mapped"
    assert found.error == ""
    assert found.state == (
        "TCP and UDP port 6881 over IPv4: mapped by PCP to 198.51.100.7 port 6881; "
        "TCP and UDP port 6881 over IPv6: PCP: no answer"
    )
    assert found.next_try_in == 600.0


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (("mapped", "failed"), "partial"),
        (("mapped", "asking"), "asking"),
        (("not needed", "mapped"), "mapped"),
        (("failed", "failed"), "failed"),
    ],
)
def test_one_status_for_two_ports(states: tuple[str, str], status: str) -> None:
    assert (
        picture(
            (ROUTER,), tuple(mapping(4, tcp, one) for tcp, one in zip((True, False), states, strict=True)), 0
        ).status
        == status
    )
