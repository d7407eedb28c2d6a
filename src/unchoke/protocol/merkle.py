"""The hash trees of v2 torrents (BEP 52): SHA-256, two branches, leaves of 16 KiB.

So far only what reading a .torrent file needs: whether a file's piece layer belongs to the file's root.
"""

from __future__ import annotations

from hashlib import sha256

from unchoke.types import BLOCK_SIZE

HASH_SIZE = 32


def root_of_layer(layer: bytes, piece_length: int) -> bytes:
    """The root above ``layer``: concatenated hashes of which each covers ``piece_length`` bytes (a power of two, 16 KiB up).

    What lies behind the end of the file counts as leaves of zero (BEP 52).
    """
    beyond = bytes(HASH_SIZE)
    for _ in range((piece_length // BLOCK_SIZE).bit_length() - 1):
        beyond = sha256(beyond + beyond).digest()
    row = layer
    while len(row) > HASH_SIZE:
        if len(row) % (2 * HASH_SIZE):
            row += beyond
        pairs = (row[at : at + 2 * HASH_SIZE] for at in range(0, len(row), 2 * HASH_SIZE))
        row = b"".join([sha256(pair).digest() for pair in pairs])
        beyond = sha256(beyond + beyond).digest()
    return row
