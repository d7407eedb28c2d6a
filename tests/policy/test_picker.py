"""PiecePicker, in its own drawing: a swarm is a few strings, a column is a piece.

``x`` has it, ``.`` lacks it, ``-`` is not wanted (only in ours). Pieces have two blocks unless said otherwise.
"""

from __future__ import annotations

from random import Random

import pytest
from bitarray import bitarray
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.layout import FileEntry, TorrentLayout
from unchoke.policy.picker import PickerSettings, PiecePicker
from unchoke.types import BLOCK_SIZE


def bits(drawing: str) -> bitarray:
    return bitarray([sign == "x" for sign in drawing], endian="big")


def swarm(
    ours: str, *peers: str, blocks: int = 2, random_first: int = 0, sequential: bool = False, seed: int = 1
) -> PiecePicker:
    """A picker that has heard of these peers. A row of all ``x`` is a seed."""
    layout = TorrentLayout(blocks * BLOCK_SIZE, [FileEntry(("f",), len(ours) * blocks * BLOCK_SIZE)])
    picker = PiecePicker(
        layout,
        Random(seed),
        settings=PickerSettings(random_first=random_first, sequential=sequential),
        have=bits(ours),
        wanted=~bits(ours.replace("x", ".").replace("-", "x")),
    )
    for peer in peers:
        picker.add_peer(None if "." not in peer else bits(peer))
    return picker


def yes(_: int) -> bool:
    return True


def no(_: int) -> bool:
    return False


def ask(picker: PiecePicker, key: str, pieces: str, count: int, may_open=yes, asked=()) -> list[tuple[int, int]]:  # type: ignore[no-untyped-def]
    """What ``key`` is asked for, as (piece, block number)."""
    has = None if "." not in pieces else bits(pieces)
    return [(piece, begin // BLOCK_SIZE) for piece, begin, _ in picker.next(key, has, count, may_open, asked)]


def pieces_asked(picker: PiecePicker, key: str, pieces: str, count: int) -> set[int]:
    return {piece for piece, _ in ask(picker, key, pieces, count)}


def give(picker: PiecePicker, key: str, *blocks: tuple[int, int]) -> None:
    for piece, number in blocks:
        picker.received(key, piece, number * BLOCK_SIZE)


@pytest.mark.parametrize(
    ("ours", "peers", "expected"),
    [
        ("....", ["xxxx", "xx.x"], {2}),  # the rarest
        ("....", ["xxxx", "x..x", "xx.x"], {2}),
        ("..x.", ["xxxx", "xx.x"], {0, 1, 3}),  # we have the rarest already
        ("..-.", ["xxxx", "xx.x"], {0, 1, 3}),  # we do not want it
        ("....", ["xxxx", "xxxx"], {0, 1, 2, 3}),  # seeds make nothing rare
        ("....", ["xx..", ".x..", "xx.."], {0}),  # only what the peer (the first) has
        ("....", ["xxx.", "x...", "x.x.", "x.x.", "xxx."], {1}),
    ],
)
def test_rarest_first(ours: str, peers: list[str], expected: set[int]) -> None:
    drawn = {next(iter(pieces_asked(swarm(ours, *peers, seed=seed), "A", peers[0], 1))) for seed in range(60)}
    assert drawn == expected


def test_ties_are_broken_evenly() -> None:
    counts = [0] * 8
    for seed in range(800):
        counts[ask(swarm("........", "xxxxxxxx", seed=seed), "A", "xxxxxxxx", 1)[0][0]] += 1
    assert min(counts) > 60
    assert max(counts) < 140


def test_the_first_pieces_are_random() -> None:
    drawn = {ask(swarm("....", "xxxx", "x.xx", random_first=4, seed=seed), "A", "xxxx", 1)[0][0] for seed in range(80)}
    assert drawn == {0, 1, 2, 3}


def test_then_the_rarest() -> None:
    drawn = {
        ask(swarm("xxxx....", "xxxxxxxx", "xxxx.xxx", random_first=4, seed=seed), "A", "x" * 8, 1)[0][0]
        for seed in range(40)
    }
    assert drawn == {4}


def test_sequential_is_first_to_last() -> None:
    picker = swarm("x....", "xxxxx", sequential=True)
    assert ask(picker, "A", "xxxxx", 8) == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1)]


