"""TokenBucket: what passes in a time is the limit times the time."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.policy.bandwidth import TokenBucket


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
