"""Port mapping: the session asks its routers to let peers in, by PCP, NAT-PMP or UPnP; ``Portmap`` is the door to it."""

from __future__ import annotations

from unchoke.engine.portmap.manager import Portmap
from unchoke.engine.portmap.records import MappingSnapshot, PortmapSnapshot

__all__ = ["Portmap", "PortmapSnapshot", "MappingSnapshot"]
