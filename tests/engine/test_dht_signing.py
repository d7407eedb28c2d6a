"""Ed25519 (BEP 44): the test vectors of the proposal, and keys and signatures that are none."""

from __future__ import annotations

import sys

import pytest

from unchoke.engine.dht import signing
from unchoke.errors import UnsupportedError
from unchoke.protocol.dht.item import signed

# BEP 44, "test vectors" 1 and 2: the key is public there, and the private one in a form that is no seed.
KEY = bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
WITHOUT_SALT = bytes.fromhex(
    "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
    "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
)
WITH_SALT = bytes.fromhex(
    "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
    "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
)
VALUE = b"12:Hello World!"


def test_the_vectors_of_the_proposal() -> None:
    assert signing.verify(KEY, WITHOUT_SALT, signed(VALUE, 1))
    assert signing.verify(KEY, WITH_SALT, signed(VALUE, 1, b"foobar"))
    assert not signing.verify(KEY, WITH_SALT, signed(VALUE, 1))
    assert not signing.verify(KEY, WITHOUT_SALT, signed(VALUE, 2))


def test_what_we_sign_is_believed() -> None:
    private = signing.new_key()
    public = signing.public_key(private)
    assert len(private) == len(public) == signing.KEY_SIZE
    assert signing.verify(public, signing.sign(private, b"x"), b"x")
    assert signing.new_key() != private


@pytest.mark.parametrize("key", [b"", b"\0" * 31, b"\xff" * 32, b"\0" * 32, b"\0" * 33])
def test_a_key_that_is_none_verifies_nothing(key: bytes) -> None:
    assert not signing.verify(key, WITHOUT_SALT, b"x")


@pytest.mark.parametrize("signature", [b"", b"\0" * 63, b"\xff" * 64, b"\0" * 65])
def test_a_signature_that_is_none_fits_nothing(signature: bytes) -> None:
    assert not signing.verify(KEY, signature, signed(VALUE, 1))


def test_a_private_key_of_the_wrong_size_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        signing.sign(b"short", b"x")


def test_without_the_library_nothing_is_believed_and_signing_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    assert not signing.can_sign()
    assert not signing.verify(KEY, WITHOUT_SALT, signed(VALUE, 1))
    with pytest.raises(UnsupportedError, match="cryptography"):
        signing.new_key()
