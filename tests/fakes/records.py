"""Torrents that are nothing but a row, and records of them: for tests of what is kept between runs."""

from __future__ import annotations

from bitarray import bitarray
from bitarray.util import zeros

from unchoke.engine.resume import Resume, ResumeRow, TorrentRow
from unchoke.protocol.bencode import Encodable, encode
from unchoke.protocol.metainfo import Metainfo
from unchoke.storage.records import Key

#: Pieces of each.
COUNT = 200


def metainfo(number: int = 0) -> bytes:
    """The .torrent file of one; none of its pieces can ever verify."""
    info: dict[bytes, Encodable] = {
        b"name": b"song %d" % number,
        b"piece length": 16384,
        b"length": COUNT * 16384,
        b"pieces": bytes(20 * COUNT),
    }
    return encode({b"info": info})


def torrent(number: int = 0, folder: str = "/data", **values: object) -> TorrentRow:
    """Its row as it is added."""
    found = Metainfo.from_bytes(metainfo(number))
    made = TorrentRow(infohash=found.infohash, folder=folder, name=found.name, piece_count=COUNT)
    for name, value in values.items():
        setattr(made, name, value)
    return made


KEY = torrent().key


def pieces(*chosen: int) -> bitarray:
    """These of its pieces."""
    bits = zeros(COUNT, "big")
    bits[list(chosen)] = 1
    return bits


async def load(resume: Resume, key: Key = KEY) -> ResumeRow:
    """What is recorded, which must be something."""
    found = await resume.load(key)
    assert found is not None
    return found
