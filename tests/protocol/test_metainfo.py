"""Metainfo: all three versions read right, every bad file refused with MetainfoError, and edits that keep the rest."""

from __future__ import annotations

from hashlib import sha1, sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unchoke.errors import MetainfoError
from unchoke.layout import FileEntry
from unchoke.protocol.bencode import Raw, decode, encode
from unchoke.protocol.metainfo import Metainfo

KIB = 1024
GONE = object()


def info(**changes: Any) -> dict[str, Any]:
    """The info dictionary of a one-file torrent of 40,000 bytes in two pieces; ``_`` in names is a space, GONE takes out."""
    keys = {"length": 40_000, "name": "a.bin", "piece length": 32 * KIB, "pieces": b"x" * 40}
    keys.update({key.replace("_", " "): value for key, value in changes.items()})
    return {key: value for key, value in keys.items() if value is not GONE}


def multi(*files: Any, pieces: int = 1, **changes: Any) -> dict[str, Any]:
    return info(files=list(files), length=GONE, pieces=b"x" * 20 * pieces, name="folder", **changes)


def torrent(info: Any, **top: Any) -> bytes:
    spelled = {"announce_list": "announce-list", "url_list": "url-list"}
    return encode({"info": info, **{spelled.get(key, key.replace("_", " ")): value for key, value in top.items()}})


def read(info: Any, **top: Any) -> Metainfo:
    return Metainfo.from_bytes(torrent(info, **top))


def refused(info: Any, match: str = ".", **top: Any) -> None:
    with pytest.raises(MetainfoError, match=match):
        read(info, **top)


# version 1


def test_one_file() -> None:
    metainfo = read(info())
    assert (metainfo.name, metainfo.version, metainfo.multi_file) == ("a.bin", "v1", False)
    assert metainfo.layout.files == (FileEntry((), 40_000),)
    assert metainfo.layout.piece_count == 2
    assert metainfo.infohash_v1 == metainfo.infohash == sha1(encode(info())).digest()
    assert metainfo.infohash_v2 is None
    assert metainfo.piece_hashes == b"x" * 40
    assert (metainfo.trackers, metainfo.web_seeds, metainfo.nodes, metainfo.private) == ((), (), (), False)
    assert (metainfo.comment, metainfo.created_by, metainfo.created_at, metainfo.source) == (None, None, None, None)
    assert repr(metainfo).startswith("<Metainfo 'a.bin' v1 ")


def test_everything_around_the_files() -> None:
    metainfo = read(
        info(private=1, source="X"),
        announce="http://one/",
        announce_list=[["http://a/ ", "http://b/", "http://a/"], [], "http://c/", [7]],
        url_list=["http://w/", "", "http://w/"],
        nodes=[["router.example", 6881], ["x", 0], ["y"], "z"],
        comment="hallo",
        created_by="me",
        creation_date=1_700_000_000,
        encoding="UTF-8",
    )
    assert metainfo.trackers == (("http://a/", "http://b/"), ("http://c/",))
    assert metainfo.web_seeds == ("http://w/",)
    assert metainfo.nodes == (("router.example", 6881),)
    assert (metainfo.private, metainfo.source, metainfo.comment) == (True, "X", "hallo")
    assert (metainfo.created_by, metainfo.created_at, metainfo.encoding) == ("me", 1_700_000_000, "UTF-8")


def test_announce_counts_where_the_list_says_nothing() -> None:
    assert read(info(), announce="http://one/").trackers == (("http://one/",),)
    assert read(info(), announce="http://one/", announce_list=[[], [""]]).trackers == (("http://one/",),)
    assert read(info(), url_list="http://w/").web_seeds == ("http://w/",)


def test_bad_decoration_is_passed_over() -> None:
    metainfo = read(
        info(private="1"),
        announce=5,
        announce_list="x",
        url_list={},
        nodes=3,
        comment=[1],
        creation_date=-1,
        encoding=7,
    )
    assert (metainfo.trackers, metainfo.web_seeds, metainfo.comment, metainfo.created_at) == ((), (), None, None)
    assert not metainfo.private


def test_piece_hashes_one_by_one() -> None:
    hashes = sha1(b"1").digest() + sha1(b"2").digest()
    metainfo = read(info(pieces=hashes))
    assert [metainfo.piece_hash(0), metainfo.piece_hash(1)] == [hashes[:20], hashes[20:]]
    for piece in (-1, 2):
        with pytest.raises(IndexError):
            metainfo.piece_hash(piece)


