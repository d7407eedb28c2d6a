"""Dht: the session's part in the distributed hash table (BEP 5, 32, 33, 42, 43): one node for each address family we have a socket of.

It follows torrents (announces them, and hands on the peers it finds), answers whoever asks, and keeps ids and nodes between runs.
The rules of the DHT are ``protocol.dht``'s; torrents are looked up by ``rounds``; where the first nodes come from is
``bootstrap``'s. There is no task for a torrent: the session's heartbeat begins lookups, a bounded number at one time.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

from unchoke.engine.dht.asking import Asking
from unchoke.engine.dht.bootstrap import Bootstrap, parse_routers
from unchoke.engine.dht.crank import Crank
from unchoke.engine.dht.records import DhtFamily, DhtFollower, DhtSnapshot, DhtTold
from unchoke.engine.dht.rounds import Rounds
from unchoke.engine.dht.search import Searches
from unchoke.engine.dht.signing import verify
from unchoke.engine.net.udp import UdpEndpoint
from unchoke.engine.settings import DhtSettings
from unchoke.engine.tasks import Executor, Tasks, on_thread
from unchoke.errors import NetworkError, StorageError
from unchoke.policy.external import ExternalAddress
from unchoke.protocol.dht.models import Event, ExternalSeen, LookupDone, NodeSettings
from unchoke.storage.nodes import SavedNodes, load_nodes, save_nodes
from unchoke.types import Address, InfoHash, NodeId

log = logging.getLogger(__name__)

#: Good nodes with which a lookup goes as far as it can: a bucket (BEP 5). Those that found nothing with fewer are made again.
RICH = 8
#: Seconds that the first search for neighbours may take before questions are asked of whoever is known by then.
PATIENCE = 3.0
#: Seconds between two times that nodes are saved while we run; the last is at the end.
SAVE_INTERVAL = 1800.0
#: Seconds until the socket is tried again that could not be opened.
REOPEN = 30.0
#: Addresses and routers kept that come before there is a node.
MOST_EARLY = 200


class Dht(Asking):
    """``port``: the peers' TCP port, asked at each announce. ``secret`` gives so many bits that nobody can guess. ``executor``: for
    files. ``nodes_file``: where ids and nodes are kept (None: nowhere). ``external``: what everybody knows of our address.
    """

    def __init__(
        self,
        endpoint: UdpEndpoint,
        settings: DhtSettings,
        *,
        port: Callable[[], int],
        rng: Random | None = None,
        secret: Callable[[int], int] = secrets.randbits,
        executor: Executor | None = None,
        nodes_file: Path | None = None,
        external: ExternalAddress | None = None,
    ) -> None:
        super().__init__(Searches())
        self.settings = settings
        self._endpoint = endpoint
        self._rng = rng or Random()
        self._secret = secret
        self._executor = executor
        self._nodes_file = nodes_file
        self._external = external or ExternalAddress()
        self._tasks = Tasks("dht")
        self._rounds = Rounds(settings.announce_interval, self._searches, port, self._askable, self._rng)
        self._bootstraps: dict[int, Bootstrap] = {}
        self._early_nodes: dict[Address, None] = {}
        self._early_routers: dict[tuple[str, int], None] = {}
        self._problem = "the UDP socket is not open yet"
        self.trouble = ""  # why nobody can be asked; as of the last heartbeat, since many ask
        self._rich = False  # the table has been good enough for lookups
        self._save_at = self._patient_until = 0.0
        self._judge()

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Open the socket, load what was saved, ask routers; all of it in a task. Never raises. The session's heartbeat has to
        follow."""
        self._tasks.spawn(self._begin(), "begin")

    async def _begin(self) -> None:
        while True:
            try:
                await self._endpoint.open()
                break
            except NetworkError as error:
                self._problem = str(error)
                self._judge()
                log.warning("! no DHT: %s", error)
            await asyncio.sleep(REOPEN)
        self._problem = "looking for the first"
        saved = await on_thread(self._executor, load_nodes, str(self._nodes_file)) if self._nodes_file else {}
        now = self.now()
        self._save_at = now + SAVE_INTERVAL
        self._patient_until = now + PATIENCE
        for family in sorted(6 if one == socket.AF_INET6 else 4 for one in self._endpoint.families):
            self._join(family, saved.get(family, SavedNodes()), now)
        for crank, other in itertools.permutations(self._cranks.values(), 2):
            crank.node.sibling = other.node
        self._endpoint.handlers.append(self._receive)
        self.add_routers(tuple(self._early_routers))
        for address in self._early_nodes:
            self.add_node(address)
        log.info("= DHT on UDP port %d: %s", self._endpoint.port, ", ".join(map(repr, self._cranks.values())))

    def _join(self, family: int, saved: SavedNodes, now: float) -> None:
        """Make the node of one family."""
        from unchoke.protocol.dht.node import DhtNode

        external = self._external.best(family) or saved.external or None
        node = DhtNode(
            family=family,
            settings=NodeSettings(read_only=self.settings.read_only),
            rng=self._rng,
            secret=self._secret,
            now=now,
            node_id=NodeId(saved.node_id) if saved.node_id else None,
            external=external,
            verify=verify,
        )
        crank = self._cranks[family] = Crank(node, family, self._endpoint, self._heard)
        routers = parse_routers(self.settings.routers)
        self._bootstraps[family] = Bootstrap(crank, routers, self._tasks, self._rng, self._has_asked)
        self._bootstraps[family].start(saved.nodes, now)
        crank.move(now)

    async def aclose(self) -> None:
        """Stop, and save what is worth it. Safe to call twice. The endpoint stays open: it is the session's."""
        if self._closed:
            return
        self._give_up()
        if self._receive in self._endpoint.handlers:
            self._endpoint.handlers.remove(self._receive)
        await self._tasks.aclose()
        for crank in self._cranks.values():
            crank.close()
        await self._save()

    async def _save(self) -> None:
        """Write ids and good nodes. A run that found none leaves the file of one that did."""
        saved: dict[int, SavedNodes] = {}
        for family, crank in self._cranks.items():
            nodes = tuple(address for _, address in crank.node.good_nodes())
            saved[family] = SavedNodes(node_id=crank.node.id, external=crank.node.external or "", nodes=nodes)
        if self._nodes_file is None or not any(one.nodes for one in saved.values()):
            return
        try:
            await on_thread(self._executor, save_nodes, str(self._nodes_file), saved)
        except StorageError as error:
            log.warning("! DHT nodes not saved: %s", error)

    # ------------------------------------------------------------------ what the session tells it

    def follow(self, infohash: InfoHash, follower: DhtFollower) -> None:
        """Announce this torrent from now on, and find its peers. Again is fine."""
        self._rounds.follow(infohash.truncated, follower)

    def unfollow(self, infohash: InfoHash) -> None:
        """No more. Nodes forget us in half an hour; there is nothing in the DHT to say so (BEP 5)."""
        self._rounds.unfollow(infohash.truncated)

    def hasten(self, infohash: InfoHash) -> None:
        """Its peers are few: ask again, once a minute at most. Calling it often is fine."""
        self._rounds.hasten(infohash.truncated)

    def add_node(self, address: Address) -> None:
        """Somebody named this node (a peer's PORT message). It is pinged in its turn, if we have room for more."""
        if not self._bootstraps:
            if len(self._early_nodes) < MOST_EARLY:
                self._early_nodes[address] = None
            return
        for bootstrap in self._bootstraps.values():
            bootstrap.add_nodes([address], self.now())

    def add_routers(self, hosts: Iterable[tuple[str, int]]) -> None:
        """Hosts that a torrent names as a beginning (``nodes``), asked while we know few nodes ourselves."""
        if not self._bootstraps:
            for host in hosts:
                if len(self._early_routers) < MOST_EARLY:
                    self._early_routers[host] = None
            return
        hosts = tuple(hosts)
        for bootstrap in self._bootstraps.values():
            bootstrap.add_routers(hosts)

    def heartbeat(self, now: float) -> None:
        """To be called each second."""
        if self._closed:
            return
        for family, crank in self._cranks.items():
            self._set_external(family, crank)
            self._bootstraps[family].heartbeat(now)
            crank.move(now)  # its sibling may have named nodes to it
        self._look_at_table(now)
        self._rounds.heartbeat(now)
        if self._cranks and now >= self._save_at:
            self._save_at = now + SAVE_INTERVAL
            self._tasks.spawn(self._save(), "save nodes")

    def _look_at_table(self, now: float) -> None:
        """Those who wait begin when the first search for neighbours is over, or has gone on for long with some success."""
        good = self._judge()
        if good and now >= self._patient_until:
            self._joined = True
            self._news.set()
        if good >= RICH and not self._rich:
            self._rich = True
            self._rounds.ask_again()

    def _askable(self) -> list[Crank]:
        """Whom followed torrents are looked up with: nobody before our own neighbours are known."""
        return self._able() if self._joined and not self._closed else []

    def _set_external(self, family: int, crank: Crank) -> None:
        best = self._external.best(family)
        if best is not None and best != crank.node.external:
            log.info("= our IPv%d address is %s", family, best)
            crank.node.external = best

    # ------------------------------------------------------------------ what the nodes tell

    def _receive(self, data: bytes, address: Address, now: float) -> bool:
        crank = self._cranks.get(6 if ":" in address.host else 4)
        return crank is not None and crank.receive(data, address, now)

    def _heard(self, crank: Crank, event: Event) -> None:
        if isinstance(event, ExternalSeen):
            if self._external.vote(event.address.host, event.voter, crank.now()):
                self._set_external(crank.family, crank)
            return
        if isinstance(event, LookupDone) and event.kind == "bootstrap":
            self._bootstrapped(crank.family, event.replies)
        self._searches.hear(crank.family, event)

    def _has_asked(self) -> None:
        self._judge()
        self._news.set()

    def _bootstrapped(self, family: int, replies: int) -> None:
        """A family has looked for its neighbours. If it found any, who waits can begin."""
        self._bootstraps[family].is_settled = True
        self._judge()
        self._news.set()
        if replies:
            self._joined = True
        self._rounds.begin_soon()

    # ------------------------------------------------------------------ pictures

    def _judge(self) -> int:
        """Count the good nodes, and put into words why nobody can be asked. Returns the number."""
        good = sum(crank.node.counts.good for crank in self._cranks.values())
        if good:
            self.trouble = ""
        else:
            told = [bootstrap.trouble for bootstrap in self._bootstraps.values()]
            self.trouble = f"no DHT nodes known: {next(filter(None, told), self._problem)}"
        return good

    @property
    def is_hopeless(self) -> bool:
        """Nobody is known, and there was nobody to ask the last time: no router has an address, nothing was saved, nobody named."""
        return bool(self._bootstraps) and all(bootstrap.is_hopeless for bootstrap in self._bootstraps.values())

    async def joined(self) -> None:
        """Wait until a family has found nodes around us. Raises NetworkError as soon as it is plain that there is nobody to ask."""
        await self._until(lambda: self._joined or self.is_hopeless)
        if not self._joined:
            raise NetworkError(self.trouble)

    async def settled(self) -> None:
        """Wait until every family has looked for its neighbours once, in vain or not."""
        await self._until(lambda: bool(self._bootstraps) and all(one.is_settled for one in self._bootstraps.values()))

    def told(self, infohash: InfoHash) -> DhtTold | None:
        """How a followed torrent stands; None if it is not followed."""
        entry = self._rounds.get(infohash.truncated)
        if entry is None:
            return None
        return DhtTold(entry.asked_at, entry.next_at, entry.peers, entry.nodes, entry.running, self.trouble)

    def snapshot(self) -> DhtSnapshot:
        """How the DHT is now."""
        families = tuple(
            DhtFamily(family, crank.node.id, crank.node.external or "", crank.node.counts)
            for family, crank in self._cranks.items()
        )
        nodes = sum(family.counts.good for family in families)
        state = "closed" if self._closed else f"{nodes} nodes" if nodes else self.trouble
        return DhtSnapshot(
            state, families, self._rounds.following, self._rounds.looking, self._rounds.waiting, self.trouble
        )

    def __repr__(self) -> str:
        return f"<Dht [{self.snapshot().state} | {self._rounds!r}]>"