def test_a_piece_is_finished_before_another_begins() -> None:
    picker = swarm("....", "xxxx", blocks=4)
    first = ask(picker, "A", "xxxx", 3)
    assert len({piece for piece, _ in first}) == 1
    assert ask(picker, "A", "xxxx", 1) == [(first[0][0], 3)]


def test_blocks_come_in_order_with_their_lengths() -> None:
    layout = TorrentLayout(2 * BLOCK_SIZE, [FileEntry(("f",), 2 * BLOCK_SIZE + 100)])
    picker = PiecePicker(layout, Random(0), settings=PickerSettings(sequential=True))
    assert picker.next("A", None, 9, yes) == [(0, 0, 16384), (0, 16384, 16384), (1, 0, 100)]


def test_two_peers_work_on_two_pieces() -> None:
    picker = swarm("....", "xxxx", "xxxx", blocks=4)
    assert pieces_asked(picker, "A", "xxxx", 2) != pieces_asked(picker, "B", "xxxx", 2)


def test_an_orphan_is_taken_over_before_a_new_piece() -> None:
    picker = swarm("....", "xxxx", "xxxx", blocks=4)
    orphan = ask(picker, "A", "xxxx", 2)
    give(picker, "A", *orphan)
    picker.peer_gone("A")
    assert ask(picker, "B", "xxxx", 2) == [(orphan[0][0], 2), (orphan[0][0], 3)]


def test_without_memory_an_open_piece_is_shared() -> None:
    picker = swarm("....", "xxxx", "xxxx", blocks=4)
    first = ask(picker, "A", "xxxx", 1)
    assert ask(picker, "B", "xxxx", 9, no) == [(first[0][0], number) for number in (1, 2, 3)]
    assert ask(picker, "B", "xxxx", 9, no) == []


def test_released_blocks_are_asked_again() -> None:
    picker = swarm(".", "x", "x")
    assert ask(picker, "A", "x", 2) == [(0, 0), (0, 1)]
    picker.released([(0, 0), (0, BLOCK_SIZE)])
    assert sorted(ask(picker, "B", "x", 2)) == [(0, 0), (0, 1)]


def test_endgame_asks_others_for_what_is_asked_already() -> None:
    picker = swarm(".", "x", "x", "x", "x")
    assert ask(picker, "A", "x", 2) == [(0, 0), (0, 1)]
    assert picker.in_endgame
    assert ask(picker, "B", "x", 2) == [(0, 0), (0, 1)]
    assert ask(picker, "C", "x", 2) == [(0, 0), (0, 1)]
    assert ask(picker, "D", "x", 2) == []  # three peers are enough


def test_endgame_asks_nobody_twice() -> None:
    picker = swarm(".", "x", "x")
    ask(picker, "A", "x", 2)
    assert ask(picker, "A", "x", 2, yes, {(0, 0), (0, BLOCK_SIZE)}) == []


def test_endgame_is_bounded_for_each_peer() -> None:
    picker = swarm("." * 20, "x" * 20, "x" * 20)
    assert len(ask(picker, "A", "x" * 20, 99)) == 40
    assert len(ask(picker, "B", "x" * 20, 99)) == PickerSettings().endgame_requests


def test_there_is_no_endgame_while_a_block_is_free() -> None:
    picker = swarm("..", "xx", ".x")
    ask(picker, "A", "xx", 2)
    assert not picker.in_endgame


def test_a_piece_from_first_to_last_block() -> None:
    picker = swarm(".", "x")
    ask(picker, "A", "x", 2)
    opened = picker.received("A", 0, 0)
    assert opened is not None
    assert opened.left == 1
    assert picker.received("A", 0, 0) is None  # twice
    opened = picker.received("B", 0, BLOCK_SIZE)
    assert opened is not None
    assert (opened.left, opened.givers) == (0, ["A", "B"])
    picker.piece_good(0)
    assert picker.is_done
    assert picker.received("A", 0, 0) is None


