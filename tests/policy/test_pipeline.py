"""Pipeline: depth follows rate and latency; a silent peer is snubbed."""

from unchoke.policy.pipeline import Pipeline, PipelineSettings
from unchoke.types import BLOCK_SIZE

SETTINGS = PipelineSettings()


def run(pipeline: Pipeline, *, rate: float, latency: float, seconds: float, start: float = 0.0) -> float:
    """A peer that answers after ``latency`` and sends ``rate`` blocks a second; the time afterwards."""
    now = start
    pipeline.asked(0, now)
    now += latency
    step = 0.05
    next_adjust = now + 1.0
    end = start + seconds
    while now < end:
        in_window = min(pipeline.depth / latency, rate) * step
        pipeline.received(max(1, round(in_window)), max(1, round(in_window)) * BLOCK_SIZE, now)
        now += step
        if now >= next_adjust:
            next_adjust += 1.0
            pipeline.adjust(now)
    return now


def test_a_fast_far_peer_gets_a_deep_queue() -> None:
    pipeline = Pipeline(SETTINGS, 0.0, reqq=2000)
    run(pipeline, rate=1000, latency=0.1, seconds=10)
    assert pipeline.depth == SETTINGS.most


def test_a_slow_peer_gets_a_shallow_one() -> None:
    pipeline = Pipeline(SETTINGS, 0.0)
    run(pipeline, rate=20, latency=0.1, seconds=10)
    assert SETTINGS.least <= pipeline.depth <= 40


def test_slow_start_doubles_each_round() -> None:
    pipeline = Pipeline(SETTINGS, 0.0)
    pipeline.asked(0, 0.0)
    before = pipeline.depth
    pipeline.received(before, before * BLOCK_SIZE, 0.1)
    assert pipeline.depth == 2 * before


def test_the_peers_own_limit_is_kept() -> None:
    pipeline = Pipeline(SETTINGS, 0.0, reqq=30)
    run(pipeline, rate=5000, latency=0.2, seconds=5)
    assert pipeline.room(0) == 30
    assert pipeline.room(29) == 1


def test_silence_while_it_owes_us_is_overdue() -> None:
    pipeline = Pipeline(SETTINGS, 0.0)
    pipeline.asked(0, 100.0)
    assert not pipeline.is_overdue(5, 100.0 + SETTINGS.timeout)
    assert pipeline.is_overdue(5, 100.1 + SETTINGS.timeout)
    assert not pipeline.is_overdue(0, 1e6)


def test_a_snubbed_peer_is_asked_for_one_until_it_sends() -> None:
    pipeline = Pipeline(SETTINGS, 0.0)
    pipeline.snub()
    assert pipeline.room(0) == 1
    assert pipeline.room(1) == 0
    pipeline.received(1, BLOCK_SIZE, 50.0)
    assert pipeline.room(1) > 0
