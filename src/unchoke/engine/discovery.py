"""Discovery: how a session finds peers, and is found, besides trackers: DHT (BEP 5), local network (BEP 14), the router's port mapping.

A torrent that wants peers is followed in the first two, asleep or awake, unless it is private (BEP 27); what they find goes to it
with where it came from. It decides nothing: how often is asked is theirs. What the settings do not want is not even loaded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from unchoke.engine.net.udp import UdpEndpoint
from unchoke.engine.reasons import Source as Told
from unchoke.engine.reasons import count
from unchoke.engine.settings import Settings
from unchoke.engine.tasks import Executor
from unchoke.policy.external import ExternalAddress
from unchoke.policy.peerlist import Source
from unchoke.types import Address, InfoHash

if TYPE_CHECKING:
    from random import Random

    from unchoke.engine.dht import Dht
    from unchoke.engine.lsd import Lsd
    from unchoke.engine.portmap import Portmap

log = logging.getLogger(__name__)


class Seeking(Protocol):
    """A torrent that wants peers."""

    @property
    def infohash(self) -> InfoHash: ...

    @property
    def is_complete(self) -> bool: ...

    def addresses_found(self, addresses: Sequence[Address], source: Source) -> None: ...


class _Follower:
    """One torrent, for those that look on its behalf."""

    __slots__ = ("torrent",)

    def __init__(self, torrent: Seeking) -> None:
        self.torrent = torrent

    @property
    def dht_seed(self) -> bool:
        return self.torrent.is_complete

    def dht_found(self, addresses: Sequence[Address]) -> None:
        self.torrent.addresses_found(addresses, Source.DHT)

    def lsd_found(self, addresses: Sequence[Address]) -> None:
        self.torrent.addresses_found(addresses, Source.LSD)


class Discovery:
    """``dht``, ``lsd`` and ``portmap``: None where the settings want none, and before ``start``.

    ``port``: the one peers can dial on this machine; ``moved`` is called when others reach us at another one. ``external``: our
    address as others see it. ``simulated``: there are no interfaces to look on, and no router.
    """

    __slots__ = (
        "_announced",
        "_endpoint",
        "_followed",
        "_moved",
        "_port",
        "_settings",
        "dht",
        "external",
        "lsd",
        "portmap",
        "simulated",
    )

    def __init__(
        self,
        settings: Settings,
        endpoint: UdpEndpoint,
        *,
        port: Callable[[], int],
        external: ExternalAddress,
        moved: Callable[[], None],
        simulated: bool = False,
    ) -> None:
        self.dht: Dht | None = None
        self.lsd: Lsd | None = None
        self.portmap: Portmap | None = None
        self.external = external
        self.simulated = simulated
        self._settings = settings
        self._endpoint = endpoint
        self._port = port
        self._followed: dict[InfoHash, _Follower] = {}
        self._moved = moved
        self._announced = 0

    def start(
        self, *, rng: Random, secret: Callable[[int], int], executor: Executor | None, nodes_file: Path | None
    ) -> None:
        """Begin. None of it delays whoever calls."""
        settings = self._settings
        if not settings.network.discovery:
            return
        if settings.dht.enabled:
            from unchoke.engine.dht import Dht

            self.dht = Dht(
                self._endpoint,
                settings.dht,
                port=self.announced_port,
                rng=rng,
                secret=secret,
                executor=executor,
                nodes_file=nodes_file,
                external=self.external,
            )
            self.dht.start()
        if settings.lsd.enabled and not self.simulated:
            from unchoke.engine.lsd import Lsd

            self.lsd = Lsd(
                settings.lsd, port=self._port, bind=settings.network.bind, rng=rng, secret=secret, executor=executor
            )
            self.lsd.start()
        if settings.portmap.enabled and not self.simulated:
            self._start_portmap(rng, secret, executor)
        self._announced = self.announced_port()

    def _start_portmap(self, rng: Random, secret: Callable[[int], int], executor: Executor | None) -> None:
        from unchoke.engine.portmap import Portmap

        self.portmap = Portmap(
            self._settings.portmap,
            self._settings.network,
            port=self._port,
            udp_port=lambda: self._endpoint.port,
            rng=rng,
            secret=secret,
            executor=executor,
            on_external=self._seen_by_router,
        )
        self.portmap.start()

    def _seen_by_router(self, address: str, router: str) -> None:
        self.external.vote(address, router, asyncio.get_running_loop().time())

    async def aclose(self) -> None:
        """Mappings are taken back, nodes are saved; each in bounded time."""
        parts = [part for part in (self.dht, self.lsd, self.portmap) if part is not None]
        for failure in await asyncio.gather(*(part.aclose() for part in parts), return_exceptions=True):
            if isinstance(failure, Exception):
                log.error("! closing a part of discovery failed", exc_info=failure)

    @property
    def dht_port(self) -> int:
        """Where our DHT node listens; 0: there is none."""
        return self._endpoint.port if self.dht is not None else 0

    def announced_port(self) -> int:
        """The port others can dial: the router's, where it has mapped one."""
        mapped = self.portmap.external_port(True) if self.portmap is not None else None
        return mapped or self._port()

    def follow(self, torrent: Seeking) -> None:
        """Look for its peers from now on. Again is fine."""
        infohash = torrent.infohash.truncated
        if infohash in self._followed or (self.dht is None and self.lsd is None):
            return
        follower = self._followed[infohash] = _Follower(torrent)
        if self.dht is not None:
            self.dht.follow(infohash, follower)
        if self.lsd is not None:
            self.lsd.follow(infohash, follower.lsd_found)

    def unfollow(self, infohash: InfoHash) -> None:
        """No more."""
        infohash = infohash.truncated
        if self._followed.pop(infohash, None) is None:
            return
        if self.dht is not None:
            self.dht.unfollow(infohash)
        if self.lsd is not None:
            self.lsd.unfollow(infohash)

    def hasten(self, infohash: InfoHash) -> None:
        """Peers are short: ask again as soon as is decent. Calling it often is fine."""
        infohash = infohash.truncated
        if infohash not in self._followed:
            return
        if self.dht is not None:
            self.dht.hasten(infohash)
        if self.lsd is not None:
            self.lsd.hasten(infohash)

    def heartbeat(self, now: float) -> None:
        """Once a second."""
        if self.dht is not None:
            self.dht.heartbeat(now)
        if self.lsd is not None:
            self.lsd.heartbeat(now)
        if self.portmap is not None:
            self.portmap.heartbeat(now)
            if (port := self.announced_port()) != self._announced:
                self._announced = port
                self._moved()

    def told(self, infohash: InfoHash, now: float) -> tuple[Told, ...]:
        """What each said the last time, for whoever wonders why there are no peers."""
        infohash = infohash.truncated
        if infohash not in self._followed:
            return ()
        found: list[Told] = []
        if self.dht is not None and (dht := self.dht.told(infohash)) is not None:
            said = f"gave {count(dht.peers, 'peer')} from {count(dht.nodes, 'node')}"
            if dht.asked_at is None:
                said = "is being asked" if dht.looking else "has not been asked yet"
            if dht.trouble:
                said = f"cannot be asked: {dht.trouble}"
            found.append(Told("dht", "DHT", said, _ago(dht.asked_at, now), _until(dht.next_at, now), dht.looking))
        if self.lsd is not None and (lsd := self.lsd.told(infohash)) is not None:
            said = f"knows {count(lsd.peers, 'peer')}"
            if lsd.trouble:
                said = f"cannot be asked: {lsd.trouble}"
            elif lsd.asked_at is None:
                said = "has not been asked yet"
            found.append(Told("lsd", "local network", said, _ago(lsd.asked_at, now), _until(lsd.next_at, now)))
        return tuple(found)

    def __repr__(self) -> str:
        return f"<Discovery [{len(self._followed)} followed | {self.dht!r} | {self.lsd!r}]>"


def _ago(when: float | None, now: float) -> float | None:
    return None if when is None else max(0.0, now - when)


def _until(when: float | None, now: float) -> float | None:
    return None if when is None else max(0.0, when - now)
