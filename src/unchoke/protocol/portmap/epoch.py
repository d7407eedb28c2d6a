"""Epoch: the seconds that a router counts since it last lost its mappings, compared with our own clock (RFC 6886, RFC 6887).

An epoch that does not go on as time does means that the router was restarted, or that we slept: either way what it had
mapped for us may be gone.
"""

from __future__ import annotations


class Epoch:
    """What the last answer said, and when."""

    __slots__ = ("_at", "_last")

    def __init__(self) -> None:
        self._last: int | None = None
        self._at = 0.0

    def follows(self, epoch: int, now: float) -> bool:
        """``epoch``, heard at ``now``, goes on from the last one (RFC 6887, 8.5: a sixteenth and two seconds either way).

        The first one does. It is the one to compare with from now on.
        """
        last, since = self._last, now - self._at
        self._last, self._at = epoch, now
        if last is None:
            return True
        if epoch < last - 1:
            return False
        theirs = epoch - last
        return since + 2 >= theirs - theirs / 16 and theirs + 2 >= since - since / 16

    def __repr__(self) -> str:
        return f"<Epoch [{'nothing heard' if self._last is None else f'{self._last} at {self._at:g}'}]>"
