"""WebSeedRecord: whether one web seed is asked now, over how many connections, and for how much at a time (BEP 19).

What fails is left alone for twice as long each time, a file that is not there for long; wrong data costs a server the piece, and a few
wrong pieces all its trust. A run should take some ten seconds: long enough that requests cost nothing, short enough that what
a server turns out not to give is not missed. Which pieces make a run is the picker's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

MIB = 1024 * 1024

#: Seconds a run should take, its bytes at first, and the fewest worth a request.
RUN_TIME = 10.0
FIRST_RUN = 16 * MIB
LEAST_RUN = MIB
#: Files that a server may lack before it counts as one that has not got the torrent.
MOST_MISSING = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSeedSettings:
    """Web servers that have a torrent's files (BEP 19)."""

    enabled: bool = True
    """Take from the web seeds that a torrent names."""

    connections: int = 4
    """Connections to one server, over all torrents (browsers have 6; more are unfriendly, fewer do not fill a long fat line)."""

    servers: int = 8
    """Web seeds of one torrent that are used at one time; others follow as these fail. Lists of hundreds exist."""

    run: int = 64 * MIB
    """Bytes of one range request at most. Shorter for slow servers: what one takes ten seconds for."""

    timeout: float = 30.0
    """Seconds in which a block of 16 KiB must come, else the connection is given up: below half a KiB/s a server is no help."""

    retry: float = 10.0
    """Seconds until a server that failed is asked again; twice as long after each failure in a row."""

    most_retry: float = 3600.0
    """Seconds that wait is at most, and how long a file is not asked for that a server has not got."""

    wrong_pieces: int = 3
    """Pieces of wrong data until a server is asked no more. Each of them is not asked of it again anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSeedState:
    """One web seed at one moment. ``status``: idle, busy, waiting (until ``next_try``, of the loop's clock), or out for good.

    ``rate`` in bytes/s, ``downloaded`` and ``wasted`` in bytes. ``error``: the last trouble in words, for people.
    """

    url: str
    status: str
    connections: int
    rate: float
    downloaded: int
    wasted: int
    error: str
    next_try: float


class WebSeedRecord:
    """One web seed's. ``ranges``: does it answer to ranges? None: not known yet. ``error``: its last trouble, in words."""

    __slots__ = ("_run", "_settings", "error", "failures", "is_out", "missing", "next_try", "ranges", "wrong")

    def __init__(self, settings: WebSeedSettings) -> None:
        self._settings = settings
        self._run = min(FIRST_RUN, settings.run)
        self.error = ""
        self.failures = 0
        self.next_try = 0.0
        self.is_out = False  # for good
        self.ranges: bool | None = None
        self.missing: dict[int, float] = {}  # file → when it may be asked for again
        self.wrong: set[int] = set()  # pieces

    def connections(self, now: float) -> int:
        """How many it may have now. One only until it has shown that it sends what it is asked for."""
        if self.is_out or now < self.next_try:
            return 0
        return self._settings.connections if self.ranges and not self.failures else 1

    def run(self, left: int) -> int:
        """Bytes of the next run at most, of ``left``: each connection shall have something to do until the end.

        A server that knows no ranges is best asked for all there is.
        """
        if self.ranges is False:
            return left
        return min(self._run, max(LEAST_RUN, left // max(1, self._settings.connections)))

    # ------------------------------------------------------------------ what happened

    def delivered(self, length: int, seconds: float) -> None:
        """A run of ``length`` bytes came, in ``seconds`` during which we were ready to take it."""
        self.failures = 0
        if not self.missing and not self.wrong:
            self.error = ""
        wish = int(length / max(seconds, 0.001) * RUN_TIME)
        self._run = max(LEAST_RUN, min(wish, self._run * 2, self._settings.run))

    def failed(self, words: str, now: float, retry_after: float | None = None) -> None:
        """It is left alone for a while; at least as long as it wishes itself, within reason."""
        self.error = words
        if now < self.next_try:  # one failure for all connections that fail together
            return
        wait = min(self._settings.retry * 2 ** min(self.failures, 20), self._settings.most_retry)
        self.failures += 1
        if retry_after is not None:
            wait = max(wait, min(retry_after, self._settings.most_retry))
        self.next_try = now + wait
        self._run = max(LEAST_RUN, self._run // 2)

    def lacks(self, file: int, words: str, now: float, *, only: bool = False) -> None:
        """A file is not there, or is another. Without its ``only`` file, or with many missing, the server itself has failed."""
        self.error = words
        self.missing[file] = now + self._settings.most_retry
        if only or len(self.missing) > MOST_MISSING:
            self.missing.clear()
            self.failed(words, now, self._settings.most_retry)

    def recall(self, now: float) -> bool:
        """Forget which files were missing long ago; True if there were any."""
        found = [file for file, until in self.missing.items() if now >= until]
        for file in found:
            del self.missing[file]
        return bool(found)

    def lied(self, piece: int) -> None:
        """Its data was wrong."""
        self.wrong.add(piece)
        self.error = f"sent wrong data for {len(self.wrong)} pieces" if len(self.wrong) > 1 else "sent wrong data"
        if len(self.wrong) >= self._settings.wrong_pieces:
            self.give_up(self.error)

    def give_up(self, words: str) -> None:
        """It is asked no more."""
        self.error = words
        self.is_out = True
        self.next_try = inf

    def __repr__(self) -> str:
        state = "out" if self.is_out else f"{self.failures} failures" if self.failures else "well"
        return f"<WebSeedRecord [{state} | runs of {self._run // 1024} KiB | {len(self.missing)} files missing]>"
