"""``show`` and ``magnet``: what they print of torrents, links and things that are neither."""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from unchoke.app.cli import run
from unchoke.app.cli.common import MAX_TORRENT, kind_of
from unchoke.protocol.bencode import encode
from unchoke.protocol.metainfo import Metainfo

FILES = [
    {"length": 10, "path": ["a"]},
    {"length": 5, "path": [".pad", "5"], "attr": "p"},
    {"length": 2000, "path": ["sub", b"b\xff\x1b[31m"]},
]
HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def torrent(tmp_path: Path) -> Path:
    info: Any = {
        "files": FILES,
        "name": "folder",
        "piece length": 16384,
        "pieces": b"x" * 20,
        "private": 1,
        "source": "S",
    }
    top: Any = {
        "info": info,
        "announce-list": [["http://a/", "http://b/"], ["http://c/"]],
        "comment": "one\ntwo\u202e",
        "created by": "me",
        "creation date": 1_700_000_000,
        "url-list": ["http://w/"],
        "nodes": [["n", 1]],
    }
    path = tmp_path / "x.torrent"
    path.write_bytes(encode(top))
    return path


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_json(torrent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metainfo = Metainfo.from_bytes(torrent.read_bytes())
    assert run(["show", "--json", str(torrent)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": "folder",
        "infohash_v1": metainfo.infohash.hex(),
        "infohash_v2": None,
        "size": 2010,
        "piece_length": 16384,
        "piece_count": 1,
        "file_count": 2,
        "files": [{"path": "folder/a", "size": 10}, {"path": "folder/sub/b\udcff\x1b[31m", "size": 2000}],
        "trackers": [["http://a/", "http://b/"], ["http://c/"]],
        "web_seeds": ["http://w/"],
        "private": True,
        "comment": "one\ntwo\u202e",
        "created_by": "me",
        "created_at": 1_700_000_000,
        "source": "S",
        "version": "v1",
    }


def test_for_people(torrent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(torrent)]) == 0
    out = capsys.readouterr().out
    for words in (
        "folder\n",
        "2.0 KiB (2,010 bytes) in 2 files",
        "1 of 16.0 KiB, v1",
        "2023-11-14 22:13:20 UTC by me",
        "onetwo\n",
        "Tracker 2     http://c/",
        "http://w/",
        "  1        10 B  folder/a\n",
        "  3     2.0 KiB  folder/sub/b\ufffd[31m\n",
    ):
        assert words in out
    assert "\x1b" not in out
    assert ".pad" not in out


@pytest.mark.parametrize("date", [10**19, 2**62, 253402300800])
def test_dates_beyond_the_calendar(torrent: Path, capsys: pytest.CaptureFixture[str], date: int) -> None:
    torrent.write_bytes(Metainfo.from_bytes(torrent.read_bytes()).edited(created_at=date))
    assert run(["show", str(torrent)]) == 0
    assert "seconds after 1970" in capsys.readouterr().out


def test_long_lists_are_cut_unless_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files: Any = [{"length": 1, "path": [f"{number}"]} for number in range(30)]
    path = tmp_path / "x.torrent"
    path.write_bytes(encode({"info": {"files": files, "name": "n", "piece length": 16384, "pieces": b"x" * 20}}))
    assert run(["show", str(path)]) == 0
    out = capsys.readouterr().out
    assert "and 10 more" in out
    assert "n/29" not in out
    assert run(["show", "--files", str(path)]) == 0
    assert " 30         1 B  n/29\n" in capsys.readouterr().out


def test_from_standard_input(
    torrent: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, torrent.read_bytes())
    assert run(["show", "-"]) == 0
    assert "folder" in capsys.readouterr().out
    feed(monkeypatch, b"")
    assert run(["show", "-"]) == 26
    assert "standard input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", 26), (b"<html>", 26), (b"l" * 100_000, 26), (b"de", 26), (b"d4:infod4:name1:aee", 26), (None, 3)],
)
def test_what_is_no_torrent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, code: int
) -> None:
    path = tmp_path / "bad.torrent"
    if content is not None:
        path.write_bytes(content)
    for command in ("show", "magnet"):
        assert run([command, str(path)]) == code
        err = capsys.readouterr().err
        assert str(path) in err
        assert err.count("\n") == 1


def test_what_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(tmp_path)]) == 17
    assert run(["show", "nul\0"]) == 3
    (tmp_path / "file").touch()
    assert run(["show", str(tmp_path / "file" / "x")]) == 17
    assert capsys.readouterr().err.count("\n") == 3


def test_a_file_too_large_to_be_one(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        os.truncate(file.fileno(), MAX_TORRENT + 1)
    assert run(["show", str(tmp_path / "big")]) == 26


def test_show_of_a_link(capsys: pytest.CaptureFixture[str]) -> None:
    link = f"magnet:?xt=urn:btih:{HASH}&dn=a%0Ab%1B&tr=http://t/&x.pe=[::1]:5&x.pe=h:6&so=0,2-4&xl=2048&ws=http://w/"
    assert run(["show", link]) == 0
    out = capsys.readouterr().out
    for words in (HASH, "ab\n", "http://t/", "::1 port 5", "1, 3-5", "2.0 KiB"):
        assert words in out
    assert run(["show", "--json", link]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["infohash_v1"], shown["size"], shown["trackers"]) == (HASH, 2048, [["http://t/"]])
    assert (shown["peers"], shown["select"]) == (["[::1]:5", "h:6"], [[0, 0], [2, 4]])


@pytest.mark.parametrize("link", ["magnet:?", "magnet:?xt=urn:btih:zz"])
def test_bad_links(link: str) -> None:
    assert run(["show", link]) == run(["magnet", link]) == 27


def test_a_url_that_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x.torrent"
        assert run(["show", url]) == 6
    assert url in capsys.readouterr().err


def test_an_infohash_says_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", HASH]) == 0
    assert capsys.readouterr().out.split() == ["Infohash", HASH]


def test_with_an_output_peers_are_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", HASH, "-o", str(tmp_path / "x.torrent"), "--timeout", "0.2"]) == 8
    assert f"{HASH}: no metadata within" in capsys.readouterr().err
    assert not (tmp_path / "x.torrent").exists()


def test_the_magnet_link(torrent: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    metainfo = Metainfo.from_bytes(torrent.read_bytes())
    assert run(["magnet", str(torrent)]) == 0
    link = capsys.readouterr().out
    assert link.startswith(f"magnet:?xt=urn:btih:{metainfo.infohash}&dn=folder&xl=2010&tr=http%3A%2F%2Fa%2F")
    assert link.count("\n") == 1
    feed(monkeypatch, torrent.read_bytes())
    assert run(["magnet", "-"]) == run(["magnet", link]) == 0
    assert capsys.readouterr().out == link * 2
    assert run(["magnet", HASH.upper()]) == 0
    assert capsys.readouterr().out == f"magnet:?xt=urn:btih:{HASH}\n"
    assert run(["magnet", "a" * 64]) == 0
    assert capsys.readouterr().out == f"magnet:?xt=urn:btmh:1220{'a' * 64}\n"


def test_kinds_of_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = {
        "-": "stdin",
        "MAGNET:?x": "magnet",
        "https://h/": "url",
        "udp://h": "url",
        HASH: "infohash",
        "A" * 32: "infohash",
        "x.torrent": "path",
        "c:/x": "path",
    }
    assert {source: kind_of(source) for source in kinds} == kinds
    (tmp_path / HASH).touch()
    assert kind_of(HASH) == "path"
