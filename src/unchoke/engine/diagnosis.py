"""Diagnosis: from the facts of a snapshot to the chain of reasons for what holds the torrent, the outermost first.

A pure function of ``Facts``: asked only when somebody wants to know, so that taking a snapshot costs nothing for it. The chain
is empty when nothing holds the torrent and there is nothing to say. What each reason says is in ``reasons``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

from unchoke.engine import reasons as r
from unchoke.policy.announce import TrackerState

#: Payload bytes/s from which data counts as moving.
MOVING = 1.0

#: What is told first: who has said something, then who is being asked, then who was not.
_TELLING = {"working": 0, "failed": 0, "silent": 0, "announcing": 1, "waiting": 2, "unsupported": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the reasons are made of. Points of time are on the session's clock, ``now`` among them; None is not known.

    ``interesting``, ``unchoked_by``: peers that have what we lack, that let us ask; ``pieces_missing_everywhere``: wanted pieces
    that no peer has. ``wanting``, ``serving``: peers that want our data, that may ask. ``verifying``: pieces are on their way to
    the disk; ``disk_waits``: no memory until it has caught up. ``limited_by``, ``up_limited_by``: "torrent", "session" or empty,
    with the limit in bytes/s; ``limited``: nothing may be asked at this very moment. ``space_free``, ``space_needed``: bytes.
    ``queued_behind``: how many wait before it for ``queue_limit`` (downloads, seeds, total). ``stopped_by``: user, goal, session.
    ``error_kind``: "storage", or anything else. ``metadata``: bytes of the info dictionary that have come, and in all (0: nobody
    has said yet); None once it is known; ``metadata_trouble``: why what peers offer cannot be used.
    ``offering``: peers that have it. ``told``: what DHT and LSD said.
    """

    state: str
    reason: str = ""
    now: float | None = None
    wanted: int = 0
    uploaded: int = 0
    checked: float = 0.0
    checks_ahead: int = 0
    down_rate: float = 0.0
    up_rate: float = 0.0
    peers: int = 0
    known_peers: int = 0
    dialing: int = 0
    last_refusal: str = ""
    interesting: int = 0
    unchoked_by: int = 0
    snubbed: int = 0
    wanting: int = 0
    serving: int = 0
    pieces_missing_everywhere: int | None = None
    last_received: float | None = None
    last_sent: float | None = None
    verifying: bool = False
    disk_waits: bool = False
    limited: bool = False
    limited_by: str = ""
    limit: float = 0.0
    up_limited_by: str = ""
    up_limit: float = 0.0
    position: int | None = None
    queued_behind: int = 0
    queue_limit: str = ""
    space_free: int | None = None
    space_needed: int | None = None
    space_path: str = ""
    stopped_by: str = ""
    error_kind: str = ""
    error_since: float | None = None
    retry_at: float | None = None
    ratio_goal: float | None = None
    trackers: tuple[TrackerState, ...] = ()
    metadata: tuple[int, int] | None = None
    metadata_trouble: str = ""
    offering: int = 0
    told: tuple[r.Source, ...] = ()

    @property
    def ratio(self) -> float:
        """Bytes given for each byte of the wanted data."""
        return self.uploaded / self.wanted if self.wanted else 0.0

    def ago(self, when: float | None) -> float | None:
        """Seconds since ``when``; None for what is not known, and never negative."""
        return None if when is None or self.now is None else max(0.0, self.now - when)

    def until(self, when: float | None) -> float | None:
        """Seconds until ``when``."""
        return None if when is None or self.now is None else max(0.0, when - self.now)


def diagnose(facts: Facts) -> tuple[r.Reason, ...]:
    """What holds the torrent, the outermost cause first."""
    tell = _TELLERS.get(facts.state)
    return tuple(tell(facts)) if tell is not None else ()


def _downloading(facts: Facts) -> Iterator[r.Reason]:
    moving = facts.down_rate >= MOVING
    if facts.disk_waits or (facts.verifying and not moving):
        yield r.DiskSlow(facts.disk_waits)
    limited_by = facts.limited_by or ("session" if facts.limited and not moving else "")
    if limited_by and (moving or (facts.interesting and facts.unchoked_by)):
        yield r.AtLimit(limited_by, "down", facts.limit)
    elif not moving and not facts.verifying:
        yield from _nothing_comes(facts)
    yield from _no_space(facts)


