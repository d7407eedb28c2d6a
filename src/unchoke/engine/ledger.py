"""Ledger: what one torrent gave, took and how long, over all its runs; kept in its row of the state.

A swarm counts while it lives; what it has counted is taken over from time to time, so that a kill loses a minute of it at most.
Times are seconds of the session's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unchoke.engine.resume import TorrentRow
    from unchoke.engine.swarm import Swarm


class Ledger:
    """``idle_since``: when it last gave a byte, or began to seed. ``corrupt``: bytes of pieces that failed, in this session."""

    __slots__ = (
        "_active_since",
        "_down",
        "_seeding_since",
        "_start",
        "_swarm",
        "_up",
        "_wasted",
        "corrupt",
        "idle_since",
        "row",
    )

    def __init__(self, row: TorrentRow) -> None:
        self.row = row
        self.corrupt = 0
        self.idle_since = 0.0
        self._active_since: float | None = None
        self._seeding_since: float | None = None
        self._start = row.uploaded, row.downloaded
        self._swarm: Swarm | None = None
        self._up = self._down = self._wasted = 0  # what the row has of the swarm's

    def announced(self) -> None:
        """Trackers hear ``started``: what they are told counts from here (BEP 3)."""
        self._start = self.uploaded, self.downloaded

    @property
    def since_start(self) -> tuple[int, int]:
        """Payload bytes given and taken since the trackers heard ``started``."""
        return self.uploaded - self._start[0], self.downloaded - self._start[1]

    # ------------------------------------------------------------------ bytes

    def attach(self, swarm: Swarm) -> None:
        """This swarm counts from now on."""
        self._swarm = swarm
        self._up = self._down = self._wasted = 0

    def detach(self, now: float) -> None:
        """It counts no more."""
        self.count(now)
        if self._swarm is not None:
            self.corrupt += self._swarm.intake.corrupt
        self._swarm = None

    def count(self, now: float) -> None:
        """Take over what the swarm has counted since the last time."""
        swarm = self._swarm
        if swarm is None:
            return
        up, down, wasted = swarm.up_rate.total, swarm.intake.rate.total, swarm.intake.wasted
        if up > self._up:
            self.idle_since = now
        self.row.uploaded += up - self._up
        self.row.downloaded += down - self._down
        self.row.wasted += wasted - self._wasted
        self._up, self._down, self._wasted = up, down, wasted

    @property
    def uploaded(self) -> int:
        """Payload bytes given, over all runs."""
        return self.row.uploaded + (self._swarm.up_rate.total - self._up if self._swarm is not None else 0)

    @property
    def downloaded(self) -> int:
        """Payload bytes taken, over all runs."""
        return self.row.downloaded + (self._swarm.intake.rate.total - self._down if self._swarm is not None else 0)

    @property
    def wasted(self) -> int:
        """Payload bytes that came twice or late, over all runs."""
        return self.row.wasted + (self._swarm.intake.wasted - self._wasted if self._swarm is not None else 0)

    # ------------------------------------------------------------------ time

    def entered(self, state: str, now: float) -> None:
        """The torrent's state changed: times run on in some."""
        self.account(now)
        seeding, active = state == "seeding", state in ("downloading", "seeding")
        if seeding and self._seeding_since is None:
            self.idle_since = now
        self._seeding_since = now if seeding else None
        self._active_since = now if active else None

    def account(self, now: float) -> None:
        """Add what has gone by to the row."""
        if self._active_since is not None:
            self.row.active_time += now - self._active_since
            self._active_since = now
        if self._seeding_since is not None:
            self.row.seeding_time += now - self._seeding_since
            self._seeding_since = now

    def active_time(self, now: float) -> float:
        """Seconds of downloading and seeding, over all runs."""
        return self.row.active_time + (now - self._active_since if self._active_since is not None else 0.0)

    def seeding_time(self, now: float) -> float:
        """Seconds of seeding, over all runs."""
        return self.row.seeding_time + (now - self._seeding_since if self._seeding_since is not None else 0.0)

    def __repr__(self) -> str:
        return f"<Ledger [{self.uploaded} B given, {self.downloaded} B taken]>"
