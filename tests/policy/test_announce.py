"""The announce schedule, in the words of BEP 12: tiers as lists, who is asked as a string, time by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.policy.announce import AnnounceSchedule, AnnounceSettings, Event


class Unshuffled(Random):
    """Leaves every list as it is, and adds nothing by chance."""

    def shuffle(self, x: object) -> None:
        pass

    def uniform(self, a: float, b: float) -> float:
        return a


def url(name: str) -> str:
    return f"http://{name}/announce"


class Torrent:
    """``tiers`` like ``"ab c"``: a and b in the first tier, c alone in the second. Letters stand for trackers."""

    def __init__(self, tiers: str, *, user: Sequence[str] = (), started: bool = True, **options: object) -> None:
        self.settings = AnnounceSettings(**options)  # type: ignore[arg-type]
        self.schedule = AnnounceSchedule(
            [[url(name) for name in tier] for tier in tiers.split()],
            self.settings,
            Unshuffled(),
            user_trackers=[url(name) for name in user],
        )
        self.events: dict[str, Event] = {}
        if started:
            self.schedule.start(0)

    def go(self, now: float) -> str:
        """Begin what is due: ``"a:started b"``."""
        words = []
        for due in self.schedule.due(now):
            name = due.url[7:-9]
            self.events[name] = due.event
            self.schedule.began(due.url, now)
            words.append(f"{name}:{due.event}".rstrip(":"))
        return " ".join(words)

    def ok(self, names: str, now: float, interval: float | None = 1800, minimum: float | None = None) -> None:
        for name in names:
            self.schedule.succeeded(
                url(name),
                self.events[name],
                now,
                interval=interval,
                min_interval=minimum,
                peers=3,
                seeds=1,
                leechers=2,
            )

    def bad(self, names: str, now: float, retry_in: float | None = None) -> None:
        for name in names:
            self.schedule.failed(url(name), now, "refused", retry_in)

    def order(self) -> str:
        """The trackers as they stand, tier by tier."""
        tiers: dict[int, str] = {}
        for state in self.schedule.states():
            tiers[state.tier] = tiers.get(state.tier, "") + state.url[7:-9]
        return " ".join(tiers.values())

    def status(self, name: str) -> str:
        return self.schedule.state(url(name)).status


def test_one_tracker_of_each_tier_is_asked_all_tiers_at_once() -> None:
    torrent = Torrent("ab cd")
    assert torrent.go(0) == "a:started c:started"
    assert torrent.go(0) == ""
    torrent.ok("ac", 1)
    assert torrent.go(1800) == ""
    assert torrent.schedule.next_due == 1801
    assert torrent.go(1801) == "a c"


def test_the_next_of_the_tier_is_asked_at_once_and_moves_to_the_front() -> None:
    torrent = Torrent("abc")
    assert torrent.go(0) == "a:started"
    torrent.bad("a", 1)
    assert torrent.go(1) == "b:started"
    torrent.ok("b", 2)
    assert torrent.order() == "bac"
    assert torrent.go(100) == ""
    assert torrent.go(1802) == "b"
    torrent.bad("b", 1803)
    assert torrent.go(1803) == "a:started"
    torrent.bad("a", 1804)
    assert torrent.go(1804) == "c:started"
    torrent.ok("c", 1805)
    assert torrent.order() == "cba"


def test_strict_asks_the_next_tier_only_when_the_first_has_failed_whole() -> None:
    torrent = Torrent("ab c", strict_bep12=True)
    assert torrent.go(0) == "a:started"
    torrent.bad("a", 1)
    assert torrent.go(1) == "b:started"
    torrent.bad("b", 2)
    assert torrent.go(2) == "c:started"
    torrent.ok("c", 3)
    assert torrent.go(16) == "a:started"
    torrent.ok("a", 17)
    assert torrent.go(1803) == ""
    assert torrent.schedule.next_due == 1817


def test_trackers_are_shuffled_within_their_tier_only() -> None:
    urls = [[url(f"{tier}{number}") for number in range(10)] for tier in "xy"]
    orders = set()
    for seed in range(5):
        states = AnnounceSchedule(urls, AnnounceSettings(), Random(seed)).states()
        assert [{state.url for state in states if state.tier == tier} for tier in (0, 1)] == [
            set(urls[0]),
            set(urls[1]),
        ]
        orders.add(tuple(state.url for state in states))
    assert len(orders) > 1


def test_failures_back_off_doubling_up_to_a_bound() -> None:
    torrent = Torrent("a", longest_retry=100.0)
    now, pauses = 0.0, []
    for _ in range(6):
        assert torrent.go(now) == "a:started"
        torrent.bad("a", now)
        pauses.append(torrent.schedule.next_due - now)
        assert torrent.go(torrent.schedule.next_due - 0.1) == ""
        now = torrent.schedule.next_due
    assert pauses == [15, 30, 60, 100, 100, 100]
    assert torrent.schedule.state(url("a")).failures == 6
    torrent.go(now)
    torrent.ok("a", now)
    assert torrent.schedule.state(url("a")).failures == 0


def test_the_pause_is_at_least_as_long_as_the_attempt_was() -> None:
    torrent = Torrent("a")
    torrent.go(0)
    torrent.bad("a", 465)
    assert torrent.schedule.next_due == 930


@pytest.mark.parametrize(("wish", "due"), [(300.0, 300.0), (0.0, 15.0), (math.inf, math.inf)])
def test_the_trackers_own_wish_counts(wish: float, due: float) -> None:
    torrent = Torrent("a")
    torrent.go(0)
    torrent.bad("a", 0, retry_in=wish)
    assert torrent.schedule.next_due == due
    torrent.schedule.want_more_peers(1)
    assert torrent.schedule.next_due == due


@pytest.mark.parametrize(
    ("interval", "minimum", "regular", "soonest"),
    [
        (1800, None, 1800, 60),
        (1800, 600, 1800, 600),
        (None, None, 1800, 60),
        (0, 0, 1800, 60),
        (1, 1, 10, 10),
        (5, 5, 10, 10),
        (10**9, 10**9, 14400, 14400),
        (60, 300, 300, 300),
        (30, None, 30, 30),
    ],
)
def test_intervals_within_reason(interval: float | None, minimum: float | None, regular: float, soonest: float) -> None:
    torrent = Torrent("a")
    torrent.go(0)
    torrent.ok("a", 0, interval, minimum)
    assert torrent.schedule.next_due == regular
    torrent.schedule.want_more_peers(2)
    assert torrent.schedule.next_due == soonest
    torrent.schedule.want_more_peers(3)
    assert torrent.schedule.next_due == soonest
    assert torrent.go(soonest) == "a"


def test_started_once_to_each_tracker() -> None:
    torrent = Torrent("a")
    assert torrent.go(0) == "a:started"
    torrent.bad("a", 0)
    assert torrent.go(20) == "a:started"
    torrent.ok("a", 20)
    assert torrent.go(1820) == "a"
    torrent.bad("a", 1820)
    assert torrent.go(1840) == "a"


def test_completed_once_and_at_once() -> None:
    torrent = Torrent("ab c")
    torrent.go(0)
    torrent.ok("ac", 0)
    torrent.schedule.completed(10)
    assert torrent.go(10) == "a:completed c:completed"
    torrent.bad("a", 11)
    assert torrent.go(11) == "b:started"
    torrent.ok("bc", 12)
    assert torrent.go(12) == "b:completed"
    torrent.ok("b", 13)
    assert torrent.go(10_000) == "b c"


def test_completed_waits_for_an_announce_under_way() -> None:
    torrent = Torrent("a")
    torrent.go(0)
    torrent.schedule.completed(1)
    assert torrent.go(1) == ""
    torrent.ok("a", 2)
    assert torrent.go(2) == "a:completed"


def test_stopped_only_to_those_that_heard_started() -> None:
    torrent = Torrent("ab c d")
    torrent.go(0)
    torrent.bad("a", 0)
    torrent.go(0)
    torrent.ok("bc", 1)
    assert torrent.schedule.stop() == [url("b"), url("c")]
    assert torrent.schedule.stop() == []
    assert torrent.go(10**6) == ""
    assert torrent.schedule.next_due == math.inf


def test_a_second_start_begins_anew() -> None:
    torrent = Torrent("a")
    torrent.go(0)
    torrent.ok("a", 0)
    torrent.schedule.stop()
    torrent.schedule.start(5)
    assert torrent.go(5) == "a:started"


def test_a_silent_tracker_lets_the_next_one_try_while_it_goes_on() -> None:
    torrent = Torrent("abc")
    torrent.go(0)
    torrent.schedule.silent(url("a"), 15)
    assert torrent.status("a") == "silent"
    assert "no answer for 15 s" in torrent.schedule.state(url("a")).error
    assert torrent.go(15) == "b:started"
    torrent.ok("b", 16)
    assert torrent.order() == "bac"
    torrent.ok("a", 45)  # late, and welcome, but b keeps the tier
    assert torrent.order() == "bac"
    assert torrent.status("a") == "working"
    assert torrent.go(1816) == "b"
    torrent.bad("b", 1817)
    assert torrent.go(1817) == "a"
    assert torrent.schedule.stop() == [url("a"), url("b")]


def test_a_silent_tracker_that_fails_in_the_end_is_failed() -> None:
    torrent = Torrent("ab")
    torrent.go(0)
    torrent.schedule.silent(url("a"), 15)
    torrent.go(15)
    torrent.ok("b", 15)
    torrent.bad("a", 465)
    assert torrent.status("a") == "failed"
    assert torrent.go(1000) == ""
    torrent.schedule.silent(url("a"), 1001)
    assert torrent.status("a") == "failed"


def test_unknown_schemes_are_a_state_and_never_asked() -> None:
    schedule = AnnounceSchedule([["wss://t/x", "HTTP://t/announce"], ["gopher://x"]], AnnounceSettings(), Unshuffled())
    schedule.start(0)
    assert [due.url for due in schedule.due(0)] == ["HTTP://t/announce"]
    assert [state.status for state in schedule.states()] == ["unsupported", "waiting", "unsupported"]
    assert "not supported" in schedule.states()[0].summary
    assert schedule.states()[0].next_announce == math.inf


def test_the_users_trackers_are_a_tier_each_and_doubles_count_once() -> None:
    torrent = Torrent("ab ac", user=("x", "b", "y"))
    assert torrent.order() == "a c x b y"
    assert torrent.schedule.add(url("z"), 5)
    assert not torrent.schedule.add(url("z"), 5)
    assert not torrent.schedule.add("", 5)
    assert torrent.go(5) == "a:started c:started x:started b:started y:started z:started"


def test_a_torrent_with_a_thousand_trackers_asks_a_few() -> None:
    schedule = AnnounceSchedule([[url(str(n))] for n in range(1000)], AnnounceSettings(max_trackers=7), Random(1))
    schedule.start(0)
    assert len(schedule.due(0)) == len(schedule.states()) == 7


def test_the_state_says_it_in_words() -> None:
    torrent = Torrent("a")
    assert torrent.schedule.state(url("a")).summary == "has not been asked yet"
    torrent.go(0)
    assert torrent.schedule.state(url("a")).summary == "is being asked"
    torrent.ok("a", 1)
    state = torrent.schedule.state(url("a"))
    assert (state.status, state.peers, state.seeds, state.leechers, state.last_announce) == ("working", 3, 1, 2, 1)
    assert state.summary == "gave 3 peers"
    torrent.go(1801)
    torrent.bad("a", 1801)
    assert torrent.schedule.state(url("a")).summary == "failed: refused"
    assert "1 trackers in 1 tiers" in repr(torrent.schedule)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), strict=st.booleans())
def test_whatever_happens_no_flood_and_no_standstill(seed: int, strict: bool) -> None:
    rng = Random(seed)
    options = AnnounceSettings(strict_bep12=strict)
    schedule = AnnounceSchedule([[url(f"{t}{n}") for n in range(3)] for t in range(3)], options, rng)
    schedule.start(0)
    now, asked, under_way = 0.0, 0, {}
    for _ in range(200):
        for due in schedule.due(now):
            assert due.url not in under_way
            schedule.began(due.url, now)
            under_way[due.url] = due.event
            asked += 1
        assert not schedule.due(now) or strict
        if under_way and rng.random() < 0.8:
            one = rng.choice(sorted(under_way))
            fate = rng.random()
            if fate < 0.4:
                schedule.succeeded(one, under_way.pop(one), now, interval=rng.choice([None, 0, 1800, 10**9]))
            elif fate < 0.8:
                under_way.pop(one)
                schedule.failed(one, now, "x", rng.choice([None, 60.0]))
            else:
                schedule.silent(one, now)
        else:
            now += rng.choice([1.0, 100.0])
        if rng.random() < 0.1:
            schedule.want_more_peers(now)
    assert under_way or schedule.next_due < math.inf
    assert asked <= 9 * (now / options.shortest_interval + 1)


# ---- what the user adds, and how it stands ----


def test_a_tracker_that_the_user_adds_is_asked_wherever_it_stood() -> None:
    torrent = Torrent("abc d")
    torrent.go(0)
    torrent.ok("ad", 0)
    assert torrent.schedule.add(url("b"), 5)
    assert torrent.order() == "ac d b"
    assert torrent.go(5) == "b:started"
    torrent.ok("b", 6)
    assert torrent.schedule.add(url("d"), 7)  # alone in its tier: it stays, and is the user's from now on
    assert torrent.go(7) == ""
    assert not torrent.schedule.add(url("b"), 8)
    assert [torrent.schedule.is_given(url(name)) for name in "abcd"] == [False, True, False, True]


def test_a_working_tracker_that_is_set_apart_leaves_its_tier_to_the_others() -> None:
    torrent = Torrent("ab")
    torrent.go(0)
    torrent.ok("a", 0)
    torrent.schedule.completed(1)
    assert torrent.go(1) == "a:completed"
    torrent.ok("a", 2)
    assert torrent.schedule.add(url("a"), 3)
    assert torrent.go(3) == "b:started"
    torrent.ok("b", 4)
    assert torrent.go(4) == ""  # each tier has heard of the completion once
    assert torrent.go(1802) == "a"
    assert torrent.order() == "b a"


def test_one_that_failed_is_asked_at_once_when_the_user_names_it() -> None:
    torrent = Torrent("a")
    torrent.go(0)
    torrent.bad("a", 1, retry_in=math.inf)
    assert torrent.go(10**6) == ""
    assert torrent.schedule.add(url("a"), 10**6)
    assert torrent.go(10**6) == "a:started"


def test_what_went_wrong_has_a_class_until_it_works() -> None:
    torrent = Torrent("a")
    torrent.go(0)
    torrent.schedule.silent(url("a"), 15)
    assert torrent.schedule.state(url("a")).error_class == "timeout"
    torrent.schedule.failed(url("a"), 20, "connection refused", None, "connect")
    assert torrent.schedule.state(url("a")).error_class == "connect"
    torrent.go(100)
    torrent.ok("a", 101)
    assert torrent.schedule.state(url("a")).error_class == ""
    assert AnnounceSchedule([["wss://t"]], AnnounceSettings(), Unshuffled()).states()[0].error_class == "unsupported"


def test_what_a_scrape_counted_stays_until_an_announce_says_otherwise() -> None:
    torrent = Torrent("a")
    torrent.go(0)
    torrent.schedule.scraped(url("a"), 1, seeds=5, leechers=6, downloaded=7)
    torrent.schedule.succeeded(url("a"), "started", 2)
    state = torrent.schedule.state(url("a"))
    assert (state.seeds, state.leechers, state.downloaded, state.scraped) == (5, 6, 7, 1)
    torrent.schedule.succeeded(url("a"), "", 3, seeds=8, leechers=9)
    state = torrent.schedule.state(url("a"))
    assert (state.seeds, state.leechers, state.downloaded) == (8, 9, 7)


def test_a_state_shows_its_tracker_without_its_secrets() -> None:
    state = AnnounceSchedule([["http://t.org/0123456789abcdef/announce"]], AnnounceSettings(), Unshuffled()).states()[0]
    assert state.name == "http://t.org/…/announce"