def _metadata(facts: Facts) -> Iterator[r.Reason]:
    received, size = facts.metadata or (0, 0)
    if not facts.peers:
        yield r.NoPeers(sources_of(facts), facts.known_peers, facts.dialing, facts.last_refusal)
    else:
        yield r.Metadata(facts.peers, facts.offering, received, size, facts.metadata_trouble)
        if not facts.offering:
            yield r.FewPeers(sources_of(facts), 0, facts.dialing, facts.last_refusal)


def _nothing_comes(facts: Facts) -> Iterator[r.Reason]:
    if not facts.peers:
        yield r.NoPeers(sources_of(facts), facts.known_peers, facts.dialing, facts.last_refusal)
    elif not facts.interesting:
        yield r.NobodyHas(facts.peers, facts.pieces_missing_everywhere)
        if facts.trackers or facts.dialing:
            yield r.FewPeers(sources_of(facts), 0, facts.dialing, facts.last_refusal)
    elif not facts.unchoked_by:
        yield r.AllChoke(facts.peers, facts.interesting)
    else:
        yield r.Waiting(facts.unchoked_by, min(facts.snubbed, facts.unchoked_by), facts.ago(facts.last_received))


def _seeding(facts: Facts) -> Iterator[r.Reason]:
    if facts.up_limited_by and facts.wanting:
        yield r.AtLimit(facts.up_limited_by, "up", facts.up_limit)
    failed = [one for one in facts.trackers if one.error]
    if not facts.peers and failed and not any(one.status == "working" for one in facts.trackers):
        yield r.Unannounced(sources_of(facts), 0, facts.dialing)
    yield r.Seeding(facts.peers, facts.wanting, facts.serving, facts.ratio, facts.ratio_goal)


def _checking(facts: Facts) -> Iterator[r.Reason]:
    yield r.Checking(facts.checked, facts.checks_ahead)


def _queued(facts: Facts) -> Iterator[r.Reason]:
    position = None if facts.position is None else facts.position + 1
    yield r.Queued(position, facts.queued_behind, facts.queue_limit)


def _stopped(facts: Facts) -> Iterator[r.Reason]:
    yield r.Stopped(facts.stopped_by, facts.reason)


def _failed(facts: Facts) -> Iterator[r.Reason]:
    """What is missing first, then what the system said; when it tries again is told once."""
    short = tuple(_no_space(facts))
    yield from short
    if not short or (facts.reason and facts.state != "no space"):
        kind = r.StorageProblem if facts.error_kind == "storage" else r.Problem
        said = facts.reason or "an error without words"
        yield kind(said, facts.ago(facts.error_since), None if short else facts.until(facts.retry_at))


def _no_space(facts: Facts) -> Iterator[r.Reason]:
    free, needed = facts.space_free, facts.space_needed
    if free is not None and needed is not None and free < needed:
        yield r.NoSpace(free, needed, facts.space_path, facts.until(facts.retry_at))


_TELLERS: dict[str, Callable[[Facts], Iterator[r.Reason]]] = {
    "metadata": _metadata,
    "checking": _checking,
    "queued": _queued,
    "downloading": _downloading,
    "seeding": _seeding,
    "stopped": _stopped,
    "error": _failed,
    "no space": _failed,
}


def sources_of(facts: Facts) -> tuple[r.Source, ...]:
    """What each tracker said and when, those that said something first; then what the DHT and the local network said."""
    told = sorted(facts.trackers, key=lambda one: _TELLING.get(one.status, 0))
    return (*(_source(facts, tracker) for tracker in told), *facts.told)


def _source(facts: Facts, tracker: TrackerState) -> r.Source:
    asking = tracker.status in ("announcing", "silent")
    next_in = inf if tracker.next_announce == inf else facts.until(tracker.next_announce)
    ago = facts.ago(tracker.last_announce)
    return r.Source("tracker", tracker.name, tracker.summary, ago, None if asking else next_in, asking)
