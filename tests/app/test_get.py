"""``unchoke get`` and ``seed`` as their users meet them: sources, selection, refusals, exit codes, output."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from unchoke.app.cli import run
from unchoke.engine.create import create_torrent

LOCAL = "127.0.0.1"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder to share: three files and an empty one."""
    folder = tmp_path / "from" / "stuff"
    for number, name in enumerate(["a.bin", "sub/b.bin", "sub/c.txt"]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(100_000 + number))
    (folder / "empty").touch()
    return folder


@pytest.fixture
def torrent(source: Path, tmp_path: Path) -> Path:
    path = tmp_path / "stuff.torrent"
    path.write_bytes(create_torrent(source, piece_length=16384))
    return path


@contextlib.contextmanager
def running(*words: str, ready: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command in a process of its own; the line that says it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unchoke", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    seen: list[str] = []
    try:
        for line in process.stdout:
            seen.append(line)
            if re.search(ready, line):
                break
        else:
            pytest.fail("".join(seen) or "it said nothing")
        yield process, seen[-1]
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
def seeder(source: Path, torrent: Path) -> Iterator[str]:
    """HOST:PORT of a seeder."""
    words = ["seed", str(torrent), str(source.parent), "--bind", LOCAL, "--no-progress"]
    with running(*words, ready="^seeding stuff") as (_, line):
        yield f"{LOCAL}:{line.split()[-1]}"


def get(*words: object) -> int:
    return run(["get", *(str(word) for word in words), "--bind", LOCAL])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_download(
    seeder: str, torrent: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get(torrent, "-d", tmp_path / "to", "--peer", seeder) == 0
    assert contents(tmp_path / "to" / "stuff") == contents(source)
    assert re.search(r"^done: .*/to/stuff \(293\.0 KiB in ", capsys.readouterr().err, re.MULTILINE)


def test_a_bare_source_means_get(seeder: str, torrent: Path, source: Path, tmp_path: Path) -> None:
    assert run([str(torrent), "-o", str(tmp_path / "to"), "--peer", seeder, "--bind", LOCAL, "-q"]) == 0
    assert contents(tmp_path / "to" / "stuff") == contents(source)


def test_what_is_there_is_not_fetched_again(torrent: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get(torrent, "-d", source.parent) == 0  # there is no peer
    assert f"already complete: {source} (293.0 KiB)\n" in capsys.readouterr().err


def test_the_torrent_is_kept_where_nothing_is(
    torrent: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    words = ["-d", source.parent, "--save-torrent", kept]
    assert get(torrent, *words) == 0
    assert get(torrent, *words) == 0  # the same command goes on
    kept.write_bytes(b"mine")
    assert get(torrent, *words) == 17
    assert kept.read_bytes() == b"mine"
    assert "--overwrite" in capsys.readouterr().err
    assert get(torrent, *words, "--overwrite") == 0
    assert kept.read_bytes() == torrent.read_bytes()
    assert get(torrent, torrent, *words) == 2


def test_only_some_files(seeder: str, torrent: Path, source: Path, tmp_path: Path) -> None:
    assert get(torrent, "-d", tmp_path / "to", "--peer", seeder, "-s", "2", "-q") == 0
    chosen = sorted(contents(source))[1]
    assert contents(tmp_path / "to" / "stuff")[chosen] == contents(source)[chosen]
    assert get(torrent, "-d", tmp_path / "to2", "--peer", seeder, "--match", "*.bin", "--exclude", "a.*", "-q") == 0
    got = contents(tmp_path / "to2" / "stuff")
    assert got["sub/b.bin"] == contents(source)["sub/b.bin"]
    assert "empty" not in got


def test_the_list(torrent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get(torrent, "-l", "-s", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "stuff  293.0 KiB"
    assert [line.split()[0].rstrip("-") for line in lines[1:]] == ["1", "2", "3", "4"]
    assert [line.split()[-1] for line in lines[1:]] == ["a.bin", "empty", "sub/b.bin", "sub/c.txt"]


def test_the_list_as_json_has_the_paths_of_show(torrent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "--json", str(torrent)]) == 0
    shown = [file["path"] for file in json.loads(capsys.readouterr().out)["files"]]
    assert get(torrent, "-l", "--json", "--match", "stuff/sub/*") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [file["path"] for file in files] == shown
    assert [file["selected"] for file in files] == [False, False, True, True]


def test_json_lines(seeder: str, torrent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get(torrent, "-d", tmp_path / "to", "--peer", seeder, "--json") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records[0]["event"] == "progress" or records[0]["event"] == "added"
    done = next(record for record in records if record["event"] == "completed")
    assert (done["state"], done["done"], done["path"]) == ("seeding", 300_003, str(tmp_path / "to" / "stuff"))


def test_the_hook_hears_of_completion(seeder: str, torrent: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    hook = f'echo "$UNCHOKE_NAME|$UNCHOKE_PATH|$UNCHOKE_INFOHASH" > "{told}"'
    assert get(torrent, "-d", tmp_path / "to", "--peer", seeder, "-q", "--on-complete", hook) == 0
    name, path, infohash = told.read_text().strip().split("|")
    assert (name, path, len(infohash)) == ("stuff", str(tmp_path / "to" / "stuff"), 40)


def test_from_a_url(
    seeder: str, torrent: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, directory=str(tmp_path), **more)  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((LOCAL, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://{LOCAL}:{server.server_port}/"
        try:
            kept = tmp_path / "kept.torrent"
            words = ["-d", tmp_path / "to", "--peer", seeder, "-q", "--save-torrent", kept]
            assert get(url + "stuff.torrent", *words) == 0
            assert get(url + "nothing.torrent") == 3
        finally:
            server.shutdown()
            thread.join()
    assert contents(tmp_path / "to" / "stuff") == contents(source)
    assert kept.read_bytes() == torrent.read_bytes()
    assert "nothing.torrent" in capsys.readouterr().err


def test_of_several_sources_the_first_failure_gives_the_code(
    seeder: str, torrent: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.torrent").write_bytes(b"no torrent")
    sources = [tmp_path / "missing.torrent", tmp_path / "bad.torrent", torrent]
    assert get(*sources, "-d", tmp_path / "to", "--peer", seeder) == 3
    assert get(*reversed(sources), "-d", tmp_path / "to", "--peer", seeder) == 26
    assert contents(tmp_path / "to" / "stuff") == contents(source)
    said = capsys.readouterr().err
    assert "missing.torrent: no such file" in said
    assert "bad.torrent" in said


def test_a_file_that_is_not_ours_is_left_alone(
    seeder: str, torrent: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "to" / "stuff" / "a.bin"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"my own words")
    assert get(torrent, "-d", tmp_path / "to", "--peer", seeder) == 17
    assert contents(tmp_path / "to") == {"stuff/a.bin": b"my own words"}
    assert str(mine) in capsys.readouterr().err
    mine.write_bytes(b"x" * 200_000)  # longer than the torrent says
    assert get(torrent, "-d", tmp_path / "to", "--peer", seeder) == 17
    assert mine.read_bytes() == b"x" * 200_000
    assert get(torrent, "-d", tmp_path / "to", "--peer", seeder, "--overwrite") == 0
    assert contents(tmp_path / "to" / "stuff") == contents(source)


def test_giving_up_in_time_says_why(torrent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get(torrent, "-d", tmp_path / "to", "--timeout", "1") == 8
    assert "no progress for 1s (no peers yet: no tracker, no DHT and no address to ask" in capsys.readouterr().err


def test_ctrl_c_is_unfinished_and_says_how_to_go_on(torrent: Path, tmp_path: Path) -> None:
    words = ["get", str(torrent), "-d", str(tmp_path / "to"), "--bind", LOCAL, "--json"]
    with running(*words, ready='"state": "downloading"') as (process, _):
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 7
        records = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        assert [(one["done"], one["code"]) for one in records if one["event"] == "stopped"] == [(0, 7)]
    words = [word for word in words if word != "--json"]
    with running(*words, "-v", ready="downloading") as (process, _):
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 7
        assert "stopped: stuff at 0.0 %; the same command goes on from there" in out


def test_seeding_until_a_ratio_or_a_time(
    seeder: str, torrent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get(torrent, "-d", tmp_path / "to", "--peer", seeder, "-q", "--ratio", "0") == 0
    assert get(torrent, "-d", tmp_path / "to", "--peer", seeder, "--json", "--seed-time", "1") == 0
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events[-1] == "finished"
    assert "completed" in events


@pytest.mark.parametrize(
    "words",
    [
        ["--proxy", "socks5://127.0.0.1:1"],
        ["--encryption", "require"],
        ["--transport", "utp"],
        ["--transport", "both"],
        ["--bind", "eth0"],
        ["--dht"],  # network.discovery is off here
        ["--port-mapping"],
        ["--peer", "nowhere"],
        ["-p", "0"],
        ["--down", "fast"],
        ["--select", "0"],
        ["--select", "9"],
        ["--match", "nothing*"],
    ],
)
def test_what_cannot_be_done_is_refused(words: list[str], torrent: Path, tmp_path: Path) -> None:
    assert run(["get", str(torrent), "-d", str(tmp_path / "to"), "--timeout", "5", *words]) == 2
    assert not (tmp_path / "to").exists()


def test_what_is_off_already_may_be_turned_off(torrent: Path, source: Path) -> None:
    off = ["--no-dht", "--no-pex", "--no-lsd", "--no-port-mapping", "--transport", "tcp", "--encryption", "disable"]
    assert get(torrent, "-d", source.parent, *off, "--state-dir", source.parent / "state", "--color", "never") == 0


@pytest.mark.parametrize(
    ("word", "code", "words"),
    [
        ("magnet:?xt=urn:btih:short", 27, "a bad or second infohash"),
        ("magnet:?dn=name", 27, "needs an infohash"),
        ("magnet:xt=urn:btih:" + "a" * 40, 27, "begins with magnet:?"),
        ("a" * 39, 3, "an infohash has 40 hex digits (v2: 64), and this has 39"),
        ("1220" + "a" * 64, 3, "and this has 68"),
        ("decade", 3, "decade: no such file\n"),
        ("ftp://x/y.torrent", 2, "only http and https"),
    ],
)
def test_sources_that_are_none(word: str, code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert get(word) == code
    said = capsys.readouterr().err
    assert said.startswith("unchoke: ")
    assert words in said


@pytest.mark.parametrize("word", ["magnet:?xt=urn:btih:" + "a" * 40 + "&dn=film", "b" * 40])
def test_a_magnet_link_that_nobody_answers_says_where_it_has_looked(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get(word, "-d", tmp_path / "to", "--timeout", "0.2s") == 8
    said = capsys.readouterr().err
    assert "no peers yet: no tracker, no DHT and no address to ask" in said
    assert not (tmp_path / "to").exists()


def test_a_taken_port_names_its_flag(torrent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server((LOCAL, 0)) as taken:
        assert get(torrent, "-d", tmp_path / "to", "-p", taken.getsockname()[1]) == 6
    assert "-p/--port" in capsys.readouterr().err


def test_seed_needs_all_of_it(torrent: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["seed", str(torrent), str(tmp_path / "elsewhere"), "--bind", LOCAL]) == 3
    (source / "a.bin").write_bytes(b"y" * 100_000)
    assert run(["seed", str(torrent), str(source.parent), "--bind", LOCAL]) == 32
    (source / "a.bin").write_bytes(b"y")
    assert run(["seed", str(torrent), str(source.parent), "--bind", LOCAL, "--trust"]) == 32
    assert "Traceback" not in capsys.readouterr().err


def test_seed_says_what_is_not_there(torrent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["seed", str(torrent), str(tmp_path / "no"), "--bind", LOCAL]) == 3
    assert f"{tmp_path / 'no'}: no such file or folder" in capsys.readouterr().err


def test_seed_takes_the_folder_itself(torrent: Path, source: Path) -> None:
    with running("seed", str(torrent), str(source), "--bind", LOCAL, ready="^seeding stuff"):
        pass


def test_seed_stops_at_ctrl_c_with_0(torrent: Path, source: Path) -> None:
    with running("seed", str(torrent), str(source.parent), "--bind", LOCAL, ready="^seeding stuff") as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_the_demo(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--size", "8MiB"]) == 0
    out = capfd.readouterr().out
    assert "All 6 files are the same, byte for byte." in out
    assert re.search(r"Average speed, start to end: \d+ MiB/s", out)
