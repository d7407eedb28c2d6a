"""Side: one router, and the mappings we want of it: TCP and UDP, by whichever method answers first.

A *round* asks by PCP and NAT-PMP at once and, for what they have not given within a second, by UPnP. What fails is tried again
after ten to twenty minutes, what is lost at once. PCP and NAT-PMP renew themselves in ``PortClient``; UPnP is renewed and looked
after here. All is given back at the end, within a bounded time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from random import Random

from unchoke.engine.net.gateway import Gateway
from unchoke.engine.net.transport import Network
from unchoke.engine.portmap.asker import Asker
from unchoke.engine.portmap.igd import Caller, Firewall, Igd, NotNeededError, Opened, Opener
from unchoke.engine.portmap.mapping import PortMapping
from unchoke.engine.portmap.records import MappingSnapshot
from unchoke.engine.portmap.search import search
from unchoke.engine.tasks import Tasks
from unchoke.errors import NetworkError
from unchoke.protocol.portmap import upnp
from unchoke.protocol.portmap.client import Granted, Lost, PortEvent

log = logging.getLogger(__name__)

#: Seconds that PCP and NAT-PMP have alone: a router on the local network answers within milliseconds.
HEAD_START = 1.0

#: Seconds until what failed is tried again, and between two looks at a UPnP mapping: routers restart, and settings change.
RETRY = (600.0, 1200.0)

#: Seconds for all of UPnP in one round: the search takes five, a call to an old router two.
UPNP_TIMEOUT = 60.0

#: Seconds for giving back all mappings.
GOODBYE = 2.0


class Side:
    """``ports``: our port of TCP (True) and UDP (False). ``changed`` hears of every mapping that is granted anew.

    ``nonce`` gives 12 unpredictable bytes.
    """

    def __init__(
        self,
        gateway: Gateway,
        network: Network,
        ports: Mapping[bool, int],
        *,
        rng: Random,
        nonce: Callable[[], bytes],
        changed: Callable[[Gateway, PortMapping], None],
    ) -> None:
        self.gateway = gateway
        self.mappings = [PortMapping(tcp, port) for tcp, port in ports.items() if port]
        self.next_try = 0.0
        self._network = network
        self._rng = rng
        self._changed = changed
        self._asker = Asker(gateway, network, nonce, self._heard)
        self._caller = Caller(network, gateway)
        self._tasks = Tasks(f"port mapping at {gateway}", self._failed)
        self._calling = asyncio.Lock()  # held while a router is changed by UPnP
        self._closing = False

    # ---- once a second ----

    def heartbeat(self, now: float) -> None:
        """Begin what is due. Never raises."""
        if self._closing or len(self._tasks):
            return  # a round or a look is under way
        if now >= self.next_try and any(mapping.is_wanted for mapping in self.mappings):
            self._tasks.spawn(self._round(), "a round")
        elif any(mapping.opener is not None and mapping.due <= now for mapping in self.mappings):
            self._tasks.spawn(self._look(now), "a look")

    def _failed(self, error: BaseException) -> None:
        """A defect of ours shall not come back every second."""
        for mapping in self.mappings:
            if mapping.status == "asking":
                mapping.status, mapping.errors = "failed", {"unchoke": str(error) or type(error).__name__}
        self._plan()
        for mapping in self.mappings:
            mapping.check_at = self.next_try
            mapping.renew_at = None if mapping.renew_at is None else self.next_try

    def _plan(self) -> None:
        self.next_try = _now() + self._rng.uniform(*RETRY)

    # ---- a round ----

    async def _round(self) -> None:
        for mapping in self.mappings:
            if mapping.status == "failed":
                mapping.lost()
        await self._ask()
        await asyncio.sleep(HEAD_START)
        wanted = [mapping for mapping in self.mappings if mapping.is_wanted]
        if wanted and not self._closing:
            await self._by_upnp(wanted)
        await self._asker.settled()
        for mapping in self.mappings:
            if mapping.is_wanted:
                mapping.status = "failed"
                log.info("! port mapping at %s: %s", self.gateway, mapping.error)
        self._plan()

    async def _ask(self) -> None:
        """PCP and NAT-PMP."""
        try:
            await self._asker.open()
        except OSError as error:
            for mapping in self.mappings:
                mapping.errors["PCP"] = f"no socket: {error.strerror or error}"
            return
        for mapping in self.mappings:
            if mapping.is_wanted:
                self._asker.ask(mapping.tcp, mapping.internal, mapping.wished)

    def _heard(self, event: PortEvent) -> None:
        """What PCP or NAT-PMP has come to."""
        mapping = next((one for one in self.mappings if one.tcp == event.tcp), None)
        if mapping is None:
            return
        if isinstance(event, Granted):
            self._granted(mapping, event.method, event.external_port, event.external)
        elif isinstance(event, Lost):
            self._lose(mapping, event.reason)
        else:
            mapping.errors[event.method or self._unanswered] = event.reason

    @property
    def _unanswered(self) -> str:
        return "PCP" if self.gateway.family == 6 else "PCP and NAT-PMP"

    async def _by_upnp(self, wanted: list[PortMapping]) -> None:
        try:
            async with asyncio.timeout(UPNP_TIMEOUT):
                openers = await self._find_openers()
                for mapping in wanted:
                    async with self._calling:
                        if mapping.is_wanted and not self._closing:
                            await self._open_by(mapping, openers)
            return
        except TimeoutError:
            why = f"the router took more than {UPNP_TIMEOUT:g} s"
        except NetworkError as error:
            why = str(error)
        except OSError as error:
            why = error.strerror or str(error)
        for mapping in wanted:
            mapping.errors["UPnP"] = why

    async def _find_openers(self) -> list[Opener]:
        """Services to try, the best first. Raises OSError and NetworkError."""
        found = await search(self._network, self.gateway)
        problem = NetworkError("no router answered the search")
        for one in found:
            try:
                services = await self._caller.describe(one.location)
                openers = await self._openers(services)
            except NetworkError as error:
                problem = error
                continue
            if openers:
                return openers
            problem = NetworkError("the router offers no port mapping")
        raise problem

    async def _openers(self, services: list[upnp.Service]) -> list[Opener]:
        if self.gateway.family == 6:
            return [Firewall(self._caller, one) for one in services if one.kind == upnp.FIREWALL]
        kinds = upnp.MAPPERS
        mappers = sorted((one for one in services if one.kind in kinds), key=lambda one: kinds.index(one.kind))
        igds = [Igd(self._caller, one, self._rng) for one in mappers]
        if len(igds) < 2:
            return list(igds)
        up = [await igd.is_connected() for igd in igds]
        return [igd for igd, is_up in zip(igds, up, strict=True) if is_up] or list(igds)

    async def _open_by(self, mapping: PortMapping, openers: list[Opener]) -> None:
        """The first service that opens the port has it; PCP is no longer waited for, since both would make the same entry."""
        if self._asker.is_asking(mapping.tcp):
            mapping.errors[self._unanswered] = f"no answer from the router {self.gateway.host}"
        self._asker.forget(mapping.tcp)
        for opener in openers:
            try:
                opened = await opener.open(mapping.tcp, mapping.internal, mapping.wished)
            except NotNeededError as error:
                mapping.status = "not needed"
                log.info("= %s: %s", self.gateway, error)
                return
            except NetworkError as error:
                mapping.errors["UPnP"] = str(error)
            else:
                self._opened(mapping, opener, opened)
                return

    def _opened(self, mapping: PortMapping, opener: Opener, opened: Opened) -> None:
        now = _now()
        mapping.opener, mapping.opened = opener, opened
        life = opened.lifetime
        mapping.expires = None if life is None else now + life
        mapping.renew_at = None if life is None else now + life / 2
        self._seen(mapping, opened)

    def _seen(self, mapping: PortMapping, opened: Opened) -> None:
        mapping.opened = opened
        mapping.check_at = _now() + self._rng.uniform(*RETRY)
        self._granted(mapping, "UPnP", opened.external_port, opened.external)

    def _granted(self, mapping: PortMapping, method: str, port: int, external: str) -> None:
        before = mapping.method, mapping.external_port, mapping.external
        mapping.granted(method, port, external)
        if before != (method, port, external):
            log.info("= %s at %s: %s", mapping, self.gateway, f"{external or 'its address'} port {port}")
            self._changed(self.gateway, mapping)

    # ---- looking after what UPnP has given ----

    async def _look(self, now: float) -> None:
        for mapping in self.mappings:
            if mapping.opener is not None and mapping.due <= now:
                async with self._calling:
                    if not self._closing:
                        await self._look_at(mapping, mapping.opener, now)

    async def _look_at(self, mapping: PortMapping, opener: Opener, now: float) -> None:
        assert mapping.opened is not None
        try:
            if mapping.renew_at is not None and mapping.renew_at <= now:
                self._opened(mapping, opener, await opener.open(mapping.tcp, mapping.internal, mapping.wished))
                return
            seen, why = await opener.look(mapping.tcp, mapping.internal, mapping.opened), "the router has forgotten it"
        except NetworkError as error:
            seen, why = None, str(error)
        if seen is not None:
            self._seen(mapping, seen)
        else:
            self._lose(mapping, why)

    def _lose(self, mapping: PortMapping, why: str) -> None:
        log.info("! %s at %s is lost: %s", mapping, self.gateway, why)
        mapping.lost()
        self.next_try = _now()

    # ---- how it stands, and the end ----

    def snapshots(self, now: float) -> list[MappingSnapshot]:
        """One for each port."""
        return [one.snapshot(self.gateway.family, self._expires_in(one, now)) for one in self.mappings]

    def _expires_in(self, mapping: PortMapping, now: float) -> float | None:
        if mapping.opener is None:
            return self._asker.expires_in(mapping.tcp)
        return None if mapping.expires is None else max(0.0, mapping.expires - now)

    async def aclose(self) -> None:
        """Give all mappings back, for two seconds at most, and close the socket."""
        self._closing = True
        try:
            async with asyncio.timeout(GOODBYE):
                await asyncio.gather(self._asker.release(), self._shut())
        except TimeoutError:
            log.info("! %s did not take back all mappings in time", self.gateway)
        finally:
            self._asker.close()
            await self._tasks.aclose()

    async def _shut(self) -> None:
        async with self._calling:
            for mapping in self.mappings:
                if mapping.opener is None or mapping.opened is None:
                    continue
                try:
                    await mapping.opener.shut(mapping.tcp, mapping.opened)
                except NetworkError as error:
                    log.info("! %s at %s is not given back: %s", mapping, self.gateway, error)

    def __repr__(self) -> str:
        return f"<Side {self.gateway} [{', '.join(f'{one.internal} {one.status}' for one in self.mappings)}]>"


def _now() -> float:
    return asyncio.get_running_loop().time()
