"""SmartBan: who is to blame for a piece that fails its hash. Only wrong data leads to a ban.

One contributor: it lied. Several: all are suspects, and the piece is fetched again from one peer alone, so that the next
failure has one name. (Comparing the blocks of the bad copy with those of the good one, which names the liar among
several at once, is the next step; the giver of each block is kept for it.)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

Key = Hashable


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a failed piece: ban these, and fetch the next try from one peer alone if ``single``."""

    banned: frozenset[Key] = frozenset()
    single: bool = True


@dataclass(slots=True)
class SmartBan:
    """``suspicion``: how many failed pieces each suspect had a part in and no good one since."""

    suspicion: dict[Key, int] = field(default_factory=dict)

    def piece_failed(self, givers: Iterable[Key]) -> Verdict:
        """``givers``: who gave the blocks of the piece (repeats allowed)."""
        contributors = set(givers)
        if len(contributors) == 1:
            return Verdict(frozenset(contributors))
        for key in contributors:
            self.suspicion[key] = self.suspicion.get(key, 0) + 1
        return Verdict()

    def piece_passed(self, givers: Iterable[Key]) -> None:
        """A good piece from one peer alone clears it of suspicion."""
        contributors = set(givers)
        if len(contributors) == 1:
            self.suspicion.pop(contributors.pop(), None)

    def forget(self, key: Key) -> None:
        self.suspicion.pop(key, None)
