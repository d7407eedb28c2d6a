"""Eviction: whose place a newcomer may have."""

from __future__ import annotations

from unchoke.policy.eviction import EvictionSettings, Occupant, least_useful

SETTINGS = EvictionSettings(idle=100.0)
NOW = 1000.0


def holder(key: str, moved_at: float, *, ours: bool = False, theirs: bool = False, hopeless: bool = False) -> Occupant:
    return Occupant(key, moved_at, we_interested=ours, they_interested=theirs, hopeless=hopeless)


def test_nobody_goes_who_gives_or_takes() -> None:
    assert least_useful([holder("a", NOW - 1), holder("b", NOW - 99)], SETTINGS, NOW) is None
    assert least_useful([], SETTINGS, NOW) is None


def test_a_newcomer_does_not_drive_out_a_newcomer() -> None:
    """A place changes hands once in ``idle`` seconds, however many knock."""
    holders = {number: holder(str(number), NOW - 500) for number in range(10)}
    changes = 0
    for second in range(1000):
        gone = least_useful(holders.values(), SETTINGS, NOW + second)
        if gone is not None:
            changes += 1
            holders[int(str(gone))] = holder(str(gone), NOW + second)
    assert changes <= 10 * (1 + 1000 / 100)


def test_those_with_whom_data_will_never_flow_go_first_and_at_once() -> None:
    holders = [holder("idle", NOW - 900), holder("seed", NOW - 1, hopeless=True)]
    assert least_useful(holders, SETTINGS, NOW) == "seed"


def test_then_those_without_interest_then_the_longest_idle() -> None:
    wanted = holder("wanted", NOW - 900, ours=True)
    wants = holder("wants", NOW - 800, theirs=True)
    both = holder("both", NOW - 950, ours=True, theirs=True)
    none = holder("none", NOW - 150)
    assert least_useful([both, wants, wanted, none], SETTINGS, NOW) == "none"
    assert least_useful([both, wants, wanted], SETTINGS, NOW) == "wanted"
    assert least_useful([both, wants], SETTINGS, NOW) == "wants"
    assert least_useful([both], SETTINGS, NOW) == "both"
