"""``unchoke doctor``: each check says what is wrong in words, with what to do; together they end in time, with the right exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.dht_table import Table
from unchoke.app.cli import checkup, checkup_network, checkup_port, doctor, run
from unchoke.app.cli.checkup import Finding
from unchoke.app.cli.checkup_network import Tracker
from unchoke.app.cli.checkup_port import check_port
from unchoke.app.cli.running import run_briefly
from unchoke.engine.dht import Dht
from unchoke.engine.settings import DhtSettings, DiskSettings, NetworkSettings, PortmapSettings, Settings
from unchoke.engine.tracker_server import TrackerServer
from unchoke.errors import NetworkError
from unchoke.types import Address, InfoHash

Captured = pytest.CaptureFixture[str]
GIB = 1 << 30


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


# ---------------------------------------------------------------------- this machine


def test_a_folder_that_can_be_written_is_fine_also_before_it_exists(tmp_path: Path) -> None:
    assert checkup.folder("f", tmp_path).level == "ok"
    later = checkup.folder("f", tmp_path / "a" / "b")
    assert later.level == "ok"
    assert "made when it is needed" in later.words
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_refuses_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**how: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    found = checkup.folder("download folder", tmp_path)
    assert found.level == "bad"
    assert not found.network
    assert "Read-only file system" in found.words
    assert found.advice


@pytest.mark.parametrize(("free", "level"), [(2 * GIB, "ok"), (GIB // 2, "warn"), (1 << 20, "bad")])
def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert checkup.folder("f", tmp_path).level == level


@pytest.mark.parametrize(
    ("soft", "hard", "level", "says"),
    [(100_000, 100_000, "ok", ""), (256, 100_000, "warn", "ulimit -n"), (256, 256, "warn", "raised"), (64, 64, "bad", "raised")],
)  # fmt: skip
def test_too_few_open_files_are_said(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, level: str, says: str
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    settings = Settings(network=NetworkSettings(max_connections=500), disk=DiskSettings(open_files=128))
    found = checkup.open_files(settings)
    assert found.level == level
    assert says in found.advice


@pytest.mark.parametrize(("now", "level"), [(None, "ok"), (0.0, "bad"), (-5.0, "bad"), (5e9, "bad"), (1e18, "bad")])
def test_an_impossible_clock_is_bad(monkeypatch: pytest.MonkeyPatch, now: float | None, level: str) -> None:
    if now is not None:
        monkeypatch.setattr(time, "time", lambda: now)
    assert checkup.clock().level == level


def test_a_proxy_in_the_environment_is_said_without_its_password() -> None:
    assert checkup.proxies({"PATH": "/bin", "http_proxy": ""}).level == "ok"
    found = checkup.proxies({"HTTPS_PROXY": "http://me:secret@proxy:1", "all_proxy": "x"})
    assert found.level == "warn"
    assert "HTTPS_PROXY, all_proxy" in found.words
    assert "secret" not in found.words + found.advice


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkup.python("asyncio").level == "ok"
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    assert "pip install cryptography" in checkup.python("asyncio").advice


# ---------------------------------------------------------------------- routes, names


@pytest.mark.parametrize(
    ("ours", "levels"),
    [
        ({4: "192.168.1.5", 6: "2001:db8::5"}, ("ok", "ok")),
        ({4: "192.168.1.5", 6: ""}, ("ok", "warn")),
        ({4: "", 6: "2001:db8::5"}, ("warn", "ok")),
        ({4: "", 6: ""}, ("bad", "bad")),
    ],
)
def test_one_route_is_enough(monkeypatch: pytest.MonkeyPatch, ours: dict[int, str], levels: tuple[str, str]) -> None:
    monkeypatch.setattr(checkup_network, "own_address", lambda family, bind: ours[family])
    findings = checkup_network.routes("")
    assert tuple(finding.level for finding in findings) == levels
    assert all(finding.advice for finding in findings if finding.level != "ok")
    assert doctor.exit_code(findings) == (6 if levels == ("bad", "bad") else 0)


def test_an_address_to_bind_to_that_is_not_ours_has_no_route() -> None:
    assert checkup_network.own_address(4, "203.0.113.9") == ""
    assert checkup_network.own_address(6, "127.0.0.1") == ""


async def test_names_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int, **how: Any) -> list[Address]:
        if host.startswith("gone"):
            raise NetworkError(f"the name {host} could not be resolved: no")
        return [Address("192.0.2.1", port)]

    monkeypatch.setattr("unchoke.engine.net.resolver.resolve", resolve)
    assert (await checkup_network.names(["a", "b", "192.0.2.7"])).level == "ok"
    some = await checkup_network.names(["a", "gone1"])
    assert (some.level, some.words[:6]) == ("warn", "1 of 2")
    assert (await checkup_network.names(["gone1", "gone2"])).level == "bad"
    assert (await checkup_network.names(["192.0.2.7", "::1"])).level == "skipped"


# ---------------------------------------------------------------------- trackers


async def test_trackers_that_answer_refuse_and_are_dead(no_leaks: None) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"d14:failure reason12:unregisterede"
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    server = TrackerServer(bind="127.0.0.1", port=0, interval=60)
    await server.start()
    refusing = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = refusing.sockets[0].getsockname()[1]
    known = InfoHash(b"h" * 20)
    refused, dead = f"http://127.0.0.1:{port}/announce", "http://127.0.0.1:9/0123456789abcdef0123456789abcdef/announce"
    try:
        listed = [
            *(Tracker(url, None, True) for url in server.urls),
            Tracker(refused, None, True),
            Tracker(refused, known, True),
            Tracker(dead, None, True),
        ]
        findings = await checkup_network.trackers(listed, Settings(), show=False)
        shown = await checkup_network.trackers(listed[-1:], Settings(), show=True)
    finally:
        await server.aclose()
        refusing.close()
        await refusing.wait_closed()
    assert [finding.level for finding in findings] == ["ok", "ok", "ok", "warn", "bad"]
    assert "unregistered" in findings[3].words
    assert "refused" in findings[4].words
    assert "0123456789abcdef" not in str(findings[4])
    assert shown[0].name == f"tracker {dead}"
    assert doctor.exit_code(findings) == 6


def test_trackers_come_from_the_command_line_torrents_and_links(tmp_path: Path) -> None:
    from unchoke.protocol.bencode import encode

    info = encode({b"name": b"x", b"piece length": 16384, b"length": 1, b"pieces": b"p" * 20})
    (tmp_path / "x.torrent").write_bytes(b"d8:announce10:udp://t:1/4:info" + info + b"e")
    link = "magnet:?xt=urn:btih:" + "0" * 40 + "&tr=http%3A%2F%2Fm%2Fannounce&tr=http%3A%2F%2Fu%2Fannounce"
    found = doctor._trackers([str(tmp_path / "x.torrent"), link], ["http://u/announce"])
    assert [(one.url, one.given) for one in found] == [
        ("http://u/announce", True),
        ("udp://t:1/", False),
        ("http://m/announce", False),
    ]
    assert found[2].infohash == InfoHash(bytes(20))


# ---------------------------------------------------------------------- port, DHT


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    made = Table()
    made.start()
    yield made
    made.stop()


def on_loopback(*routers: str, port: int = 0, discovery: bool = True) -> Settings:
    return Settings(
        network=NetworkSettings(discovery=discovery, bind="127.0.0.1", port=port),
        dht=DhtSettings(routers=routers),
        portmap=PortmapSettings(enabled=False),
    )


async def test_a_dht_that_answers_is_told_and_its_nodes_are_kept(table: Table, tmp_path: Path, no_leaks: None) -> None:
    findings = by_name(await check_port(on_loopback(table.node), tmp_path / "nodes"))
    assert findings["port"].level == "ok"
    assert findings["DHT"].level == "ok"
    assert "good nodes over IPv4" in findings["DHT"].words
    assert findings["port mapping"].words == "skipped: portmap.enabled is off"
    assert findings["reachable"].level in ("ok", "warn")
    assert (tmp_path / "nodes").exists()


async def test_a_dht_without_a_router_is_bad(tmp_path: Path) -> None:
    findings = by_name(await check_port(on_loopback(), tmp_path / "nodes"))
    assert findings["DHT"].level == "bad"
    assert "there is no router to ask" in findings["DHT"].words
    assert "cannot be known from here" in findings["reachable"].words


async def test_somebody_who_comes_unasked_shows_that_we_are_reachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = asyncio.Event()

    async def wait(dht: Dht | None) -> Finding:
        await came.wait()
        return Finding("DHT", "ok", "")

    monkeypatch.setattr(checkup_port, "_table", wait)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    looking = asyncio.ensure_future(check_port(on_loopback(port=port), tmp_path / "nodes"))
    while not came.is_set():
        with contextlib.suppress(ConnectionError):  # until it listens
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            writer.close()
            came.set()
        await asyncio.sleep(0)
    findings = by_name(await looking)
    assert findings["reachable"].level == "ok"
    assert f"1 host came to port {port} unasked" in findings["reachable"].words


async def test_a_taken_port_is_said_and_another_one_used(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        findings = by_name(await check_port(on_loopback(port=port, discovery=False), tmp_path / "nodes"))
    assert findings["port"].level == "warn"
    assert f"port {port} is taken" in findings["port"].words
    assert {findings[name].words for name in ("DHT", "port mapping", "reachable")} == {
        "skipped: network.discovery is off"
    }


async def test_a_port_that_is_taken_for_packets_only_is_said_too(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        findings = by_name(await check_port(on_loopback(port=port, discovery=False), tmp_path / "nodes"))
    assert findings["port"].level == "warn"
    assert f"UDP port {port} is taken" in findings["port"].words


async def test_an_address_that_is_not_ours_is_bad(tmp_path: Path) -> None:
    settings = Settings(network=NetworkSettings(discovery=False, bind="203.0.113.9"))
    findings = by_name(await check_port(settings, tmp_path / "nodes"))
    assert findings["port"].level == "bad"
    assert doctor.exit_code(findings.values()) == 1


# ---------------------------------------------------------------------- all of it


async def test_a_check_that_hangs_or_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> Finding:
        await asyncio.Event().wait()
        raise AssertionError

    async def fail() -> Finding:
        raise RuntimeError("odd \x1b[31m thing")

    monkeypatch.setattr(doctor, "LONGEST", 0.01)
    (hung,) = await doctor._bounded("disk", hang())
    assert (hung.level, hung.name) == ("bad", "disk")
    assert "no answer within" in hung.words
    (failed,) = await doctor._bounded("disk", fail())
    assert failed.words == "this check failed: odd [31m thing"


def test_a_thread_that_hangs_holds_nobody() -> None:
    end = threading.Event()

    async def main() -> str:
        hanging = asyncio.ensure_future(asyncio.to_thread(end.wait))
        await asyncio.sleep(0)
        hanging.cancel()
        return "done"

    assert run_briefly(main()) == "done"
    assert not end.is_set()
    end.set()


def test_exit_codes_tell_the_network_from_the_machine() -> None:
    network, disk = Finding("a", "bad", "", network=True), Finding("b", "bad", "")
    assert doctor.exit_code([Finding("c", "warn", ""), Finding("d", "skipped", "", network=True)]) == 0
    assert doctor.exit_code([network]) == 6
    assert doctor.exit_code([network, disk]) == 1


def test_the_command_prints_all_of_it_and_nothing_is_asked_with_discovery_off(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup_network, "own_address", lambda family, bind="": {4: "192.168.1.5", 6: ""}[family])
    args = ["--home", str(tmp_path / "home"), "doctor", "-d", str(tmp_path)]
    assert run(args) == 0
    said = capsys.readouterr().out
    for name in ("python", "open files", "download folder", "state folder", "cache folder", "clock", "IPv4", "port"):
        assert f" {name}: " in said
    assert said.count("skipped: network.discovery is off") == 3
    assert "nothing is wrong that could be seen from here" in said
    assert run([*args, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["ok"] is True
    assert {one["level"] for one in record["findings"]} <= {"ok", "warn", "skipped"}
    assert not (tmp_path / "home").exists()


def test_a_tracker_that_is_dead_is_exit_6(capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup_network, "own_address", lambda family, bind="": "192.168.1.5")
    assert run(["doctor", "-d", str(tmp_path), "--tracker", "http://127.0.0.1:9/announce", "--json"]) == 6
    record = json.loads(capsys.readouterr().out)
    assert record["ok"] is False
    (bad,) = (one for one in record["findings"] if one["level"] == "bad")
    assert bad["name"] == "tracker http://127.0.0.1:9/announce"
    assert bad["advice"]


def test_a_torrent_that_is_none_is_an_error_of_its_own(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nonsense")
    assert run(["doctor", str(tmp_path / "x")]) == 26
    assert run(["doctor", str(tmp_path / "gone")]) == 3
    assert run(["doctor", "--tracker", "nothing"]) == 2
