"""Who runs when not all may. A queue is drawn as a line of torrents in order: D and S want to download and to seed, small
letters are slow, + runs already, ! is forced; what comes out are the indexes of those that should run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.policy.queue import (
    Entry,
    Held,
    Pace,
    QueueSettings,
    arrange,
    move_bottom,
    move_down,
    move_top,
    move_up,
)


def queue(drawing: str) -> list[Entry[int]]:
    entries = []
    for position, marks in enumerate(drawing.split()):
        wants = marks[0]
        entries.append(
            Entry(
                position,
                position,
                "download" if wants in "dD" else "seed",
                forced="!" in marks,
                slow=wants.islower(),
                active="+" in marks,
            )
        )
    return entries


def limits(downloads: int = 0, seeds: int = 0, total: int = 0) -> QueueSettings:
    return QueueSettings(active_downloads=downloads, active_seeds=seeds, active_total=total)


@pytest.mark.parametrize(
    ("drawing", "most", "active"),
    [
        ("", limits(1, 1, 1), []),
        ("D S D S", limits(), [0, 2, 1, 3]),  # no limit: all
        ("D D D", limits(downloads=2), [0, 1]),
        ("S S S", limits(seeds=1), [0]),
        ("S D S D", limits(total=1), [1]),  # downloads before seeds
        ("S D S D", limits(total=3), [1, 3, 0]),
        ("S D S D", limits(downloads=1, seeds=1, total=5), [1, 0]),
        ("D D D", limits(downloads=5, total=2), [0, 1]),
        ("D D! D", limits(downloads=1), [1, 0]),  # a forced one is not counted
        ("D! D! S!", limits(1, 1, 1), [0, 1, 2]),
        ("D+ D+ D", limits(downloads=2), [0, 1]),
        ("D D+ D+", limits(downloads=2), [0, 1]),  # put before those that run: it takes the last one's place
        ("D+ D D+", limits(downloads=2), [0, 1]),
        ("d+ D D", limits(downloads=1), [0, 1]),  # a slow one runs and holds no place
        ("D d+ d+ D", limits(downloads=1), [0, 1, 2]),
        ("d D", limits(downloads=1), [0]),  # who waits is not slow, whatever it was
        ("s+ S+ S", limits(seeds=1), [0, 1]),
        ("d+ S", limits(total=1), [0, 1]),
    ],
)
def test_who_runs(drawing: str, most: QueueSettings, active: list[int]) -> None:
    entries = queue(drawing)
    arranged = arrange(reversed(entries), most)  # the order they are given in says nothing
    assert arranged.active == active
    assert sorted([*arranged.active, *arranged.waiting]) == [entry.key for entry in entries]


def test_who_waits_for_what() -> None:
    assert arrange(queue("D S D D S"), limits(1, 1, 0)).waiting == {
        2: Held(0, "downloads"),
        3: Held(1, "downloads"),
        4: Held(0, "seeds"),
    }
    assert arrange(queue("D D S"), limits(downloads=3, total=1)).waiting == {1: Held(0, "total"), 2: Held(0, "total")}


def test_of_two_at_one_position_the_running_one_stays() -> None:
    entries = [Entry("a", 1, "download"), Entry("b", 1, "download", active=True)]
    assert arrange(entries, limits(downloads=1)).active == ["b"]
    assert arrange(entries[::-1], limits(downloads=1)).active == ["b"]


marks = st.sampled_from(["D", "d", "D+", "d+", "D!", "S", "s", "S+", "s+", "S!"])


@settings(max_examples=60)
@given(st.lists(marks, max_size=30), st.integers(0, 4), st.integers(0, 4), st.integers(0, 6))
def test_limits_hold_and_nothing_flaps(drawn: list[str], downloads: int, seeds: int, total: int) -> None:
    entries, most = queue(" ".join(drawn)), limits(downloads, seeds, total)
    once = arrange(entries, most)
    counted = [entries[key] for key in once.active if not entries[key].forced]
    counted = [entry for entry in counted if not (entry.slow and entry.active)]
    assert not downloads or sum(entry.wants == "download" for entry in counted) <= downloads
    assert not seeds or sum(entry.wants == "seed" for entry in counted) <= seeds
    assert not total or len(counted) <= total
    assert all(entry.key in once.active for entry in entries if entry.forced)
    if not once.waiting:
        assert len(once.active) == len(entries)
    for entry in entries:  # carried out; who was started is not slow at first
        entry.slow = entry.slow and entry.active
        entry.active = entry.key in once.active
    assert arrange(entries, most) == once


def test_negative_limits_are_refused() -> None:
    for wrong in ({"active_total": -1}, {"slow_down": -5}, {"slow_after": float("nan")}):
        with pytest.raises(ValueError, match="0 is no limit"):
            QueueSettings(**wrong)
    assert QueueSettings().is_unlimited
    assert not limits(seeds=1).is_unlimited


class TestPace:
    most = QueueSettings(slow_down=1000, slow_up=100, slow_after=60.0)

    def test_slow_only_after_a_while_and_fast_only_after_a_while(self) -> None:
        pace = Pace()
        assert not pace.update("download", 0.0, self.most, 0.0)
        assert not pace.update("download", 0.0, self.most, 59.0)
        assert pace.update("download", 0.0, self.most, 60.0)
        assert pace.update("download", 5000.0, self.most, 61.0)
        assert pace.update("download", 5000.0, self.most, 120.0)
        assert not pace.update("download", 5000.0, self.most, 121.0)

    def test_a_burst_begins_the_while_anew(self) -> None:
        pace = Pace()
        for now, rate in ((0.0, 0.0), (50.0, 5000.0), (51.0, 0.0)):
            assert not pace.update("download", rate, self.most, now)
        assert not pace.update("download", 0.0, self.most, 100.0)
        assert pace.update("download", 0.0, self.most, 111.0)

    def test_it_begins_anew_as_a_seed(self) -> None:
        pace = Pace()
        pace.update("download", 0.0, self.most, 0.0)
        assert pace.update("download", 0.0, self.most, 60.0)
        assert not pace.update("seed", 500.0, self.most, 61.0)  # fast for a seed
        assert not pace.update("seed", 50.0, self.most, 62.0)
        assert pace.update("seed", 50.0, self.most, 122.0)
        assert "slow" in repr(pace)

    def test_nothing_is_slower_than_zero(self) -> None:
        pace = Pace()
        never = QueueSettings(slow_down=0, slow_after=0.0)
        assert not any(pace.update("download", 0.0, never, now) for now in (0.0, 100.0))


class TestMoves:
    def test_one(self) -> None:
        assert move_up("abc", "c") == list("acb")
        assert move_up("abc", "a") == list("abc")
        assert move_down("abc", "a") == list("bac")
        assert move_down("abc", "c") == list("abc")
        assert move_top("abc", "c") == list("cab")
        assert move_bottom("abc", "a") == list("bca")

    def test_several_stay_together_at_the_end(self) -> None:
        assert move_up("abcd", "cd") == list("acdb")
        assert move_up("abcd", "abd") == list("abdc")
        assert move_down("abcd", "ab") == list("cabd")
        assert move_down("abcd", "cd") == list("abcd")
        assert move_top("abcd", "db") == list("bdac")

    def test_strangers_are_ignored(self) -> None:
        for move in (move_up, move_down, move_top, move_bottom):
            assert move("abc", "x") == list("abc")
            assert move("", "x") == []

    @settings(max_examples=40)
    @given(st.lists(st.integers(0, 20), unique=True), st.sets(st.integers(0, 20)))
    def test_nobody_is_lost_and_each_kind_keeps_its_order(self, keys: list[int], chosen: set[int]) -> None:
        for move in (move_up, move_down, move_top, move_bottom):
            moved = move(keys, chosen)
            assert [key for key in moved if key in chosen] == [key for key in keys if key in chosen]
            assert [key for key in moved if key not in chosen] == [key for key in keys if key not in chosen]
