"""A real web server as the only source of a torrent: nginx, by the command a user types (BEP 19)."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.clients import Unchoke
from interop.conftest import Stage
from interop.nginx import Nginx, missing
from interop.torrents import MIB, build_torrent, write_album, write_file

pytestmark = pytest.mark.interop


@pytest.fixture
def home(tmp_path: Path) -> Path:
    if (why := missing()) is not None:
        pytest.skip(why)
    folder = tmp_path / "nginx"
    folder.mkdir()
    return folder


def test_a_file_comes_from_nginx_alone(stage: Stage, home: Path) -> None:
    made = stage.source / "one file.bin"
    write_file(made, 8 * MIB + 4321)
    server = Nginx(stage.hosts[0], home, stage.source)
    torrent = build_torrent(made, stage.folder / "x.torrent", web_seeds=[f"{server.url}/one%20file.bin"])
    ours = stage.client(Unchoke, 1)
    ours.start_get(torrent, stage.folder / "got", [])
    ours.wait_complete(45)
    stage.assert_same(stage.folder / "got")
    assert {status for _, status in server.asked()} == {206}


def test_a_folder_with_odd_names_and_an_empty_file_comes_from_nginx_alone(stage: Stage, home: Path) -> None:
    made = stage.source / "Älbum – 日本"
    write_album(made, MIB)
    server = Nginx(stage.hosts[0], home, stage.source, more="keepalive_requests 3;")
    torrent = build_torrent(made, stage.folder / "x.torrent", web_seeds=[f"{server.url}/"])
    ours = stage.client(Unchoke, 1)
    ours.start_get(torrent, stage.folder / "got", [])
    ours.wait_complete(45)
    stage.assert_same(stage.folder / "got")
    assert {status for _, status in server.asked()} == {206}


def test_a_server_that_throttles_each_connection_is_asked_over_several(stage: Stage, home: Path) -> None:
    made = stage.source / "slow.bin"
    write_file(made, 4 * MIB)
    server = Nginx(stage.hosts[0], home, stage.source, more="limit_rate 2m; max_ranges 1;")
    torrent = build_torrent(made, stage.folder / "x.torrent", web_seeds=[f"{server.url}/slow.bin"])
    ours = stage.client(Unchoke, 1)
    ours.start_get(torrent, stage.folder / "got", [])
    ours.wait_complete(45)
    stage.assert_same(stage.folder / "got")
    assert len(server.asked()) >= 4
