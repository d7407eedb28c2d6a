"""Verify: what a writer thread does with a piece: hash it and write it, or read it back and hash it.

hashlib, pwrite and preadv release the interpreter's lock, so the loop goes on meanwhile. Nothing here raises: a piece must hear
what became of it, whatever happens. Beside the verdict, digests of the single blocks, when somebody may be to blame (BEP 3
has one hash for a whole piece).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from enum import Enum
from functools import wraps
from typing import TYPE_CHECKING, NamedTuple

from unchoke.errors import StorageError
from unchoke.policy.smartban import DIGEST_SIZE
from unchoke.storage.base import MissingDataError, Storage
from unchoke.types import BLOCK_SIZE

if TYPE_CHECKING:
    from bitarray import bitarray

log = logging.getLogger(__name__)

#: Bytes read back at one time: all that a spilled piece costs of memory while it is hashed.
CHUNK = 16 * BLOCK_SIZE


class Outcome(Enum):
    """What became of a finished piece."""

    GOOD = "good"
    BAD = "bad"
    FAILED = "failed"  # the storage refused it


class Result(NamedTuple):
    """``error``: why it failed. ``digests``: of each block, one after the other; empty if nobody needs or can have them."""

    outcome: Outcome
    error: StorageError | None = None
    digests: bytes = b""


Work = Callable[[], Result]


def never_raises(work: Work) -> Work:
    """``work``, with every exception as a Result. A bug must not leave a piece in limbo."""

    @wraps(work)
    def guarded() -> Result:
        try:
            return work()
        except StorageError as error:
            return Result(Outcome.FAILED, error)
        except Exception as error:
            log.exception("! working on a piece failed")
            return Result(Outcome.FAILED, StorageError(f"working on a piece failed: {error}"))

    return guarded


def hash_and_write(storage: Storage, start: int, view: memoryview, expected: bytes, examine: bool) -> Result:
    """A piece in memory, for byte ``start`` of the stream: written if its SHA-1 is ``expected``."""
    good = hashlib.sha1(view, usedforsecurity=False).digest() == expected
    digests = _digests(view) if examine or not good else b""
    if good:
        storage.write(start, view)
    return Result(Outcome.GOOD if good else Outcome.BAD, None, digests)


def read_and_hash(storage: Storage, start: int, size: int, expected: bytes, examine: bool) -> Result:
    """A piece that was written already. If it is not there any more it is bad, and nobody's fault."""
    buffer = bytearray(min(CHUNK, size))
    sha1 = hashlib.sha1(usedforsecurity=False)
    try:
        for chunk in _chunks(storage, start, size, buffer):
            sha1.update(chunk)
        good = sha1.digest() == expected
        digests = b""
        if examine or not good:
            digests = b"".join(_digests(chunk) for chunk in _chunks(storage, start, size, buffer))
    except MissingDataError as error:
        log.warning("! what was written is gone: %s", error)
        return Result(Outcome.BAD)
    return Result(Outcome.GOOD if good else Outcome.BAD, None, digests)


def write_blocks(storage: Storage, start: int, view: memoryview, held: bitarray) -> Result:
    """Of a piece in memory, the blocks that are held; neighbours in one write."""
    first = held.find(1)
    while first >= 0:
        end = held.find(0, first)
        end = len(held) if end < 0 else end
        storage.write(start + first * BLOCK_SIZE, view[first * BLOCK_SIZE : end * BLOCK_SIZE])
        first = held.find(1, end)
    return Result(Outcome.GOOD)


def _chunks(storage: Storage, start: int, size: int, buffer: bytearray) -> Iterator[memoryview]:
    view = memoryview(buffer)
    for at in range(0, size, CHUNK):
        part = view[: min(CHUNK, size - at)]
        storage.read_into(start + at, part)
        yield part


def _digests(view: memoryview) -> bytes:
    """BLAKE2b is the fastest digest of hashlib's that nobody can find a second block for."""
    blocks = (view[at : at + BLOCK_SIZE] for at in range(0, len(view), BLOCK_SIZE))
    return b"".join(hashlib.blake2b(block, digest_size=DIGEST_SIZE).digest() for block in blocks)