def test_a_late_block_that_was_let_go_counts() -> None:
    picker = swarm(".", "x")
    ask(picker, "A", "x", 2)
    picker.released([(0, 0)])
    assert picker.needs("A", 0, 0)
    give(picker, "A", (0, 0))
    assert not picker.needs("A", 0, 0)
    assert ask(picker, "B", "x", 2) == [(0, 1)]  # only by way of the endgame


def test_a_bad_piece_is_fetched_again() -> None:
    picker = swarm(".", "x")
    give(picker, "A", *ask(picker, "A", "x", 2))
    picker.piece_bad(0)
    assert not picker.is_done
    assert ask(picker, "A", "x", 2) == [(0, 0), (0, 1)]


def test_after_a_failure_with_several_givers_one_peer_gives_all() -> None:
    picker = swarm(".", "x", "x", blocks=4)
    give(picker, "A", *ask(picker, "A", "x", 4))
    picker.piece_bad(0, single=True)
    assert len(ask(picker, "A", "x", 2)) == 2
    assert ask(picker, "B", "x", 4) == []
    assert not picker.needs("B", 0, 0)
    assert picker.peer_gone("A") == [0]  # it starts again
    assert len(ask(picker, "B", "x", 4)) == 4


def test_untouched_pieces_go_back() -> None:
    picker = swarm("..", "xx", blocks=2)
    blocks = ask(picker, "A", "xx", 3)
    picker.released([(piece, number * BLOCK_SIZE) for piece, number in blocks])
    assert sorted(picker.close_untouched()) == [0, 1]
    assert picker.open == {}
    assert len(ask(picker, "B", "xx", 9)) == 4


def test_memory_does_not_wait_for_the_departed() -> None:
    picker = swarm("..", "x.", ".x")
    give(picker, "A", *ask(picker, "A", "x.", 1))
    picker.peer_gone("A")
    assert ask(picker, "B", ".x", 1, no) == []
    assert picker.evict(bits(".x")) == 0
    assert ask(picker, "B", ".x", 1) == [(1, 0)]


def test_what_is_being_waited_for_is_not_evicted() -> None:
    picker = swarm("..", "x.", ".x")
    ask(picker, "A", "x.", 1)
    assert picker.evict(bits(".x")) is None


@pytest.mark.parametrize(
    ("ours", "peer", "wants"),
    [
        ("....", "x...", True),
        ("x...", "x...", False),
        ("-...", "x...", False),
        ("x.xx", "xxxx", True),
        ("xxxx", "xxxx", False),
    ],
)
def test_interest(ours: str, peer: str, wants: bool) -> None:
    picker = swarm(ours, peer)
    assert picker.wants(None if "." not in peer else bits(peer)) is wants


def test_interest_lasts_while_a_piece_is_open() -> None:
    picker = swarm("..", "x.", blocks=1)
    ask(picker, "A", "x.", 1)
    assert picker.wants(bits("x."))


def test_pieces_that_nobody_wants_any_more_are_not_counted() -> None:
    picker = swarm("x.-.", "xxxx")
    assert picker.left == 2


def test_a_lost_piece_is_wanted_again() -> None:
    picker = swarm("xx", "xx")
    picker.piece_lost(1)
    assert picker.left == 1
    assert {piece for piece, _ in ask(picker, "A", "xx", 9)} == {1}


def test_copies() -> None:
    assert swarm("....", "xxxx", "xx..").copies() == 1.5
    assert swarm("....", "x...", "x...").copies() == 0.25


rows = st.integers(1, 12).flatmap(
    lambda width: st.lists(st.text("x.", min_size=width, max_size=width), min_size=1, max_size=20)
)


