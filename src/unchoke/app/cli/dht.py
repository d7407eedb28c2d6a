"""``unchoke dht``: ask the distributed hash table: who has a torrent, what is kept under a key, and how the table is.

Each command joins with a node of its own that asks and answers nobody (BEP 43), does its one thing and leaves. With
``network.discovery`` off only ``--node`` hosts are asked, and without any it is exit 6. Exit 3: nobody has it; 6: nobody to ask, or
nobody took it; 8: time was up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from unchoke.app.cli.common import kind_of, load_torrent, magnet_of
from unchoke.app.cli.dht_items import get, put
from unchoke.app.cli.joining import Join, joining_options
from unchoke.app.cli.running import run_briefly
from unchoke.errors import NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from unchoke.engine.dht import Dht, DhtFamily
    from unchoke.types import Address, InfoHash

#: Seconds that `stats` gives a family to find its neighbours after the first has.
_SETTLING = 8.0


@click.group()
def dht() -> None:
    """Ask the distributed hash table (DHT): get, put, peers, stats."""


dht.add_command(get)
dht.add_command(put)


# ---------------------------------------------------------------------- peers


@dht.command()
@click.argument("source", metavar="INFOHASH|MAGNET|TORRENT")
@joining_options("1m")
def peers(source: str, join: Join, as_json: bool) -> None:
    """Print who has a torrent, an address a line, as they are found; the size of the swarm goes to standard error.

    Nobody hears that we want it: it is not announced.
    """
    infohash = _infohash(source)
    count = 0

    def found(addresses: Sequence[Address]) -> None:
        nonlocal count
        for address in addresses:
            count += 1
            click.echo(json.dumps({"event": "peer", "address": str(address)}) if as_json else str(address))
        sys.stdout.flush()

    async def work(dht: Dht) -> None:
        # Some nodes give whoever asks for counts nothing else, so these are two lookups.
        _, counts = await asyncio.gather(dht.get_peers(infohash, found), dht.scrape(infohash))
        if as_json:
            facts = {"peers": count, "seeds": counts.seeds, "leechers": counts.leechers}
            click.echo(json.dumps({"event": "done"} | facts))
        elif count:
            peers = f"{count} peer{'' if count == 1 else 's'}"
            guess = "" if counts.seeds is None else f"; estimated in all: {counts.seeds} seeding, {counts.leechers} not"
            click.echo(f"{peers}{guess}", err=True)

    run_briefly(join.run(work))
    if not count:
        raise NotFoundError(f"{infohash.truncated}: no peers in the DHT")


def _infohash(source: str) -> InfoHash:
    if kind_of(source) in ("magnet", "infohash"):
        link = magnet_of(source)
        found = link.infohash_v1 or link.infohash_v2
        assert found is not None  # Magnet has seen to it
        return found
    metainfo = load_torrent(source)
    if metainfo.private:
        raise UnsupportedError(f"{metainfo.name}: a private torrent, which is never looked for in the DHT (BEP 27)")
    return metainfo.infohash


# ---------------------------------------------------------------------- stats


@dht.command()
@joining_options("20s")
def stats(join: Join, as_json: bool) -> None:
    """Join, and print for each address family: our id, our address as others see it, how many nodes we know, and traffic."""

    async def work(dht: Dht) -> list[DhtFamily]:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(dht.settled(), _SETTLING)
        return list(dht.snapshot().families)

    families = run_briefly(join.run(work))
    if as_json:
        click.echo(json.dumps({"families": [_family_record(family) for family in families]}, indent=2))
        return
    for family in families:
        for line in _family_lines(family):
            click.echo(line)


def _family_record(family: DhtFamily) -> dict[str, object]:
    counts = family.counts
    return {
        "family": f"ipv{family.family}",
        "id": family.node_id.hex(),
        "external": family.external or None,
        "nodes": {"good": counts.good, "questionable": counts.questionable, "bad": counts.bad, "spare": counts.spare},
        "queries_sent": counts.queries_sent,
        "replies": counts.replies_received,
        "round_trip": counts.round_trip,
    }


def _family_lines(family: DhtFamily) -> list[str]:
    counts = family.counts
    trip = "" if counts.round_trip is None else f", {1000 * counts.round_trip:.0f} ms round trip"
    return [
        f"IPv{family.family}",
        f"  id        {family.node_id.hex()}",
        f"  address   {family.external or 'nobody has told yet'}",
        f"  nodes     {counts.good} good, {counts.questionable} questionable, {counts.bad} bad, {counts.spare} in reserve",
        f"  asked     {counts.queries_sent} queries, {counts.replies_received} replies{trip}",
    ]
