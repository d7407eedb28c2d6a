"""Bootstrap: where the nodes of one address family come from as long as we know too few.

First those of the last run; then the routers (settings, and ``nodes`` of torrents), whose names are resolved here and who are
asked with growing pauses; and always those that peers name (PORT, BEP 5). Who answers is the node's to judge: it
believes nobody whom it has not reached itself.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from math import inf
from random import Random

from unchoke.engine.dht.crank import Crank
from unchoke.engine.net.resolver import maybe_literal, resolve
from unchoke.engine.tasks import Tasks
from unchoke.errors import NetworkError
from unchoke.types import Address

log = logging.getLogger(__name__)

#: Good nodes of a family with which it needs nobody's help: two buckets.
ENOUGH = 16
#: Seconds that saved nodes and ``nodes`` of torrents have for their answers before the routers are troubled.
PATIENCE = 4.0
#: Seconds between two rounds of asking routers: the first pause, and where doubling ends.
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 600.0
#: Saved nodes that are asked at one time at the start; the others are pinged by and by.
FIRST_ASKED = 32
#: With so many good nodes nobody is pinged only because a peer named it.
PLENTY = 200
#: Names looked up at one time: each holds a thread of a few, and may for 20 s where the resolver does not answer.
NAMES_AT_ONCE = 2
#: Routers named by torrents, the latest; and those of all that are asked in one round.
MOST_ROUTERS = 50
ASKED_AT_ONCE = 8


class Bootstrap:
    """``routers``: (host, port), names or addresses. ``tasks``: of the owner. ``changed`` is called after each round of asking."""

    def __init__(
        self,
        crank: Crank,
        routers: Sequence[tuple[str, int]],
        tasks: Tasks,
        rng: Random,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.trouble = ""
        self.is_settled = False  # it has looked for nodes once, or there was nobody to ask
        self.is_hopeless = False  # the last round found nobody to ask
        self._crank = crank
        self._routers = tuple(routers)
        self._named: dict[tuple[str, int], None] = {}  # routers of torrents
        self._tasks = tasks
        self._rng = rng
        self._changed = changed
        self._room = asyncio.Semaphore(NAMES_AT_ONCE)
        self._asking = False
        self._pause = FIRST_PAUSE
        self._next = self._asked_at = self._hope_until = -inf
        self._good = 0

    def start(self, saved: Sequence[Address], now: float) -> None:
        """Begin with the nodes of the last run."""
        if saved:
            self._crank.node.bootstrap(list(saved[:FIRST_ASKED]), now)
            self.add_nodes(saved[FIRST_ASKED:], now)
            self._next = now + PATIENCE
        self.heartbeat(now)

    def add_nodes(self, addresses: Iterable[Address], now: float) -> None:
        """Nodes that somebody named; those of the other family are passed over. The node bounds how many wait for their ping."""
        if self._good >= PLENTY:
            return
        for address in addresses:
            if (":" in address.host) == (self._crank.family == 6):
                self._crank.node.add_node(address, now)
                self._hope_until = now + PATIENCE

    def add_routers(self, hosts: Iterable[tuple[str, int]]) -> None:
        """Hosts to ask as well when nodes are few: names, or literal addresses of this family. The latest are kept."""
        for host, port in hosts:
            literal = maybe_literal(host)
            if literal is not None and (":" in literal) != (self._crank.family == 6):
                continue
            self._named.pop((host, port), None)
            self._named[host, port] = None
            if len(self._named) > MOST_ROUTERS:
                del self._named[next(iter(self._named))]
            self._pause = FIRST_PAUSE  # there is somebody new to ask
            self._next = min(self._next, self._asked_at + FIRST_PAUSE)

    def heartbeat(self, now: float) -> None:
        """To be called each second."""
        self._good = self._crank.node.counts.good
        if self._good >= ENOUGH:
            self.trouble = ""
            self.is_hopeless = False
            self._pause = FIRST_PAUSE
        elif now >= self._next and not self._asking:
            self._asking = True
            self.trouble = self.trouble or "the names of routers are being looked up, without an answer yet"
            self._tasks.spawn(self._ask_routers(), f"bootstrap IPv{self._crank.family}")

    async def _ask_routers(self) -> None:
        found: list[Address] = []
        failures: list[str] = []
        try:
            for answer in await asyncio.gather(*(self._resolve(*router) for router in self._choose())):
                if isinstance(answer, NetworkError):
                    failures.append(str(answer))
                else:
                    found += answer
        finally:
            self._asking = False
            now = self._crank.now()
            self._asked_at = now
            self._next = now + self._pause
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        self._ask(found, failures, now)

    async def _resolve(self, host: str, port: int) -> list[Address] | NetworkError:
        try:
            async with self._room:
                return await resolve(host, port, socket.AF_INET6 if self._crank.family == 6 else socket.AF_INET)
        except NetworkError as error:
            return error

    def _choose(self) -> list[tuple[str, int]]:
        """Ours, and some of those that torrents name."""
        named = list(self._named)
        more = self._rng.sample(named, min(len(named), max(0, ASKED_AT_ONCE - len(self._routers))))
        return [*self._routers, *more]

    def _ask(self, found: list[Address], failures: list[str], now: float) -> None:
        """Look for nodes near us, from these and from those that we know."""
        node = self._crank.node
        known = [address for _, address in node.good_nodes()[:ENOUGH]]
        self.is_hopeless = not (found or known) and now >= self._hope_until
        if found or known:
            log.debug("= IPv%d: %d good nodes, asking %d routers for more", self._crank.family, len(known), len(found))
            self.trouble = "" if known else "no router has answered yet"
            node.bootstrap(found + known, now)
            self._crank.move(now)
        else:
            self.trouble = failures[0] if failures else "there is no router to ask, and no node from an earlier run"
            self.is_settled = True
        self._changed()

    def __repr__(self) -> str:
        state = "asking routers" if self._asking else self.trouble or "content"
        return f"<Bootstrap IPv{self._crank.family} [{state}]>"


def parse_routers(routers: Iterable[str]) -> list[tuple[str, int]]:
    """``"host:port"``, an IPv6 address in brackets; what is none is passed over with a word in the log."""
    found: list[tuple[str, int]] = []
    for text in routers:
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if host and port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536:
            found.append((host, int(port)))
        else:
            log.warning("! %r in dht.routers is no host:port", text)
    return found
