"""Named peers: those that a magnet link tells of (``x.pe``), kept in a torrent's options as ``host:port``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from unchoke.engine.net.resolver import maybe_literal, resolve
from unchoke.errors import NetworkError
from unchoke.types import Address

log = logging.getLogger(__name__)

#: Peers of a link that are used, and names of them that are looked up.
MOST_PEERS = 100
MOST_NAMES = 10


def written(peers: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """As options keep them."""
    return tuple(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in peers[:MOST_PEERS])


async def meet(peers: Sequence[str], found: Callable[[Sequence[Address]], None]) -> None:
    """Literal addresses at once, the others when their names are known. What is neither is passed over."""
    names: list[tuple[str, int]] = []
    literals: list[Address] = []
    for text in peers[:MOST_PEERS]:
        host, _, port = text.rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 65536:
            continue
        literal = maybe_literal(host)
        if literal is not None:
            literals.append(Address(literal, int(port)))
        else:
            names.append((host, int(port)))
    if literals:
        found(literals)
    for host, number in names[:MOST_NAMES]:
        try:
            found(await resolve(host, number))
        except NetworkError as error:
            log.info("! a peer of the magnet link: %s", error)
