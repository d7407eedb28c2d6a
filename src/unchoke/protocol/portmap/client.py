"""PortClient: mappings in one router, by PCP with NAT-PMP as the fallback, over a socket that is somebody else's.

PCP is asked first. A router that knows only NAT-PMP says so, or says nothing: from the third packet on both are asked, and the
one that answers is spoken from then on. A mapping is renewed at half its lifetime, then at three quarters and so on; a router
whose epoch shows that it has lost its memory is asked again at once. An answer counts only if it comes from the router
(and, by PCP, with the mapping's nonce); all else is ignored without a trace. Outcomes are values, taken from ``events``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from unchoke.errors import ProtocolError
from unchoke.protocol.portmap import natpmp, pcp
from unchoke.protocol.portmap.epoch import Epoch
from unchoke.types import Address

#: Where routers listen for both protocols (RFC 6886, RFC 6887).
PORT = 5351

#: Seconds asked for (RFC 6886 recommends two hours), the shortest taken from a router (RFC 6887, 15), and the longest.
LIFETIME = 7200
MIN_LIFETIME = 120
MAX_LIFETIME = 86400

#: Seconds until the first retransmission, which doubles (RFC 6886, 3.1), and packets in all: silence is known after 7.75 s.
FIRST_PAUSE = 0.25
PACKETS = 5

#: Packets of PCP alone before NAT-PMP is asked too, and those that a goodbye is worth.
ALONE = 2
GOODBYES = 3

#: Seconds between two looks at the epoch of a router that holds mappings: how late its restart is noticed.
LOOK_INTERVAL = 600.0

#: Seconds between two restarts that are answered at once: a router whose epoch jumps with every answer would be asked as fast as
#: it can answer.
RESTART_PAUSE = 60.0

#: Seconds before the end of a mapping's life from which on renewing it is no use any more.
_TOO_LATE = 8.0

Method = Literal["", "PCP", "NAT-PMP"]


@dataclass(frozen=True, slots=True)
class Granted:
    """The router lets others in at ``external_port``, of its address ``external`` (empty: not told yet). Said again when it changes."""

    tcp: bool
    method: Method
    external_port: int
    external: str


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no mapping: the router said no by ``method``, or nothing (and then it is empty)."""

    tcp: bool
    method: Method
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A mapping that was granted could not be renewed and is over."""

    tcp: bool
    reason: str


PortEvent: TypeAlias = Granted | Refused | Lost


class _Lease:
    """``state``: ``asking`` (no mapping yet), ``held``, ``renewing`` or ``leaving``. ``wished``: external port, the last given."""

    __slots__ = (
        "attempt",
        "due",
        "expires",
        "internal",
        "lifetime",
        "method",
        "nonce",
        "state",
        "tcp",
        "told",
        "wished",
    )

    def __init__(self, tcp: bool, internal: int, wished: int, nonce: bytes, now: float) -> None:
        self.tcp = tcp
        self.internal = internal
        self.wished = wished
        self.nonce = nonce
        self.state: Literal["asking", "held", "renewing", "leaving"] = "asking"
        self.method: Method = ""
        self.attempt = 0
        self.due = now
        self.lifetime = 0
        self.expires = now
        self.told: Granted | None = None


class PortClient:
    """``router``: its literal address without a scope; ``local``: the one of ours that packets leave from.

    ``nonce`` gives 12 unpredictable bytes a call. Times are seconds of any steady clock. Call ``ask``, then send
    ``datagrams_to_send``, and again after ``receive_datagram`` and ``handle_timer``.
    """

    __slots__ = (
        "_epoch", "_events", "_external", "_leases", "_local", "_look_at", "_nonce", "_out", "_patient_until", "_router", "method",
    )  # fmt: skip

    def __init__(self, router: str, local: str, *, nonce: Callable[[], bytes]) -> None:
        self._router = Address(router, PORT)
        self._local = local
        self._nonce = nonce
        self._leases: dict[bool, _Lease] = {}
        self._epoch = Epoch()
        self._patient_until = 0.0
        self._external = ""  # by NAT-PMP, which tells it apart from mappings
        self._look_at: float | None = None
        self._out: list[bytes] = []
        self._events: list[PortEvent] = []
        #: What the router has shown that it speaks.
        self.method: Method = ""

    # ---- asking ----

    def ask(self, tcp: bool, internal: int, external: int, now: float) -> None:
        """Ask for a mapping of our port ``internal``, at the router's port ``external`` if that can be; keep it until ``release``."""
        lease = self._leases[tcp] = _Lease(tcp, internal, external, self._nonce(), now)
        self._send(lease, now)

    def release(self, tcp: bool, now: float) -> None:
        """Give the mapping back; a goodbye is sent up to three times. What is not held is forgotten."""
        lease = self._leases.get(tcp)
        if lease is None or lease.state == "leaving":
            return
        lease.state, lease.attempt = "leaving", 0
        self._send(lease, now)

    def forget(self, tcp: bool) -> None:
        """No more packets for this mapping, not even a goodbye."""
        self._leases.pop(tcp, None)

    @property
    def is_idle(self) -> bool:
        """Nothing is held, asked for or given back."""
        return not self._leases

    def is_asking(self, tcp: bool) -> bool:
        """Asked for, and no answer yet."""
        lease = self._leases.get(tcp)
        return lease is not None and lease.state == "asking"

    def lifetime(self, tcp: bool, now: float) -> float | None:
        """Seconds until the router forgets the mapping unless it is renewed; None if there is none."""
        lease = self._leases.get(tcp)
        return max(0.0, lease.expires - now) if lease is not None and lease.state in ("held", "renewing") else None

    # ---- sending ----

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """The packets that are due, each with where it goes. Asking empties the list."""
        out, self._out = self._out, []
        return [(data, self._router) for data in out]

    def _send(self, lease: _Lease, now: float) -> None:
        lifetime = 0 if lease.state == "leaving" else LIFETIME
        wished = 0 if lease.state == "leaving" else lease.wished
        for method in self._methods(lease):
            if method == "PCP":
                packet = pcp.pack_map(lease.nonce, lease.tcp, lease.internal, wished, self._local, lifetime)
            else:
                packet = natpmp.pack_map(lease.tcp, lease.internal, wished, lifetime)
                if lifetime and not self._external:
                    self._out.append(natpmp.pack_external())
            self._out.append(packet)
        lease.due = now + FIRST_PAUSE * 2**lease.attempt

    def _methods(self, lease: _Lease) -> tuple[Method, ...]:
        if self.method:
            return (self.method,)
        if ":" in self._local or (lease.state == "asking" and lease.attempt < ALONE):
            return ("PCP",)
        return ("PCP", "NAT-PMP")

    # ---- hearing ----

    def receive_datagram(self, data: bytes, source: Address, now: float) -> bool:
        """Take a packet. True if it was the router's answer to something of ours; else it is of no account."""
        if source != self._router or not data:
            return False
        try:
            if data[0] == natpmp.VERSION:
                return ":" not in self._local and self._natpmp(natpmp.unpack_reply(data), now)
            return self._pcp(pcp.unpack_reply(data), now)
        except ProtocolError:
            return False

    def _pcp(self, reply: pcp.PcpReply, now: float) -> bool:
        if reply.version != pcp.VERSION or reply.result == pcp.UNSUPPORTED_VERSION:
            return self._not_pcp(reply.words, now)
        if reply.opcode == pcp.ANNOUNCE:
            if self.method == "PCP" and reply.result == 0:
                self._check_epoch(reply.epoch, now, None)
            return self.method == "PCP"
        lease = self._leases.get(reply.protocol == pcp.TCP)
        known = lease is not None and reply.protocol in (pcp.TCP, pcp.UDP) and reply.nonce == lease.nonce
        if lease is None or not known or reply.internal_port != lease.internal or lease.method not in ("", "PCP"):
            return False
        if reply.result in pcp.TRY_NATPMP and not self.method:
            return self._not_pcp(reply.words, now)
        self._answered(
            lease, "PCP", reply.result, reply.words, reply.lifetime, reply.external_port, reply.external, now
        )
        self._check_epoch(reply.epoch, now, lease)
        return True

    def _not_pcp(self, reason: str, now: float) -> bool:
        """The router does not speak PCP as we do: go on with NAT-PMP, or (over IPv6) give up."""
        if self.method == "NAT-PMP" or not any(lease.state == "asking" for lease in self._leases.values()):
            return False
        if ":" in self._local:
            for lease in list(self._leases.values()):
                self._refuse(lease, "PCP", reason)
            return True
        self.method = "NAT-PMP"
        for lease in self._leases.values():
            if lease.state == "asking":
                lease.attempt = 0
                self._send(lease, now)
        return True

    def _natpmp(self, reply: natpmp.NatpmpReply, now: float) -> bool:
        if reply.result == natpmp.UNSUPPORTED_VERSION:  # also how a router without PCP answers a request of it
            if self.method:
                return False
            return self._not_pcp(reply.words, now)
        if reply.opcode == natpmp.EXTERNAL:
            return self._told_external(reply, now)
        lease = self._leases.get(reply.opcode == natpmp.MAP_TCP)
        if lease is None or reply.internal_port != lease.internal or lease.method not in ("", "NAT-PMP"):
            return False
        if self.method == "PCP" or (not self.method and lease.state == "asking" and lease.attempt < ALONE):
            return False  # not asked by NAT-PMP
        result, port = reply.result, reply.external_port
        self._answered(lease, "NAT-PMP", result, reply.words, reply.lifetime, port, self._external, now)
        self._check_epoch(reply.epoch, now, lease)
        return True

    def _told_external(self, reply: natpmp.NatpmpReply, now: float) -> bool:
        if self.method != "NAT-PMP" and (self.method or not self._leases):
            return False
        if reply.result == 0:
            self._external = reply.external
            for lease in self._leases.values():
                if lease.told is not None and lease.method == "NAT-PMP":
                    self._tell(lease, Granted(lease.tcp, lease.method, lease.wished, reply.external))
        if self.method:
            self._check_epoch(reply.epoch, now, None)
        return True

    def _answered(
        self, lease: _Lease, method: Method, result: int, words: str, life: int, port: int, external: str, now: float
    ) -> None:
        if lease.state == "leaving":
            del self._leases[lease.tcp]
        elif result:
            self._refuse(lease, method, words)
        elif not port or not life:
            return  # a late answer to an older goodbye
        else:
            self.method = lease.method = method
            lease.state, lease.attempt = "held", 0
            lease.lifetime = max(MIN_LIFETIME, min(life, MAX_LIFETIME))
            lease.expires, lease.due = now + lease.lifetime, now + lease.lifetime / 2
            lease.wished = port
            if self._look_at is None:
                self._look_at = now + LOOK_INTERVAL
            self._tell(lease, Granted(lease.tcp, method, port, external))

    def _check_epoch(self, epoch: int, now: float, answered: _Lease | None) -> None:
        """Ask again for what a router has forgotten that was restarted; but not for what it has just granted."""
        if self._epoch.follows(epoch, now):
            return
        patient = now < self._patient_until
        if not patient:
            self._patient_until = now + RESTART_PAUSE
            self._external = ""
        for lease in self._leases.values():
            if lease is answered or lease.state != "held":
                continue
            if patient:
                lease.due = min(lease.due, self._patient_until)
            else:
                lease.state, lease.attempt = "renewing", 0
                self._send(lease, now)

    # ---- outcomes ----

    def events(self) -> list[PortEvent]:
        """What has become of mappings since the last call."""
        events, self._events = self._events, []
        return events

    def _tell(self, lease: _Lease, granted: Granted) -> None:
        if lease.told != granted:
            lease.told = granted
            self._events.append(granted)

    def _refuse(self, lease: _Lease, method: Method, reason: str) -> None:
        """No mapping any more; without one there is nothing to look after, and the next attempt begins anew."""
        del self._leases[lease.tcp]
        if lease.state != "leaving":
            lost = lease.told is not None
            self._events.append(Lost(lease.tcp, reason) if lost else Refused(lease.tcp, method, reason))
        if not self._leases:
            self.method, self._look_at, self._external = "", None, ""

    # ---- time ----

    def get_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called next, or None."""
        times = [lease.due for lease in self._leases.values()]
        if self._look_at is not None and self._leases:
            times.append(self._look_at)
        return min(times, default=None)

    def handle_timer(self, now: float) -> None:
        """Ask again, renew, look, or give up, as it is due."""
        for lease in [lease for lease in self._leases.values() if lease.due <= now]:
            self._due(lease, now)
        if self._look_at is not None and self._look_at <= now:
            self._look_at = now + LOOK_INTERVAL
            if self._leases:
                self._out.append(natpmp.pack_external() if self.method == "NAT-PMP" else pcp.pack_announce(self._local))

    def _due(self, lease: _Lease, now: float) -> None:
        if lease.state == "held":
            lease.state, lease.attempt = "renewing", 0
            self._send(lease, now)
            return
        lease.attempt += 1
        if lease.attempt < (GOODBYES if lease.state == "leaving" else PACKETS):
            self._send(lease, now)
        elif lease.state == "renewing" and lease.expires - now > _TOO_LATE:
            lease.state, lease.due = "held", now + (lease.expires - now) / 2
        else:
            self._refuse(lease, "", f"no answer from the router {self._router.host}")

    def __repr__(self) -> str:
        states = ", ".join(f"{'TCP' if tcp else 'UDP'} {lease.state}" for tcp, lease in self._leases.items())
        return f"<PortClient {self._router.host} [{self.method or 'nothing spoken yet'} | {states or 'idle'}]>"
