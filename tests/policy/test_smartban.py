"""SmartBan: one contributor is to blame, several are suspects."""

from unchoke.policy.smartban import SmartBan


def test_one_contributor_is_banned() -> None:
    assert SmartBan().piece_failed(["A", "A", "A"]).banned == {"A"}


def test_of_several_nobody_is_and_the_next_try_is_one_peers() -> None:
    verdict = SmartBan().piece_failed(["A", "B", "A"])
    assert verdict.banned == set()
    assert verdict.single


def test_suspicion_goes_with_a_good_piece_of_ones_own() -> None:
    bans = SmartBan()
    bans.piece_failed(["A", "B"])
    bans.piece_passed(["A", "B"])
    assert bans.suspicion == {"A": 1, "B": 1}
    bans.piece_passed(["A"])
    bans.forget("B")
    assert bans.suspicion == {}
