"""MetadataPicker: which parts of a torrent's info dictionary to ask of whom, and whom to believe (BEP 9).

Only the whole can be checked, against the infohash. Hence *copies*: a copy has one size and gathers parts from those that claim it.
A whole copy that is wrong and had one giver names a liar. If it had several, nobody is blamed yet, but from then on each peer with
that size fills a copy *alone*, a few at a time, until one is right. So any number of liars delays success, and none prevents it or
has another banned.

Nothing is reserved for a claim, and all copies together stay below the limit of size: when they reach it, the one that has come the
shortest part of its way gives up, so that the one in front can always arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from unchoke.policy.metadata.copies import Blame, Copy, Key, Line
from unchoke.policy.metadata.settings import MetadataSettings
from unchoke.types import Address

#: Parts asked at first of a peer that we know nothing of; more when it answers in time.
FIRST_DEPTH = 2
#: Seconds until a peer is asked again that has never said a size, instead of ``retry``; doubled in the same way. It looks for the
#: metadata as we do, has it a moment later, and may never say so (libtorrent 2.1 does not).
SEEKER_RETRY = 10.0
#: Sizes that nobody here claims any more and whose copies are kept: he who gave the first half may come back.
MOST_ORPHANS = 4


@dataclass(slots=True)
class _Ask:
    """Questions to one peer for one part. ``answers``: how many may still come; ``waiting``: one is counted on.

    ``copy`` None: it was asked before it had said a size.
    """

    copy: Copy | None
    answers: int = 0
    waiting: bool = False


@dataclass(slots=True, eq=False)
class _Giver:
    """A peer that speaks the extension. ``size``: of its metadata, None if it has not said; ``copy``: its own."""

    key: Key
    address: Address
    heard_at: float
    size: int | None = None
    depth: int = FIRST_DEPTH
    waiting: int = 0
    paused_until: float = 0.0
    strikes: int = 0
    asks: dict[int, _Ask] = field(default_factory=dict)
    copy: Copy | None = None


@dataclass(slots=True, eq=False)
class _Size:
    """One size, ``claimed`` by so many. ``alone``: a copy of several givers was wrong."""

    size: int
    claimed: int = 0
    shared: Copy | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a part: ``fault`` in words if no correct peer sends it, ``whole``: the copy that it completed."""

    fault: str = ""
    whole: Copy | None = None


_NOTHING = Taken()


