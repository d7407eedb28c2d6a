"""What a record is worth: a torrent is drawn as its files, pieces as strings of bits."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from bitarray import bitarray
from bitarray.util import ones, zeros
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.engine.verdict import Verdict, boot_id, judge
from unchoke.errors import StorageError
from unchoke.layout import FileEntry, TorrentLayout
from unchoke.storage.base import FileStatus, Gap
from unchoke.storage.records import ResumeRow

_PIECE = 16384


def _bits(text: str) -> bitarray:
    return bitarray(text, endian="big")


def _lies(size: float, mtime: int = 1) -> FileStatus:
    """A file of so many pieces' bytes."""
    return FileStatus(int(size * _PIECE), mtime)


@dataclass
class _Case:
    """Files of the given lengths in pieces, all closed cleanly and as they were, unless said otherwise."""

    sizes: tuple[float, ...]
    have: str
    durable: str = ""
    open: str = ""
    before: list[FileStatus | None] | None = None
    now: list[FileStatus | None] | None = None
    partial: dict[int, bytes] = field(default_factory=dict)
    pads: tuple[int, ...] = ()
    gaps: list[tuple[float, float, bool]] = field(default_factory=list)
    boot: str = "here"
    asked: int = 0

    def judge(self) -> Verdict:
        files = [FileEntry((str(n),), int(size * _PIECE), n in self.pads) for n, size in enumerate(self.sizes)]
        layout = TorrentLayout(_PIECE, files)
        lie: list[FileStatus | None] = [_lies(size) for size in self.sizes]
        row = ResumeRow(
            have=_bits(self.have),
            durable=_bits(self.durable or self.have),
            open=_bits(self.open),
            files=[*lie, None] if self.before is None else self.before,
            partial=self.partial,
            boot_id="here",
        )
        return judge(row, layout, [*lie, None] if self.now is None else self.now, self._gaps, self.boot)

    def _gaps(self, start: int, length: int) -> list[Gap]:
        self.asked += 1
        found = []
        for at, size, missing in self.gaps:
            begin, end = max(start, int(at * _PIECE)), min(start + length, int((at + size) * _PIECE))
            if begin < end:
                found.append(Gap(begin, end - begin, missing))
        return found

    def pieces(self) -> tuple[str, str]:
        verdict = self.judge()
        return verdict.trusted.to01(), verdict.check.to01()


def test_closed_and_the_same_is_trusted_without_a_look() -> None:
    case = _Case((3, 2), "11011")
    assert case.pieces() == ("11011", "00000")
    assert case.asked == 0
    assert case.judge().words == "4 pieces trusted, 0 to hash (2 files as we left them)"


@pytest.mark.parametrize("now", [_lies(3, mtime=2), FileStatus(4 * _PIECE, 1), FileStatus(3 * _PIECE + 1, 1)])
def test_closed_and_other_than_it_was_is_hashed(now: FileStatus) -> None:
    case = _Case((3, 2), "11011", now=[now, _lies(2), None])
    assert case.pieces() == ("00011", "11100")
    assert "1 files changed since by somebody else" in case.judge().words


def test_open_in_the_same_boot_trusts_what_was_recorded_and_hashes_what_else_has_data() -> None:
    case = _Case((4, 2), "100011", durable="000011", open="10", gaps=[(1, 1, False)])
    assert case.pieces() == ("100011", "001100")
    assert "1 files open when we were killed" in case.judge().words


@pytest.mark.parametrize("boot", ["other", ""])
def test_open_when_the_power_went_trusts_what_was_durable(boot: str) -> None:
    case = _Case((4, 2), "110011", durable="010000", open="100", gaps=[(2, 2, False)], boot=boot)
    assert case.pieces() == ("010011", "100000")
    assert "1 files open when the power went" in case.judge().words


def test_a_recorded_piece_in_a_hole_after_the_power_went_is_hashed() -> None:
    assert _Case((2,), "11", durable="01", open="1", gaps=[(0, 1, False)], boot="other").pieces() == ("01", "10")


def test_a_file_that_is_gone_is_neither_trusted_nor_hashed() -> None:
    for marks in ("000", "100"):
        case = _Case((2, 2), "1111", open=marks, now=[None, _lies(2), None])
        assert case.pieces() == ("0011", "0000")
        assert "1 files gone" in case.judge().words


def test_a_file_that_became_shorter_loses_what_is_missing() -> None:
    assert _Case((4,), "1111", now=[_lies(2.5, mtime=2), None]).pieces() == ("0000", "1100")
    assert _Case((4,), "1101", open="1", now=[_lies(2.5), None]).pieces() == ("1100", "0000")
    assert _Case((4,), "1111", open="1", now=[_lies(0), None]).pieces() == ("0000", "0000")


def test_a_closed_file_that_was_short_is_still_as_it_was() -> None:
    short = [_lies(2), None]
    assert _Case((4,), "1011", before=short, now=short).pieces() == ("1000", "0000")


