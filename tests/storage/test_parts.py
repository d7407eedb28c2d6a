"""PartMap: every byte has one place, which depends on the layout alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.layout import FileEntry, FileSpan, TorrentLayout
from unchoke.storage.parts import PartMap, Run


def shape(piece: int, *lengths: int) -> TorrentLayout:
    return TorrentLayout(piece, [FileEntry((str(at),), abs(length), length < 0) for at, length in enumerate(lengths)])


def test_border_pieces_come_first_by_rank() -> None:
    shares = PartMap(shape(10, 15, 30, 0, -5, 10, 10))
    #             pieces: 0 | 01 | 1 | 1 | 1pad | 4 | 5
    assert shares.borders == [1]
    shares = PartMap(shape(10, 15, 30, 0, -3, 10, 10))
    assert shares.borders == [1, 4, 5]
    assert shares.whole(1) == [Run(5, 0, 5), Run(50, 5, 20), Run(10, 25, 5)]
    assert shares.runs(FileSpan(1, 6, 2)) == [Run(51, 6, 2)]


@settings(max_examples=150)
@given(st.integers(1, 12), st.lists(st.integers(-8, 30), max_size=9))
def test_every_byte_of_a_real_file_has_a_place_of_its_own(piece: int, lengths: list[int]) -> None:
    layout = shape(piece, *lengths)
    shares = PartMap(layout)
    real = [index for index, file in enumerate(layout.files) if not file.pad and file.length]
    touched = [
        len({span.file for span in layout.piece_spans(number)} & set(real)) > 1 for number in range(layout.piece_count)
    ]
    assert shares.borders == [number for number, border in enumerate(touched) if border]
    taken: dict[int, int] = {}
    for file in real:
        runs = shares.whole(file)
        assert len(runs) <= 3
        assert sum(run.length for run in runs) == layout.files[file].length
        for run in runs:
            assert {file} <= set(shares.files(run.at, run.at + run.length))
            for step in range(run.length):
                number, begin = divmod(layout.file_start(file) + run.offset + step, piece)
                place = shares.borders.index(number) if touched[number] else len(shares.borders) + number
                assert run.at + step == place * piece + begin
                assert taken.setdefault(run.at + step, file) == file
    assert len(taken) == sum(layout.files[file].length for file in real)
