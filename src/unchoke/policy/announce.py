"""AnnounceSchedule: which trackers of one torrent are asked when, and with which event (BEP 3, 12, 15, 31).

One working tracker of each tier is enough; when it fails, the next of its tier is asked at once, and the one that answers
moves to the front (BEP 12). Failures back off tracker by tracker. It only decides: announcing is the engine's, which
tells it how each announce ended. Times are seconds of any steady clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from unchoke.errors import ErrorClass
from unchoke.masking import masked

if TYPE_CHECKING:
    from random import Random

#: The words of BEP 3; empty is a regular announce.
Event: TypeAlias = Literal["", "started", "completed", "stopped"]

#: How a tracker stands. "silent": asked, no answer for a while, its own retries go on. "unsupported": a scheme we do not speak.
Status: TypeAlias = Literal["waiting", "announcing", "working", "silent", "failed", "unsupported"]

#: What the engine can announce to.
SCHEMES = frozenset(("http", "https", "udp"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceSettings:
    """Trackers: which are asked, how often, and how long we wait."""

    strict_bep12: bool = False
    """Ask only the first tier that has a working tracker (BEP 12 to the letter). Off: one working tracker of every tier at
    once, as libtorrent's ``announce_to_all_tiers`` and most clients in use; magnet links give each tracker its own tier."""

    default_interval: float = 1800.0
    """Seconds between announces to a tracker that names no interval (30 minutes, what most trackers send; BEP 3)."""

    shortest_interval: float = 10.0
    """Seconds: lower bound for what a tracker asks, so that an interval of 0 makes no flood. Trackers on a LAN ask for
    little more than this, and mean it."""

    longest_interval: float = 4 * 3600.0
    """Seconds: upper bound for what a tracker asks, so that an interval of 10^9 does not cut a torrent off."""

    more_peers_interval: float = 60.0
    """Seconds between two announces made only because peers are short, where the tracker names no ``min interval``
    (libtorrent: 30)."""

    first_retry: float = 15.0
    """Seconds until a tracker that failed is tried again; each further failure doubles it (BEP 15 starts with 15 too)."""

    longest_retry: float = 3600.0
    """Seconds: where that doubling ends."""

    silence: float = 15.0
    """Seconds without an answer after which the next tracker of a tier is tried as well, while the silent one's own
    retries go on (the first time-out of BEP 15)."""

    udp_retries: int = 4
    """Retransmissions within one UDP announce, 15 * 2^n seconds apart (BEP 15 allows 8). Four take 465 s; the pause that
    follows is at least as long, so the rhythm is BEP 15's, but a dead tracker costs no task while it lasts."""

    http_timeout: float = 30.0
    """Seconds one HTTP announce may take, redirects and body included (libtorrent: 30)."""

    max_reply: int = 1024 * 1024
    """Bytes of an HTTP tracker's answer, after decompression. 170,000 peers fit; nobody needs more."""

    max_peers_wanted: int = 200
    """Most peers asked for in one announce (``numwant``); most trackers cap at 50 to 200."""

    max_trackers: int = 200
    """Trackers of one torrent that are used; the rest of a longer list is ignored. The longest lists in the wild hold about
    150, and a torrent must not turn its downloaders into a flood."""

    max_at_once: int = 50
    """Announces under way to one host, over all torrents (libtorrent: 50 over HTTP)."""

    max_per_second: float = 50.0
    """Announces begun to one host in a second, over all torrents, in their order; ``stopped`` is not held up. Ten thousand torrents on
    one tracker take 200 s to join, instead of being taken for an attack."""

    verify_tls: bool = True
    """Ask an https tracker for a certificate that this machine trusts (``SSL_CERT_FILE`` names others)."""

    stop_timeout: float = 5.0
    """Seconds that the ``stopped`` announces may hold up closing."""


