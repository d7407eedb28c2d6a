"""UdpTrackerClient: any number of announces and scrapes to any number of UDP trackers over one socket, without the socket.

A tracker first gives a *connection id*, good for a minute and shared by every request to it; then each request is one packet
and its answer one packet. Either may be lost, so each is sent again after 15 * 2^n seconds (BEP 15). An answer counts only if
it carries a transaction id of ours *and* comes from the tracker that it was sent to; everything else is ignored without a
trace. Failures are values: an ``Answer`` holds a reply or a ``TrackerError``.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from unchoke.errors import ProtocolError, TrackerError
from unchoke.protocol.tracker import udp_packets as packets
from unchoke.protocol.tracker.models import AnnounceReply, AnnounceRequest, ScrapeReply
from unchoke.types import Address, InfoHash

#: Seconds until the first retransmission, and how often that doubles at most (BEP 15).
TIMEOUT = 15.0
RETRIES = 8

#: Seconds a client may use a connection id (BEP 15).
CONNECTION_LIFE = 60.0

#: Requests sent to one tracker and not yet answered. A session that starts with ten thousand torrents would else get all
#: its answers in one burst that no socket buffer holds.
WINDOW = 50


@dataclass(frozen=True, slots=True)
class Answer:
    """How the request that ``announce`` or ``scrape`` numbered ``handle`` ended."""

    handle: int
    result: AnnounceReply | ScrapeReply | TrackerError


@dataclass(frozen=True, slots=True)
class _Announce:
    request: AnnounceRequest
    url_data: bytes


@dataclass(frozen=True, slots=True)
class _Scrape:
    infohashes: tuple[InfoHash, ...]


_Work: TypeAlias = _Announce | _Scrape


class _Request:
    """``transaction`` stays the same when it is sent again, so that a late answer to the first packet still counts."""

    __slots__ = ("attempt", "deadline", "give_up", "handle", "sent", "tracker", "transaction", "work")

    def __init__(self, handle: int, tracker: _Tracker, work: _Work, transaction: int, give_up: float) -> None:
        self.handle = handle
        self.tracker = tracker
        self.work = work
        self.transaction = transaction
        self.give_up = give_up
        self.deadline = give_up
        self.attempt = 0
        self.sent = False


class _Tracker:
    """One tracker's address: its connection id, and who waits for it (no packet out) or for an answer (``in_flight``)."""

    __slots__ = ("address", "attempt", "connect_due", "connecting", "connection", "expires", "in_flight", "waiting")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.connection = 0
        self.expires = -1.0
        self.connecting: int | None = None  # transaction id of the connect request that is out
        self.connect_due = 0.0
        self.attempt = 0
        self.waiting: OrderedDict[int, _Request] = OrderedDict()
        self.in_flight = 0


