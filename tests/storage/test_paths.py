"""Names from strangers: whatever they are, every file gets a safe path of its own, and the same one each time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.layout import FileEntry, TorrentLayout
from unchoke.storage.paths import MAX_COMPONENT, MAX_DEPTH, MAX_PATH, MAX_PATH_PORTABLE, map_paths

NASTY = [
    "",
    ".",
    "..",
    "/",
    "a/b",
    "/etc/passwd",
    "\0",
    "a\0b",
    "CON",
    "con.txt",
    "nul",
    "a.",
    "a ",
    "A",
    "a",
    "é",
    "e\u0301",
]
NASTY += [
    "x" * 300,
    "é" * 200 + ".tar.gz",
    "\udcff\udcfe",
    "\udcc3\udca9",
    "\ud800",
    "\U0001f600" * 90 + ".mkv",
    "C:\\x",
    "a:b",
]
NASTY += [
    "." + "y" * 400,
    "z" * 250 + "." + "e" * 40,
    "COM1",
    "LPT9.log",
    "aux .h",
    "..." * 100,
    "\u202egpj.exe",
    "ß",
    "SS",
    "ss",
]
names = st.one_of(st.sampled_from(NASTY), st.text(st.characters(), max_size=12))
raw = st.binary(max_size=12).map(lambda data: data.decode("utf-8", "surrogateescape"))
components = st.lists(st.one_of(names, raw), max_size=5).map(tuple)


def mapped(*files: str | FileEntry, name: str = "t", portable: bool = False) -> list[str | None]:
    """Paths as text; a file is given as text too, with / between its components."""
    entries = [file if isinstance(file, FileEntry) else FileEntry(tuple(file.split("/")), 1) for file in files]
    paths = map_paths(name, TorrentLayout(16384, entries), True, portable=portable)
    return [None if path is None else "/".join(path) for path in paths]


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@settings(max_examples=150, deadline=None)
@given(names, st.lists(components, min_size=1, max_size=12), st.booleans(), st.booleans())
def test_garbage_becomes_safe_unique_paths(
    name: str, files: list[tuple[str, ...]], multi: bool, portable: bool
) -> None:
    layout = TorrentLayout(16384, [FileEntry(path, 1) for path in (files if multi else files[:1])])
    paths = map_paths(name, layout, multi, portable=portable)
    assert paths == map_paths(name, layout, multi, portable=portable)
    seen: set[bytes] = set()
    folders: set[bytes] = set()
    for path in paths:
        assert path
        for part in path:
            assert part not in ("", ".", "..")
            assert "/" not in part
            assert "\0" not in part
            assert len(encoded(part)) <= MAX_COMPONENT
        assert len(path) <= MAX_DEPTH
        whole = encoded("/".join(path))
        assert len(whole) <= (MAX_PATH_PORTABLE if portable else MAX_PATH)
        key = (
            whole.decode("utf-8", "surrogateescape").casefold().encode("utf-8", "surrogateescape")
            if portable
            else whole
        )
        assert key not in seen
        seen.add(key)
        folders |= {key[:at] for at, byte in enumerate(key) if byte == 0x2F}
    assert not seen & folders


@pytest.mark.parametrize("portable", [False, True])
def test_ordinary_names_are_kept(portable: bool) -> None:
    files = ["a.txt", "sub/b.txt", "sub/ünïcödé.txt", "sub/deeper/c", ".hidden", "Read Me (1).txt"]
    assert mapped(*files, portable=portable) == [f"t/{file}" for file in files]


def test_a_single_file_has_the_torrents_name() -> None:
    layout = TorrentLayout(16384, [FileEntry((), 5)])
    assert map_paths("x.iso", layout, False, portable=False) == [("x.iso",)]
    assert map_paths("../../x", layout, False, portable=False) == [(".._.._x",)]
    assert map_paths("..", layout, False, portable=False) == [("_",)]
    assert map_paths("", layout, False, portable=True) == [("_",)]


def test_empty_and_dotted_components_are_left_out() -> None:
    files = [FileEntry(("..", "..", "etc", "", ".", "passwd"), 1), FileEntry(("/etc/shadow",), 1), FileEntry((), 1)]
    assert mapped(*files) == ["t/etc/passwd", "t/_etc_shadow", "t/_"]


def test_pad_files_have_no_path_and_take_no_name() -> None:
    pad = FileEntry((".pad", "1"), 7, pad=True)
    assert mapped(pad, ".pad/1", pad) == [None, "t/.pad/1", None]


def test_clashes_get_a_mark_before_the_extension() -> None:
    first, second, third = mapped("a.txt", "a.txt", "a.txt")
    assert first == "t/a.txt"
    assert second is not None
    assert third is not None
    assert second.startswith("t/a~")
    assert second.endswith(".txt")
    assert len(second) == len("t/a~12345678.txt")
    assert len({first, second, third}) == 3


def test_a_file_gives_way_to_a_folder_wherever_it_stands() -> None:
    for files in (["a", "a/b"], ["a/b", "a"]):
        paths = dict(zip(files, mapped(*files), strict=True))
        assert paths["a/b"] == "t/a/b"
        assert (paths["a"] or "").startswith("t/a~")


def test_long_names_are_cut_at_a_character_before_the_extension() -> None:
    one, two = mapped("é" * 300 + ".mkv", "é" * 301 + ".mkv")
    assert one is not None
    assert two is not None
    assert one != two
    assert one.endswith(".mkv")
    assert len(encoded(one)) in (len("t/") + 255, len("t/") + 254)
    one.encode("utf-8")  # no half character


def test_long_names_that_clash_stay_short() -> None:
    name = "n" * 255
    first, second = mapped(name, name)
    assert first == f"t/{name}"
    assert second is not None
    assert len(second) == 257


def test_deep_and_long_paths_are_folded_but_siblings_stay_together() -> None:
    deep = "/".join(["d"] * 200)
    one, two = mapped(f"{deep}/x", f"{deep}/y")
    assert one is not None
    assert two is not None
    assert one.count("/") == 2
    assert one[:-1] == two[:-1]
    long_folder = "/".join(["f" * 200] * 12)
    (path,) = mapped(f"{long_folder}/x")
    assert path is not None
    assert len(path) < 300


def test_undecodable_names_stay_raw_bytes_unless_portable() -> None:
    raw_name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert mapped(raw_name) == [f"t/{raw_name}"]
    assert mapped(raw_name, portable=True) == ["t/caf_"]


def test_two_spellings_of_the_same_bytes_are_one_name() -> None:
    one, two = mapped("é", "\udcc3\udca9")
    assert one is not None
    assert two is not None
    assert encoded(one) != encoded(two)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("COM1.tar.gz", "_COM1.tar.gz"),
        ("lpt¹", "_lpt¹"),
        ("nul .x", "_nul .x"),
        ("CONSOLE", "CONSOLE"),
        ("COM", "COM"),
        ('a<b>c:d"e|f?g*h\\i', "a_b_c_d_e_f_g_h_i"),
        ("tab\there\x7f", "tab_here_"),
        ("dots...", "dots"),
        ("space ", "space"),
        (". .", "_"),
    ],
)
def test_portable_names(name: str, safe: str) -> None:
    assert mapped(name, portable=True) == [f"t/{safe}"]
    assert mapped(name) == [f"t/{name}"]


def test_case_clashes_matter_only_to_the_portable_rule() -> None:
    assert mapped("A", "a", "É", "e\u0301") == ["t/A", "t/a", "t/É", "t/e\u0301"]
    upper, lower, composed, decomposed = mapped("A", "a", "É", "e\u0301", portable=True)
    assert upper == "t/A"
    assert (lower or "").startswith("t/a~")
    assert composed == "t/É"
    assert (decomposed or "").startswith("t/e\u0301~")


def test_folders_that_differ_in_case_become_the_first_of_them() -> None:
    assert mapped("Foo/a", "foo/b", portable=True) == ["t/Foo/a", "t/Foo/b"]
    assert mapped("Foo/a", "foo/b") == ["t/Foo/a", "t/foo/b"]


def test_a_hostile_number_of_folders_is_bounded() -> None:
    files = [FileEntry((f"{index}", *["a"] * 60, "f"), 1) for index in range(6000)]
    paths = map_paths("t", TorrentLayout(16384, files), True, portable=False)
    assert len(set(paths)) == len(files)
    assert paths[-1] is not None
    assert len(paths[-1]) == 3
