"""The queue of errands: so many at a time, none lost, and no depth of calls that grows with their number."""

from __future__ import annotations

from random import Random

from unchoke.protocol.dht.errands import Errand
from unchoke.protocol.dht.lookup import Lookup
from unchoke.protocol.dht.messages import Error, Query, Reply
from unchoke.protocol.dht.models import Event, LookupDone
from unchoke.protocol.dht.queries import Pending, Queries
from unchoke.protocol.dht.work import Work
from unchoke.types import Address, NodeId

SOMEBODY = Address("198.51.100.7", 6881)


class Asker:
    """Notes what would be sent and told."""

    id = NodeId(b"i" * 20)

    def __init__(self) -> None:
        self.asked: list[Pending] = []
        self.told: list[Event] = []

    def ask(self, query: Query, pending: Pending) -> None:
        self.asked.append(pending)

    def tell(self, event: Event) -> None:
        self.told.append(event)


class Bench:
    """``most`` errands at a time."""

    def __init__(self, most: int) -> None:
        self.asker = Asker()
        self.queries = Queries(Random(1).getrandbits, 1.0, 8.0)
        self.work = Work(self.asker, self.queries, most)

    def begin(self, handle: int, *starts: Address) -> None:
        target = NodeId(bytes(20))
        named = [(None, address) for address in starts]
        lookup = Lookup(target, named, own_id=self.asker.id, k=8, alpha=4, max_queries=48)
        self.work.begin(Errand(handle, "get", lookup, self.asker.tell), 0.0)


def test_thousands_that_find_nobody_to_ask_end_when_their_turn_comes() -> None:
    bench = Bench(1)
    bench.begin(1, SOMEBODY)
    for handle in range(2, 5002):
        bench.begin(handle)
    assert len(bench.work) == 5001
    assert bench.asker.told == []
    bench.work.cancel(1, 0.0)
    assert [event.handle for event in bench.asker.told if isinstance(event, LookupDone)] == list(range(2, 5002))
    assert len(bench.work) == 0


def test_errands_take_turns_in_order() -> None:
    bench = Bench(2)
    for handle in (1, 2, 3, 4):
        bench.begin(handle, Address("198.51.100.7", handle))
    assert [pending.address.port for pending in bench.asker.asked] == [1, 2]
    bench.work.cancel(3, 0.0)  # one that waits
    for pending in (bench.asker.asked[1], bench.asker.asked[0]):
        over = bench.queries.answered(pending.transaction, pending.address)
        assert over is pending
        bench.work.replied(pending, Error(pending.transaction, 201, "no"), [], 0.0)
    assert [pending.address.port for pending in bench.asker.asked] == [1, 2, 4]
    assert [event.handle for event in bench.asker.told if isinstance(event, LookupDone)] == [2, 1]


def test_a_query_is_slow_first_and_failed_later_and_then_it_is_over() -> None:
    bench = Bench(1)
    bench.begin(1, SOMEBODY)
    assert bench.queries.timer() == 1.0
    [slow] = bench.queries.overdue(1.0)
    assert slow.is_slow
    bench.work.late(slow, 1.0)
    assert bench.asker.told == []
    assert bench.queries.timer() == 8.0
    [failed] = bench.queries.overdue(8.0)
    assert not failed.is_slow
    bench.work.late(failed, 8.0)
    assert [event for event in bench.asker.told if isinstance(event, LookupDone)] == [LookupDone(1, "get", 1, 0)]
    assert bench.queries.timer() is None
    assert bench.queries.answered(failed.transaction, SOMEBODY) is None
    assert len(bench.queries) == 0


def test_a_late_confirmation_does_not_end_the_wait_for_the_others() -> None:
    bench = Bench(1)
    bench.begin(1, SOMEBODY)
    errand = bench.asker.asked[0].errand
    assert errand is not None
    errand.is_storing, errand.storing = True, 1  # one of two is late and the other is waited for
    pending = bench.queries.begin(SOMEBODY, 0.0, errand, bench.asker.asked[0].candidate, leaves=True)
    pending.is_slow = True
    bench.work.replied(pending, Reply(pending.transaction, NodeId(b"x" * 20)), [], 0.0)
    assert (errand.stored, errand.storing) == (1, 1)
    assert bench.asker.told == []
