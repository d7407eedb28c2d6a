"""Words: from how each mapping stands to one status and one sentence for all of them, with what to be warned of.

IPv4 decides where there is a router for it; IPv6 is told behind it, since most routers let nobody in there and most swarms do
not need it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from unchoke.engine.portmap.records import MappingSnapshot, PortmapSnapshot, PortmapStatus

#: Addresses that a router has outside only if it stands behind another NAT (RFC 1918, RFC 6598, RFC 3927, RFC 7335).
_INSIDE = tuple(
    ipaddress.IPv4Network(net)
    for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "192.0.0.0/24")
)


def is_inside(host: str) -> bool:
    """This address of a router is not one on the internet."""
    address = ipaddress.ip_address(host)
    return address.version == 4 and any(address in net for net in _INSIDE)


def picture(routers: tuple[str, ...], mappings: tuple[MappingSnapshot, ...], next_try_in: float) -> PortmapSnapshot:
    """The snapshot for these mappings, at least one. ``next_try_in``: seconds, used if anything has failed."""
    family = min(one.family for one in mappings)
    deciding = [one for one in mappings if one.family == family]
    status = _status(deciding)
    parts = [_sentence([one for one in mappings if one.family == f]) for f in sorted({m.family for m in mappings})]
    failed = [one for one in mappings if one.status == "failed"]
    return PortmapSnapshot(
        status,
        "; ".join(parts),
        routers,
        mappings,
        _warnings(mappings),
        next((one.error for one in failed if one.family == family), "") if status in ("failed", "partial") else "",
        next_try_in if failed else None,
    )


def _status(mappings: Sequence[MappingSnapshot]) -> PortmapStatus:
    states = {one.status for one in mappings}
    if len(states) == 1:
        return next(iter(states))
    if "asking" in states:
        return "asking"
    return "partial" if "failed" in states else "mapped"


def _sentence(mappings: Sequence[MappingSnapshot]) -> str:
    """Both protocols in one breath where they stand alike."""
    first = mappings[0]
    same = {(one.status, one.method, one.internal_port, one.external_port, one.external) for one in mappings}
    if len(same) == 1 and len(mappings) == 2:
        return f"TCP and UDP {first.words.partition(' ')[2]}"
    return "; ".join(one.words for one in mappings)


def _warnings(mappings: Sequence[MappingSnapshot]) -> tuple[str, ...]:
    inside = next((one.external for one in mappings if one.external and is_inside(one.external)), None)
    if inside is None:
        return ()
    return (
        f"the router's own address outside, {inside}, is a private one: it stands behind another NAT (a second router, or the "
        "provider's), and nobody on the internet can reach this port",
    )