def test_a_file_made_in_this_run_is_open_and_one_made_by_others_is_hashed() -> None:
    assert _Case((3,), "100", open="1", before=[None, None]).pieces() == ("100", "011")
    assert _Case((3,), "100", open="1", before=[], durable="000").pieces() == ("100", "011")
    assert _Case((3,), "100", before=[None, None]).pieces() == ("000", "111")


def test_a_piece_is_trusted_only_if_all_its_files_allow_it() -> None:
    #        a a|ab b|b   c
    case = _Case((1.5, 1, 1.5), "1111", now=[_lies(1.5), _lies(1, mtime=9), _lies(1.5), None])
    assert case.pieces() == ("1001", "0110")


def test_pads_and_empty_files_do_not_matter() -> None:
    lies = [_lies(0.5), None, None, _lies(1), None]
    case = _Case((0.5, 0, 0.5, 1), "11", pads=(2,), before=lies, now=lies)
    assert case.pieces() == ("11", "00")


_UNWANTED: list[FileStatus | None] = [_lies(1.5), None, _lies(1.5)]


def test_border_pieces_of_an_unwanted_file_stand_and_fall_with_the_part_file() -> None:
    #         0: a, 1: a and x, 2-3: x alone, 4: x and b, 5: b
    sizes, have, part = (1.5, 3, 1.5), "110011", _lies(1)
    same = _Case(sizes, have, before=[*_UNWANTED, part], now=[*_UNWANTED, part])
    assert same.pieces() == ("110011", "000000")
    changed = _Case(sizes, have, before=[*_UNWANTED, part], now=[*_UNWANTED, _lies(1, mtime=2)])
    assert changed.pieces() == ("100001", "010010")
    gone = _Case(sizes, have, before=[*_UNWANTED, part], now=[*_UNWANTED, None])
    assert gone.pieces() == ("100001", "000000")
    killed = _Case(sizes, "100001", open="0001", before=[*_UNWANTED, None], now=[*_UNWANTED, part])
    assert killed.pieces() == ("100001", "010010")
    by_the_file = _Case(sizes, "100001", open="0100", before=[*_UNWANTED, None], now=[*_UNWANTED, part])
    assert by_the_file.pieces() == ("100001", "010010")
    power = _Case(
        sizes, have, durable="110001", open="0001", before=[*_UNWANTED, part], now=[*_UNWANTED, part], boot="x"
    )
    assert power.pieces() == ("110001", "000010")


def test_a_piece_of_an_unwanted_file_alone_stands_and_falls_with_the_part_file_too() -> None:
    sizes, have, part = (1.5, 3, 1.5), "111011", _lies(1)
    same = _Case(sizes, have, before=[*_UNWANTED, part], now=[*_UNWANTED, part])
    assert same.pieces() == ("111011", "000000")
    changed = _Case(sizes, have, before=[*_UNWANTED, part], now=[*_UNWANTED, _lies(1, mtime=2)])
    assert changed.pieces() == ("100001", "011010")


def test_a_record_that_claims_pieces_of_a_file_that_never_was_is_not_believed() -> None:
    case = _Case((1.5, 3, 1.5), "111111", before=[*_UNWANTED, None], now=[*_UNWANTED, None])
    assert case.pieces() == ("100001", "000000")


def test_small_unwanted_files_inside_one_piece() -> None:
    lies: list[FileStatus | None] = [_lies(0.25), None, None, _lies(1.25), _lies(0.5)]
    assert _Case((0.25, 0.25, 0.25, 1.25), "11", before=lies, now=lies).pieces() == ("11", "00")
    assert _Case((0.25, 0.25, 0.25, 1.25), "11", before=lies, now=[*lies[:4], None]).pieces() == ("01", "00")


def test_blocks_of_partial_pieces_are_taken_up_after_a_clean_close_alone() -> None:
    partial = {1: b"\x80", 2: b"\x80"}
    assert _Case((2, 1), "100", partial=partial).judge().partial == partial
    assert _Case((2, 1), "100", partial=partial, open="100").judge().partial == {2: b"\x80"}
    assert _Case((2, 1), "100", partial=partial, now=[_lies(2), _lies(1, mtime=5), None]).judge().partial == {
        1: b"\x80"
    }
    assert _Case((2, 1), "110", partial=partial).judge().partial == {2: b"\x80"}
    assert "blocks of 2 more" in _Case((2, 1), "100", partial=partial).judge().words


def test_partial_pieces_that_do_not_fit_are_passed_over() -> None:
    assert _Case((2,), "10", partial={1: b"\x80\x00", 2: b"\x80", 10**9: b""}).judge().partial == {}


@pytest.mark.parametrize("have", ["1", "11111", ""])
def test_a_record_of_another_size_is_worth_nothing(have: str) -> None:
    verdict = _Case((2, 2), have, now=[_lies(1), _lies(2), None]).judge()
    assert (verdict.trusted.to01(), verdict.check.to01()) == ("0000", "1011")
    assert "does not fit: 3 to hash" in verdict.words
    assert _Case((2, 2), "1111", before=[_lies(2)]).pieces() == ("0000", "1111")


