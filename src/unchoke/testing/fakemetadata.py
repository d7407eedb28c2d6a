"""knowing(): a behaviour for ``FakeServer``: a peer that gives a torrent's info dictionary (BEP 9), rightly, wrongly, slowly or not.

It speaks BEP 10, so its handshake must say so: ``FakeServer(..., reserved=SPEAKS)``, ``world.fake(knowing(torrent), reserved=SPEAKS)``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from unchoke.protocol import extended, ut_metadata
from unchoke.protocol.handshake import Reserved
from unchoke.protocol.messages import Kind
from unchoke.testing.fakepeer import Behaviour, FakePeer
from unchoke.testing.torrents import TinyTorrent

#: What the handshake of such a peer says.
SPEAKS = Reserved.FAST | Reserved.EXTENDED
#: The number under which it wants the extension: another than ours, so that nobody mixes them up.
NUMBER = 7

#: What is sent in place of a part: its number and right bytes in, the bytes to send out; None: no answer.
AlterPart = Callable[[int, bytes], "bytes | None"]


def knowing(
    torrent: TinyTorrent,
    *,
    info: bytes | None = None,
    claim: int | None = None,
    alter: AlterPart | None = None,
    delay: float = 0.0,
    rejects: bool = False,
    seeds: bool = True,
) -> Behaviour:
    """Has the info dictionary (``info``, if not the torrent's) and answers for it, ``delay`` seconds after each request.

    ``claim``: the size it says in its handshake, 0 for none. ``rejects``: every request. ``seeds``: gives the torrent's data too.
    """
    known = info if info is not None else bytes(torrent.metainfo.info_bytes)

    async def play(peer: FakePeer) -> None:
        hello(peer, len(known) if claim is None else claim)
        if seeds:
            peer.say(Kind.HAVE_ALL)
            peer.say(Kind.UNCHOKE)
        theirs = 0
        while (frame := await peer.read()) is not None:
            if frame.kind == Kind.EXTENDED and frame.body[0] == extended.HANDSHAKE:
                theirs = extended.decode_extended_handshake(frame.body[1:]).extensions.get(ut_metadata.NAME, 0)
            elif frame.kind == Kind.EXTENDED and frame.body[0] == NUMBER:
                await asyncio.sleep(delay)
                answer(peer, theirs, frame.body[1:], b"" if rejects else known, alter)
            elif frame.kind == Kind.REQUEST and seeds:
                piece, begin, length = frame.block
                peer.give(piece, begin, torrent.block(piece, begin, length))
            await peer.drain()

    return play


def hello(peer: FakePeer, size: int, number: int = NUMBER) -> None:
    """Its extended handshake; ``number`` 0: it does not speak the extension."""
    said = extended.ExtendedHandshake({ut_metadata.NAME: number}, client="fake", metadata_size=size or None)
    peer.say(Kind.EXTENDED, bytes([extended.HANDSHAKE]) + said.encode())


def answer(peer: FakePeer, number: int, payload: bytes, info: bytes, alter: AlterPart | None = None) -> None:
    """Answer one request out of ``info``; what is not there is rejected."""
    message = ut_metadata.decode(payload)
    if not isinstance(message, ut_metadata.Request) or not number:
        return
    start = message.piece * ut_metadata.PIECE
    part: bytes | None = info[start : start + ut_metadata.PIECE]
    if not part:
        peer.say(Kind.EXTENDED, bytes([number]) + ut_metadata.Reject(message.piece).encode())
        return
    if alter is not None:
        part = alter(message.piece, part)
    if part is not None:
        data = ut_metadata.Data(message.piece, len(info), part)
        peer.say(Kind.EXTENDED, bytes([number]) + data.encode())


def garbled(piece: int, part: bytes) -> bytes:
    """For ``knowing(alter=...)``: a part with its first byte changed."""
    return bytes([part[0] ^ 0xFF]) + part[1:]


def silent(piece: int, part: bytes) -> None:
    """For ``knowing(alter=...)``: no answer."""
