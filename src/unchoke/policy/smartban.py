"""SmartBan: who is to blame for a piece that fails its hash. Only wrong data leads to a ban, and only what is proven.

One contributor: it lied. Several: the digests of the blocks are kept with their givers, the piece is fetched again, and its good
copy names whoever gave a block that differs: only them. A piece that fails twice before it succeeds is fetched from one peer
alone, so that a third failure has one name. Blocks without a giver (they lay on disk from an earlier run) blame nobody.

A liar is a host, whatever ports it comes from, since that is what can be banned. It knows neither data nor peers, only
digests and addresses; both outlive the conversation, so that leaving in time helps no liar.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unchoke.types import Address

#: Bytes of one block's digest: too many for a liar to find another block with the same.
DIGEST_SIZE = 16
#: Failed copies kept at one time, over all pieces of a torrent, and of one piece. The oldest go first.
MOST_COPIES = 64
MOST_OF_A_PIECE = 2
#: Blocks in them all: 1 MiB of digests. A single larger copy (a piece of over 1 GiB) is kept alone.
MOST_BLOCKS = 65_536
#: Hosts remembered as sentenced, so that each is named once though more pieces of theirs are on the way.
MOST_SENTENCED = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """After a failed piece: whom to ban (one address a host), and whether its next try is to come from one peer alone."""

    banned: tuple[Address, ...] = ()
    single: bool = False


@dataclass(slots=True)
class _Copy:
    """One failed copy: a digest and a giver for each block."""

    digests: bytes
    givers: list[Address | None]

    def liars(self, good: bytes) -> Iterator[Address]:
        for number, giver in enumerate(self.givers):
            at = number * DIGEST_SIZE
            if giver is not None and self.digests[at : at + DIGEST_SIZE] != good[at : at + DIGEST_SIZE]:
                yield giver


class SmartBan:
    """One torrent's."""

    __slots__ = ("_blocks", "_copies", "_sentenced")

    def __init__(self) -> None:
        self._copies: dict[int, list[_Copy]] = {}  # piece → its failed copies; the piece that failed first stands first
        self._blocks = 0
        self._sentenced: dict[str, None] = {}

    def examines(self, piece: int) -> bool:
        """Are the digests of this piece's good copy of use?"""
        return piece in self._copies

    def piece_failed(self, piece: int, givers: Sequence[Address | None], digests: bytes) -> Verdict:
        """``givers``: who gave each block, ``digests``: one after the other; empty if there are none, which blames nobody."""
        if len(digests) != len(givers) * DIGEST_SIZE:
            return Verdict()
        hosts = _by_host(givers)
        if len(hosts) == 1 and None not in givers:
            return self._sentence(hosts)
        self._keep(piece, _Copy(digests, list(givers)))
        return Verdict(single=len(self._copies[piece]) > 1)

    def piece_passed(self, piece: int, digests: bytes) -> tuple[Address, ...]:
        """Whom to ban now that the good copy is known. ``digests`` empty: nothing is learnt, and the failed copies are let go."""
        copies = self._forget(piece)
        if not digests:
            return ()
        liars = [giver for copy in copies for giver in copy.liars(digests)]
        return self._sentence(_by_host(liars)).banned

    def _sentence(self, hosts: dict[str, Address]) -> Verdict:
        banned = tuple(address for host, address in hosts.items() if host not in self._sentenced)
        self._sentenced.update(dict.fromkeys(hosts))
        while len(self._sentenced) > MOST_SENTENCED:
            del self._sentenced[next(iter(self._sentenced))]
        return Verdict(banned)

    def _keep(self, piece: int, copy: _Copy) -> None:
        copies = self._copies.setdefault(piece, [])
        copies.append(copy)
        self._blocks += len(copy.givers)
        if len(copies) > MOST_OF_A_PIECE:
            self._blocks -= len(copies.pop(0).givers)
        while len(self) > MOST_COPIES or (self._blocks > MOST_BLOCKS and len(self._copies) > 1):
            self._forget(next(oldest for oldest in self._copies if oldest != piece))

    def _forget(self, piece: int) -> list[_Copy]:
        copies = self._copies.pop(piece, [])
        self._blocks -= sum(len(copy.givers) for copy in copies)
        return copies

    def __len__(self) -> int:
        """Failed copies that are kept."""
        return sum(len(copies) for copies in self._copies.values())

    def __repr__(self) -> str:
        return f"<SmartBan [{len(self)} failed copies of {len(self._copies)} pieces]>"


def _by_host(givers: Sequence[Address | None]) -> dict[str, Address]:
    """Each host once, with the first of its addresses."""
    hosts: dict[str, Address] = {}
    for giver in givers:
        if giver is not None:
            hosts.setdefault(giver.host, giver)
    return hosts
