"""``create``: its flags, its file, and what it says while it works."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unchoke.app.cli import run
from unchoke.app.cli.create import Hashing
from unchoke.protocol.metainfo import Metainfo


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(os.urandom(50_000))
    return tmp_path / "data"


def read(path: Path | str) -> Metainfo:
    return Metainfo.from_bytes(Path(path).read_bytes())


def test_by_default_it_lands_in_the_current_folder(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["create", str(data)]) == 0
    metainfo = read("data.torrent")
    assert capsys.readouterr().out == f"{metainfo.infohash}  data.torrent\n"
    assert metainfo.created_at is not None
    assert (metainfo.name, metainfo.trackers) == ("data", ())


def test_every_flag(data: Path, tmp_path: Path) -> None:
    flags = ["-t", "http://a/", "--tracker", "http://b/", "--tier", "-thttp://c/", "--web-seed", "http://w/"]
    flags += [
        "--piece-size",
        "32KiB",
        "--version",
        "v1",
        "--private",
        "--comment",
        "hallo",
        "--source",
        "S",
        "--no-date",
    ]
    assert run(["create", *flags, "-o", "out.torrent", "data/a"]) == 0
    metainfo = read("out.torrent")
    assert metainfo.trackers == (("http://a/", "http://b/"), ("http://c/",))
    assert (metainfo.web_seeds, metainfo.layout.piece_length) == (("http://w/",), 32 * 1024)
    assert (metainfo.private, metainfo.comment, metainfo.source, metainfo.created_at) == (True, "hallo", "S", None)
    assert metainfo.name == "a"


def test_the_same_input_gives_the_same_file(data: Path) -> None:
    for out in ("1", "2"):
        assert run(["create", "data", "--no-date", "-o", out]) == 0
    assert Path("1").read_bytes() == Path("2").read_bytes()


def test_it_does_not_overwrite_unless_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.torrent").write_bytes(b"mine")
    assert run(["create", "data"]) == 17
    assert "--force" in capsys.readouterr().err
    assert Path("data.torrent").read_bytes() == b"mine"
    assert run(["create", "data", "--force"]) == 0
    assert read("data.torrent").name == "data"


def test_into_a_folder_and_to_standard_output(data: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Path("torrents").mkdir()
    assert run(["create", "data", "-o", "torrents", "-q"]) == 0
    assert read("torrents/data.torrent").name == "data"
    assert run(["create", "data", "-o", "-"]) == 0
    assert Metainfo.from_bytes(capfdbinary.readouterr().out).name == "data"
    assert run(["create", "data", "-o", "no/such/folder.torrent"]) == 17


@pytest.mark.parametrize(
    "flags",
    [
        ["--piece-size", "1M"],
        ["--piece-size", "8KiB"],
        ["--piece-size", "512MiB"],
        ["--piece-size", "0"],
        ["--tracker", "nonsense"],
        ["--web-seed", "nonsense"],
        ["--version", "v3"],
    ],
)
def test_bad_usage(data: Path, flags: list[str]) -> None:
    assert run(["create", "data", *flags]) == 2
    assert not Path("data.torrent").exists()


def test_what_cannot_be_made(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["create", "nothing here"]) == 3
    Path("empty").mkdir()
    assert run(["create", "empty"]) == 17
    assert run(["create", "data", "--version", "v2"]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    progress = Hashing("na\nme")
    progress(512, 1024)
    progress(1024, 1024)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hashing name: 100 % of 1.0 KiB" in captured.err
    assert captured.err.endswith("\n")
