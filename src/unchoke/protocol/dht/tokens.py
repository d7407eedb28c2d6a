"""Tokens: what a node gives with an answer, to get it back from the same host with an announce (BEP 5, 44).

A token is a keyed hash of the host and of what was asked for; the key changes every five minutes, and the one before still
counts. So nothing is kept for each asker, and a token is worth nothing to another host, for another torrent, or later.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from hmac import compare_digest

#: Seconds until a new key (BEP 5). With two that count a token lives 5 to 10 minutes.
ROTATION = 300.0
#: Bytes: nobody guesses 64 bits in ten minutes at the rate that a host is answered.
SIZE = 8


class Tokens:
    """``secret(bits)`` gives so many unpredictable bits as a number."""

    __slots__ = ("_changed", "_current", "_previous", "_secret")

    def __init__(self, secret: Callable[[int], int], now: float) -> None:
        self._secret = secret
        self._current = self._new_key()
        self._previous = self._new_key()
        self._changed = now

    def make(self, host: bytes, target: bytes, now: float) -> bytes:
        """The token for a host (packed address) that asks for ``target``."""
        self._rotate(now)
        return _hash(self._current, host, target)

    def is_good(self, token: bytes, host: bytes, target: bytes, now: float) -> bool:
        """Whether this host got this token for this target, not long ago."""
        self._rotate(now)
        return any(compare_digest(token, _hash(key, host, target)) for key in (self._current, self._previous))

    def _rotate(self, now: float) -> None:
        while now - self._changed >= ROTATION:
            overdue = now - self._changed >= 2 * ROTATION
            self._previous = self._new_key() if overdue else self._current
            self._current = self._new_key()
            self._changed = now if overdue else self._changed + ROTATION

    def _new_key(self) -> bytes:
        return self._secret(128).to_bytes(16)


def _hash(key: bytes, host: bytes, target: bytes) -> bytes:
    return blake2b(host + target, digest_size=SIZE, key=key).digest()
