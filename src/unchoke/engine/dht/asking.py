"""Asking: what a person or a program may ask of the DHT at any time: peers, counts, items (BEP 5, 33, 44).

Whoever asks waits until there are nodes to ask, as long as it likes: time-outs are the caller's, and a cancelled question
ends its lookup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from unchoke.engine.dht import signing
from unchoke.engine.dht.crank import Crank
from unchoke.engine.dht.records import DhtPut, DhtScrape
from unchoke.engine.dht.search import Begin, Search, Searches
from unchoke.errors import NetworkError
from unchoke.protocol.bencode import Encodable, encode
from unchoke.protocol.dht.item import MAX_SALT, MAX_VALUE, Item, signed, target_of
from unchoke.protocol.dht.models import Event, ItemFound, PeersFound
from unchoke.types import Address, InfoHash, NodeId


class Asking:
    """The half of ``Dht`` that answers questions."""

    def __init__(self, searches: Searches) -> None:
        self._searches = searches
        self._cranks: dict[int, Crank] = {}  # family → its node
        self._joined = False
        self._closed = False
        self._news = asyncio.Event()  # set whenever a family's search for nodes has ended, and at the end
        self._questions: set[asyncio.Future[Search]] = set()

    @property
    def is_joined(self) -> bool:
        """A family has found nodes around us."""
        return self._joined

    async def get_peers(
        self, infohash: InfoHash, found: Callable[[Sequence[Address]], None] | None = None
    ) -> list[Address]:
        """Peers of a torrent, without announcing us. ``found`` hears of them as they come. Raises NetworkError."""
        peers: dict[Address, None] = {}

        def heard(event: Event) -> bool:
            if isinstance(event, PeersFound):
                peers.update(dict.fromkeys(event.addresses))
                if found is not None:
                    found(event.addresses)
            return False

        key = infohash.truncated
        await self._ask(lambda node, now: node.find_peers(key, now), heard)
        return list(peers)

    async def scrape(self, infohash: InfoHash) -> DhtScrape:
        """How large the swarm is (BEP 33). Raises NetworkError."""
        key = infohash.truncated
        search = await self._ask(lambda node, now: node.find_peers(key, now, scrape=True), _go_on)
        return DhtScrape(*(search.scrape or (None, None)))

    async def get(self, target: bytes = b"", salt: bytes = b"", key: bytes | None = None) -> Item | None:
        """The item under ``target`` (20 bytes, immutable), or that of a public ``key`` (32 bytes) and ``salt``, the newest
        that was found. None if nobody has it. Its signature has been checked. Raises NetworkError, ValueError."""
        if key is not None:
            _check(key, salt)
            target = target_of(key, salt)
        best: list[Item] = []

        def heard(event: Event) -> bool:
            if isinstance(event, ItemFound) and (not best or event.item.seq >= best[0].seq):
                best[:] = [event.item]
            return bool(best) and key is None  # what has the right hash cannot get any newer

        await self._ask(lambda node, now: node.get_item(NodeId(target), now, salt=salt), heard)
        return best[0] if best else None

    async def put(
        self, value: Encodable, *, key: bytes | None = None, seq: int | None = None, salt: bytes = b""
    ) -> DhtPut:
        """Keep ``value`` in the DHT for two hours: under its own hash, or under the public key of the private ``key``, signed.

        ``seq`` must grow with each value; None: one more than what is there now. Raises ValueError (over 1000 bytes of
        bencode, a salt over 64), UnsupportedError (no way to sign), NetworkError (nobody could be asked).
        """
        data = encode(value)
        if len(data) > MAX_VALUE:
            raise ValueError(f"a value has at most {MAX_VALUE} bytes as bencode (BEP 44), not {len(data)}")
        item = Item(data)
        if key is not None:
            item = await self._sign(data, key, seq, salt)
        search = await self._ask(lambda node, now: node.put_item(item, now), _go_on)
        return DhtPut(item, search.announced)

    async def _sign(self, data: bytes, private: bytes, seq: int | None, salt: bytes) -> Item:
        public = signing.public_key(private)
        _check(public, salt)
        if seq is None:
            there = await self.get(salt=salt, key=public)
            seq = there.seq + 1 if there is not None else 1
        return Item(data, public, signing.sign(private, signed(data, seq, salt)), seq, salt)

    # ------------------------------------------------------------------ the way it goes

    def _able(self) -> list[Crank]:
        """The families that know somebody to ask."""
        return [crank for crank in self._cranks.values() if crank.node.counts.good]

    async def _ask(self, begin: Begin, heard: Callable[[Event], bool]) -> Search:
        """One search, to its end, or until ``heard`` says that it is enough. Raises NetworkError if nobody answered, or we are
        closing."""
        await self._until(lambda: self._joined)
        loop = asyncio.get_running_loop()
        cranks = self._able()
        if not cranks:
            raise NetworkError("all DHT nodes that we knew are gone")
        future: asyncio.Future[Search] = loop.create_future()

        def ended(search: Search) -> None:
            if not future.done():
                future.set_result(search)

        search = Search(lambda event: ended(search) if heard(event) else None, ended)
        self._questions.add(future)
        try:
            self._searches.begin(search, cranks, begin, loop.time())
            await future
        finally:
            self._questions.discard(future)
            self._searches.cancel(search, loop.time())
        if search.is_over and not search.replies:
            raise NetworkError("no DHT node answered")
        return search

    async def _until(self, reached: Callable[[], bool]) -> None:
        """Wait until it is so; looked at when there are news. Raises NetworkError when we close before."""
        while not reached():
            if self._closed:
                raise NetworkError("the DHT is closed")
            self._news.clear()
            await self._news.wait()

    def _give_up(self) -> None:
        """Whoever waits is told that we close."""
        self._closed = True
        self._news.set()
        for question in self._questions:
            if not question.done():
                question.set_exception(NetworkError("the DHT is closed"))

    def now(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()


def _go_on(event: Event) -> bool:
    return False


def _check(key: bytes, salt: bytes) -> None:
    if len(key) != signing.KEY_SIZE:
        raise ValueError(f"a public key has {signing.KEY_SIZE} bytes, not {len(key)}")
    if len(salt) > MAX_SALT:
        raise ValueError(f"a salt has at most {MAX_SALT} bytes (BEP 44), not {len(salt)}")
