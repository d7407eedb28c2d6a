"""Ed25519 for mutable items (BEP 44), by way of ``cryptography``, which is loaded when it is first needed and may be absent.

Keys are the 32 bytes of RFC 8032: a private one is a seed. Nothing here is secret on the wire: who has the public key reads the item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unchoke.errors import UnsupportedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

KEY_SIZE = 32
SIGNATURE_SIZE = 64


def can_sign() -> bool:
    """Is there a ``cryptography`` that works here?"""
    try:
        _load()
    except UnsupportedError:
        return False
    return True


def verify(key: bytes, signature: bytes, message: bytes) -> bool:
    """Did the owner of ``key`` sign? False for whatever cannot be judged, keys and signatures of wrong sizes too."""
    if not can_sign():
        return False
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def new_key() -> bytes:
    """A new private key. Raises UnsupportedError."""
    return _private_class().generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """Raises UnsupportedError; ValueError if it does not have 32 bytes."""
    return _private(private).public_key().public_bytes_raw()


def sign(private: bytes, message: bytes) -> bytes:
    """Raises UnsupportedError; ValueError for a key that does not have 32 bytes."""
    return _private(private).sign(message)


def _private(private: bytes) -> ed25519.Ed25519PrivateKey:
    if len(private) != KEY_SIZE:
        raise ValueError(f"a private key has {KEY_SIZE} bytes, not {len(private)}")
    return _private_class().from_private_bytes(private)


def _private_class() -> type[ed25519.Ed25519PrivateKey]:
    _load()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey


def _load() -> None:
    """Raises UnsupportedError if the library is not there."""
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a broken binary raises what is no Exception
        raise UnsupportedError(
            f"signing needs the package cryptography, which does not load here ({error}); pip install cryptography"
        ) from None