def test_files_pads_and_attributes() -> None:
    metainfo = read(
        multi(
            {"length": 10, "path": ["a", "b"], "attr": "x"},
            {"length": 0, "path": ["empty"]},
            {"length": 6, "attr": "p"},
            {"length": 6, "path": [".pad", "6"]},
            {"length": 6, "path": ["_____padding_file_0_if you see this"]},
            {"length": 6, "path": [".pad", "readme"]},
            {"path": ["link"], "attr": "l", "symlink path": ["a"]},
        )
    )
    assert metainfo.layout.files == (
        FileEntry(("a", "b"), 10, executable=True),
        FileEntry(("empty",), 0),
        FileEntry((".pad", "6"), 6, pad=True),
        FileEntry((".pad", "6"), 6, pad=True),
        FileEntry(("_____padding_file_0_if you see this",), 6, pad=True),
        FileEntry((".pad", "readme"), 6),
        FileEntry(("link",), 0),
    )
    assert metainfo.multi_file
    assert metainfo.layout.payload_length == 16


def test_names_are_not_made_safe_here() -> None:
    paths = [["..", "..", "etc", "passwd"], ["/abs"], ["a"], ["a"], ["a", "b"], [""], ["nul\0"], ["A"]]
    metainfo = read(multi(*({"length": 1, "path": path} for path in paths)))
    assert [list(file.path) for file in metainfo.layout.files] == paths


@pytest.mark.parametrize(
    ("encoding", "raw", "text"),
    [
        (None, "é".encode(), "é"),
        (None, b"caf\xe9", "caf\udce9"),
        ("latin-1", b"caf\xe9", "café"),
        ("GBK", "中文".encode("gbk"), "中文"),
        ("gbk", b"\xff\xff", "\udcff\udcff"),
        ("shift_jis", "日本".encode("shift_jis"), "日本"),
        ("windows-1251", "мир".encode("cp1251"), "мир"),
        ("no-such-codec", "é".encode(), "é"),
        ("unicode_escape", b"\\u0041", "\\u0041"),
        ("idna", b"xn--bcher-kva", "xn--bcher-kva"),
        ("zlib", b"abc", "abc"),
        ("utf-8\0", b"abc", "abc"),
        ("é" * 10, b"abc", "abc"),
        (b"\xff", b"abc", "abc"),
        ("x" * 1000, b"abc", "abc"),
    ],
)
def test_text_is_in_the_declared_encoding_or_utf8_or_kept(encoding: Any, raw: bytes, text: str) -> None:
    top = {} if encoding is None else {"encoding": encoding}
    metainfo = read(info(name=raw), comment=raw, **top)
    assert (metainfo.name, metainfo.comment) == (text, text)
    assert read(multi({"length": 1, "path": [raw]}), **top).layout.files[0].path == (text,)


def test_utf8_keys_are_preferred_when_they_are_utf8() -> None:
    entry = {"length": 1, "path": [b"\xe9"], "path.utf-8": ["é"]}
    metainfo = read({**multi(entry), "name": b"\xe9", "name.utf-8": "é"})
    assert (metainfo.name, metainfo.layout.files[0].path) == ("é", ("é",))
    entry = {"length": 1, "path": ["plain"], "path.utf-8": [b"\xff"]}
    metainfo = read({**multi(entry), "name": "plain", "name.utf-8": b"\xff"})
    assert (metainfo.name, metainfo.layout.files[0].path) == ("plain", ("plain",))


@pytest.mark.parametrize("length", [KIB, 1025, 100_000, 512 * KIB * KIB - 16 * KIB])
def test_any_piece_length_inside_the_limits(length: int) -> None:
    assert read(info(piece_length=length, length=3, pieces=b"x" * 20)).layout.piece_length == length


@pytest.mark.parametrize("length", [-1, 0, 1, 1023, 512 * KIB * KIB - 16 * KIB + 1, 10**19, GONE, "16384", [16384]])
def test_piece_lengths_outside_them(length: Any) -> None:
    refused(info(piece_length=length, length=3, pieces=b"x" * 20), "piece length")


