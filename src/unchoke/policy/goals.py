"""Goals: when a torrent has seeded enough: by ratio, by time, or because nobody wants it any more.

It only says that a goal is reached, and when to look again; stopping or removing the torrent is its owner's. A goal counts while
the torrent seeds; who is forced, or was started again by its user after a goal, is not asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalSettings:
    """When seeding ends; the first goal that is reached counts. A torrent may have its own, which then replace all of these."""

    ratio: float | None = None
    """Bytes given for each byte of the selected files (2.0: twice). Left out (``null`` in the environment): no such goal; a
    swarm lives by those who stay."""

    seed_time: float | None = None
    """Seconds of seeding, over all runs. Left out: no such goal."""

    idle_time: float | None = None
    """Seconds of seeding without giving a byte. Left out: no such goal (Transmission suggests 30 minutes, off by default)."""

    action: Literal["stop", "remove"] = "stop"
    """What happens then: the torrent is stopped, or removed from the session. Its files stay either way."""

    def __post_init__(self) -> None:
        for name in ("ratio", "seed_time", "idle_time"):
            value = getattr(self, name)
            if value is not None and not value >= 0:  # NaN too
                raise ValueError(f"{name} cannot be {value}; leave it out to have no such goal")
        if self.action not in ("stop", "remove"):
            raise ValueError(f"action is stop or remove, not {self.action!r}")


def reached(goals: GoalSettings, ratio: float, seeding_time: float, idle_for: float) -> str | None:
    """The goal that is reached, in words; None while there is more to give. Times in seconds.

    ``idle_for`` counts from the last byte given, or from the beginning of this seeding if that is later.
    """
    if goals.ratio is not None and ratio >= goals.ratio:
        return f"its ratio of {goals.ratio:g} is reached"
    if goals.seed_time is not None and seeding_time >= goals.seed_time:
        return f"it has seeded for {_span(goals.seed_time)}"
    if goals.idle_time is not None and idle_for >= goals.idle_time:
        return f"nobody took anything for {_span(goals.idle_time)}"
    return None


def next_look(goals: GoalSettings, seeding_time: float, idle_for: float) -> float:
    """Seconds until a goal of time can be reached at the earliest; ``inf`` without one, 0 if one is.

    So an idle torrent needs no tick. The ratio moves only when bytes are given: who gives some looks anyway.
    """
    seeding = inf if goals.seed_time is None else goals.seed_time - seeding_time
    idle = inf if goals.idle_time is None else goals.idle_time - idle_for
    return max(0.0, min(seeding, idle))


def _span(seconds: float) -> str:
    """``"1.5 h"``, in the largest unit that it fills."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{round(seconds / size, 1):g} {unit}"
    return f"{round(seconds, 1):g} s"
