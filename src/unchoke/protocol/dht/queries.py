"""Queries of ours that are under way: to whom, what for, and when they are slow, and when they have failed.

An answer counts only if it comes from the address that was asked and carries the transaction id that it was asked with,
32 bits that nobody can guess.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from unchoke.protocol.dht.errands import Errand
from unchoke.protocol.dht.lookup import Candidate
from unchoke.types import Address


class Pending:
    """``candidate`` and ``errand``: whose; None for a ping. ``due``: when it is slow, later when it has failed."""

    __slots__ = ("address", "candidate", "due", "errand", "is_slow", "leaves", "sent_at", "transaction")

    def __init__(
        self, transaction: bytes, address: Address, errand: Errand | None, candidate: Candidate | None, leaves: bool
    ) -> None:
        self.transaction = transaction
        self.address = address
        self.errand = errand
        self.candidate = candidate
        self.leaves = leaves
        self.is_slow = False
        self.sent_at = 0.0
        self.due = 0.0


class Queries:
    """``secret(bits)`` gives so many unpredictable bits as a number. Times in seconds."""

    __slots__ = ("_by_address", "_by_transaction", "_secret", "_short", "_timeout", "_timers")

    def __init__(self, secret: Callable[[int], int], short: float, timeout: float) -> None:
        self._secret = secret
        self._short = min(short, timeout)
        self._timeout = timeout
        self._by_transaction: dict[bytes, Pending] = {}
        self._by_address: dict[Address, set[bytes]] = {}
        self._timers: list[tuple[float, bytes]] = []  # (due, transaction), some of them out of date

    def begin(
        self,
        address: Address,
        now: float,
        errand: Errand | None = None,
        candidate: Candidate | None = None,
        *,
        leaves: bool = False,
    ) -> Pending:
        """Note a query that is about to be sent; ``leaves``: it is of the errand's second leg."""
        while (transaction := self._secret(32).to_bytes(4)) in self._by_transaction:
            pass
        pending = Pending(transaction, address, errand, candidate, leaves)
        pending.sent_at = now
        pending.due = now + self._short
        self._by_transaction[transaction] = pending
        self._by_address.setdefault(address, set()).add(transaction)
        heapq.heappush(self._timers, (pending.due, transaction))
        return pending

    def answered(self, transaction: bytes, source: Address) -> Pending | None:
        """The query that this answers, which is over then; None if there is none."""
        pending = self._by_transaction.get(transaction)
        if pending is None or pending.address != source:
            return None
        self._end(pending)
        return pending

    def is_asked(self, address: Address) -> bool:
        """Whether we wait for an answer from there."""
        return address in self._by_address

    def may_answer(self, data: bytes, source: Address) -> bool:
        """Whether a datagram carries a transaction id that we wait for from there: worth reading in the worst flood."""
        return any(b"1:t4:" + transaction in data for transaction in self._by_address.get(source, ()))

    def overdue(self, now: float) -> list[Pending]:
        """Those that have become slow, or have failed (these are over), since the last call."""
        found = []
        while (due := self.timer()) is not None and due <= now:
            pending = self._by_transaction[heapq.heappop(self._timers)[1]]
            if pending.due < pending.sent_at + self._timeout:
                pending.is_slow = True
                pending.due = pending.sent_at + self._timeout
                heapq.heappush(self._timers, (pending.due, pending.transaction))
            else:
                pending.is_slow = False
                self._end(pending)
            found.append(pending)
        return found

    def timer(self) -> float | None:
        """When ``overdue`` has something next."""
        while self._timers:
            due, transaction = self._timers[0]
            pending = self._by_transaction.get(transaction)
            if pending is not None and pending.due == due:
                return due
            heapq.heappop(self._timers)
        return None

    def drop(self, errand: Errand) -> None:
        """An errand is over: what its queries bring still tells us who is alive, and no more."""
        for pending in self._by_transaction.values():
            if pending.errand is errand:
                pending.errand = pending.candidate = None

    def __len__(self) -> int:
        return len(self._by_transaction)

    def _end(self, pending: Pending) -> None:
        del self._by_transaction[pending.transaction]
        transactions = self._by_address[pending.address]
        transactions.remove(pending.transaction)
        if not transactions:
            del self._by_address[pending.address]
