"""The event bus: order, bounds, who hears what, and how it ends."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.engine.events import Event, EventBus, EventsLost, PieceCompleted, Subscription, TorrentRemoved
from unchoke.types import InfoHash

ONE, OTHER = InfoHash(b"1" * 20), InfoHash(b"2" * 20)


def piece(number: int, torrent: InfoHash = ONE) -> PieceCompleted:
    return PieceCompleted(torrent, number)


async def rest(subscription: Subscription) -> list[Event | EventsLost]:
    """What still comes; the subscription or the bus was closed."""
    async with asyncio.timeout(10):
        return [event async for event in subscription]


async def test_events_come_in_order_from_the_moment_of_asking() -> None:
    bus = EventBus()
    bus.publish(piece(0))
    subscription = bus.subscribe()
    bus.publish(piece(1))
    bus.publish(piece(2, OTHER))
    bus.close()
    assert await rest(subscription) == [piece(1), piece(2, OTHER)]


async def test_one_torrents_subscriber_hears_of_it_alone_and_ends_with_it() -> None:
    bus = EventBus()
    subscription = bus.subscribe(ONE)
    for event in (piece(1), piece(2, OTHER), TorrentRemoved(OTHER), TorrentRemoved(ONE), piece(3)):
        bus.publish(event)
    assert await rest(subscription) == [piece(1), TorrentRemoved(ONE)]
    assert "0 subscribers" in repr(bus)


async def test_a_slow_one_loses_the_oldest_and_is_told_how_many() -> None:
    bus = EventBus()
    slow, quick = bus.subscribe(limit=3), bus.subscribe(limit=100)
    for number in range(10):
        bus.publish(piece(number))
    assert await anext(slow) == EventsLost(7)
    assert await anext(slow) == piece(7)
    bus.publish(piece(10))
    bus.publish(piece(11))
    assert await anext(slow) == EventsLost(1)
    bus.close()
    assert await rest(slow) == [piece(9), piece(10), piece(11)]
    assert len(await rest(quick)) == 12


@given(st.lists(st.one_of(st.just("read"), st.just("publish")), max_size=60), st.integers(-1, 8))
@settings(max_examples=100, deadline=None)
def test_nothing_is_lost_without_being_counted(steps: list[str], limit: int) -> None:
    async def play() -> None:
        bus = EventBus()
        subscription = bus.subscribe(limit=limit)
        published = seen = 0

        def take(event: Event | EventsLost) -> None:
            nonlocal seen
            if isinstance(event, EventsLost):
                seen += event.count
            else:
                assert event == piece(seen)
                seen += 1

        for step in steps:
            if step == "publish":
                bus.publish(piece(published))
                published += 1
            elif seen < published:
                take(await anext(subscription))
        bus.close()
        for event in await rest(subscription):
            take(event)
        assert seen == published

    asyncio.run(play())


async def test_closing_wakes_a_waiting_reader() -> None:
    bus = EventBus()
    with bus.subscribe() as subscription:
        reader = asyncio.create_task(rest(subscription))
        await asyncio.sleep(0)
        bus.publish(piece(1))
        await asyncio.sleep(0)
    assert await reader == [piece(1)]
    bus.publish(piece(2))


async def test_a_cancelled_reader_loses_nothing() -> None:
    bus = EventBus()
    subscription = bus.subscribe()
    reader = asyncio.create_task(rest(subscription))
    await asyncio.sleep(0)
    reader.cancel()
    bus.publish(piece(1))
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await anext(subscription) == piece(1)


async def test_a_second_reader_is_refused() -> None:
    subscription = EventBus().subscribe()
    reader = asyncio.create_task(rest(subscription))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="one reader"):
        await anext(subscription)
    subscription.close()
    assert await reader == []


async def test_a_subscription_nobody_holds_is_forgotten() -> None:
    bus = EventBus()
    for _ in range(5):
        bus.subscribe()
    gc.collect()
    assert "0 subscribers" in repr(bus)

    async for event in _published(bus):
        assert event == piece(1)
        break
    gc.collect()
    assert "0 subscribers" in repr(bus)


def _published(bus: EventBus) -> Subscription:
    subscription = bus.subscribe()
    bus.publish(piece(1))
    return subscription


async def test_on_a_closed_bus_there_is_nothing_to_wait_for() -> None:
    bus = EventBus()
    bus.close()
    assert await rest(bus.subscribe()) == []
