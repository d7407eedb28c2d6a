"""The guard: where a stranger's URL may lead, and how it may be written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.engine.net.guard import Guard, GuardError, in_plain_sight, place
from unchoke.engine.net.resolver import maybe_literal
from unchoke.types import Address

PUBLIC = ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "2002:808:808::", "64:ff9b::808:808"]
PRIVATE = [
    "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "192.0.2.1", "::1", "fd00::1",
    "2001:db8::1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "::7f00:1",
]  # fmt: skip
ODD = [
    "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "fe80::1", "fe80::1%1",
    "ff02::1", "fec0::1", "::ffff:169.254.169.254", "2002:a9fe:a9fe::", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "", "x",
]  # fmt: skip


@pytest.mark.parametrize(
    ("addresses", "where"), [(PUBLIC, "public"), (PRIVATE, "private"), (ODD, "odd")], ids=["public", "private", "odd"]
)
def test_where_an_address_is(addresses: list[str], where: str) -> None:
    assert {address: place(address) for address in addresses} == dict.fromkeys(addresses, where)


@pytest.mark.parametrize(
    "url",
    [
        "http://tracker.example/any/path?x=y",
        "HTTPS://u:p@tracker.example:8080/announce",
        "udp://tracker.example:1",
        "http://8.8.8.8/x",
        "http://127.0.0.1/announce",
        "http://127.0.0.1:8000/0123456789abcdef/announce.php?x=y",
        "http://[::1]/announce/0123456789abcdef",
        "http://192.168.1.2/scrape",
        "http://LOCALHOST./announce",
        "http://nas.localhost/announce",
        "udp://10.0.0.1:6969/whatever",
    ],
)
def test_what_a_torrent_may_name(url: str) -> None:
    Guard().check(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://tracker.example/", "kind 'ftp'"),
        ("file:///etc/passwd", "no host|kind"),
        ("wss://tracker.example/", "kind 'wss'"),
        ("http://127.0.0.1/", "only announce and scrape"),
        ("http://127.0.0.1/api/v2/app/shutdown", "only announce and scrape"),
        ("http://127.0.0.1/api/v2/announce", "only announce and scrape"),
        ("http://127.0.0.1/announcement", "only announce and scrape"),
        ("http://127.0.0.1/%2e%2e/announce", "only announce and scrape"),
        ("http://localhost/shutdown?announce", "only announce and scrape"),
        ("http://169.254.169.254/announce", "no address for a tracker"),
        ("http://[::ffff:169.254.169.254]/announce", "no address for a tracker"),
        ("http://0.0.0.0/announce", "no address for a tracker"),
        ("udp://224.0.0.1:1", "no address for a tracker"),
        ("http://[fe80::1%25eth0]/announce", "no host"),
        ("http://127.1/announce", "no host"),
        ("http://2130706433/announce", "no host"),
        ("http://0x7f.0.0.0x1/announce", "no host"),
        ("http://0177.0.0.1/announce", "no host"),
        ("http://%31%32%37.0.0.1/announce", "no host"),
        ("http://tracker.example\\@127.0.0.1/announce", "no host"),
        ("http://127.0.0.1\t/announce", "no host"),
        ("http://１２７.0.0.1/x", "only announce and scrape"),
        ("http:///announce", "no host"),
        ("announce", "no host"),
    ],
)
def test_what_it_may_not(url: str, words: str) -> None:
    with pytest.raises(GuardError, match=words) as raised:
        Guard().check(url)
    assert raised.value.kind == "guard"


def test_a_web_seed_on_a_private_host_has_no_query() -> None:
    guard = Guard()
    guard.check("http://192.168.1.2/pub/linux.iso", web_seed=True)
    guard.check("http://mirror.example/pub/linux.iso?x=y", web_seed=True)
    with pytest.raises(GuardError, match="no query"):
        guard.check("http://192.168.1.2/set?power=off", web_seed=True)
    with pytest.raises(GuardError, match="kind"):
        guard.check("udp://192.168.1.2:1", web_seed=True)


def test_a_redirect_leads_inwards_only_from_a_private_host_to_itself() -> None:
    guard = Guard()
    guard.check("http://127.0.0.1:2/announce.php", origin="http://127.0.0.1:1/announce")
    guard.check("https://tracker.example/announce", origin="http://127.0.0.1:1/announce")
    for origin in ("http://tracker.example/announce", "http://127.0.0.2/announce", "http://localhost/announce"):
        with pytest.raises(GuardError, match="redirects into the local network"):
            guard.check("http://127.0.0.1/announce", origin=origin)


def test_a_name_leads_outwards_alone() -> None:
    guard, inside, outside = Guard(), Address("10.0.0.1", 80), Address("8.8.8.8", 80)
    assert guard.choose("tracker.example", [inside, outside]) == [outside]
    assert guard.choose("localhost", [Address("127.0.0.1", 80)]) == [Address("127.0.0.1", 80)]
    assert guard.choose("10.0.0.1", [inside]) == [inside]
    for host in ("tracker.example", "printer.local", "nas"):
        with pytest.raises(GuardError, match="leads into the local network"):
            guard.choose(host, [inside])
    with pytest.raises(GuardError, match="leads into"):
        guard.choose("localhost", [Address("169.254.169.254", 80)])


def test_the_setting_allows_names_and_redirects_to_private_hosts_and_odd_ones() -> None:
    guard = Guard(allow_private=True)
    assert guard.choose("nas", [Address("10.0.0.1", 80)])
    guard.check("http://10.0.0.1/announce", origin="http://tracker.example/announce")
    guard.check("http://169.254.1.1/announce")
    with pytest.raises(GuardError, match="only announce"):
        guard.check("http://10.0.0.1/reboot")
    assert "allowed" in repr(guard)


HOSTS = st.one_of(st.text(max_size=20), st.ip_addresses().map(str), st.ip_addresses(v=6).map(lambda ip: f"[{ip}]"))


@settings(max_examples=150)
@given(st.sampled_from(["http", "udp", "ftp", ""]), HOSTS, st.text(max_size=20), st.booleans())
def test_whatever_is_asked_the_answer_is_yes_or_a_guard_error(
    scheme: str, host: str, path: str, web_seed: bool
) -> None:
    try:
        Guard().check(f"{scheme}://{host}/{path}", web_seed=web_seed)
    except GuardError:
        return
    assert scheme in ("http", "udp")
    literal = maybe_literal(host)
    assert literal is None or place(literal) != "odd"


@settings(max_examples=100)
@given(st.ip_addresses())
def test_every_address_has_a_place_and_the_public_ones_are_not_in_plain_sight(address: object) -> None:
    where = place(str(address))
    assert in_plain_sight(str(address)) == (where != "public")
    assert Guard().allows(str(address), plain=False) == (where == "public")
