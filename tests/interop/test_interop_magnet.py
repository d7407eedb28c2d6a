"""What a user does with a magnet link, against libtorrent: look at it, keep its .torrent, choose files, stop early and go on."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from interop.clients import Libtorrent
from interop.conftest import Stage
from interop.program import Program
from interop.torrents import MIB, contents, infohash_of

pytestmark = [pytest.mark.interop, pytest.mark.long]

SCRIPT = Path(__file__).with_name("lt_finder.py")
FILES = ["01 – Früh.bin", "disc 2/Žluť.bin", "disc 2/日本語.txt", "empty.nfo", "tiny.md"]
UNFINISHED, TIMED_OUT = 7, 8


class Scene:
    """An album that libtorrent seeds (``serve``), and our commands on the other host."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.folder = stage.folder
        self.torrent = stage.torrent("album", MIB)
        self.infohash = infohash_of(self.torrent)
        self.at = f"{stage.hosts[0].address}:7700"
        self.magnet = f"magnet:?xt=urn:btih:{self.infohash}&x.pe={self.at}"

    def serve(self, *, bare: bool = False) -> Program:
        """``bare``: without giving metadata."""
        jobs = {"listen": self.at, "nodes": [], "get": [], "bare": bare}
        jobs["seed"] = [[str(self.torrent), str(self.stage.source)]]
        program = self.stage.hosts[0].start([sys.executable, str(SCRIPT), json.dumps(jobs)], "libtorrent")
        program.wait_line("^serving ")
        return program

    def start(self, home: str, *words: str | Path) -> Program:
        """``unchoke …`` with its own files in ``home``."""
        env = {"UNCHOKE_HOME": str(self.folder / home), "HOME": str(self.folder), "UNCHOKE_NETWORK__DISCOVERY": "0"}
        argv = [sys.executable, "-m", "unchoke", *map(str, words)]
        return self.stage.hosts[1].start(argv, "unchoke", env=env, cwd=self.folder)

    def get(self, home: str, magnet: str, *words: str) -> Program:
        return self.start(home, "get", magnet, "-d", self.folder / f"got-{home}", "--no-progress", "-v", *words)

    def assert_got(self, home: str, *files: str) -> None:
        """These files and no others, byte for byte."""
        source = contents(self.stage.source)
        (root,) = {path.split("/")[0] for path in source}
        found = contents(self.folder / f"got-{home}")
        parts = {
            path for path in found if Path(path).name.startswith(".")
        }  # the hidden part file of unwanted neighbours
        assert {path: what for path, what in found.items() if path not in parts} == {
            f"{root}/{file}": source[f"{root}/{file}"] for file in files
        }


@pytest.fixture
def scene(stage: Stage) -> Scene:
    if (why := Libtorrent.missing()) is not None:
        pytest.skip(why)
    return Scene(stage)


def finish(program: Program, status: int = 0) -> str:
    assert program.wait() == status, program.tail()
    return "\n".join(program.lines)


def test_a_link_is_listed_saved_shown_and_chosen_from(scene: Scene) -> None:
    import libtorrent as lt

    scene.serve()
    listing = scene.start("list", "get", "--list", "--json", scene.magnet)
    shown = scene.start("show", "show", scene.magnet, "-o", "shown.torrent", "--json")
    saved = scene.get("saved", scene.magnet, "--save-torrent", "saved.torrent")
    link_chose = scene.get("so", f"{scene.magnet}&so=2,4")
    user_chose = scene.get("select", f"{scene.magnet}&so=0", "-s", "4-5")

    (listed,) = [json.loads(line) for line in finish(listing).splitlines() if line.startswith("{")]
    assert [file["path"].partition("/")[2] for file in listed["files"]] == FILES
    assert f'"infohash_v1": "{scene.infohash}"' in finish(shown)
    finish(saved)
    for name in ("shown.torrent", "saved.torrent"):
        assert str(lt.torrent_info(str(scene.folder / name)).info_hash()) == scene.infohash
    scene.assert_got("saved", *FILES)
    finish(link_chose)
    scene.assert_got("so", FILES[2], FILES[4])
    finish(user_chose)
    scene.assert_got("select", FILES[3], FILES[4])


def test_stopped_before_the_metadata_came_the_same_command_goes_on(scene: Scene) -> None:
    waiting = scene.get("a", scene.magnet)
    waiting.wait_line(rf"{scene.infohash}: metadata")
    waiting.tell(signal.SIGINT)
    said = finish(waiting, UNFINISHED)
    assert "the same command goes on from there" in said
    scene.serve()
    finish(scene.get("a", scene.magnet))
    scene.assert_got("a", *FILES)


def test_metadata_is_fetched_once(scene: Scene) -> None:
    seeder = scene.serve()
    first = scene.get("a", scene.magnet, "--down", "10k")
    first.wait_line(": downloading")
    first.tell(signal.SIGINT)
    finish(first, UNFINISHED)
    seeder.stop()
    scene.serve(bare=True)
    again = scene.get("a", scene.magnet)
    stranger = scene.get("b", scene.magnet, "--timeout", "2s")
    finish(again)
    scene.assert_got("a", *FILES)
    assert "metadata" in finish(stranger, TIMED_OUT)
    assert contents(scene.folder / "got-b") == {}
