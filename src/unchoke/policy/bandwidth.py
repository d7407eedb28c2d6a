"""Rate limits: a bucket that fills with time and is emptied by bytes, and chains of them (the torrent's and the session's).

Used for requests (down: what is asked will come) and for blocks sent (up). A bucket may be overdrawn by one block, so that a
limit below one block a second still lets one through at its time; the debt is paid before the next.

While somebody waits, what drips in is handed out in turns and not to whoever happens to wake first: who is quick and near
wakes up fifty times as often as others. ``contended`` says that a bucket was empty at the end of a round of turns; then
nothing passes but in a turn (``Limit.share``).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from math import inf

from unchoke.types import BLOCK_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthSettings:
    """Bytes per second over the whole session; 0: no limit."""

    down: int = 0
    """Payload bytes asked per second."""

    up: int = 0
    """Payload bytes sent per second."""

    burst: float = 0.25
    """Seconds of the limit that may pass at once after a pause: smooth on the line, yet whole blocks fit."""

    limit_lan: bool = True
    """Limits hold for peers of the local network too (private, link-local and loopback addresses). False exempts them: what
    they send and take does not cross the line that limits are there for. On by default, as a limit that something passes
    unseen astonishes whoever set it."""


class TokenBucket:
    """``rate`` bytes/s; 0 or less: unlimited. It may be changed at any time."""

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens", "contended")

    def __init__(self, rate: float = 0.0, *, burst: float = 0.25, now: float = 0.0) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = max(rate * burst, 0.0)
        self._filled_at = now
        self.contended = False

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        """A new limit starts afresh: at most one block of debt, or a lower limit would pay for the higher one for minutes."""
        self._rate = rate
        self._tokens = max(min(self._tokens, max(rate, 0.0) * self._burst), -BLOCK_SIZE)
        self.contended = False

    def available(self, now: float) -> float:
        """Bytes that may pass now; ``inf`` without a limit, never negative."""
        if self._rate <= 0:
            return inf
        if now > self._filled_at:
            self._tokens = min(self._tokens + (now - self._filled_at) * self._rate, self._rate * self._burst)
            self._filled_at = now
        return max(self._tokens, 0.0)

    def take(self, count: float) -> None:
        """``count`` bytes pass (a negative count gives back what did not pass after all)."""
        if self._rate > 0:
            self._tokens -= count

    def wait(self, now: float) -> float:
        """Seconds until anything may pass."""
        if self.available(now) > 0:
            return 0.0
        return -self._tokens / self._rate

    def is_spent(self, now: float) -> bool:
        """Somebody waits for it."""
        return self._rate > 0 and (self.contended or self.available(now) <= 0)

    def end_round(self, now: float) -> None:
        """A round of turns is over: if nothing is left, others wait."""
        self.contended = self.available(now) <= 0

    def __repr__(self) -> str:
        return (
            "<TokenBucket unlimited>"
            if self._rate <= 0
            else f"<TokenBucket {self._rate:.0f} B/s, {self._tokens:.0f} left{', contended' if self.contended else ''}>"
        )


class Limit:
    """What passes must pass all ``buckets``; without any, everything does.

    ``share``: bytes of the turn that is being given, None outside of turns. ``passed`` counts what was taken.
    """

    __slots__ = ("buckets", "passed", "share")

    def __init__(self, *buckets: TokenBucket) -> None:
        self.buckets = buckets
        self.share: float | None = None
        self.passed = 0.0

    def available(self, now: float) -> float:
        """Bytes that may pass now; ``inf`` without a limit, never negative."""
        least = inf if self.share is None else self.share
        for bucket in self.buckets:
            if bucket.rate > 0:
                if bucket.contended and self.share is None:
                    return 0.0
                least = min(least, bucket.available(now))
        return max(least, 0.0)

    def take(self, count: float) -> None:
        """``count`` bytes pass, through every bucket (a negative count gives back)."""
        self.passed += count
        if self.share is not None:
            self.share -= count
        for bucket in self.buckets:
            bucket.take(count)

    @property
    def is_limited(self) -> bool:
        return any(bucket.rate > 0 for bucket in self.buckets)

    def __repr__(self) -> str:
        return f"<Limit {' and '.join(map(repr, self.buckets)) or 'none'}>"


_LOCAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  # RFC 1918
        "169.254.0.0/16", "fe80::/10",  # link-local
        "127.0.0.0/8", "::1/128",
        "fc00::/7",  # RFC 4193
    )
)  # fmt: skip


def is_local(host: str) -> bool:
    """Does this literal address belong to a local network? (Our own subnet is not known here.) False for what is no address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in _LOCAL)
