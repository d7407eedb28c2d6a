"""What port mapping has come to, as frozen records with words for a person: for snapshots, reasons and the doctor.

One ``MappingSnapshot`` for each address family and protocol, and a ``PortmapSnapshot`` of them all. The *external* port is the
one others reach us at, so it is the one to announce.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: How one mapping stands.
MappingStatus = Literal["asking", "mapped", "not needed", "failed"]

#: How it stands on the whole; ``partial``: some mappings hold and others failed; ``waiting``: we do not listen yet.
PortmapStatus = Literal["off", "waiting", "asking", "mapped", "partial", "not needed", "no router", "failed", "closed"]


@dataclass(frozen=True, slots=True)
class MappingSnapshot:
    """One port of ours in one router. ``family``: 4 or 6; ``method``: PCP, NAT-PMP or UPnP, empty until it is mapped.

    ``external_port``: None until it is mapped; ``external``: the router's address outside, empty if it does not tell;
    ``expires_in``: seconds until the router forgets it, unless it is renewed (it is); None: never, or not mapped.
    """

    family: int
    tcp: bool
    status: MappingStatus
    internal_port: int
    method: str = ""
    external_port: int | None = None
    external: str = ""
    expires_in: float | None = None
    error: str = ""

    @property
    def words(self) -> str:
        """``TCP 51413 over IPv4: mapped by UPnP to 198.51.100.7 port 51413``."""
        name = f"{'TCP' if self.tcp else 'UDP'} port {self.internal_port} over IPv{self.family}"
        if self.status == "mapped":
            where = f"{self.external} port {self.external_port}" if self.external else f"port {self.external_port}"
            return f"{name}: mapped by {self.method} to {where}"
        if self.status == "failed":
            return f"{name}: {self.error or 'not mapped'}"
        return f"{name}: {'no mapping needed' if self.status == 'not needed' else 'asking the router'}"


@dataclass(frozen=True, slots=True)
class PortmapSnapshot:
    """``state``: one sentence for a person; ``routers``: the addresses of those that are asked; ``error``: why it failed, or "".

    ``warnings``: sentences on what will keep others out although a mapping holds. ``next_try_in``: seconds until a failed
    mapping is tried again, or None.
    """

    status: PortmapStatus
    state: str
    routers: tuple[str, ...] = ()
    mappings: tuple[MappingSnapshot, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str = ""
    next_try_in: float | None = None

    def external_port(self, tcp: bool, family: int = 4) -> int | None:
        """The port others reach us at, where a router has mapped it; else None (then it is the port we listen on, if any)."""
        mapping = self._find(tcp, family)
        return mapping.external_port if mapping is not None else None

    def external_address(self, family: int = 4) -> str | None:
        """Our address as the router has it outside, or None if it did not tell."""
        for one in self.mappings:
            if one.family == family and one.status == "mapped" and one.external:
                return one.external
        return None

    def method(self, tcp: bool, family: int = 4) -> str:
        """``PCP``, ``NAT-PMP`` or ``UPnP`` where it is mapped, else empty."""
        mapping = self._find(tcp, family)
        return mapping.method if mapping is not None else ""

    def _find(self, tcp: bool, family: int) -> MappingSnapshot | None:
        for one in self.mappings:
            if one.tcp == tcp and one.family == family and one.status == "mapped":
                return one
        return None
