"""TokenBucket: what passes in a time is the limit times the time."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.policy.bandwidth import Limit, TokenBucket, is_local


def test_no_limit() -> None:
    bucket = TokenBucket(0)
    bucket.take(10**9)
    assert bucket.available(0.0) == inf
    assert bucket.wait(0.0) == 0.0


@settings(max_examples=50)
@given(st.floats(20_000, 1e8), st.sampled_from([0.01, 0.05, 0.1]))
def test_ten_seconds_pass_ten_seconds_worth(rate: float, tick: float) -> None:
    bucket = TokenBucket(rate)
    passed, now = 0, 0.0
    while now < 10.0:
        while bucket.available(now) > 0:
            bucket.take(16384)
            passed += 16384
        now += tick
    assert passed == pytest.approx(10 * rate, abs=rate * 0.25 + 2 * 16384)


def test_less_than_a_block_a_second_still_passes_in_time() -> None:
    bucket = TokenBucket(1000)
    bucket.take(16384)
    assert bucket.available(10.0) == 0
    assert bucket.wait(10.0) == pytest.approx(6.134, abs=0.01)
    assert bucket.available(17.0) > 0


def test_what_did_not_pass_is_given_back() -> None:
    bucket = TokenBucket(100_000)
    before = bucket.available(0.0)
    bucket.take(16384)
    bucket.take(-16384)
    assert bucket.available(0.0) == before


def test_a_chain_lets_through_what_all_of_it_lets_through() -> None:
    own, session = TokenBucket(0), TokenBucket(400_000)
    limit = Limit(own, session)
    assert limit.available(0.0) == 100_000
    own.rate = 40_000
    assert limit.available(1.0) == 10_000
    limit.take(10_000)
    assert own.available(1.0) == 0
    assert session.available(1.0) == 90_000
    assert Limit().available(0.0) == inf


def test_between_turns_nothing_passes_a_contended_bucket() -> None:
    bucket = TokenBucket(100_000)
    limit = Limit(bucket)
    limit.take(30_000)
    bucket.end_round(0.0)
    assert limit.available(1.0) == 0
    assert bucket.is_spent(1.0)
    limit.share = 5000
    assert limit.available(1.0) == 5000
    limit.take(4000)
    assert limit.available(1.0) == 1000
    limit.share = None
    bucket.end_round(1.0)
    assert limit.available(1.0) > 0, "something was left over: nobody waits"


def test_a_new_limit_does_not_pay_for_the_old_one() -> None:
    bucket = TokenBucket(100_000_000)
    bucket.take(50_000_000)
    bucket.rate = 16384
    assert bucket.available(1.5) > 0
    bucket.rate = 100
    assert bucket.available(1.5) <= 25
    bucket.rate = 0
    assert bucket.available(1.5) == inf
    assert not bucket.is_spent(1.5)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("10.1.2.3", True),
        ("172.31.0.1", True),
        ("172.32.0.1", False),
        ("192.168.1.1", True),
        ("169.254.7.7", True),
        ("127.0.0.9", True),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("::ffff:192.168.1.1", True),
        ("::ffff:8.8.8.8", False),
        ("100.64.0.1", False),
        ("8.8.8.8", False),
        ("2001:db8::1", False),
        ("example.org", False),
    ],
)
def test_what_counts_as_local(host: str, local: bool) -> None:
    assert is_local(host) is local