@settings(max_examples=100)
@given(rows, st.integers(0, 10**6))
def test_counts_are_kept_right(peers: list[str], seed: int) -> None:
    """Peers join, get pieces and leave in any order: the planes say what counting says."""
    chance = Random(seed)
    width = len(peers[0])
    picker = swarm("." * width)
    present: list[bitarray] = []
    for peer in peers:
        present.append(bits(peer))
        picker.add_peer(present[-1])
        if chance.random() < 0.5:
            lucky = chance.choice(present)
            missing = [index for index in range(width) if not lucky[index]]
            if missing:
                piece = chance.choice(missing)
                lucky[piece] = 1
                picker.add_have(piece)
        if chance.random() < 0.3:
            gone = present.pop(chance.randrange(len(present)))
            picker.remove_peer(gone)
        assert [picker.availability(piece) for piece in range(width)] == [
            sum(peer[piece] for peer in present) for piece in range(width)
        ]


@settings(max_examples=60)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 10**6))
def test_every_block_arrives_whatever_happens(pieces: int, blocks: int, seed: int) -> None:
    """Peers that choke, vanish and lie: in the end all is there, and nothing was asked that was held."""
    chance = Random(seed)
    picker = swarm("." * pieces, blocks=blocks, seed=chance.randrange(99))
    asked: dict[str, set[tuple[int, int]]] = {"A": set(), "B": set(), "C": set()}
    for _ in range(5000):
        if picker.is_done:
            break
        key = chance.choice("ABC")
        mine = asked[key]
        for piece, begin, _length in picker.next(key, None, chance.randrange(1, 6), yes, mine):
            assert (piece, begin) not in mine
            assert picker.needs(key, piece, begin) or piece in picker._single
            mine.add((piece, begin))
        event = chance.random()
        if event < 0.2:
            picker.released(sorted(mine))
            mine.clear()
            picker.peer_gone(key)
            picker.close_untouched()
        elif mine:
            block = chance.choice(sorted(mine))
            mine.discard(block)
            opened = picker.received(key, *block)
            if opened is not None and not opened.left:
                if chance.random() < 0.15:
                    for (
                        others
                    ) in asked.values():  # its owner withdraws what is still asked of a piece that starts again
                        others -= {other for other in others if other[0] == opened.index}
                    picker.piece_bad(opened.index, single=chance.random() < 0.5)
                else:
                    picker.piece_good(opened.index)
    assert picker.is_done
    assert picker.have.all()
    assert not picker.open


# ---------------------------------------------------------------------- priorities and selection


def select(picker: PiecePicker, drawing: str) -> list[int]:
    """``x`` wanted, ``-`` not, ``H`` high, ``l`` low."""
    wanted = bits("".join("." if sign == "-" else "x" for sign in drawing))
    high, low = (bits("".join("x" if sign == letter else "." for sign in drawing)) for letter in "Hl")
    return picker.select(wanted, high, low)


def order(picker: PiecePicker, peer: str) -> list[int]:
    """The pieces one peer is asked for, one after the other."""
    found = []
    while asked := ask(picker, "A", peer, 2):
        found.append(asked[0][0])
        give(picker, "A", *asked)
        picker.piece_good(asked[0][0])
    return found


@pytest.mark.parametrize("sequential", [False, True], ids=["rarest", "sequential"])
@pytest.mark.parametrize("random_first", [0, 4])
def test_high_comes_first_and_low_last(sequential: bool, random_first: int) -> None:
    for seed in range(10):
        picker = swarm("........", "xxxxxxxx", sequential=sequential, random_first=random_first, seed=seed)
        assert select(picker, "xlHxl-Hx") == []
        asked = order(picker, "xxxxxxxx")
        assert [sorted(asked[:2]), sorted(asked[2:5]), sorted(asked[5:])] == [[2, 6], [0, 3, 7], [1, 4]]
        assert picker.is_done
        if sequential:
            assert asked == [2, 6, 0, 3, 7, 1, 4]


def test_the_rarest_comes_first_inside_a_priority() -> None:
    picker = swarm("......", "xxxxxx", "xx.x.x", "x..xxx", "x..x.x")
    select(picker, "xHHxll")
    asked = order(picker, "xxxxxx")
    assert (asked[:2], set(asked[2:4]), asked[4:]) == ([2, 1], {0, 3}, [4, 5])


