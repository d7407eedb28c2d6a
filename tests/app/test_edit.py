"""``edit``: around the info dictionary everything, in it nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from unchoke.app.cli import run
from unchoke.protocol.bencode import encode
from unchoke.protocol.metainfo import Metainfo


@pytest.fixture
def torrent(tmp_path: Path) -> Path:
    info: Any = {"length": 5, "name": "n", "piece length": 16384, "pieces": b"x" * 20}
    top: Any = {
        "info": info,
        "announce-list": [["http://a/", "http://b/"], ["http://c/"]],
        "announce": "http://a/",
        "comment": "old",
        "creation date": 5,
        "url-list": ["http://w/"],
        "strange": [1, {"x": b"\xff"}],
    }
    path = tmp_path / "x.torrent"
    path.write_bytes(encode(top))
    return path


def edited(torrent: Path, *args: str) -> Metainfo:
    before = Metainfo.from_bytes(torrent.read_bytes())
    assert run(["edit", str(torrent), *args]) == 0
    after = Metainfo.from_bytes(torrent.read_bytes())
    assert after.info_bytes == before.info_bytes
    assert b"7:strangeli1ed1:x1:\xffee" in after.data
    return after


@pytest.mark.parametrize(
    ("args", "trackers"),
    [
        (["-a", "udp://d:1"], (("http://a/", "http://b/"), ("http://c/",), ("udp://d:1",))),
        (["-a", "http://b/"], (("http://a/", "http://b/"), ("http://c/",))),
        (["-d", "http://c/"], (("http://a/", "http://b/"),)),
        (["-d", "http://a/", "-a", "http://z/"], (("http://b/",), ("http://c/",), ("http://z/",))),
        (
            ["-t", "http://x/", "--tier", "-t", "http://y/", "--tracker=http://z/"],
            (("http://x/",), ("http://y/", "http://z/")),
        ),
        (["--no-trackers"], ()),
        (["--no-trackers", "-a", "http://z/"], (("http://z/",),)),
    ],
)
def test_trackers(torrent: Path, args: list[str], trackers: Any) -> None:
    assert edited(torrent, *args).trackers == trackers


def test_the_rest(torrent: Path) -> None:
    after = edited(torrent, "--comment", "neu é", "--created-by", "me", "--no-date", "--web-seed", "http://v/")
    assert (after.comment, after.created_by, after.created_at) == ("neu é", "me", None)
    assert after.web_seeds == ("http://w/", "http://v/")
    after = edited(torrent, "--comment", "", "--created-by", "", "--delete-web-seed", "http://w/")
    assert (after.comment, after.created_by, after.web_seeds) == (None, None, ("http://v/",))
    assert after.trackers == (("http://a/", "http://b/"), ("http://c/",))


@pytest.mark.parametrize(
    "args", [[], ["-d", "http://nobody/"], ["-a", "nonsense"], ["-t", "http://x/", "--no-trackers"], ["--private"]]
)
def test_bad_usage_changes_nothing(torrent: Path, args: list[str]) -> None:
    before = torrent.read_bytes()
    assert run(["edit", str(torrent), *args]) == 2
    assert torrent.read_bytes() == before


def test_elsewhere(torrent: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    before = torrent.read_bytes()
    out = tmp_path / "out.torrent"
    args = ["edit", str(torrent), "--comment", "neu", "-o"]
    assert run([*args, str(out)]) == 0
    assert Metainfo.from_bytes(out.read_bytes()).comment == "neu"
    assert run([*args, str(out)]) == 17
    assert run([*args, str(out), "--force"]) == 0
    assert torrent.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.torrent", "x.torrent"]


def test_in_place_keeps_mode_and_link(torrent: Path, tmp_path: Path) -> None:
    torrent.chmod(0o640)
    link = tmp_path / "link.torrent"
    link.symlink_to(torrent)
    assert run(["edit", str(link), "--comment", "neu", "-q"]) == 0
    assert link.is_symlink()
    assert Metainfo.from_bytes(torrent.read_bytes()).comment == "neu"
    assert torrent.stat().st_mode & 0o777 == 0o640


def test_a_failed_write_leaves_the_old_file(torrent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torrent.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    assert run(["edit", str(torrent), "--comment", "neu"]) == 9
    assert torrent.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.torrent"]


def test_what_is_no_torrent(tmp_path: Path) -> None:
    assert run(["edit", str(tmp_path / "none"), "--comment", "x"]) == 3
    (tmp_path / "bad").write_bytes(b"bad")
    assert run(["edit", str(tmp_path / "bad"), "--comment", "x"]) == 26
    assert (tmp_path / "bad").read_bytes() == b"bad"
