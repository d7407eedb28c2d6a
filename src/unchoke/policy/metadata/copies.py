"""Copies: attempts at the whole of an info dictionary, and who is to blame for those that were wrong (BEP 9).

The parts are bytes that nobody looks into here; digests are given. Only what is proven leads to a ban: whoever gave all of a wrong
copy, and, once the right one is known, whoever gave a part of a wrong one that differs from it. A liar is a host, whatever its ports.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from unchoke.types import Address

Key = Hashable

#: Bytes of a part; the last one may have fewer (BEP 9).
PART = 16 * 1024
#: Wrong copies with several givers that are remembered, the latest.
MOST_FAILED = 8


class Copy:
    """One attempt at the whole: ``size`` bytes. ``alone``: the one peer that fills it, or None for all that claim its size.

    ``parts`` and ``givers`` are what came and from whom, ``held`` its bytes; ``is_open``: more may be put into it.
    """

    __slots__ = (
        "_again",
        "_asked",
        "_fresh",
        "alone",
        "begun_at",
        "count",
        "givers",
        "held",
        "is_open",
        "parts",
        "size",
    )

    def __init__(self, size: int, alone: Key | None, now: float) -> None:
        self.size = size
        self.count = -(-size // PART)
        self.alone = alone
        self.begun_at = now
        self.parts: dict[int, bytes] = {}
        self.givers: dict[int, Address] = {}
        self.held = 0
        self.is_open = True
        # No list of all parts: a size is only somebody's claim.
        self._fresh = 0  # from here on nothing was asked for yet
        self._again: list[int] = []  # asked for in vain
        self._asked: dict[int, list[Key]] = {}  # part → who is asked for it, the part longest asked for first

    @property
    def is_whole(self) -> bool:
        return len(self.parts) == self.count

    @property
    def share(self) -> float:
        """0 to 1 of the way."""
        return self.held / self.size

    def in_order(self) -> list[bytes]:
        """The parts of a whole copy, first to last."""
        return [self.parts[part] for part in range(self.count)]

    def next_part(self, key: Key, duplicates: int) -> int | None:
        """What to ask of ``key``: what nobody is asked for, or at the end what up to ``duplicates`` others are."""
        while self._again:
            part = self._again.pop()
            if part not in self.parts:
                return part
        while self._fresh < self.count:
            part, self._fresh = self._fresh, self._fresh + 1
            if part not in self.parts:
                return part
        for part, keys in self._asked.items():
            if key not in keys and len(keys) < duplicates:
                return part
        return None

    def ask(self, part: int, key: Key) -> None:
        """``key`` is asked for this part."""
        self._asked.setdefault(part, []).append(key)

    def await_no_more(self, part: int, key: Key) -> None:
        """``key`` is not counted on to give this part any more."""
        keys = self._asked.get(part)
        if keys is None or key not in keys:
            return
        keys.remove(key)
        if not keys:
            del self._asked[part]
            self._again.append(part)

    def put(self, part: int, payload: bytes, giver: Address) -> None:
        """A part that was missing."""
        self.parts[part] = payload
        self.givers[part] = giver
        self.held += len(payload)
        self._asked.pop(part, None)

    def let_go(self) -> None:
        """Its bytes are not needed any more. (Questions that are still open hold on to the copy itself.)"""
        self.parts.clear()

    def __repr__(self) -> str:
        alone = ", alone" if self.alone is not None else ""
        return f"<Copy of {self.size} B [{len(self.parts)} of {self.count} parts{alone}]>"


class Line:
    """Peers that are to fill copies of their own: up to ``most`` are ``active``, the others wait in their order."""

    __slots__ = ("active", "most", "waiting")

    def __init__(self, most: int) -> None:
        self.most = most
        self.active: dict[Key, None] = {}
        self.waiting: dict[Key, None] = {}

    def join(self, key: Key) -> None:
        """At its end; who is in it keeps its place."""
        if key not in self.active:
            self.waiting.setdefault(key)

    def leave(self, key: Key) -> None:
        self.active.pop(key, None)
        self.waiting.pop(key, None)

    def send_back(self, key: Key) -> None:
        """It had its turn."""
        self.leave(key)
        self.join(key)

    def promote(self, is_ready: Callable[[Key], bool]) -> list[Key]:
        """Let those that are next have their turn; returns them."""
        room = self.most - len(self.active)
        chosen: list[Key] = []
        for key in self.waiting if room > 0 else ():
            if is_ready(key):
                chosen.append(key)
                if len(chosen) == room:
                    break
        for key in chosen:
            del self.waiting[key]
            self.active[key] = None
        return chosen

    def clear(self) -> None:
        self.active.clear()
        self.waiting.clear()

    def __repr__(self) -> str:
        return f"<Line [{len(self.active)} active | {len(self.waiting)} waiting]>"


@dataclass(frozen=True, slots=True)
class _Failed:
    size: int
    givers: dict[int, Address]
    digests: Sequence[bytes]


class Blame:
    """Wrong copies that several peers gave."""

    __slots__ = ("_failed",)

    def __init__(self) -> None:
        self._failed: list[_Failed] = []

    def was_wrong(self, copy: Copy, digests: Sequence[bytes]) -> tuple[Address, ...]:
        """``digests`` of its parts. Who gave it, if it was one host alone; else it is remembered."""
        givers = _one_each(copy.givers.values())
        if len(givers) == 1:
            return givers
        self._failed.append(_Failed(copy.size, copy.givers, digests))
        del self._failed[:-MOST_FAILED]
        return ()

    def was_right(self, copy: Copy, digests: Sequence[bytes]) -> tuple[Address, ...]:
        """Who gave what differs from it, one address of each host; what was remembered is let go."""
        liars = _one_each(self._proven(copy.size, digests))
        self._failed.clear()
        return liars

    def _proven(self, size: int, digests: Sequence[bytes]) -> Iterator[Address]:
        for failed in self._failed:
            for part, giver in failed.givers.items():
                if failed.size != size or failed.digests[part] != digests[part]:
                    yield giver

    def __len__(self) -> int:
        return len(self._failed)


def _one_each(givers: Iterable[Address]) -> tuple[Address, ...]:
    """Each host once, with the first of its addresses."""
    hosts: dict[str, Address] = {}
    for giver in givers:
        hosts.setdefault(giver.host, giver)
    return tuple(hosts.values())
