"""``unchoke check``: exit codes, and what it says about each file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unchoke.app.cli import run

Make = Callable[..., Path]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder "data" of a few files, of which two share a piece."""
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (root / "a.bin").write_bytes(os.urandom(300_000))
    (root / "b.bin").write_bytes(os.urandom(100))
    (root / "sub" / "c.bin").write_bytes(os.urandom(200_000))
    (root / "sub" / "empty").touch()
    return root


@pytest.fixture
def torrent(data: Path, make_torrent: Make) -> str:
    return str(make_torrent(data))


def check_json(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any]]:
    code = run(["check", "--json", "--no-progress", *args])
    return code, json.loads(capsys.readouterr().out)


def states(report: dict[str, Any]) -> dict[str, str]:
    return {file["path"]: file["state"] for file in report["files"]}


@pytest.mark.parametrize("own_folder", [False, True])
def test_all_good(data: Path, torrent: str, capsys: pytest.CaptureFixture[str], own_folder: bool) -> None:
    where = str(data if own_folder else data.parent)
    assert run(["check", torrent, where]) == 0
    assert "data: 8 of 8 pieces are good" in capsys.readouterr().out
    code, report = check_json(capsys, torrent, where)
    assert code == 0
    assert report["ok"]
    assert report["folder"] == str(data.parent)
    assert (report["pieces"], report["pieces_ok"], report["pieces_bad"], report["files"]) == (8, 8, 0, [])


def test_what_is_wrong_is_named(data: Path, torrent: str, capsys: pytest.CaptureFixture[str]) -> None:
    with open(data / "a.bin", "r+b") as file:
        file.write(b"damage")
    (data / "sub" / "empty").unlink()
    with open(data / "sub" / "c.bin", "ab") as file:
        file.write(b"longer")
    assert run(["check", torrent, str(data.parent)]) == 32
    said = capsys.readouterr()
    assert "7 of 8 pieces are good" in said.out
    assert "damaged     data/a.bin (300000 bytes)" in said.out
    assert "longer      data/sub/c.bin (200006 of 200000 bytes)" in said.out
    assert "missing     data/sub/empty (0 bytes)" in said.out
    assert said.err.splitlines()[-1].startswith("unchoke: data: 1 of 8 pieces does not match")
    code, report = check_json(capsys, torrent, str(data.parent))
    assert code == 32
    assert not report["ok"]
    assert states(report) == {"data/a.bin": "damaged", "data/sub/c.bin": "longer", "data/sub/empty": "missing"}


def test_neighbours_of_a_missing_file_are_not_blamed(
    data: Path, torrent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "b.bin").unlink()
    os.truncate(data / "sub" / "c.bin", 100_000)
    code, report = check_json(capsys, torrent, str(data.parent))
    assert code == 32
    assert states(report) == {"data/a.bin": "unverified", "data/b.bin": "missing", "data/sub/c.bin": "short"}
    assert report["files"][2]["found"] == 100_000


def test_every_piece_good_and_yet_not_the_torrents_files(
    data: Path, torrent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "sub" / "empty").unlink()
    assert run(["check", "-q", torrent, str(data.parent)]) == 32
    said = capsys.readouterr()
    assert said.out == ""
    assert "every piece is good, but 1 file" in said.err


def test_many_findings_are_cut_short(tmp_path: Path, make_torrent: Make, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(50):
        (root / f"{number:02}").write_bytes(b"x")
    torrent = str(make_torrent(root))
    for number in range(1, 50):
        (root / f"{number:02}").unlink()
    assert run(["check", torrent, str(tmp_path)]) == 32
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 22
    assert "and 30 more files" in out
    code, report = check_json(capsys, torrent, str(tmp_path))
    assert code == 32
    assert len(report["files"]) == 50


def test_a_single_file(tmp_path: Path, make_torrent: Make) -> None:
    file = tmp_path / "x.iso"
    file.write_bytes(os.urandom(100_000))
    torrent = str(make_torrent(file))
    assert run(["check", "-q", torrent, str(tmp_path)]) == 0
    assert run(["check", "-q", torrent, str(file)]) == 0
    (tmp_path / "link").symlink_to("x.iso")
    assert run(["check", "-q", torrent, str(tmp_path / "link")]) == 0
    file.write_bytes(bytes(100_000))
    assert run(["check", "-q", torrent, str(file)]) == 32


def test_nothing_is_written(data: Path, torrent: str) -> None:
    (data / "b.bin").unlink()
    before = sorted((str(path), path.stat().st_mtime_ns) for path in [data, *data.rglob("*")])
    assert run(["check", "-q", torrent, str(data.parent)]) == 32
    assert sorted((str(path), path.stat().st_mtime_ns) for path in [data, *data.rglob("*")]) == before


def test_what_is_not_there(data: Path, torrent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", torrent, str(tmp_path / "nowhere")]) == 3
    assert run(["check", str(tmp_path / "no.torrent"), str(tmp_path)]) == 3
    (tmp_path / "other").mkdir()
    assert run(["check", torrent, str(tmp_path / "other")]) == 3
    assert "PATH is the folder that holds" in capsys.readouterr().err
    (tmp_path / "bad.torrent").write_bytes(b"not bencode")
    assert run(["check", str(tmp_path / "bad.torrent"), str(tmp_path)]) == 26
    assert run(["check", torrent]) == 2


def test_a_link_that_leads_out_is_refused(data: Path, torrent: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "data").symlink_to(data)
    assert run(["check", "-q", torrent, str(tmp_path / "in")]) == 17
    assert run(["check", "-q", torrent, str(tmp_path / "in" / "data")]) == 0


def test_a_v2_only_torrent_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = b"\1" * 32
    info = (
        b"d9:file treed1:ad0:d6:lengthi5e11:pieces root32:"
        + root
        + b"eee12:meta versioni2e4:name1:a12:piece lengthi16384ee"
    )
    (tmp_path / "v2.torrent").write_bytes(b"d4:info" + info + b"12:piece layersdee")
    (tmp_path / "a").write_bytes(b"12345")
    assert run(["check", str(tmp_path / "v2.torrent"), str(tmp_path)]) == 1
    assert "v2-only" in capsys.readouterr().err
