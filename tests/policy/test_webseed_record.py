"""What a web seed's record says: how many connections, how much at a time, how long to leave it alone."""

from __future__ import annotations

from math import inf

from unchoke.policy.webseed import FIRST_RUN, LEAST_RUN, MIB, MOST_MISSING, WebSeedRecord, WebSeedSettings

GIB = 1024 * MIB


def record(**how: float) -> WebSeedRecord:
    return WebSeedRecord(WebSeedSettings(**how))  # type: ignore[arg-type]


def test_one_connection_until_it_has_shown_that_it_knows_ranges() -> None:
    server = record(connections=3)
    assert server.connections(0) == 1
    server.ranges = True
    assert server.connections(0) == 3
    server.ranges = False
    assert server.connections(0) == 1


def test_runs_follow_the_servers_pace_within_bounds() -> None:
    server = record()
    assert server.run(GIB) == FIRST_RUN
    server.delivered(16 * MIB, 1.0)
    assert server.run(GIB) == 32 * MIB
    for _ in range(5):
        server.delivered(64 * MIB, 1.0)
    assert server.run(GIB) == 64 * MIB
    server.delivered(64 * MIB, 40.0)
    assert server.run(GIB) == 16 * MIB
    server.delivered(1000, 40.0)
    assert server.run(GIB) == LEAST_RUN


def test_towards_the_end_runs_get_shorter_so_that_all_connections_end_together() -> None:
    server = record(connections=4)
    assert server.run(20 * MIB) == 5 * MIB
    assert server.run(1000) == LEAST_RUN
    server.ranges = False
    assert server.run(20 * MIB) == 20 * MIB


def test_each_failure_doubles_the_wait_and_a_success_forgets_them() -> None:
    server, now = record(retry=10, most_retry=50), 0.0
    for wait in (10, 20, 40, 50, 50):
        server.failed("trouble", now)
        assert server.next_try == now + wait
        assert server.connections(now) == 0
        now = server.next_try
        assert server.connections(now) == 1
    server.delivered(1, 1.0)
    assert server.error == ""
    server.failed("trouble", now)
    assert server.next_try == now + 10


def test_connections_that_fail_together_are_one_failure() -> None:
    server = record(retry=10)
    for _ in range(4):
        server.failed("trouble", 5.0)
    assert (server.failures, server.next_try) == (1, 15.0)


def test_the_servers_own_wish_counts_within_reason() -> None:
    server = record(retry=10, most_retry=1000)
    server.failed("busy", 0.0, 300.0)
    assert server.next_try == 300
    server.failed("busy", 300.0, 1e9)
    assert server.next_try == 1300
    server.failed("busy", 1300.0, 0.0)
    assert server.next_try == 1340


def test_a_missing_file_is_asked_for_again_after_long() -> None:
    server = record(most_retry=100)
    server.lacks(3, "404", 0.0)
    server.delivered(1, 1.0)
    assert (server.connections(0), server.error) == (1, "404")
    assert not server.recall(99.0)
    assert server.recall(100.0)
    assert not server.missing


def test_without_its_only_file_or_with_many_missing_it_is_left_alone_as_a_whole() -> None:
    server = record(most_retry=100)
    server.lacks(0, "404", 0.0, only=True)
    assert (server.next_try, server.missing) == (100, {})
    server = record(most_retry=100)
    for file in range(MOST_MISSING + 1):
        assert server.connections(0) == 1
        server.lacks(file, "404", 0.0)
    assert (server.next_try, server.missing) == (100, {})


def test_a_few_wrong_pieces_cost_all_trust() -> None:
    server = record(wrong_pieces=3)
    for piece in (5, 5, 6):
        server.lied(piece)
    assert not server.is_out
    server.lied(9)
    assert (server.is_out, server.next_try, server.connections(1e9)) == (True, inf, 0)
    assert server.error == "sent wrong data for 3 pieces"