@dataclass(frozen=True, slots=True)
class TrackerState:
    """How one tracker stands, as a value. Times are on the session's clock; ``next_announce`` is ``inf`` for never.

    ``error`` is the last failure in words, ``error_class`` the same for programs, both empty once it works; ``message`` its own
    warning. ``peers`` is how many it gave the last time; ``seeds``, ``leechers`` and ``downloaded`` (how often it was
    completed) are what it counts, None where it does not say; ``scraped`` is when it was last asked for nothing else. ``failures``
    are in a row. ``given``: by the user, not by the torrent. ``url`` holds its user's secrets: ``name`` is what may be shown.
    """

    url: str
    tier: int
    status: Status
    last_announce: float | None = None
    next_announce: float = math.inf
    error: str = ""
    message: str = ""
    peers: int = 0
    seeds: int | None = None
    leechers: int | None = None
    failures: int = 0
    error_class: ErrorClass = ""
    downloaded: int | None = None
    scraped: float | None = None
    given: bool = False

    @property
    def name(self) -> str:
        """The URL fit to show."""
        return masked(self.url)

    @property
    def summary(self) -> str:
        """What comes after "tracker x ..." in a sentence."""
        if self.status == "unsupported":
            return "is of a kind that is not supported"
        if self.error:
            return f"failed: {self.error}"
        if self.status == "working":
            return f"gave {self.peers} peer{'' if self.peers == 1 else 's'}" + (
                f", and says: {self.message}" if self.message else ""
            )
        return "is being asked" if self.status == "announcing" else "has not been asked yet"


class Due(NamedTuple):
    """Announce to ``url`` now, with this event."""

    url: str
    event: Event


class _Tracker:
    """The moving parts behind a TrackerState. ``earliest``: no announce before it, whoever wants peers."""

    __slots__ = (
        "announcing", "began", "downloaded", "earliest", "error", "error_class", "failures", "given", "heard_started", "last",
        "leechers", "message", "next", "peers", "scraped", "seeds", "status", "tier", "url",
    )  # fmt: skip

    def __init__(self, url: str, tier: _Tier) -> None:
        self.url = url
        self.tier = tier
        self.status: Status = "waiting" if url.partition(":")[0].lower() in SCHEMES else "unsupported"
        self.announcing = False
        self.heard_started = False
        self.began = 0.0
        self.last: float | None = None
        self.next = 0.0
        self.earliest = 0.0
        self.error = ""
        self.message = ""
        self.peers = 0
        self.seeds: int | None = None
        self.leechers: int | None = None
        self.downloaded: int | None = None
        self.scraped: float | None = None
        self.failures = 0
        self.error_class: ErrorClass = "unsupported" if self.status == "unsupported" else ""
        self.given = False

    def state(self) -> TrackerState:
        unsupported = self.status == "unsupported"
        return TrackerState(
            url=self.url,
            tier=self.tier.number,
            status="announcing" if self.announcing and self.status != "silent" else self.status,
            last_announce=self.last,
            next_announce=math.inf if unsupported else self.next,
            error=self.error,
            message=self.message,
            peers=self.peers,
            seeds=self.seeds,
            leechers=self.leechers,
            failures=self.failures,
            error_class=self.error_class,
            downloaded=self.downloaded,
            scraped=self.scraped,
            given=self.given,
        )


class _Tier:
    """Trackers that stand for one another, best first. One of them is told ``completed``, once."""

    __slots__ = ("heard_completed", "number", "trackers")

    def __init__(self, number: int, urls: Iterable[str]) -> None:
        self.number = number
        self.trackers = [_Tracker(url, self) for url in urls]
        self.heard_completed = False

    @property
    def is_busy(self) -> bool:
        """One is being asked, and there is hope."""
        return any(tracker.announcing and tracker.status != "silent" for tracker in self.trackers)

    def maybe_working(self) -> _Tracker | None:
        return next((tracker for tracker in self.trackers if tracker.status == "working"), None)

    def candidates(self) -> Iterator[_Tracker]:
        """Who may be asked next, when its time has come: the working one alone, else all, best first."""
        working = self.maybe_working()
        if self.is_busy:
            return iter(())
        if working is not None:
            return iter((working,))
        return (one for one in self.trackers if not one.announcing and one.status != "unsupported")


