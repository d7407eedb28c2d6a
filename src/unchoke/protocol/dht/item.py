"""Items of the DHT (BEP 44): a value under its own hash (immutable), or under a public key that signs it (mutable).

The value stays bencoded from end to end: what is hashed and signed is its bytes. Making and checking signatures is given in
from outside: ``Verify`` says whether a signature (64 bytes) of a key (32 bytes) fits a message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1
from typing import TypeAlias

from unchoke.types import NodeId

#: Bytes of a bencoded value, and of a salt (BEP 44).
MAX_VALUE = 1000
MAX_SALT = 64
#: BEP 44: a client may reject anything beyond.
MAX_SEQ = 2**63 - 1

#: (key, signature, message) → does it fit? Ed25519.
Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]


@dataclass(frozen=True, slots=True)
class Item:
    """``value`` is bencode. Mutable if there is a ``key``; then ``signature`` is one of ``signed(...)``."""

    value: bytes
    key: bytes = b""
    signature: bytes = b""
    seq: int = 0
    salt: bytes = b""

    @property
    def is_mutable(self) -> bool:
        return bool(self.key)

    @property
    def target(self) -> NodeId:
        """Where in the space it is kept."""
        return target_of(self.key, self.salt) if self.key else NodeId(sha1(self.value).digest())

    def is_genuine(self, verify: Verify | None) -> bool:
        """Whether its signature fits; an immutable one needs none. Without ``verify`` no mutable one is believed."""
        if not self.key:
            return True
        return verify is not None and verify(self.key, self.signature, signed(self.value, self.seq, self.salt))


def target_of(key: bytes, salt: bytes = b"") -> NodeId:
    """Where the item of a public key is kept."""
    return NodeId(sha1(key + salt).digest())


def signed(value: bytes, seq: int, salt: bytes = b"") -> bytes:
    """The bytes that the signature of a mutable item covers."""
    head = b"4:salt%d:%s" % (len(salt), salt) if salt else b""
    return b"%s3:seqi%de1:v%s" % (head, seq, value)
