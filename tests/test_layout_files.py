"""The files of a layout, kept in columns: they behave as the tuple of entries they were made of."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.layout import FileEntry, Files, TorrentLayout

ENTRIES = st.builds(
    FileEntry,
    st.lists(st.text(max_size=5), max_size=3).map(tuple),
    st.integers(0, 2**40),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(ENTRIES, max_size=8), st.slices(8))
@settings(max_examples=60)
def test_files_are_their_entries(entries: list[FileEntry], part: slice) -> None:
    files = Files(entries)
    assert len(files) == len(entries)
    assert list(files) == entries
    assert [files[index] for index in range(-len(entries), len(entries))] == entries * 2
    assert files[part] == tuple(entries)[part]
    assert files == tuple(entries)
    assert files == Files(entries)
    assert hash(files) == hash(Files(entries))
    assert files != Files([*entries, FileEntry(("more",), 1)])


@given(st.lists(st.integers(0, 100), min_size=1, max_size=12), st.integers(1, 64))
@settings(max_examples=60)
def test_ends_of_many_files_are_those_of_each(lengths: list[int], piece_length: int) -> None:
    layout = TorrentLayout(piece_length, [FileEntry((str(index),), length) for index, length in enumerate(lengths)])
    each = [pieces for index in range(len(lengths)) if (pieces := layout.file_pieces(index))]
    assert layout.first_and_last_pieces(range(len(lengths))) == [(pieces[0], pieces[-1]) for pieces in each]