class AnnounceSchedule:
    """One torrent's trackers. ``due`` asks, ``began`` commits; each announce then ends in ``succeeded`` or ``failed``.

    ``tiers`` are BEP 12's; the order within a tier is shuffled with ``rng``. ``user_trackers`` are a tier each.
    """

    __slots__ = ("_by_url", "_completed", "_rng", "_running", "_settings", "_tiers")

    def __init__(
        self,
        tiers: Iterable[Sequence[str]],
        settings: AnnounceSettings,
        rng: Random,
        *,
        user_trackers: Iterable[str] = (),
    ) -> None:
        self._settings = settings
        self._rng = rng
        self._running = False
        self._completed = False
        self._tiers: list[_Tier] = []
        self._by_url: dict[str, _Tracker] = {}
        for urls in tiers:
            room = max(0, settings.max_trackers - len(self._by_url))
            fresh = [url for url in dict.fromkeys(urls) if url and url not in self._by_url]
            rng.shuffle(fresh)
            self._add_tier(fresh[:room])
        for url in user_trackers:
            self.add(url, 0.0)

    def _add_tier(self, urls: Sequence[str]) -> None:
        if urls:
            tier = _Tier(len(self._tiers), urls)
            self._tiers.append(tier)
            self._by_url.update((tracker.url, tracker) for tracker in tier.trackers)

    def add(self, url: str, now: float, *, given: bool = True) -> bool:
        """One more tracker, a tier of its own, due at once; ``given`` by the user himself. False if that changes nothing.

        One that the torrent names too leaves its tier, where it might never be asked.
        """
        known = self._by_url.get(url)
        if not url or (known is not None and (known.given or not given)):
            return False
        if known is None:
            self._add_tier([url])
        elif len(known.tier.trackers) > 1:
            self._set_apart(known)
        tracker = self._by_url[url]
        tracker.given = given
        if tracker.status != "working":
            tracker.next = now
        return True

    def _set_apart(self, tracker: _Tracker) -> None:
        before = tracker.tier
        before.trackers.remove(tracker)
        tracker.tier = _Tier(len(self._tiers), ())
        tracker.tier.trackers.append(tracker)
        tracker.tier.heard_completed = before.heard_completed and tracker.status == "working"
        self._tiers.append(tracker.tier)

    def is_given(self, url: str) -> bool:
        """Did the user name it?"""
        return self._by_url[url].given

    # ---- when to announce ----

    def start(self, now: float) -> None:
        """The torrent joins its swarm: everything is due, nobody has heard of us."""
        self._running = True
        self._completed = False
        for tier in self._tiers:
            tier.heard_completed = False
            for tracker in tier.trackers:
                tracker.heard_started = False
                tracker.next, tracker.earliest, tracker.failures = now, now, 0

    def due(self, now: float) -> list[Due]:
        """The announces that should begin now, at most one of each tier. Changes nothing; see ``began``."""
        found = []
        for tier in self._tiers if self._running else ():
            tracker = next((one for one in tier.candidates() if one.next <= now), None)
            if tracker is not None:
                found.append(Due(tracker.url, self._event(tracker)))
            if self._suffices(tier, tracker):
                break
        return found

    @property
    def next_due(self) -> float:
        """When ``due`` next has something; ``inf`` if only the end of an announce under way can change that."""
        soonest = math.inf
        for tier in self._tiers if self._running else ():
            soonest = min(soonest, min((one.next for one in tier.candidates()), default=math.inf))
            if self._suffices(tier, None):
                break
        return soonest

    def _suffices(self, tier: _Tier, chosen: _Tracker | None) -> bool:
        """BEP 12 to the letter: no later tier while this one works or may be about to."""
        strict = self._settings.strict_bep12
        return strict and (chosen is not None or tier.is_busy or tier.maybe_working() is not None)

    def _event(self, tracker: _Tracker) -> Event:
        if not tracker.heard_started:
            return "started"
        return "completed" if self._completed and not tracker.tier.heard_completed else ""

    def began(self, url: str, now: float) -> None:
        """An announce to ``url`` is under way."""
        tracker = self._by_url[url]
        tracker.announcing, tracker.began = True, now

    # ---- how it ended ----

    def succeeded(
        self,
        url: str,
        event: Event,
        now: float,
        *,
        interval: float | None = None,
        min_interval: float | None = None,
        peers: int = 0,
        seeds: int | None = None,
        leechers: int | None = None,
        downloaded: int | None = None,
        message: str = "",
    ) -> None:
        """``url`` answered. Intervals in seconds are its wishes; they are kept within the settings' bounds."""
        tracker = self._by_url[url]
        tier, limit = tracker.tier, self._settings
        regular = self._bounded(interval or limit.default_interval)
        pause = self._bounded(min_interval or min(limit.more_peers_interval, regular))
        self._promote(tracker)
        tracker.announcing, tracker.status, tracker.failures = False, "working", 0
        tracker.error, tracker.error_class, tracker.message, tracker.peers = "", "", message, peers
        self._count(tracker, seeds, leechers, downloaded)
        tracker.last, tracker.earliest, tracker.next = now, now + pause, now + max(regular, pause)
        if event == "started":
            tracker.heard_started = True
        tier.heard_completed |= event == "completed"
        if self._completed and not tier.heard_completed:
            tracker.next = now

    def scraped(self, url: str, now: float, *, seeds: int, leechers: int, downloaded: int) -> None:
        """``url`` was asked for its counts alone (BEP 48). Unknown ones are fine."""
        tracker = self._by_url.get(url)
        if tracker is not None:
            tracker.scraped = now
            self._count(tracker, seeds, leechers, downloaded)

    def _count(self, tracker: _Tracker, seeds: int | None, leechers: int | None, downloaded: int | None) -> None:
        """What an announce leaves out, a scrape may have told before."""
        known = tracker.scraped is not None
        tracker.seeds = tracker.seeds if seeds is None and known else seeds
        tracker.leechers = tracker.leechers if leechers is None and known else leechers
        tracker.downloaded = tracker.downloaded if downloaded is None else downloaded

    def _bounded(self, seconds: float) -> float:
        return min(max(seconds, self._settings.shortest_interval), self._settings.longest_interval)

    def _promote(self, tracker: _Tracker) -> None:
        """To the front of its tier (BEP 12), unless another one works there: a late answer displaces nobody."""
        trackers = tracker.tier.trackers
        if tracker.tier.maybe_working() in (None, tracker):
            trackers.remove(tracker)
            trackers.insert(0, tracker)

    def failed(
        self, url: str, now: float, error: str, retry_in: float | None = None, error_class: ErrorClass = ""
    ) -> None:
        """``url`` refused or could not be reached. ``retry_in``: its own wish in seconds (BEP 31); ``inf`` is never."""
        tracker = self._by_url[url]
        self._rouse_others(tracker, now)
        tracker.announcing, tracker.status, tracker.error, tracker.error_class = False, "failed", error, error_class
        tracker.failures += 1
        tracker.last = now
        tracker.next = tracker.earliest = now + self._back_off(tracker, now, retry_in)

    def _back_off(self, tracker: _Tracker, now: float, retry_in: float | None) -> float:
        """Doubling, with up to a quarter more by chance so that ten thousand torrents do not come back as one; and never
        shorter than the attempt itself took, so that UDP's own doubling is carried on (BEP 15)."""
        limit = self._settings
        if retry_in is not None:
            return max(retry_in, limit.first_retry)
        doubled = limit.first_retry * 2.0 ** min(tracker.failures - 1, 30)
        return max(min(doubled, limit.longest_retry) * self._rng.uniform(1.0, 1.25), now - tracker.began)

    def silent(self, url: str, now: float) -> None:
        """``url`` was asked a while ago: the next of its tier is due, while its own retries go on."""
        tracker = self._by_url[url]
        if tracker.announcing and tracker.status != "silent":
            self._rouse_others(tracker, now)
            tracker.status = "silent"
            tracker.error = f"no answer for {now - tracker.began:.0f} s, still trying"
            tracker.error_class = "timeout"

    def _rouse_others(self, failed: _Tracker, now: float) -> None:
        """If it was the one the tier relied on, those that worked and stood by are needed now."""
        for tracker in failed.tier.trackers if failed.status == "working" else ():
            if tracker is not failed and tracker.status == "working":
                tracker.next = min(tracker.next, max(now, tracker.earliest))

    # ---- what the torrent wants ----

    def completed(self, now: float) -> None:
        """The download is complete: each tier hears it once, from now on."""
        self._completed = True
        for tier in self._tiers:
            working = tier.maybe_working()
            if working is not None:
                working.next = now

    def want_more_peers(self, now: float) -> None:
        """Announce as soon as the working trackers allow (``min interval``)."""
        for tier in self._tiers:
            working = tier.maybe_working()
            if working is not None:
                working.next = min(working.next, max(now, working.earliest))

    def stop(self) -> list[str]:
        """The torrent leaves: nothing is due any more. The trackers that must hear ``stopped``: those that heard ``started``."""
        self._running = False
        told = [tracker for tracker in self._by_url.values() if tracker.heard_started]
        for tracker in told:
            tracker.heard_started = False
        return [tracker.url for tracker in told]

    # ---- how it stands ----

    def state(self, url: str) -> TrackerState:
        return self._by_url[url].state()

    def states(self) -> tuple[TrackerState, ...]:
        """Tier by tier, each in its order of preference."""
        return tuple(tracker.state() for tier in self._tiers for tracker in tier.trackers)

    def __repr__(self) -> str:
        working = sum(tracker.status == "working" for tracker in self._by_url.values())
        return f"<AnnounceSchedule [{len(self._by_url)} trackers in {len(self._tiers)} tiers | {working} working]>"