def test_priorities_can_be_given_at_once() -> None:
    layout = TorrentLayout(BLOCK_SIZE, [FileEntry(("f",), 3 * BLOCK_SIZE)])
    picker = PiecePicker(layout, Random(1), high=bits("..x"), low=bits("x.."))
    assert [picker.next("A", None, 1, yes)[0].piece for _ in range(3)] == [2, 1, 0]


def test_high_wins_over_low() -> None:
    picker = swarm("..", "xx")
    picker.select(bits("xx"), bits(".x"), bits(".x"))
    assert ask(picker, "A", "xx", 1)[0][0] == 1


def test_an_open_piece_that_is_not_wanted_any_more_is_dropped() -> None:
    picker = swarm("...", "xxx", sequential=True)
    give(picker, "A", *ask(picker, "A", "xxx", 1))
    assert picker.open[0].left == 1
    assert select(picker, "-xx") == [0]
    assert not picker.open
    assert picker.left == 2
    assert ask(picker, "A", "xxx", 9) == [(1, 0), (1, 1), (2, 0), (2, 1)], (
        "it does not go on with what it worked through"
    )
    assert picker.in_endgame


def test_a_piece_that_is_being_verified_goes_on_to_its_end() -> None:
    picker = swarm("..", "xx", sequential=True)
    give(picker, "A", *ask(picker, "A", "xx", 2))
    assert select(picker, "-x") == []
    assert picker.left == 1
    picker.piece_good(0)
    assert picker.left == 1
    assert select(picker, "xx") == []
    assert picker.left == 1


def test_one_that_is_wanted_again_while_it_is_verified_is_not_asked_for() -> None:
    picker = swarm("..", "xx", sequential=True)
    give(picker, "A", *ask(picker, "A", "xx", 2))
    select(picker, "-x")
    select(picker, "xx")
    assert ask(picker, "A", "xx", 9) == [(1, 0), (1, 1)]
    picker.piece_bad(0)
    assert ask(picker, "B", "xx", 9) == [(0, 0), (0, 1)]


def test_wanting_nothing_is_being_done() -> None:
    picker = swarm("..", "xx")
    ask(picker, "A", "xx", 1)
    assert len(select(picker, "--")) == 1
    assert picker.is_done
    assert not picker.in_endgame
    assert not picker.wants(None)
    assert ask(picker, "A", "xx", 9) == []
    select(picker, "xx")
    assert len(ask(picker, "A", "xx", 9)) == 4


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(0, 10**6))
def test_selections_at_any_time(pieces: int, seed: int) -> None:
    """What is asked is always wanted, nothing is asked twice, and in the end exactly what is wanted is there."""
    chance = Random(seed)
    picker = swarm("." * pieces, blocks=2, seed=seed % 99)
    asked: dict[str, set[tuple[int, int]]] = {"A": set(), "B": set()}
    for turn in range(4000):
        if chance.random() < 0.1 and turn < 300:
            drawing = "".join(chance.choice("xxHl-") for _ in range(pieces))
            dropped = select(picker, drawing)
            for mine in asked.values():
                mine -= {block for block in mine if block[0] in dropped}
        if picker.is_done and turn >= 300:
            break
        key = chance.choice("AB")
        for piece, begin, _length in picker.next(key, None, 3, yes, asked[key]):
            assert picker.wanted[piece]
            assert (piece, begin) not in asked[key]
            asked[key].add((piece, begin))
        if asked[key]:
            block = chance.choice(sorted(asked[key]))
            asked[key].discard(block)
            opened = picker.received(key, *block)
            if opened is not None and not opened.left:
                picker.piece_good(opened.index)
        assert picker.left == (picker.wanted & ~picker.have).count(1)
    assert picker.is_done
    assert not (picker.wanted & ~picker.have).any()


# ---------------------------------------------------------------------- a piece that failed


def fail(picker: PiecePicker, *givers: str) -> int:
    """One piece comes from these, a block each, and fails."""
    for giver in givers:
        (block,) = ask(picker, giver, "xxxx", 1, no if picker.open else yes)
        give(picker, giver, block)
    picker.piece_bad(block[0], suspects=givers)
    return block[0]


