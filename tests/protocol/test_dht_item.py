"""Items: BEP 44's test vectors, with real signatures."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from unchoke.protocol.dht.item import Item, signed

KEY = bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
VALUE = b"12:Hello World!"
PLAIN = Item(
    VALUE,
    KEY,
    bytes.fromhex(
        "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
        "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
    ),
    1,
)
SALTED = Item(
    VALUE,
    KEY,
    bytes.fromhex(
        "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
        "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
    ),
    1,
    b"foobar",
)


def verify(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def test_what_is_signed() -> None:
    assert signed(VALUE, 1) == b"3:seqi1e1:v12:Hello World!"
    assert signed(VALUE, 1, b"foobar") == b"4:salt6:foobar3:seqi1e1:v12:Hello World!"


@pytest.mark.parametrize(
    ("item", "target"),
    [
        (Item(VALUE), "e5f96f6f38320f0f33959cb4d3d656452117aadb"),
        (PLAIN, "4a533d47ec9c7d95b1ad75f576cffc641853b750"),
        (SALTED, "411eba73b6f087ca51a3795d9c8c938d365e32c1"),
    ],
)
def test_the_examples_of_bep_44(item: Item, target: str) -> None:
    assert item.target.hex() == target
    assert item.is_genuine(verify)


@pytest.mark.parametrize(
    "item",
    [
        Item(b"12:Hello World?", KEY, PLAIN.signature, 1),
        Item(VALUE, KEY, PLAIN.signature, 2),
        Item(VALUE, KEY, SALTED.signature, 1),
        Item(VALUE, KEY, PLAIN.signature, 1, b"foobar"),
    ],
)
def test_a_signature_fits_one_item_only(item: Item) -> None:
    assert not item.is_genuine(verify)


def test_without_a_way_to_check_no_mutable_item_is_believed() -> None:
    assert not PLAIN.is_genuine(None)
    assert Item(VALUE).is_genuine(None)