class MetadataPicker:
    """One torrent's. ``held``: bytes of all copies; ``too_big``: the largest size claimed beyond the limit."""

    __slots__ = ("_blame", "_copies", "_givers", "_line", "_sizes", "held", "is_done", "settings", "too_big")

    def __init__(self, settings: MetadataSettings | None = None) -> None:
        self.settings = settings or MetadataSettings()
        self.is_done = False
        self.held = 0
        self.too_big = 0
        self._givers: dict[Key, _Giver] = {}
        self._sizes: dict[int, _Size] = {}
        self._copies: dict[Copy, None] = {}
        self._line = Line(self.settings.alone)
        self._blame = Blame()

    # ------------------------------------------------------------------ who is there

    def offered(self, key: Key, address: Address, size: int | None, now: float) -> bool:
        """It speaks the extension, and claims this size (None: says none). False if it claimed another one before."""
        giver = self._givers.get(key)
        if giver is None:
            depth = min(FIRST_DEPTH, self.settings.outstanding)
            giver = self._givers[key] = _Giver(key, address, now, depth=depth)
        if size is None or size == giver.size:
            return True
        if giver.size is not None:
            return False
        giver.paused_until = 0.0  # it was never asked for what it has now
        self._claim(giver, size)
        return True

    def _claim(self, giver: _Giver, size: int) -> None:
        giver.size = size
        if size > self.settings.max_size:
            self.too_big = max(self.too_big, size)
            return
        known = self._sizes.setdefault(size, _Size(size))
        known.claimed += 1
        if known.alone:
            self._line.join(giver.key)

    def gone(self, key: Key) -> None:
        """It left, or speaks the extension no more."""
        giver = self._givers.get(key)
        if giver is None:
            return
        self._let_go(giver)
        self._line.leave(key)
        if giver.copy is not None:
            self._close(giver.copy)
        del self._givers[key]
        known = self._sizes.get(giver.size or 0)
        if known is not None:
            known.claimed -= 1
            self._drop_orphans()

    def _drop_orphans(self) -> None:
        orphans = [known for known in self._sizes.values() if not known.claimed]
        orphans.sort(key=lambda known: known.shared.held if known.shared is not None else 0)
        for known in orphans[: max(0, len(orphans) - MOST_ORPHANS)]:
            del self._sizes[known.size]
            if known.shared is not None:
                self._close(known.shared)

    def has_hope(self, key: Key) -> bool:
        """May it give us metadata, as far as it is known?"""
        giver = self._givers.get(key)
        if giver is None or (giver.size or 0) > self.settings.max_size:
            return False
        return giver.size is not None or not giver.strikes

    # ------------------------------------------------------------------ what to ask

    def next(self, key: Key, now: float) -> list[int]:
        """Parts to ask of this peer now; they count as asked."""
        giver = self._givers.get(key)
        if giver is None or self.is_done or now < giver.paused_until:
            return []
        if giver.size is None:  # whatever its size is, it has a first part
            return [] if giver.waiting else [self._ask(giver, None, 0, now)]
        parts: list[int] = []
        copy = self._copy_for(giver, now)
        while copy is not None and giver.waiting < giver.depth:
            part = copy.next_part(key, self.settings.duplicates)
            if part is None:
                break
            parts.append(self._ask(giver, copy, part, now))
        return parts

    def _copy_for(self, giver: _Giver, now: float) -> Copy | None:
        """What its parts are put into, if any are wanted of it."""
        known = self._sizes.get(giver.size or 0)
        if known is None:  # too big
            return None
        if not known.alone:
            copy = known.shared = self._open(known.shared, known.size, None, now)
        else:
            self._promote(now)
            if giver.key not in self._line.active:
                return None
            copy = giver.copy = self._open(giver.copy, known.size, giver.key, now)
        return None if copy.is_whole else copy

    def _open(self, copy: Copy | None, size: int, alone: Key | None, now: float) -> Copy:
        if copy is None or not copy.is_open:
            copy = Copy(size, alone, now)
            self._copies[copy] = None
        return copy

    def _ask(self, giver: _Giver, copy: Copy | None, part: int, now: float) -> int:
        ask = giver.asks.setdefault(part, _Ask(copy))
        if not giver.waiting:
            giver.heard_at = now
        giver.waiting += not ask.waiting
        ask.copy, ask.waiting = copy, True
        ask.answers += 1
        if copy is not None:
            copy.ask(part, giver.key)
        return part

    def _promote(self, now: float) -> None:
        for key in self._line.promote(lambda key: now >= self._givers[key].paused_until):
            copy = self._givers[key].copy
            if copy is not None:
                copy.begun_at = now

    # ------------------------------------------------------------------ what comes

    def received(self, key: Key, part: int, total_size: int, payload: bytes, now: float) -> Taken:
        """A part came; its length is right for ``part`` and ``total_size``."""
        giver = self._givers.get(key)
        ask = giver.asks.get(part) if giver is not None else None
        if giver is None or ask is None:
            return Taken(fault="sent metadata that nobody asked for")
        if giver.size is not None and total_size != giver.size:
            return Taken(fault=f"says that the metadata has {giver.size} bytes, and sends a part of {total_size}")
        copy = ask.copy
        in_time = self._settle(giver, part, ask)
        if giver.size is None and not self.is_done:
            self._claim(giver, total_size)
        giver.heard_at, giver.paused_until, giver.strikes = now, 0.0, 0
        if in_time:
            giver.depth = min(giver.depth + 1, self.settings.outstanding)
        if copy is None:
            copy = self._copy_for(giver, now)
        if self.is_done or copy is None or not copy.is_open or part in copy.parts:
            return _NOTHING
        copy.put(part, payload, giver.address)
        self.held += len(payload)
        while self.held > self.settings.max_size:
            self._close(min(self._copies, key=lambda each: each.share))
        return Taken(whole=copy) if copy.is_open and copy.is_whole else _NOTHING

    def rejected(self, key: Key, part: int, now: float) -> bool:
        """It will not give this part; False if it was not asked for it."""
        giver = self._givers.get(key)
        ask = giver.asks.get(part) if giver is not None else None
        if giver is None or ask is None:
            return False
        self._settle(giver, part, ask)
        self._pause(giver, now)
        return True

    def expire(self, now: float) -> None:
        """Once a second: who does not answer is not waited for, and who is slow at a copy of its own lets others try."""
        for giver in self._givers.values():
            if giver.waiting and now - giver.heard_at > self.settings.timeout:
                self._let_go(giver)
                giver.depth = 1
                self._pause(giver, now)
        if any(now >= self._givers[key].paused_until for key in self._line.waiting):
            for key in [key for key in self._line.active if self._is_slow(self._givers[key].copy, now)]:
                self._line.send_back(key)
        self._promote(now)

    def _is_slow(self, copy: Copy | None, now: float) -> bool:
        settings = self.settings
        return copy is not None and now - copy.begun_at > settings.timeout + copy.size / settings.least_rate

    def _pause(self, giver: _Giver, now: float) -> None:
        if now < giver.paused_until:
            return  # several rejects at once are one
        settings = self.settings
        giver.strikes += 1
        first = settings.retry if giver.size is not None else min(settings.retry, SEEKER_RETRY)
        giver.paused_until = now + min(first * 2.0 ** min(giver.strikes - 1, 30), settings.last_retry)
        if giver.key in self._line.active:
            self._line.send_back(giver.key)

    def _settle(self, giver: _Giver, part: int, ask: _Ask) -> bool:
        """One answer came; was it still waited for?"""
        ask.answers -= 1
        if not ask.answers:
            del giver.asks[part]
        return self._await_no_more(giver, part, ask)

    def _let_go(self, giver: _Giver) -> None:
        """Nothing is counted on any more; what comes later is welcome."""
        for part, ask in giver.asks.items():
            self._await_no_more(giver, part, ask)

    def _await_no_more(self, giver: _Giver, part: int, ask: _Ask) -> bool:
        if not ask.waiting:
            return False
        ask.waiting = False
        giver.waiting -= 1
        if ask.copy is not None:
            ask.copy.await_no_more(part, giver.key)
        return True

    # ------------------------------------------------------------------ verdicts

    def judged(self, copy: Copy, *, good: bool, digests: Sequence[bytes]) -> tuple[Address, ...]:
        """A whole copy was checked; ``digests`` of its parts. Whom to ban: one address of each host that lied."""
        if good:
            liars = self._blame.was_right(copy, digests)
            self.clear()
            return liars
        self._close(copy)
        liars = self._blame.was_wrong(copy, digests)
        known = self._sizes.get(copy.size)
        if not liars and known is not None and not known.alone:
            known.alone = True
            for key, giver in self._givers.items():
                if giver.size == copy.size:
                    self._line.join(key)
        return liars

    def _close(self, copy: Copy) -> None:
        """Nothing more is put into it, and what it held is let go; a whole one is let go by whoever judges it."""
        if copy.is_open:
            copy.is_open = False
            del self._copies[copy]
            self.held -= copy.held
            if not copy.is_whole:
                copy.let_go()

    def clear(self) -> None:
        """Nothing is wanted any more, and what was gathered is let go."""
        self.is_done = True
        for copy in list(self._copies):
            self._close(copy)
        self._line.clear()

    # ------------------------------------------------------------------ seen from outside

    @property
    def leading(self) -> Copy | None:
        """The copy that has come furthest."""
        return max(self._copies, key=lambda copy: (copy.share, -copy.size), default=None)

    @property
    def likely_size(self) -> int | None:
        """The size that most claim."""
        best = max(self._sizes.values(), key=lambda known: (known.claimed, -known.size), default=None)
        return best.size if best is not None and best.claimed else None

    @property
    def offering(self) -> int:
        """Peers that say they have it, of a size that is accepted."""
        return sum(0 < (giver.size or 0) <= self.settings.max_size for giver in self._givers.values())

    def __repr__(self) -> str:
        return (
            f"<MetadataPicker [{self.offering} of {len(self._givers)} offer"
            f" | {len(self._copies)} copies, {self.held} B | {self._line!r}]>"
        )
