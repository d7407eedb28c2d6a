"""Reasons: what holds a torrent, as small records that a program can tell apart and a person can read.

Each says one thing, with its figures: ``headline`` is a sentence, ``details`` are lines that explain it, ``code`` and the fields
are for programs. A chain of them, the outermost cause first, is made from the facts by ``diagnosis``. Times are relative to the
moment of the snapshot, so that a record needs no clock to be read.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf, isfinite
from typing import ClassVar

#: Lines of detail that fit into a sentence; the rest is counted.
MOST_DETAILS = 3


class Reason:
    """One cause. ``holds``: something is held by it (else it only says what is going on)."""

    __slots__ = ()
    code: ClassVar[str]

    @property
    def holds(self) -> bool:
        return True

    @property
    def headline(self) -> str:
        raise NotImplementedError

    @property
    def details(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where peers could come from, and what it said. ``ago`` and ``next_in`` are seconds, None unknown, ``inf`` never.

    ``kind``: tracker, web seed, dht or lsd; of the last two there is one only, whose ``name`` says all. ``asking``: it is being
    asked at this moment, after it said this.
    """

    kind: str
    name: str
    said: str
    ago: float | None = None
    next_in: float | None = None
    asking: bool = False

    @property
    def words(self) -> str:
        which = "the" if self.kind in ("dht", "lsd") else self.kind
        return f"{which} {self.name} {self.said}{self._when()}"

    def _when(self) -> str:
        if self.ago is None:
            return ""
        then = ""
        if self.asking:
            then = ", being asked again"
        elif self.next_in is not None:
            then = ", never again" if self.next_in == inf else f", again in {span(self.next_in)}"
        return f" ({span(self.ago)} ago{then})"


@dataclass(frozen=True, slots=True)
class _Search(Reason):
    """How the search for peers goes. ``known``: addresses heard of; ``last_refusal``: why the last dial failed."""

    sources: tuple[Source, ...] = ()
    known: int = 0
    dialing: int = 0
    last_refusal: str = ""

    @property
    def details(self) -> tuple[str, ...]:
        lines = [source.words for source in self.sources]
        if self.dialing:
            lines.insert(0, f"dialling {self.dialing}")
        elif self.known:
            silent = (
                f"none of {self.known} known answers" if self.known > 1 else "the one known address does not answer"
            )
            lines.insert(0, silent + _in_brackets(self.last_refusal))
        return tuple(lines) or ("no tracker, no DHT and no address to ask; give one with --peer or --tracker",)


class NoPeers(_Search):
    """Nobody to talk to."""

    __slots__ = ()
    code = "no_peers"

    @property
    def headline(self) -> str:
        return "no peers yet"


class FewPeers(_Search):
    """Behind ``NobodyHas``: why there are no others."""

    __slots__ = ()
    code = "few_peers"

    @property
    def headline(self) -> str:
        return "looking for more peers"


class Unannounced(_Search):
    """A seed without peers of which no tracker knows."""

    __slots__ = ()
    code = "unannounced"

    @property
    def headline(self) -> str:
        return "no tracker knows of us"


@dataclass(frozen=True, slots=True)
class Metadata(Reason):
    """Only the infohash is known. ``offering`` of the peers have the metadata; ``received`` of ``size`` bytes are here (0: unknown).

    ``trouble``: why what is offered cannot be used.
    """

    code = "metadata"
    peers: int
    offering: int = 0
    received: int = 0
    size: int = 0
    trouble: str = ""

    @property
    def headline(self) -> str:
        if self.trouble:
            return f"no metadata: {self.trouble}"
        if not self.offering:
            return f"asking for metadata: {count(self.peers, 'peer')}, none has it yet"
        got = f", {size(self.received)} of {size(self.size)}" if self.size else ""
        return f"fetching metadata from {count(self.offering, 'peer')}{got}"


@dataclass(frozen=True, slots=True)
class NobodyHas(Reason):
    """Peers, but none has what we lack. ``pieces``: how many we lack that none of them has; None if not counted."""

    code = "nobody_has"
    peers: int
    pieces: int | None = None

    @property
    def headline(self) -> str:
        lacking = f"the {count(self.pieces, 'piece')} we lack" if self.pieces else "what we lack"
        return f"{count(self.peers, 'peer')}, none has {lacking}"


@dataclass(frozen=True, slots=True)
class AllChoke(Reason):
    """Peers have what we lack, and none lets us ask. ``interesting``: how many have it."""

    code = "all_choke"
    peers: int
    interesting: int

    @property
    def headline(self) -> str:
        return f"{count(self.peers, 'peer')}, all choke us"


@dataclass(frozen=True, slots=True)
class Waiting(Reason):
    """``asked`` peers let us ask, and nothing comes; ``snubbed`` of them not for long. ``silent_for`` in seconds."""

    code = "waiting"
    asked: int
    snubbed: int = 0
    silent_for: float | None = None

    @property
    def headline(self) -> str:
        stalled = f", {self.snubbed} of them not answering" if self.snubbed else ""
        silent = (
            f", nothing came for {span(self.silent_for)}"
            if self.silent_for is not None and self.silent_for >= 30
            else ""
        )
        return f"asked {count(self.asked, 'peer')}{stalled}, waiting for data{silent}"


@dataclass(frozen=True, slots=True)
class AtLimit(Reason):
    """``scope`` is torrent or session, ``direction`` down or up, ``rate`` the limit in bytes/s (0: not known)."""

    code = "at_limit"
    scope: str
    direction: str
    rate: float = 0.0

    @property
    def headline(self) -> str:
        whose = "this torrent's" if self.scope == "torrent" else "the session's"
        way = "upload" if self.direction == "up" else "download"
        return f"held by {whose} {way} limit" + (f" of {rate(self.rate)}" if self.rate else "")


