"""The default gateway out of each system's routing table."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.engine.net import gateway
from unchoke.engine.net.gateway import Gateway, bsd_default, find_gateways, gateway_at, linux_default, windows_default

#: As the kernel prints it on a little-endian machine: two networks, a VPN without a router, and two default routes.
ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
wlan0\t0002A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0
tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
eth0\t00000064\t0101A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0
"""

ZERO, ROUTER6 = "0" * 32, "fe800000000000000000000000000001"
ROUTES6 = f"""\
20010db8000000000000000000000000 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     eth0
{ZERO} 00 {ZERO} 00 {ROUTER6[:-1]}2 00000500 00000003 00000000 00450003    wlan0
{ZERO} 00 {ZERO} 00 {ROUTER6} 00000400 00000003 00000000 00450003     eth0
{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo
"""
ADDRESSES6 = "20010db8000000000000000000000002 03 40 00 80    wlan0\nnonsense\n"

little = pytest.mark.skipif(sys.byteorder != "little", reason="the table is of a little-endian machine")


@little
@pytest.mark.platform("little-endian")
def test_linux_the_lowest_metric_and_the_interface_of_a_bound_address() -> None:
    assert linux_default(4, ROUTES) == ("192.168.1.1", "eth0")
    assert linux_default(4, ROUTES, "192.168.2.9") == ("192.168.2.1", "wlan0")
    assert linux_default(4, ROUTES, "10.1.2.3") is None, "the tunnel has no router"
    assert linux_default(4, ROUTES, "127.0.0.1") is None
    assert linux_default(4, "\n".join(ROUTES.splitlines()[:1])) is None


def test_linux_ipv6() -> None:
    assert linux_default(6, ROUTES6) == ("fe80::1", "eth0")
    assert linux_default(6, ROUTES6, "2001:db8::2", ADDRESSES6) == ("fe80::2", "wlan0")
    assert linux_default(6, ROUTES6, "2001:db8::3", ADDRESSES6) is None


@given(st.text(max_size=40), st.sampled_from([ROUTES, ROUTES6]), st.integers(0, 400))
@settings(max_examples=60)
def test_broken_tables_are_no_routes_or_other_ones(text: str, table: str, at: int) -> None:
    spoilt = table[:at] + text + table[at + len(text) :]
    for family in (4, 6):
        found = linux_default(family, spoilt)
        assert found is None or Gateway(family, found[0], "::1" if family == 6 else "127.0.0.1").is_near(found[0])
    assert bsd_default(text) is None
    assert windows_default(4, text) is None
    assert windows_default(6, text) is None


def test_macos() -> None:
    table = "Destination  Gateway  Flags  Netif Expire\ndefault  link#9  UCS  utun3\ndefault  192.168.1.1  UGScg  en0\n"
    assert bsd_default(table) == ("192.168.1.1", "en0")
    assert bsd_default("default   fe80::1%en0   UGcg   en0\n") == ("fe80::1", "en0")


def test_windows() -> None:
    table = """
    Network Destination        Netmask          Gateway       Interface  Metric
              0.0.0.0          0.0.0.0      192.168.2.1     192.168.2.9     50
              0.0.0.0          0.0.0.0      192.168.1.1     192.168.1.9     25
              0.0.0.0          0.0.0.0          On-link        10.0.0.1      5
    """
    assert windows_default(4, table) == ("192.168.1.1", "")
    assert windows_default(4, table, "192.168.2.9") == ("192.168.2.1", "")
    assert windows_default(6, " 12    281 ::/0                     fe80::1\n") == ("fe80::1", "12")


def test_who_is_near() -> None:
    home = Gateway(4, "192.168.1.1", "192.168.1.2", "eth0", 0, "192.168.1.0/24")
    assert home.is_near("192.168.1.77")
    assert home.is_near("192.168.1.1")
    assert not home.is_near("192.168.2.1")
    assert not home.is_near("fe80::1")
    assert not home.is_near("router")
    unknown = Gateway(4, "192.168.1.1", "192.168.1.2")
    assert (unknown.is_near("192.168.1.1"), unknown.is_near("192.168.1.3")) == (True, False)
    six = Gateway(6, "fe80::1", "2001:db8::2", "eth0", 2, "2001:db8::/64")
    assert six.is_near("fe80::9")
    assert six.is_near("2001:db8::1")
    assert not six.is_near("2001:db9::1")
    assert str(six) == "fe80::1%eth0"


def test_a_router_named_by_the_user() -> None:
    found = gateway_at("127.0.0.9")
    assert found is not None
    assert (found.family, found.host, found.local) == (4, "127.0.0.9", "127.0.0.1")
    assert gateway_at("not an address") is None
    assert gateway_at("fe80::1%no-such-interface") is None
    bound = gateway_at("192.168.1.1", "192.168.1.2")
    assert bound is not None
    assert bound.local == "192.168.1.2"
    assert gateway_at("192.168.1.1", "::1") is None, "bound to the other family"


def test_a_loopback_address_has_no_router() -> None:
    assert find_gateways("127.0.0.1") == []
    assert find_gateways("::1") == []


def test_a_system_that_does_not_say_is_a_machine_without_a_router(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(family: int) -> str:
        raise PermissionError("no")

    monkeypatch.setattr(gateway, "_read", refuse)
    monkeypatch.setattr(gateway, "_run", lambda *argv: refuse(4))
    assert find_gateways() == []
