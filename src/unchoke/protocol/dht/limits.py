"""Limits: how much a node gives to whom, so that it cannot be used against others, nor worn out.

A sender's address in a datagram may be a lie, and an answer is larger than its question. So each host has a budget of bytes,
all together have one, and what is large goes to *strangers* only out of a third, small one. A host is a stranger until it
has shown that it gets what is sent to it: by an answer to a query of ours, or by a token.
"""

from __future__ import annotations

#: Hosts remembered, each for budget and proof. More than ask in the time that a budget takes to fill.
MAX_HOSTS = 4096
#: Seconds for which a host is no stranger.
PROOF_LIFE = 1800.0
#: How much faster the budget of a host fills that is no stranger.
PROVEN = 4
#: Bytes a second of large answers to strangers, and seconds of it at once: a filter or an item for twenty of them a second.
STRANGERS_RATE = 20_000
BURST = 2.0
#: What a datagram costs at least, answered or not; one that is larger costs its size. 4 KiB of nonsense take 0.5 ms to read.
NUISANCE = 100


class Budget:
    """Bytes, filling with time up to a burst. May go below zero by the last thing that was allowed."""

    __slots__ = ("at", "bytes")

    def __init__(self, burst: float, now: float) -> None:
        self.bytes = burst
        self.at = now

    def fill(self, rate: float, burst: float, now: float) -> float:
        """What there is now."""
        self.bytes = min(burst, self.bytes + max(0.0, now - self.at) * rate)
        self.at = now
        return self.bytes


class Limits:
    """Hosts are ``ids.identity`` keys. Rates are bytes a second."""

    __slots__ = ("_all", "_burst", "_host_rate", "_hosts", "_proven", "_rate", "_strangers")

    def __init__(self, host_rate: int, host_burst: int, upload_rate: int, now: float) -> None:
        self._host_rate = host_rate
        self._burst = host_burst
        self._rate = upload_rate
        self._hosts: dict[bytes, Budget] = {}
        self._proven: dict[bytes, float] = {}
        self._all = Budget(upload_rate * BURST, now)
        self._strangers = Budget(STRANGERS_RATE * BURST, now)

    def admits(self, host: bytes, now: float) -> bool:
        """Whether a question of this host is read at all."""
        if self._all.fill(self._rate, self._rate * BURST, now) <= 0:
            return False
        budget = self._hosts.get(host)
        if budget is None:
            return True
        rate = self._host_rate * (PROVEN if self.is_proven(host, now) else 1)
        return budget.fill(rate, self._burst, now) > 0

    def charge(self, host: bytes, size: int, now: float) -> None:
        """So many bytes have been sent to it, or it has cost us as much."""
        budget = self._hosts.get(host)
        if budget is None:
            if len(self._hosts) >= MAX_HOSTS:
                _drop_oldest(self._hosts)
            budget = self._hosts[host] = Budget(self._burst, now)
        budget.bytes -= size
        self._all.bytes -= size

    def may_be_large(self, host: bytes, size: int, now: float) -> bool:
        """Whether it may get something large; for a stranger that is taken off what there is for all strangers."""
        if self.is_proven(host, now):
            return True
        if self._strangers.fill(STRANGERS_RATE, STRANGERS_RATE * BURST, now) < size:
            return False
        self._strangers.bytes -= size
        return True

    def prove(self, host: bytes, now: float) -> None:
        """It has shown that it gets what is sent to it."""
        self._proven.pop(host, None)  # the one shown last stands last
        if len(self._proven) >= MAX_HOSTS:
            _drop_oldest(self._proven)
        self._proven[host] = now

    def is_proven(self, host: bytes, now: float) -> bool:
        """Whether it has shown that lately."""
        return now - self._proven.get(host, -PROOF_LIFE) < PROOF_LIFE


def _drop_oldest(table: dict[bytes, Budget] | dict[bytes, float]) -> None:
    for host in list(table)[: MAX_HOSTS // 4]:
        del table[host]
