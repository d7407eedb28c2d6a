"""Node ids: BEP 42's own examples, distances, and what kind of address is what."""

from __future__ import annotations

from random import Random

import pytest

from unchoke.errors import ProtocolError
from unchoke.protocol.dht.contacts import Contact, pack_contacts, unpack_contacts
from unchoke.protocol.dht.ids import distance, host_of, identity, is_contact, is_secure, secure_id
from unchoke.types import Address, NodeId


@pytest.mark.parametrize(
    ("host", "node_id"),
    [
        ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
        ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
        ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
        ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
        ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
    ],
)
def test_the_examples_of_bep_42(host: str, node_id: str) -> None:
    right = bytes.fromhex(node_id)
    assert is_secure(right, host_of(host))
    assert not is_secure(right, host_of("8.8.8.8"))
    assert not is_secure(bytes([right[0] ^ 0x80]) + right[1:], host_of(host))
    assert not is_secure(right[:2] + bytes([right[2] ^ 0x08]) + right[3:], host_of(host))
    assert is_secure(right[:2] + bytes([right[2] ^ 0x07]) + right[3:], host_of(host))  # bits 22 to 24 are free
    assert not is_secure(right[:19] + bytes([right[19] ^ 0x01]), host_of(host))


@pytest.mark.parametrize("host", ["1.2.3.4", "223.255.255.255", "2001:db8:1234:5678::9", "2a00:1450::1"])
def test_an_id_made_for_an_address_fits_it(host: str) -> None:
    rng = Random(3)
    made = [secure_id(host, rng) for _ in range(20)]
    assert all(is_secure(node_id, host_of(host)) for node_id in made)
    assert len(set(made)) == 20
    assert len({node_id[:2] for node_id in made}) <= 8  # an address has eight places in the space


def test_the_rest_of_an_ipv6_network_does_not_matter() -> None:
    node_id = secure_id("2001:db8:1234:5678::9", Random(1))
    assert is_secure(node_id, host_of("2001:db8:1234:5678:ffff::1"))
    assert not is_secure(node_id, host_of("2001:db8:1234:5679::9"))


@pytest.mark.parametrize(
    "host", ["10.1.2.3", "127.0.0.1", "192.168.0.9", "172.31.0.1", "169.254.7.7", "fd00::1", "::1"]
)
def test_local_addresses_may_have_any_id(host: str) -> None:
    assert host_of(host).local
    assert is_secure(bytes(20), host_of(host))
    assert len(secure_id(host, Random(1))) == 20


@pytest.mark.parametrize("host", ["172.15.0.1", "172.32.0.1", "11.0.0.1", "126.0.0.1", "128.0.0.1", "2001:db8::1"])
def test_their_neighbours_are_public(host: str) -> None:
    assert host_of(host).usable
    assert not host_of(host).local


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "239.192.152.143",
        "255.255.255.255",
        "240.0.0.1",
        "::",
        "ff15::1",
        "::ffff:1.2.3.4",
    ],
)
def test_addresses_that_no_machine_has_are_no_contacts(host: str) -> None:
    assert not host_of(host).usable
    assert not is_contact(Address(host, 6881), host_of(host).family, local=True)


@pytest.mark.parametrize(
    "host", ["", "tracker.example", "1.2.3", "1.2.3.4.5", "01.2.3.4.", ":::", "%eth0", "1.2.3.4%a"]
)
def test_text_that_is_no_address_is_nobody(host: str) -> None:
    assert host_of(host).family == 0
    assert not is_contact(Address(host, 1), 4, local=True)


def test_who_is_not_on_our_network_cannot_name_who_is() -> None:
    assert is_contact(Address("192.168.1.1", 80), 4, local=True)
    assert not is_contact(Address("192.168.1.1", 80), 4, local=False)
    assert is_contact(Address("1.2.3.4", 80), 4, local=False)
    assert not is_contact(Address("1.2.3.4", 0), 4, local=True)
    assert not is_contact(Address("1.2.3.4", 80), 6, local=True)


def test_who_is_behind_an_address() -> None:
    assert identity(Address("1.2.3.4", 1)) == identity(Address("1.2.3.4", 2))
    assert identity(Address("2001:db8::1", 1)) == identity(Address("2001:db8::2:1", 1))
    assert identity(Address("127.0.0.1", 1)) != identity(Address("127.0.0.1", 2))
    assert host_of("fe80::1%eth0") == host_of("fe80::1")


def test_distance_is_exclusive_or() -> None:
    assert distance(b"\x01" + bytes(19), b"\x03" + bytes(19)) == 2 << 152
    assert distance(bytes(20), bytes(20)) == 0


def test_a_node_id_has_20_bytes() -> None:
    assert str(NodeId(bytes(20))) == "00" * 20
    for length in (0, 19, 21):
        with pytest.raises(ValueError):
            NodeId(bytes(length))


def test_contacts_there_and_back() -> None:
    four = [Contact(NodeId(b"a" * 20), Address("1.2.3.4", 5)), Contact(NodeId(b"b" * 20), Address("255.0.0.1", 65535))]
    six = [Contact(NodeId(b"c" * 20), Address("2001:db8::1", 6881))]
    assert pack_contacts(four) == b"a" * 20 + b"\1\2\3\4\0\5" + b"b" * 20 + b"\xff\0\0\1\xff\xff"
    assert unpack_contacts(pack_contacts(four), 4) == four
    assert unpack_contacts(pack_contacts(four), 4, 1) == four[:1]
    assert unpack_contacts(pack_contacts(six), 6) == six
    for family in (4, 6):
        with pytest.raises(ProtocolError):
            unpack_contacts(b"x" * 27, family)