@pytest.mark.parametrize("pieces", [b"", b"x" * 20, b"x" * 39, b"x" * 41, b"x" * 60, GONE, 5, [b"x" * 40]])
def test_piece_hashes_that_do_not_fit_the_files(pieces: Any) -> None:
    refused(info(pieces=pieces), "piece hashes")


@pytest.mark.parametrize("length", [-1, 2**63, 10**19, GONE, "5", []])
def test_bad_lengths(length: Any) -> None:
    refused(info(length=length), "length")
    if length is not GONE:
        refused(multi({"length": length, "path": ["a"]}), "length")


def test_lengths_whose_sum_overflows() -> None:
    big = {"length": 2**62, "path": ["a"]}
    refused(multi(big, big, big), "longer than any disk")


@pytest.mark.parametrize(
    "files", [[], {}, "x", [5], ["x"], [{"length": 1}], [{"length": 1, "path": "a"}], [{"length": 1, "path": [1]}]]
)
def test_bad_lists_of_files(files: Any) -> None:
    refused(info(files=files, length=GONE, pieces=b"x" * 20))


@pytest.mark.parametrize("name", [GONE, 5, ["a"]])
def test_a_torrent_needs_a_name(name: Any) -> None:
    refused(info(name=name), "no name")


@pytest.mark.parametrize("bad", [b"", 5, [1], "x"])
def test_the_info_has_to_be_a_dictionary(bad: Any) -> None:
    refused(bad, "no info")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"de",
        b"le",
        b"l" * 100_000,
        b"d4:info" + b"l" * 100_000,
        b"<!DOCTYPE html><html>",
        b"\0" * 1000,
        torrent(info())[:-1],
        torrent(info())[:-30],
        torrent(info()) + b"tail",
        b"d4:infod6:lengthi" + b"9" * 5000 + b"eee",
    ],
)
def test_files_that_are_no_torrents(data: bytes) -> None:
    with pytest.raises(MetainfoError):
        Metainfo.from_bytes(data)


def test_a_web_page_saved_as_a_torrent_is_called_one() -> None:
    with pytest.raises(MetainfoError, match="web page"):
        Metainfo.from_bytes(b"\n<!DOCTYPE html>")


def test_the_infohash_is_of_the_bytes_that_were_there() -> None:
    odd = b"d4:name1:a6:lengthi007e6:pieces20:" + b"x" * 20 + b"12:piece lengthi16384ee"
    metainfo = Metainfo.from_bytes(b"d4:info" + odd + b"e")
    assert metainfo.info_bytes == odd
    assert metainfo.infohash_v1 == sha1(odd).digest()
    assert metainfo.piece_hashes == b"x" * 20


def test_100_000_files() -> None:
    entries = [{"length": 1, "path": [f"folder{number % 100}", f"{number}.bin"]} for number in range(100_000)]
    metainfo = read(multi(*entries, pieces=4))
    assert len(metainfo.layout.files) == 100_000
    assert metainfo.layout.files[99_999].path == ("folder99", "99999.bin")


