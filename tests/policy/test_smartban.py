"""SmartBan: one contributor is to blame; of several, whoever's block differs from the good copy's, and nobody else."""

from __future__ import annotations

from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from unchoke.policy.smartban import DIGEST_SIZE, MOST_BLOCKS, MOST_COPIES, SmartBan
from unchoke.types import Address

A, B, C = (Address(f"192.0.2.{number}", 6881) for number in (1, 2, 3))
A2 = Address(A.host, 40000)


def digests(drawing: str) -> bytes:
    """A letter a block: equal letters are equal blocks."""
    return b"".join(blake2b(sign.encode(), digest_size=DIGEST_SIZE).digest() for sign in drawing)


def test_one_contributor_is_banned_at_once() -> None:
    assert SmartBan().piece_failed(7, [A, A, A], digests("xxx")).banned == (A,)


def test_two_ports_of_one_host_are_one_contributor() -> None:
    assert SmartBan().piece_failed(7, [A, A2], digests("xx")).banned == (A,)


def test_the_good_copy_names_the_liar_among_several() -> None:
    bans = SmartBan()
    assert bans.piece_failed(7, [A, B, C, B], digests("abxd")).banned == ()
    assert bans.examines(7)
    assert bans.piece_passed(7, digests("abcd")) == (C,)
    assert not bans.examines(7)
    assert bans.piece_passed(7, digests("abcd")) == ()


def test_several_liars_are_all_named() -> None:
    bans = SmartBan()
    bans.piece_failed(7, [A, B, C], digests("xby"))
    assert bans.piece_passed(7, digests("abc")) == (A, C)


def test_only_a_second_failure_asks_for_one_peer_alone() -> None:
    bans = SmartBan()
    assert not bans.piece_failed(7, [A, B], digests("xb")).single
    assert bans.piece_failed(7, [A, C], digests("xc")).single
    assert bans.piece_passed(7, digests("ab")) == (A, C)


def test_blocks_from_disk_blame_nobody() -> None:
    bans = SmartBan()
    assert bans.piece_failed(7, [A, None], digests("ax")).banned == (), "the one on disk may be the wrong one"
    assert bans.piece_passed(7, digests("ab")) == ()
    bans.piece_failed(7, [A, None], digests("xb"))
    assert bans.piece_passed(7, digests("ab")) == (A,)


def test_without_digests_nobody_is_to_blame() -> None:
    bans = SmartBan()
    verdict = bans.piece_failed(7, [A, A], b"")
    assert (verdict.banned, verdict.single, bans.examines(7)) == ((), False, False)
    bans.piece_failed(7, [A, B], digests("xb"))
    assert bans.piece_passed(7, b"") == ()


def test_one_sentence_is_enough() -> None:
    bans = SmartBan()
    bans.piece_failed(1, [A, B], digests("xb"))
    bans.piece_failed(2, [A2, B], digests("xb"))
    assert bans.piece_passed(1, digests("ab")) == (A,)
    assert bans.piece_passed(2, digests("ab")) == ()


def test_the_oldest_failures_are_forgotten_first() -> None:
    bans = SmartBan()
    for piece in range(MOST_COPIES + 10):
        bans.piece_failed(piece, [A, B], digests("xb"))
    assert len(bans) == MOST_COPIES
    assert not bans.examines(9)
    assert bans.examines(10)
    for _ in range(100):
        bans.piece_failed(70, [A, B], digests("xb"))
    assert len(bans) <= MOST_COPIES


def test_huge_pieces_are_few() -> None:
    bans = SmartBan()
    blocks = MOST_BLOCKS // 2
    for piece in range(4):
        bans.piece_failed(piece, [A, B] * (blocks // 2), bytes(DIGEST_SIZE) * blocks)
    assert [bans.examines(piece) for piece in range(4)] == [False, False, True, True]
    bans.piece_failed(9, [A, B] * MOST_BLOCKS, bytes(DIGEST_SIZE) * 2 * MOST_BLOCKS)
    assert [bans.examines(piece) for piece in (2, 3, 9)] == [False, False, True]


@given(st.lists(st.tuples(st.sampled_from([A, B, C, None]), st.booleans()), min_size=1, max_size=20))
def test_who_gave_only_good_blocks_is_never_named(blocks: list[tuple[Address | None, bool]]) -> None:
    """The first pass of a piece: (giver, is it good?) for each block."""
    bans = SmartBan()
    good = "a" * len(blocks)
    bad = "".join("a" if right else "x" for _, right in blocks)
    if bad == good:
        return
    givers = [giver for giver, _ in blocks]
    named = set(bans.piece_failed(0, givers, digests(bad)).banned) | set(bans.piece_passed(0, digests(good)))
    assert named == {giver for giver, right in blocks if giver is not None and not right}