def test_a_status_without_a_part_file_will_do() -> None:
    assert _Case((2, 2), "1111", now=[_lies(2), _lies(2)]).pieces() == ("1111", "0000")


def test_a_refusal_of_the_file_system_is_raised() -> None:
    layout = TorrentLayout(_PIECE, [FileEntry(("a",), 2 * _PIECE)])
    row = ResumeRow(have=_bits("00"), durable=_bits("00"), open=_bits("1"))

    def refuse(start: int, length: int) -> list[Gap]:
        raise StorageError("no")

    with pytest.raises(StorageError):
        judge(row, layout, [_lies(2), None], refuse, "here")


@settings(max_examples=150)
@given(st.randoms(use_true_random=False))
def test_against_the_rules_piece_by_piece(rng: random.Random) -> None:
    """The same decision, made the slow way for each piece from its files."""
    sizes = tuple(rng.choice((0, 0.25, 0.5, 1, 1.5, 3)) for _ in range(rng.randint(1, 6)))
    count = -(-int(sum(sizes) * _PIECE) // _PIECE)

    def pieces(length: int) -> str:
        return "".join(rng.choice("01") for _ in range(length))

    choices: list[list[FileStatus | None]] = [[None, _lies(size), _lies(size, 2), _lies(size / 2)] for size in sizes]
    before = [rng.choice(some) for some in choices] + [rng.choice((None, _lies(1)))]
    now = [was if rng.random() < 0.6 else rng.choice(some) for was, some in zip(before, choices, strict=False)]
    now.append(before[-1] if rng.random() < 0.6 else rng.choice((None, _lies(1, 2))))
    holes = [(float(at), 0.5 * rng.randint(1, 4), False) for at in range(0, count, 3) if rng.random() < 0.5]
    case = _Case(
        sizes,
        pieces(count),
        pieces(count),
        pieces(len(sizes) + 1),
        before,
        now,
        gaps=holes,
        boot=rng.choice(("here", "x")),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unchoke.engine.verdict._WINDOW", rng.choice((1, 2, 5, 4096)))
        patch.setattr("unchoke.engine.verdict._NEAR", rng.choice((1, 2, 16)))
        trusted, check = case.pieces()
    layout = TorrentLayout(_PIECE, [FileEntry((str(n),), int(size * _PIECE)) for n, size in enumerate(sizes)])
    for piece in range(count):
        assert (trusted[piece], check[piece]) == _slowly(case, layout, piece), (case, piece)


def _slowly(case: _Case, layout: TorrentLayout, piece: int) -> tuple[str, str]:
    assert case.before is not None
    assert case.now is not None
    part_open = case.open[-1] == "1"
    for index in range(len(layout.files)):
        if case.before[index] is None and case.now[index] is None and layout.files[index].length:
            part_open |= case.open[index] == "1"
    states = set()
    spans = layout.piece_spans(piece)
    for file, offset, length in spans:
        before, now, marked = case.before[file], case.now[file], case.open[file] == "1"
        if now is None and before is None and (len(spans) > 1 or case.have[piece] == "1"):
            before, now, marked = case.before[-1], case.now[-1], part_open
            states.add("missing" if now is None else "there")
        elif now is None or now.size < offset + length:
            states.add("missing")
        states.add("open" if marked else "same" if before == now else "differs")
    if "missing" in states:
        return "0", "0"
    have = case.have[piece] == "1"
    if "differs" in states:
        return "0", "1"
    if "open" not in states:
        return "01"[have], "0"
    if have and (case.boot == "here" or case.durable[piece] == "1"):
        return "1", "0"
    start = piece * _PIECE
    size = layout.piece_size(piece)
    hole = any(at * _PIECE <= start and start + size <= (at + long) * _PIECE for at, long, _ in case.gaps)
    return "0", "01"[have or not hole]


class _Counting:
    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, start: int, length: int) -> list[Gap]:
        self.asked += 1
        return []


def test_half_a_million_pieces_in_pieces_are_few_questions() -> None:
    count = 500_000
    layout = TorrentLayout(_PIECE, [FileEntry(("a",), count * _PIECE)])
    have = bitarray("01", endian="big") * (count // 2)
    row = ResumeRow(have=have, durable=have, open=_bits("1"), boot_id="here")
    gaps = _Counting()
    verdict = judge(row, layout, [FileStatus(count * _PIECE, 1), None], gaps, "here")
    assert verdict.trusted == have
    assert verdict.check == ~have
    assert gaps.asked < 200


def test_a_hundred_thousand_files() -> None:
    count = 100_000
    layout = TorrentLayout(_PIECE, [FileEntry((str(n),), 1000) for n in range(count)])
    status: list[FileStatus | None] = [FileStatus(1000, 1)] * count + [None]
    have = ones(layout.piece_count, "big")
    row = ResumeRow(have=have, durable=have, files=status, open=zeros(count + 1, "big"), boot_id="here")
    verdict = judge(row, layout, status, _Counting(), "other")
    assert verdict.trusted.all()
    assert not verdict.check.any()


def test_this_boot_is_the_same_twice() -> None:
    assert boot_id() == boot_id() != ""