@dataclass(frozen=True, slots=True)
class DiskSlow(Reason):
    """Pieces wait to be written. ``full``: so many that no memory is left, and less is asked of peers."""

    code = "disk_slow"
    full: bool

    @property
    def headline(self) -> str:
        return "the disk is slower than the network" if self.full else "waiting for the disk"


@dataclass(frozen=True, slots=True)
class Queued(Reason):
    """``position`` counts from 1; ``ahead``: how many wait before it; ``limit``: downloads, seeds or total."""

    code = "queued"
    position: int | None
    ahead: int = 0
    limit: str = ""

    @property
    def headline(self) -> str:
        where = f" at position {self.position}" if self.position is not None else ""
        turn = f"{self.ahead} before it" if self.ahead else "the next to start"
        what = {"downloads": "active downloads", "seeds": "active seeds", "total": "active torrents"}.get(self.limit)
        return f"queued{where}, {turn}" + (f" (limit of {what})" if what else "")


@dataclass(frozen=True, slots=True)
class Checking(Reason):
    """What lies on disk is being hashed, or waits for ``ahead`` other checks. ``share`` is 0 to 1."""

    code = "checking"
    share: float
    ahead: int = 0

    @property
    def holds(self) -> bool:
        return self.ahead > 0

    @property
    def headline(self) -> str:
        return (
            f"waiting for {count(self.ahead, 'other check')}" if self.ahead else f"checking, {100 * self.share:.1f} %"
        )


@dataclass(frozen=True, slots=True)
class NoSpace(Reason):
    """``needed`` more bytes will be written to ``path``, whose disk has ``free``. ``next_in``: seconds until the next look."""

    code = "no_space"
    free: int
    needed: int
    path: str = ""
    next_in: float | None = None

    @property
    def headline(self) -> str:
        where = f" in {self.path}" if self.path else ""
        figures = f"{size(self.needed)} needed, {size(self.free)} free"
        return f"no space{where}: {figures}{_in_brackets(_again(self.next_in))}"


@dataclass(frozen=True, slots=True)
class Problem(Reason):
    """It cannot go on. ``said``: the error; ``lasts``: for how many seconds; ``next_in``: until it tries again."""

    code = "problem"
    said: str
    lasts: float | None = None
    next_in: float | None = None

    @property
    def headline(self) -> str:
        since = f"for {span(self.lasts)}" if self.lasts is not None and self.lasts >= 60 else ""
        return self.said + _in_brackets(", ".join(part for part in (since, _again(self.next_in)) if part))


class StorageProblem(Problem):
    """The same, and it is the disk that said no."""

    __slots__ = ()
    code = "storage_problem"


@dataclass(frozen=True, slots=True)
class Stopped(Reason):
    """``by``: user, goal, session, or empty; ``said``: the same in words."""

    code = "stopped"
    by: str
    said: str = ""

    @property
    def headline(self) -> str:
        whom = {"user": "its user", "goal": "its goal", "session": "the session"}.get(self.by, self.by)
        return self.said or ("stopped" + (f" by {whom}" if whom else ""))


@dataclass(frozen=True, slots=True)
class Seeding(Reason):
    """Complete. ``wanting`` of its ``peers`` want data, ``served`` get some. ``goal``: the ratio at which it ends."""

    code = "seeding"
    peers: int
    wanting: int = 0
    served: int = 0
    ratio: float = 0.0
    goal: float | None = None

    @property
    def holds(self) -> bool:
        return False

    @property
    def headline(self) -> str:
        serving = f"serving {self.served} of {count(self.peers, 'peer')}" if self.wanting else "nobody wants data now"
        return f"{serving}, ratio {self.ratio:.2f}" + (f" of {self.goal:g}" if self.goal is not None else "")


def words(reason: Reason, most: int = MOST_DETAILS) -> str:
    """One reason in a sentence, with at most so many of its details."""
    details = reason.details
    more = (f"and {len(details) - most} more",) if len(details) > most else ()
    return ": ".join(part for part in (reason.headline, "; ".join(details[:most] + more)) if part)


def reason_record(reason: Reason) -> dict[str, object]:
    """One reason for JSON: ``code`` (stable), ``words``, and its figures under their names; never inf or NaN."""
    return {"code": reason.code, "words": words(reason)} | _plain(reason)


def _plain(record: Reason | Source) -> dict[str, object]:
    values = {field.name: getattr(record, field.name) for field in fields(record)}  # type: ignore[arg-type]
    for name, value in values.items():
        if isinstance(value, float):
            values[name] = round(value, 3) if isfinite(value) else None
        elif isinstance(value, tuple):
            values[name] = [_plain(one) for one in value]
    return values


def count(number: int, noun: str) -> str:
    """``"1 peer"``, ``"2 peers"``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """``"12 s"``, ``"5 min"``, ``"3 h"``, ``"9 d"``: one figure, as one says it."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def size(number: float) -> str:
    """Bytes in binary units."""
    return _scaled(number, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def rate(number: float) -> str:
    """Bytes a second in decimal units."""
    return _scaled(number, 1000, ("B/s", "kB/s", "MB/s", "GB/s"))


def _scaled(number: float, base: int, units: tuple[str, ...]) -> str:
    step = 0
    while number >= base - 0.05 and step < len(units) - 1:
        number /= base
        step += 1
    return f"{number:.{1 if step else 0}f} {units[step]}"


def _again(next_in: float | None) -> str:
    return "" if next_in is None or not isfinite(next_in) else f"tries again in {span(next_in)}"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""