def test_a_failed_piece_is_hurried_and_comes_from_others() -> None:
    for seed in range(20):
        picker = swarm("....", "xxxx", seed=seed)
        failed = fail(picker, "A", "B")
        assert failed not in pieces_asked(picker, "A", "xxxx", 1)
        assert pieces_asked(picker, "C", "xxxx", 1) == {failed}
        assert failed not in pieces_asked(picker, "B", "xxxx", 1)


def test_of_those_who_gave_it_as_the_last_resort() -> None:
    picker = swarm(".", "x")
    failed = fail(picker, "A", "B")
    assert len(ask(picker, "A", "x", 2)) == 2
    assert picker.open[failed].suspects == {"A", "B"}


def test_suspects_do_not_take_it_over_from_one_that_leaves() -> None:
    picker = swarm("..", "xx")
    failed = fail(picker, "A", "B")
    give(picker, "C", *ask(picker, "C", "xx", 1))
    picker.peer_gone("C")
    assert failed not in pieces_asked(picker, "A", "xx", 1)
    assert ask(picker, "D", "xx", 1) == [(failed, 1)]


def test_a_failed_piece_that_is_given_up_stays_hurried() -> None:
    picker = swarm("....", "xxxx")
    failed = fail(picker, "A", "B")
    ask(picker, "C", "xxxx", 1)
    picker.released([(failed, 0)])
    assert picker.close_untouched() == [failed]
    assert pieces_asked(picker, "D", "xxxx", 1) == {failed}


def test_what_a_liar_gave_of_other_pieces_is_free_again() -> None:
    picker = swarm("..", "xx", blocks=3, sequential=True)
    give(picker, "A", *ask(picker, "A", "xx", 2))
    give(picker, "B", *ask(picker, "B", "xx", 1, no))
    assert picker.open[0].left == 0
    ask(picker, "A", "xx", 1)
    give(picker, "A", (1, 0))
    ask(picker, "B", "xx", 1, no)
    give(picker, "B", (1, 1))
    picker.discard(lambda key: key == "A")
    assert picker.open[0].left == 0, "it is being verified"
    assert not picker.needs("C", 1, BLOCK_SIZE)
    assert picker.needs("C", 1, 0)
    assert sorted(ask(picker, "C", "xx", 9)) == [(1, 0), (1, 2)]
    picker.discard(lambda key: True, spared=[1])
    assert not picker.needs("C", 1, BLOCK_SIZE)


def test_a_block_that_could_not_be_kept_is_asked_again() -> None:
    picker = swarm(".", "x")
    ask(picker, "A", "x", 2)
    give(picker, "A", (0, 0), (0, 1))
    picker.lost(0, BLOCK_SIZE)
    assert picker.open[0].left == 1
    assert ask(picker, "B", "x", 2) == [(0, 1)]


def test_who_worked_through_a_piece_that_closed_asks_for_nothing_of_it() -> None:
    picker = swarm("..", "xx", blocks=4)
    (block,) = ask(picker, "A", "xx", 1)
    picker.released([(block[0], block[1] * BLOCK_SIZE)])
    assert picker.close_untouched() == [block[0]]
    for piece, _ in ask(picker, "A", "xx", 8):
        assert piece in picker.open


# ---------------------------------------------------------------------- metered, and taken up half done


