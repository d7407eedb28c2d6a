"""When a torrent has seeded enough, and when to look."""

from __future__ import annotations

from math import inf, nan
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.app.config import ConfigError, load_settings
from unchoke.policy.goals import GoalSettings, next_look, reached


@pytest.mark.parametrize(
    ("goals", "ratio", "seeding_time", "idle_for", "words"),
    [
        (GoalSettings(), 1e9, 1e9, 1e9, None),
        (GoalSettings(ratio=2.0), 1.99, 0, 0, None),
        (GoalSettings(ratio=2.0), 2.0, 0, 0, "its ratio of 2 is reached"),
        (GoalSettings(ratio=0.0), 0.0, 0, 0, "its ratio of 0 is reached"),
        (GoalSettings(seed_time=5400.0), 0, 5399, 0, None),
        (GoalSettings(seed_time=5400.0), 0, 5400, 0, "it has seeded for 1.5 h"),
        (GoalSettings(idle_time=1800.0), 9, 9000, 1799, None),
        (GoalSettings(idle_time=1800.0), 9, 9000, 1800, "nobody took anything for 30 min"),
        (GoalSettings(seed_time=5.0, idle_time=1.0), 0, 4, 1, "nobody took anything for 1 s"),
        (GoalSettings(ratio=1.0, seed_time=86400.0), 0.5, 90000, 0, "it has seeded for 1 d"),
    ],
)
def test_reached(goals: GoalSettings, ratio: float, seeding_time: float, idle_for: float, words: str | None) -> None:
    assert reached(goals, ratio, seeding_time, idle_for) == words


def test_when_to_look() -> None:
    assert next_look(GoalSettings(ratio=1.0), 10.0, 10.0) == inf
    assert next_look(GoalSettings(seed_time=100.0), 40.0, 0.0) == 60.0
    assert next_look(GoalSettings(seed_time=100.0, idle_time=30.0), 40.0, 20.0) == 10.0
    assert next_look(GoalSettings(seed_time=100.0), 400.0, 0.0) == 0.0


times = st.floats(0, 1e7) | st.none()


@settings(max_examples=60)
@given(times, times, st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_look_comes_neither_early_nor_late(
    seed_time: float | None, idle_time: float | None, seeding_time: float, idle_for: float
) -> None:
    """If nobody takes anything meanwhile: not reached until then, reached then."""
    goals = GoalSettings(seed_time=seed_time, idle_time=idle_time)
    wait = next_look(goals, seeding_time, idle_for)
    if wait == inf:
        assert reached(goals, 0.0, inf, inf) is None
        return
    assert reached(goals, 0.0, seeding_time + wait + 1e-3, idle_for + wait + 1e-3) is not None
    if wait > 1e-3:
        assert reached(goals, 0.0, seeding_time + wait - 1e-3, idle_for + wait - 1e-3) is None


@pytest.mark.parametrize("wrong", [{"ratio": -1.0}, {"ratio": nan}, {"seed_time": -5.0}, {"idle_time": nan}])
def test_goals_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="leave it out"):
        GoalSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stop or remove"):
        GoalSettings(action="delete")  # type: ignore[arg-type]


def test_goals_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        '[goals]\nratio = 2\nidle_time = 60\naction = "remove"\n[queue]\nactive_total = 3\n'
    )
    env = {"UNCHOKE_GOALS__SEED_TIME": "90.5", "UNCHOKE_GOALS__IDLE_TIME": "null", "UNCHOKE_QUEUE__SLOW_DOWN": "0"}
    found = load_settings(tmp_path, env)
    assert found.goals == GoalSettings(ratio=2.0, seed_time=90.5, idle_time=None, action="remove")
    assert (found.queue.active_total, found.queue.slow_down) == (3, 0)
    for wrong in ({"ratio": -1.0}, {"action": "burn"}):
        with pytest.raises(ConfigError, match="goals"):
            load_settings(tmp_path, {}, {"goals": wrong})
