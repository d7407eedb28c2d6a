"""The command line as a whole: which command, which exit code, one line of error, and how little ``--version`` loads."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from unchoke.app import cli
from unchoke.app.cli import COMMANDS, run
from unchoke.app.cli.common import Face, verbose_option
from unchoke.errors import NoSpaceError, NotFoundError, TrackerError, UnchokeError
from unchoke.version import VERSION

HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def got(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, ...]]:
    """What a stand-in for ``get`` was called with, in an empty folder."""
    calls: list[tuple[str, ...]] = []

    @click.command()
    @click.argument("sources", nargs=-1)
    @click.option("-d", "--dir")
    def get(sources: tuple[str, ...], dir: str | None) -> int:
        calls.append((*sources, dir) if dir else sources)
        return 0

    monkeypatch.setattr("unchoke.app.cli.magnet.magnet", get)
    monkeypatch.setitem(COMMANDS, "get", ("unchoke.app.cli.magnet:magnet", ""))
    monkeypatch.chdir(tmp_path)
    return calls


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Run a command that raises this."""

    def run_it(error: BaseException, *args: str) -> int:
        @click.command()
        @verbose_option
        def demo() -> None:
            raise error

        monkeypatch.setattr("unchoke.app.cli.magnet.magnet", demo)
        monkeypatch.setitem(COMMANDS, "demo", ("unchoke.app.cli.magnet:magnet", ""))
        return run(["demo", *args])

    return run_it


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    err = capsys.readouterr().err
    assert err.startswith("unchoke: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err


@pytest.mark.parametrize(
    "source", ["x.torrent", "-", "magnet:?xt=urn:btih:" + HASH, "http://h/x.torrent", HASH, "no such thing", "zzz"]
)
def test_a_bare_source_means_get(got: list[tuple[str, ...]], source: str) -> None:
    assert run([source, "-d", "out"]) == 0
    assert run(["get", source]) == 0
    assert got == [(source, "out"), (source,)]


def test_several_sources(got: list[tuple[str, ...]]) -> None:
    assert run(["a.torrent", "show", "b.torrent"]) == 0
    assert got == [("a.torrent", "show", "b.torrent")]


@pytest.mark.parametrize(
    ("word", "meant"), [("sho", "show"), ("craete", "create"), ("Seed", "seed"), ("chekc", "check")]
)
def test_a_command_mistyped_is_no_source(
    got: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str], word: str, meant: str
) -> None:
    assert run([word, "x"]) == 2
    assert f"`unchoke {meant}`" in error_line(capsys)
    assert got == []


def test_a_file_of_nearly_a_commands_name_is_a_source(got: list[tuple[str, ...]], tmp_path: Path) -> None:
    (tmp_path / "sho").touch()
    assert run(["sho"]) == 0
    assert got == [("sho",)]


def test_help_names_every_command_and_loads_none(capsys: pytest.CaptureFixture[str]) -> None:
    for args in ([], ["-h"], ["--help"]):
        assert run(args) == 0
        out = capsys.readouterr().out
        for name in COMMANDS:
            assert f"  {name} " in out


@pytest.mark.parametrize("name", ["show", "magnet", "create", "edit"])
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "-h"]) == 0
    assert f"Usage: unchoke {name}" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"unchoke {VERSION}\n"


def test_the_version_loads_nothing_heavy() -> None:
    code = (
        "import sys; from unchoke.app.cli import run; run(['--version']);"
        "sys.exit(' '.join({'asyncio', 'aiohttp', 'rich', 'msgspec', 'ssl', 'bitarray'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("args", [["--nonsense"], ["show"], ["show", "a", "b"], ["create", "--piece-size", "x", "."]])
def test_bad_usage_is_one_line_and_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(args) == 2
    assert "--help" in error_line(capsys)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UnchokeError("what went wrong"), 1, "what went wrong"),
        (NotFoundError("x: gone"), 3, "x: gone"),
        (TrackerError("\x1b[2Jbad\nname\u202e"), 6, "[2Jbadname"),
        (NoSpaceError("full"), 9, "full"),
        (FileNotFoundError(errno.ENOENT, "No such file", "f"), 3, "f: No such file"),
        (PermissionError(errno.EACCES, "Permission denied", "f"), 17, "f: Permission denied"),
        (OSError(errno.ENOSPC, "No space left", "f"), 9, "f: No space left"),
        (OSError(errno.EADDRINUSE, "Address already in use"), 6, "in use"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), 6, "refused"),
        (RuntimeError("odd"), 1, "this is a bug: RuntimeError: odd"),
        (RecursionError(), 1, "-vv"),
    ],
)
def test_errors_are_one_line_and_a_code(
    failing: Callable[..., int], capsys: pytest.CaptureFixture[str], error: Exception, code: int, words: str
) -> None:
    assert failing(error) == code
    assert words in error_line(capsys)
    assert failing(error, "-v") == code
    error_line(capsys)


@pytest.mark.parametrize("error", [UnchokeError("x"), RuntimeError("x")])
def test_a_traceback_only_for_those_who_ask_twice(
    failing: Callable[..., int], capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert failing(error, "-vv") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(7), 7), (BrokenPipeError(), 1)])
def test_ends_that_are_no_errors(failing: Callable[..., int], error: BaseException, code: int) -> None:
    assert failing(error) == code


def test_a_reader_that_goes_away_is_no_news(tmp_path: Path) -> None:
    from unchoke.engine.create import create_torrent

    (tmp_path / "x").mkdir()
    for number in range(3000):
        (tmp_path / "x" / f"{number}").write_bytes(b"1")
    (tmp_path / "x.torrent").write_bytes(create_torrent(tmp_path / "x"))
    command = [sys.executable, "-m", "unchoke", "show", "--json", str(tmp_path / "x.torrent")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_home_and_verbosity_reach_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    faces: list[Face] = []

    @click.command()
    @verbose_option
    @click.pass_obj
    def demo(face: Face) -> int:
        faces.append(face)
        assert face.directories.config == tmp_path
        assert face.settings({"network": {"port": 5}}).network.port == 5
        return 7

    monkeypatch.setattr("unchoke.app.cli.magnet.magnet", demo)
    monkeypatch.setitem(COMMANDS, "demo", ("unchoke.app.cli.magnet:magnet", ""))
    assert run(["--home", str(tmp_path), "-v", "demo", "-v"]) == 7
    monkeypatch.setenv("UNCHOKE_HOME", str(tmp_path))
    assert run(["demo"]) == 7
    assert [(face.home, face.verbose) for face in faces] == [(tmp_path, 2), (tmp_path, 0)]


def test_a_terminal_without_the_characters_is_no_error(tmp_path: Path) -> None:
    from unchoke.engine.create import create_torrent

    (tmp_path / "中文").write_bytes(b"1")
    (tmp_path / "x.torrent").write_bytes(create_torrent(tmp_path / "中文"))
    done = subprocess.run(
        [sys.executable, "-m", "unchoke", "show", str(tmp_path / "x.torrent")],
        env={"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u4e2d\u6587" in done.stdout


def test_the_table_points_at_commands_or_at_what_is_still_to_come() -> None:
    assert set(COMMANDS) >= {"get", "seed", "create", "show", "magnet", "check", "edit", "tracker", "demo"}
    for name in ("create", "show", "magnet", "edit"):
        assert isinstance(cli.main.get_command(click.Context(cli.main), name), click.Command)
    assert cli.main.get_command(click.Context(cli.main), "nonsense") is None
