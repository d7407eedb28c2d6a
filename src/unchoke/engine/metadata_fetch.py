"""MetadataFetch: asks peers for the info dictionary of a torrent, and checks what they give (BEP 9).

Whom to ask for which part, and who lied, is ``policy/metadata``'s; here questions and answers go in and out, and a whole copy is held
against the infohash: in a task of its own, and a large one on a thread. So nobody hears of success in the middle of a peer's call.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from unchoke.engine.tasks import Executor, Tasks, on_thread
from unchoke.errors import ProtocolError
from unchoke.policy.metadata.copies import Copy
from unchoke.policy.metadata.picker import MetadataPicker
from unchoke.policy.metadata.settings import MetadataSettings
from unchoke.protocol import extended, ut_metadata
from unchoke.types import Address, InfoHash

if TYPE_CHECKING:
    from unchoke.engine.peer import Peer

log = logging.getLogger(__name__)

#: Bytes that are hashed on the loop: a quarter of a MiB takes two milliseconds.
HASHED_AT_ONCE = 256 * 1024
#: Bytes of a digest that tells one part from another: too many for a liar to find a second part with the same.
DIGEST_SIZE = 16


class FetchOwner(Protocol):
    """What a fetch asks of its swarm, and tells it."""

    peers: dict[Peer, None]

    def ban(self, address: Address, reason: str) -> None: ...

    def fetched(self, info: bytes) -> None: ...


class _Found(NamedTuple):
    """What a look at a whole copy gave. ``info``: its bytes, if they are right; ``disputed``: one infohash fits, another does not."""

    info: bytes
    good: bool
    disputed: bool
    digests: tuple[bytes, ...]


class MetadataFetch:
    """One swarm's extension. ``hashes``: infohashes, v1 or v2, all of which must fit. ``info``: what came, and is right."""

    name = ut_metadata.NAME
    number = extended.OURS[ut_metadata.NAME]

    def __init__(
        self,
        owner: FetchOwner,
        hashes: Sequence[InfoHash],
        settings: MetadataSettings,
        *,
        clock: Callable[[], float],
        executor: Executor | None,
    ) -> None:
        self.owner = owner
        self.picker = MetadataPicker(settings)
        self.info: bytes | None = None
        self._hashes = tuple(hashes)
        self._clock = clock
        self._executor = executor
        self._tasks = Tasks("metadata")
        self._disputed = False

    # ------------------------------------------------------------------ what peers say (Extension)

    def greeted(self, peer: Peer, now: float) -> None:
        if not peer.extensions.get(self.name):
            self.picker.gone(peer)
        elif not self.picker.offered(peer, peer.address, peer.metadata_size, now):
            peer.close("says another size of the metadata than before", fault=True)

    def received(self, peer: Peer, payload: bytes, now: float) -> None:
        """Raises ProtocolError for what no correct peer says."""
        match ut_metadata.decode(payload):
            case ut_metadata.Request(piece):
                peer.count_redundant()
                self._say(peer, ut_metadata.Reject(piece))
            case ut_metadata.Reject(piece):
                if not self.picker.rejected(peer, piece, now):
                    peer.count_redundant()
            case ut_metadata.Data() as data:
                self._take(peer, data, now)
            case None:
                peer.count_redundant()

    def _take(self, peer: Peer, data: ut_metadata.Data, now: float) -> None:
        taken = self.picker.received(peer, data.piece, data.total_size, bytes(data.payload), now)
        if taken.fault:
            raise ProtocolError(taken.fault)
        peer.moved_at = now
        if taken.whole is not None:
            self._tasks.spawn(self._judge(taken.whole), "judge")

    def gone(self, peer: Peer) -> None:
        self.picker.gone(peer)

    def heartbeat(self, now: float) -> None:
        """Questions that were not answered go to others."""
        self.picker.expire(now)
        self._ask_all(now)

    # ------------------------------------------------------------------ asking

    def ask(self, peer: Peer, now: float) -> None:
        """Queue what this peer is to be asked now; sending it is up to the caller."""
        for piece in self.picker.next(peer, now):
            self._say(peer, ut_metadata.Request(piece))

    def _ask_all(self, now: float) -> None:
        for peer in list(self.owner.peers):
            self.ask(peer, now)
            peer.flush()

    def _say(self, peer: Peer, message: ut_metadata.Request | ut_metadata.Reject) -> None:
        number = peer.extensions.get(self.name, 0)
        if number:
            peer.wire.send_extended(number, message.encode())

    # ------------------------------------------------------------------ verdicts

    async def _judge(self, copy: Copy) -> None:
        """A whole copy: is it what the infohash means?"""
        if copy.size <= HASHED_AT_ONCE:
            found = _look(copy, self._hashes)
        else:
            found = await on_thread(self._executor, _look, copy, self._hashes)
        copy.let_go()
        if self.picker.is_done:
            return
        if found.disputed:
            self._disputed = True
            self.picker.clear()
            log.warning("! %s: its infohashes are those of different torrents", self)
            return
        for address in self.picker.judged(copy, good=found.good, digests=found.digests):
            self.owner.ban(address, "gave wrong metadata")
        if found.good:
            self.info = found.info
            self.owner.fetched(found.info)
        else:
            self._ask_all(self._clock())

    def has_hope(self, peer: Peer) -> bool:
        """May it give us metadata, as far as it is known?"""
        return self.picker.has_hope(peer)

    @property
    def trouble(self) -> str:
        """In words, why what is offered cannot be used; empty for none."""
        picker = self.picker
        if self._disputed:
            return "the link's infohashes are those of different torrents"
        if picker.too_big and not picker.offering:
            return f"peers offer metadata of {picker.too_big} bytes, and the limit is {picker.settings.max_size}"
        return ""

    @property
    def size(self) -> int | None:
        """Bytes, as far as can be told: of what came furthest, else what most peers say."""
        if self.info is not None:
            return len(self.info)
        leading = self.picker.leading
        return leading.size if leading is not None else self.picker.likely_size

    @property
    def held(self) -> int:
        """Bytes of what came furthest."""
        if self.info is not None:
            return len(self.info)
        leading = self.picker.leading
        return leading.held if leading is not None else 0

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """Nothing more is asked for, and what came is let go."""
        self.picker.clear()

    async def aclose(self) -> None:
        """Close, and wait for the threads that hash."""
        self.close()
        await self._tasks.aclose()

    def __repr__(self) -> str:
        state = "complete" if self.info is not None else "closed" if self.picker.is_done else "seeking"
        return f"<MetadataFetch {self._hashes[0].hex()[:8]} [{state} | {self.picker!r}]>"


def _look(copy: Copy, hashes: Sequence[InfoHash]) -> _Found:
    """The digests of a whole copy against the infohashes. Blocking, in the size of the copy."""
    parts = copy.in_order()
    fits = [_digest(parts, len(infohash)) == infohash for infohash in hashes]
    good = all(fits)
    digests = tuple(hashlib.sha256(part).digest()[:DIGEST_SIZE] for part in parts)
    return _Found(b"".join(parts) if good else b"", good, any(fits) and not good, digests)


def _digest(parts: Sequence[bytes], length: int) -> bytes:
    digest = hashlib.sha256() if length == 32 else hashlib.sha1(usedforsecurity=False)
    for part in parts:
        digest.update(part)
    return digest.digest()