def test_metered_pieces_give_only_what_is_allowed() -> None:
    picker = swarm("..", "xx", blocks=4, sequential=True)
    told: list[int] = []

    def allowance(chosen: int) -> int:
        told.append(chosen)
        return 3 - chosen

    found = picker.next("A", None, 8, yes, (), {0, 1}, allowance)
    assert [(piece, begin // BLOCK_SIZE) for piece, begin, _ in found] == [(0, 0), (0, 1), (0, 2)]
    assert told[0] == 0
    assert picker.next("A", None, 8, no, (), {0, 1}, lambda chosen: 0) == []
    assert picker.open[0].asked == 3


def test_others_are_asked_for_in_place_of_metered_ones() -> None:
    picker = swarm("..", "xx", blocks=4, sequential=True)
    ask(picker, "A", "xx", 1)
    found = picker.next("A", None, 8, yes, (), {0}, lambda chosen: 0)
    assert {piece for piece, _, _ in found} == {1}
    assert len(found) == 4
    assert picker.next("A", None, 8, yes, (), {0}, lambda chosen: 2)[0].piece == 0


def test_a_piece_is_taken_up_where_it_was_left() -> None:
    picker = swarm("...-", "xxxx", blocks=4)
    opened = picker.take_up(1, bits("x.x."))
    assert opened is not None
    assert (opened.left, opened.held()) == (2, bits("x.x."))
    assert ask(picker, "A", "xxxx", 2) == [(1, 1), (1, 3)]
    give(picker, "A", (1, 1), (1, 3))
    assert opened.givers == [None, "A", None, "A"]
    assert picker.take_up(1, bits("x...")) is None, "it is open"
    assert picker.take_up(3, bits("x...")) is None, "it is not wanted"
    assert picker.take_up(4, bits("x...")) is None
    whole = picker.take_up(2, bits("xxxx"))
    assert whole is not None
    assert whole.left == 0
    assert pieces_asked(picker, "A", "xxxx", 9) == {0}


# ---------------------------------------------------------------------- suggestions (BEP 6)


def suggest(picker: PiecePicker, pieces: str, *suggested: int, may_open=yes) -> list[int]:  # type: ignore[no-untyped-def]
    """The piece asked for of a peer that suggests these."""
    has = None if "." not in pieces else bits(pieces)
    return [piece for piece, _, _ in picker.next("a", has, 1, may_open, suggested=suggested)]


def test_a_suggestion_decides_between_equals() -> None:
    assert all(suggest(swarm("......", "xxxxxx", seed=seed), "xxxxxx", 4) == [4] for seed in range(10))
    assert suggest(swarm("......", "xxxxxx"), "xxxxxx", 5, 2) == [5], "the first of several"


@pytest.mark.parametrize(
    ("ours", "others", "pieces"),
    [
        ("......", "..x...", "xxxxxx"),  # others are rarer
        ("..x...", "......", "xxxxxx"),  # we have it
        ("..-...", "......", "xxxxxx"),  # we do not want it
        ("......", "......", "xx.xxx"),  # it does not have it itself
    ],
)
def test_a_suggestion_steers_nobody_away(ours: str, others: str, pieces: str) -> None:
    for seed in range(10):
        (piece,) = suggest(swarm(ours, others, "xxxxxx", seed=seed), pieces, 2)
        assert piece != 2


def test_what_comes_first_comes_before_what_is_suggested() -> None:
    picker = swarm("......", "xxxxxx")
    picker.select(bits("xxxxxx"), high=bits("x....."), low=bits("....xx"))
    assert suggest(picker, "xxxxxx", 3) == [0]
    assert suggest(picker, "xxxxxx", 3) == [0], "its other block"
    assert suggest(picker, "xxxxxx", 5, 3) == [3]
    assert suggest(swarm("......", "xxxxxx", sequential=True), "xxxxxx", 3) == [0]


def test_what_is_suggested_comes_before_the_rest_of_others_unless_that_comes_first() -> None:
    picker = swarm("......", "xxxxxx")
    (orphan,) = suggest(picker, "xxxxxx")
    picker.peer_gone("a")
    other = (orphan + 1) % 6
    assert suggest(picker, "xxxxxx", other) == [other]
    picker = swarm("......", "xxxxxx")
    picker.select(bits("xxxxxx"), high=bits("x....."))
    assert suggest(picker, "xxxxxx") == [0]
    picker.peer_gone("a")
    assert suggest(picker, "xxxxxx", 3) == [0]


def test_without_memory_a_suggestion_opens_nothing() -> None:
    picker = swarm("......", "xxxxxx")
    assert suggest(picker, "xxxxxx", 3, may_open=no) == []
    assert picker.may_be_opened(3)
    assert suggest(picker, "xxxxxx", 3) == [3]
    assert not picker.may_be_opened(3)