class UdpTrackerClient:
    """Call ``announce``/``scrape``, then send ``datagrams_to_send``, and again after ``receive_datagram`` and ``handle_timer``.

    ``new_id`` gives 32 unpredictable bits a call: they are all that keeps a stranger who cannot see our packets from
    answering them. ``retries`` is how often a request is sent again before it fails. Times are seconds of any steady clock.
    """

    __slots__ = (
        "_answers",
        "_by_handle",
        "_by_transaction",
        "_last",
        "_new_id",
        "_out",
        "_retries",
        "_timers",
        "_trackers",
    )

    def __init__(self, new_id: Callable[[], int], *, retries: int = RETRIES) -> None:
        self._new_id = new_id
        self._retries = min(retries, RETRIES)
        self._trackers: dict[Address, _Tracker] = {}
        self._by_handle: dict[int, _Request] = {}
        self._by_transaction: dict[int, _Request | _Tracker] = {}
        self._timers: list[tuple[float, int]] = []  # (deadline, transaction), some of them out of date
        self._out: list[tuple[bytes, Address]] = []
        self._answers: list[Answer] = []
        self._last = 0

    # ---- asking ----

    def announce(self, tracker: Address, request: AnnounceRequest, now: float, url_data: bytes = b"") -> int:
        """Begin an announce; the handle comes back in its ``Answer``. ``url_data``: path and query of the URL (BEP 41)."""
        return self._begin(tracker, _Announce(request, url_data), now)

    def scrape(self, tracker: Address, infohashes: tuple[InfoHash, ...], now: float) -> int:
        """Begin a scrape of at most 74 torrents (more are left out, BEP 15)."""
        return self._begin(tracker, _Scrape(infohashes[: packets.MAX_SCRAPE]), now)

    def cancel(self, handle: int, now: float) -> None:
        """Forget a request; there will be no answer. Unknown handles are fine."""
        request = self._by_handle.get(handle)
        if request is not None:
            self._forget(request)
            self._pump(request.tracker, now)

    def _begin(self, address: Address, work: _Work, now: float) -> int:
        tracker = self._tracker(address, now)
        self._last += 1
        give_up = now + TIMEOUT * (2.0 ** (self._retries + 1) - 1)
        request = _Request(self._last, tracker, work, self._transaction(), give_up)
        self._by_handle[request.handle] = request
        self._by_transaction[request.transaction] = request
        tracker.waiting[request.handle] = request
        self._wake_at(give_up, request.transaction)
        if tracker.connecting is not None and tracker.attempt:
            # A newcomer does not inherit the long pauses that others have earned: at most one connect in 15 s, though.
            tracker.connect_due = min(
                tracker.connect_due, max(now, tracker.connect_due - _pause(tracker.attempt) + TIMEOUT)
            )
            tracker.attempt = 0
            self._wake_at(tracker.connect_due, tracker.connecting)
        self._pump(tracker, now)
        return request.handle

    def _tracker(self, address: Address, now: float) -> _Tracker:
        tracker = self._trackers.get(address)
        if tracker is None:
            for one in [one for one in self._trackers.values() if _is_idle(one) and one.expires <= now]:
                del self._trackers[one.address]
            tracker = self._trackers[address] = _Tracker(address)
        return tracker

    def _transaction(self) -> int:
        while (transaction := self._new_id() & 0xFFFFFFFF) in self._by_transaction:
            pass
        return transaction

    # ---- sending ----

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """The packets that are due, each with where it goes. Asking empties the list."""
        out, self._out = self._out, []
        return out

    def _pump(self, tracker: _Tracker, now: float) -> None:
        """Send what waits for this tracker, or ask for the connection id that it needs."""
        if not tracker.waiting:
            if tracker.connecting is not None:
                self._by_transaction.pop(tracker.connecting, None)
                tracker.connecting = None
        elif now < tracker.expires:
            while tracker.waiting and tracker.in_flight < WINDOW:
                self._send(tracker.waiting.popitem(last=False)[1], now)
        elif tracker.connecting is None:
            tracker.attempt = min(request.attempt for request in tracker.waiting.values())
            tracker.connecting = self._transaction()
            self._by_transaction[tracker.connecting] = tracker
            self._connect(tracker, now)

    def _connect(self, tracker: _Tracker, now: float) -> None:
        assert tracker.connecting is not None
        self._out.append((packets.pack_connect(tracker.connecting), tracker.address))
        tracker.connect_due = now + _pause(tracker.attempt)
        self._wake_at(tracker.connect_due, tracker.connecting)

    def _send(self, request: _Request, now: float) -> None:
        tracker, work = request.tracker, request.work
        if isinstance(work, _Announce):
            data = packets.pack_announce(tracker.connection, request.transaction, work.request, work.url_data)
        else:
            data = packets.pack_scrape(tracker.connection, request.transaction, work.infohashes)
        self._out.append((data, tracker.address))
        tracker.in_flight += 1
        request.sent = True
        request.deadline = now + _pause(request.attempt)
        self._wake_at(request.deadline, request.transaction)

    # ---- hearing ----

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> bool:
        """Take a packet. True if it was an answer to something we asked of ``addr``; else it was not for us."""
        try:
            action, transaction = packets.unpack_head(data)
            expected = self._by_transaction.get(transaction)
            if isinstance(expected, _Tracker) and expected.address == addr:
                return self._connect_answered(expected, action, data, now)
            if isinstance(expected, _Request) and expected.sent and expected.tracker.address == addr:
                return self._answered(expected, action, data, now)
        except ProtocolError:
            pass  # too short for what it says it is: as good as lost
        return False

    def _connect_answered(self, tracker: _Tracker, action: int, data: bytes, now: float) -> bool:
        if action == packets.ERROR:
            error = packets.unpack_error(data)
            for request in list(tracker.waiting.values()):
                self._finish(request, TrackerError(f"the tracker says: {error}", kind="refused"))
            self._pump(tracker, now)
            return True
        if action != packets.CONNECT or tracker.connecting is None:
            return False
        tracker.connection = packets.unpack_connect_reply(data)
        tracker.expires = now + CONNECTION_LIFE
        del self._by_transaction[tracker.connecting]
        tracker.connecting = None
        self._pump(tracker, now)
        return True

    def _answered(self, request: _Request, action: int, data: bytes, now: float) -> bool:
        tracker, work = request.tracker, request.work
        result: AnnounceReply | ScrapeReply | TrackerError
        if action == packets.ERROR:
            tracker.expires = (
                -1.0
            )  # some trackers refuse an outlived connection id this way: the next request gets a new one
            result = TrackerError(f"the tracker says: {packets.unpack_error(data)}", kind="refused")
        elif action == packets.ANNOUNCE and isinstance(work, _Announce):
            result = packets.unpack_announce_reply(data, ipv6=":" in tracker.address.host)
        elif action == packets.SCRAPE and isinstance(work, _Scrape):
            result = packets.unpack_scrape_reply(data, work.infohashes)
        else:
            return False
        self._finish(request, result)
        self._pump(tracker, now)
        return True

    def answers(self) -> list[Answer]:
        """How requests ended since the last call."""
        answers, self._answers = self._answers, []
        return answers

    def _finish(self, request: _Request, result: AnnounceReply | ScrapeReply | TrackerError) -> None:
        self._forget(request)
        self._answers.append(Answer(request.handle, result))

    def _forget(self, request: _Request) -> None:
        del self._by_handle[request.handle], self._by_transaction[request.transaction]
        if request.sent:
            request.tracker.in_flight -= 1
        else:
            del request.tracker.waiting[request.handle]

    # ---- time ----

    def _wake_at(self, when: float, transaction: int) -> None:
        if len(self._timers) > 64 + 4 * len(self._by_transaction):  # most are of requests answered long ago
            self._timers = [timer for timer in self._timers if self._deadline(timer[1]) == timer[0]]
            heapq.heapify(self._timers)
        heapq.heappush(self._timers, (when, transaction))

    def get_timer(self) -> float | None:
        """When ``handle_timer`` wants to be called next, or None."""
        while self._timers:
            when, transaction = self._timers[0]
            if self._deadline(transaction) == when:
                return when
            heapq.heappop(self._timers)
        return None

    def _deadline(self, transaction: int) -> float | None:
        """When the owner of ``transaction`` next wants the clock; None if there is no such owner any more."""
        owner = self._by_transaction.get(transaction)
        if isinstance(owner, _Tracker):
            return owner.connect_due
        return owner.deadline if owner is not None else None

    def handle_timer(self, now: float) -> None:
        """Send again, or give up, what has waited long enough."""
        while (when := self.get_timer()) is not None and when <= now:
            owner = self._by_transaction[heapq.heappop(self._timers)[1]]
            if isinstance(owner, _Tracker):
                owner.attempt = min(owner.attempt + 1, RETRIES)
                self._connect(owner, now)
            else:
                self._timed_out(owner, now)

    def _timed_out(self, request: _Request, now: float) -> None:
        tracker = request.tracker
        request.attempt += 1
        if not request.sent or request.attempt > self._retries:
            self._finish(request, TrackerError("no answer from the tracker (timed out)", kind="timeout"))
        else:
            request.sent = False
            request.deadline = request.give_up = max(request.give_up, now + _pause(request.attempt))
            tracker.in_flight -= 1
            tracker.waiting[request.handle] = request
            self._wake_at(request.deadline, request.transaction)
        self._pump(tracker, now)

    def __repr__(self) -> str:
        return f"<UdpTrackerClient [{len(self._by_handle)} requests to {len(self._trackers)} trackers]>"


def _pause(attempt: int) -> float:
    return TIMEOUT * float(2 ** min(attempt, RETRIES))


def _is_idle(tracker: _Tracker) -> bool:
    return not tracker.waiting and not tracker.in_flight
