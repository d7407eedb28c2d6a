"""Search: one lookup, put, or the like, in every family that knows nodes, as if it were one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from unchoke.engine.dht.crank import Crank
from unchoke.protocol.dht.models import Event, ExternalSeen, LookupDone

if TYPE_CHECKING:
    from unchoke.protocol.dht.node import DhtNode

#: Begins the work at a node and gives its handle there.
Begin: TypeAlias = "Callable[[DhtNode, float], int]"


class Search:
    """``heard``: told of each event but the ends; ``ended``: called once, when the last family is done. Neither may raise."""

    __slots__ = ("done", "ended", "heard", "parts")

    def __init__(self, heard: Callable[[Event], None], ended: Callable[[Search], None]) -> None:
        self.heard = heard
        self.ended = ended
        self.parts: dict[tuple[int, int], Crank] = {}  # under way: family and handle
        self.done: list[LookupDone] = []

    @property
    def is_over(self) -> bool:
        """It went on to its end in some family."""
        return bool(self.done)

    @property
    def replies(self) -> int:
        """Nodes that answered."""
        return sum(done.replies for done in self.done)

    @property
    def peers(self) -> int:
        return sum(done.peers for done in self.done)

    @property
    def announced(self) -> int:
        """Nodes that took what was announced or put."""
        return sum(done.announced for done in self.done)

    @property
    def scrape(self) -> tuple[int, int] | None:
        """Seeds and leechers over both families: their peers are counted apart. None if nobody knew."""
        known = [done.scrape for done in self.done if done.scrape is not None]
        return (sum(seeds for seeds, _ in known), sum(leechers for _, leechers in known)) if known else None

    def __repr__(self) -> str:
        return f"<Search [{len(self.parts)} under way | {len(self.done)} done]>"


class Searches:
    """Those under way, by what the nodes call them."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], Search] = {}

    def begin(self, search: Search, cranks: Iterable[Crank], begin: Begin, now: float) -> None:
        """Begin at each of ``cranks``, at least one."""
        for crank in cranks:
            key = (crank.family, begin(crank.node, now))
            search.parts[key] = crank
            self._open[key] = search
        for crank in list(search.parts.values()):
            crank.move(now)

    def hear(self, family: int, event: Event) -> None:
        """What a node has to tell of one of them; others' are passed over."""
        if isinstance(event, ExternalSeen):
            return
        key = (family, event.handle)
        search = self._open.get(key)
        if search is None:
            return
        if not isinstance(event, LookupDone):
            search.heard(event)
            return
        del self._open[key], search.parts[key]
        search.done.append(event)
        if not search.parts:
            search.ended(search)

    def cancel(self, search: Search, now: float) -> None:
        """Its end is not told. One that has ended is fine."""
        parts, search.parts = search.parts, {}
        for key, crank in parts.items():
            del self._open[key]
            crank.node.cancel(key[1])
            crank.move(now)

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Searches [{len(self._open)} under way]>"