keys = st.sampled_from(
    [
        "info",
        "name",
        "length",
        "files",
        "path",
        "pieces",
        "piece length",
        "meta version",
        "file tree",
        "",
        "pieces root",
        "nodes",
    ]
) | st.sampled_from(["announce-list", "encoding", "attr", "piece layers", "name.utf-8", "url-list", "path.utf-8"])
junk = st.recursive(
    st.sampled_from([0, 1, 2, -1, 16384, 2**63, "", "a", b"x" * 20, b"x" * 32, b"\xff", "utf-16", "l"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=12,
)


@given(st.dictionaries(keys, junk, max_size=6), st.dictionaries(keys, junk, max_size=4), st.booleans())
@settings(max_examples=300)
def test_garbage_is_a_metainfo_error_or_a_torrent(inner: Any, top: Any, valid: bool) -> None:
    base = info(length=20_000, pieces=b"x" * 20) if valid else {}
    data = encode({**top, "info": {**base, **inner}})
    try:
        Metainfo.from_bytes(data)
    except MetainfoError:
        pass


@given(st.binary(max_size=80))
@settings(max_examples=100)
def test_raw_garbage(data: bytes) -> None:
    with pytest.raises(MetainfoError):
        Metainfo.from_bytes(data)


# version 2 and hybrids


def roots(content: bytes, piece_length: int = 16 * KIB) -> tuple[bytes, bytes]:
    """The piece layer of a file and its root, with a piece of one leaf."""
    leaves = [sha256(content[at : at + 16 * KIB]).digest() for at in range(0, len(content), 16 * KIB)]
    row = leaves + [bytes(32)] * ((1 << (len(leaves) - 1).bit_length()) - len(leaves))
    while len(row) > 1:
        row = [sha256(a + b).digest() for a, b in zip(row[::2], row[1::2], strict=True)]
    return b"".join(leaves), row[0]


LAYER, ROOT = roots(b"q" * 50_000)
SMALL = sha256(b"tiny").digest()


def leaf(length: int, root: bytes = b"", **more: Any) -> dict[str, Any]:
    return {"": {"length": length, **({"pieces root": root} if root else {}), **more}}


TREE = {"big": leaf(50_000, ROOT), "sub": {"empty": leaf(0), "tiny": leaf(4, SMALL, attr="x")}, "z": leaf(4, SMALL)}


def v2(**changes: Any) -> dict[str, Any]:
    keys: dict[str, Any] = {"file tree": TREE, "meta version": 2, "name": "folder", "piece length": 16 * KIB}
    keys.update({key.replace("_", " "): value for key, value in changes.items()})
    return {key: value for key, value in keys.items() if value is not GONE}


V1_OF_TREE = [
    {"length": 50_000, "path": ["big"]},
    {"length": 0, "path": ["sub", "empty"]},
    {"length": 15_536, "path": [".pad", "15536"], "attr": "p"},
    {"length": 4, "path": ["sub", "tiny"], "attr": "x"},
    {"length": 16_380, "path": [".pad", "16380"], "attr": "p"},
    {"length": 4, "path": ["z"]},
]


def test_v2_files_each_begin_a_piece() -> None:
    metainfo = read(v2(), piece_layers={ROOT: LAYER})
    assert (metainfo.version, metainfo.multi_file, metainfo.piece_hashes) == ("v2", True, b"")
    assert metainfo.infohash_v1 is None
    assert metainfo.infohash_v2 == sha256(encode(v2())).digest()
    assert metainfo.infohash == sha256(encode(v2())).digest()[:20]
    assert [(file.path, file.length) for file in metainfo.layout.files if not file.pad] == [
        (("big",), 50_000),
        (("sub", "empty"), 0),
        (("sub", "tiny"), 4),
        (("z",), 4),
    ]
    layout = metainfo.layout
    starts = [layout.file_start(n) for n, file in enumerate(layout.files) if file.length and not file.pad]
    assert starts == [0, 65_536, 81_920]
    assert layout.piece_count == 6
    assert layout.payload_length == 50_008
    assert [file.path for file in layout.files if file.executable] == [("sub", "tiny")]


def test_v2_with_one_file_of_its_own_name_has_no_folder() -> None:
    metainfo = read(v2(file_tree={"a": leaf(50_000, ROOT)}, name="a"), piece_layers={ROOT: LAYER})
    assert not metainfo.multi_file
    assert metainfo.layout.files == (FileEntry((), 50_000),)
    assert read(v2(file_tree={"b": leaf(4, SMALL)}, name="a")).layout.files == (FileEntry(("b",), 4),)


def test_a_hybrid_is_laid_out_as_v1_says() -> None:
    metainfo = read(v2(files=V1_OF_TREE, pieces=b"x" * 120), piece_layers={ROOT: LAYER})
    assert metainfo.version == "hybrid"
    assert metainfo.infohash == metainfo.infohash_v1 == sha1(metainfo.info_bytes).digest()
    assert metainfo.infohash_v2 == sha256(metainfo.info_bytes).digest()
    assert len(metainfo.layout.files) == 6
    assert metainfo.piece_hashes == b"x" * 120


@pytest.mark.parametrize(
    "files",
    [
        V1_OF_TREE[:-1],
        [*V1_OF_TREE[:-1], {"length": 4, "path": ["y"]}],
        [*V1_OF_TREE[:-1], {"length": 5, "path": ["z"]}],
        [file for file in V1_OF_TREE if "attr" not in file or file["attr"] == "x"],
        [V1_OF_TREE[5], *V1_OF_TREE[1:5], V1_OF_TREE[0]],
    ],
)
def test_a_hybrid_of_two_different_torrents(files: list[dict[str, Any]]) -> None:
    count = -(-sum(file["length"] for file in files) // (16 * KIB))
    refused(v2(files=files, pieces=b"x" * 20 * count), "hybrid", piece_layers={ROOT: LAYER})


def test_piece_layers_have_to_be_there_and_right() -> None:
    refused(v2(), "piece layer")
    refused(v2(), "piece layer", piece_layers=[])
    refused(v2(), "wrong size", piece_layers={ROOT: LAYER[:-32]})
    refused(v2(), "wrong size", piece_layers={ROOT: LAYER + bytes(32)})
    refused(v2(), "does not match", piece_layers={ROOT: bytes(len(LAYER))})


@pytest.mark.parametrize(
    "tree",
    [
        GONE,
        5,
        {},
        {"a": {}},
        leaf(4, SMALL),
        {"a": 5},
        {"a": {"": 5}, "b": {}},
        {"a": leaf(4)},
        {"a": leaf(4, b"short")},
        {"a": leaf(-1, SMALL)},
        {"a": leaf(2**63, SMALL)},
        {"a": {**leaf(4, SMALL), "b": leaf(4, SMALL)}},
    ],
)
def test_bad_file_trees(tree: Any) -> None:
    refused(v2(file_tree=tree))


@pytest.mark.parametrize("length", [8 * KIB, 16 * KIB + 1, 48 * KIB])
def test_v2_piece_lengths_are_powers_of_two(length: int) -> None:
    refused(v2(piece_length=length), "power of two")


@pytest.mark.parametrize("version", [0, 3, -1, "2", [2]])
def test_other_meta_versions(version: Any) -> None:
    refused(v2(meta_version=version), "meta version")


# from peers, and edited


def test_from_an_info_dictionary_alone() -> None:
    metainfo = Metainfo.from_info(encode(info()), [["http://a/"], ["http://b/"]])
    assert metainfo.infohash == sha1(encode(info())).digest()
    assert metainfo.trackers == (("http://a/",), ("http://b/",))
    assert Metainfo.from_info(encode(v2())).version == "v2"
    for bad in (b"", b"i1e", b"dede", b"\xff"):
        with pytest.raises(MetainfoError):
            Metainfo.from_info(bad)


def test_edits_keep_the_infohash_and_every_unknown_byte() -> None:
    odd = Raw(b"d6:lengthi007e4:name1:a12:piece lengthi16384e6:pieces20:" + b"x" * 20 + b"e")
    before = Metainfo.from_bytes(
        torrent(
            odd, announce="http://old/", announce_list=[["http://old/"]], my_key=Raw(b"d1:bi1e1:ai-0ee"), comment="c"
        )
    )
    after = Metainfo.from_bytes(
        before.edited(trackers=[["http://a/", "http://b/"], ["http://c/"]], web_seeds=["http://w/"], comment="neu")
    )
    assert after.info_bytes == odd
    assert b"6:my keyd1:bi1e1:ai-0ee" in after.data
    assert after.trackers == (("http://a/", "http://b/"), ("http://c/",))
    assert (after.web_seeds, after.comment) == (("http://w/",), "neu")
    bare = Metainfo.from_bytes(after.edited(trackers=[], web_seeds=[], comment=None, created_by=None, created_at=None))
    assert set(decode_top_keys(bare)) == {b"info", b"my key"}
    one = bare.edited(trackers=[["http://only/"]], created_by="me", created_at=5)
    assert b"announce-list" not in one
    assert Metainfo.from_bytes(one).trackers == (("http://only/",),)


def decode_top_keys(metainfo: Metainfo) -> list[bytes]:
    top = decode(metainfo.data)
    assert isinstance(top, dict)
    return list(top)


def test_a_comment_is_readable_whatever_encoding_the_file_declares() -> None:
    before = read(info(), encoding="gbk", **{"comment.utf-8": "alt"})
    assert Metainfo.from_bytes(before.edited(comment="é中")).comment == "é中"
    assert Metainfo.from_bytes(before.edited(comment=None)).comment is None


def test_no_edit_is_the_same_file() -> None:
    metainfo = read(v2(), piece_layers={ROOT: LAYER}, announce="http://a/")
    assert metainfo.edited() == metainfo.data
    assert metainfo == Metainfo.from_bytes(metainfo.edited())
    assert hash(metainfo) == hash(Metainfo.from_bytes(metainfo.data))
    assert metainfo != read(info())
