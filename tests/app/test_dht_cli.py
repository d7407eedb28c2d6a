"""``unchoke dht`` against a DHT of ours on loopback: what it prints, what it keeps, and its exit codes."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.dht import infohash
from fakes.dht_table import Table
from unchoke.app.cli import run
from unchoke.app.cli.joining import parse_address, parse_host
from unchoke.protocol.bencode import Encodable, encode

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    made = Table()
    made.start()
    yield made
    made.stop()


def dht(*args: str) -> int:
    return run(["dht", *args, "--bind", "127.0.0.1", "--timeout", "30s"])


def test_peers_are_printed_one_a_line(table: Table, capsys: Captured) -> None:
    assert dht("peers", infohash(1).hex(), "--node", table.node) == 0
    said = capsys.readouterr()
    assert said.out == f"{table.peer}\n"
    assert "1 peer; estimated in all: 1 seeding, 0 not" in said.err
    assert dht("peers", f"magnet:?xt=urn:btih:{infohash(1).hex()}", "--node", table.node, "--json") == 0
    peer, done = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert peer == {"event": "peer", "address": table.peer}
    assert done == {"event": "done", "peers": 1, "seeds": 1, "leechers": 0}


def test_nobody_has_it_is_exit_3(table: Table, capsys: Captured) -> None:
    assert dht("peers", infohash(2).hex(), "--node", table.node) == 3
    assert dht("get", "0" * 40, "--node", table.node) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "no peers" in said.err
    assert "nobody in the DHT has it" in said.err


def test_a_text_is_put_and_comes_back(table: Table, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert dht("put", "héllo", "--node", table.node) == 0
    said = capfdbinary.readouterr()
    target = said.out.decode().strip()
    assert b"the text (6 bytes) is kept by 8 nodes\n" in said.err
    assert dht("get", target, "--node", table.node) == 0
    assert capfdbinary.readouterr().out == "héllo".encode()
    assert dht("get", target, "--node", table.node, "--json") == 0
    record = json.loads(capfdbinary.readouterr().out)
    assert record["text"] == "héllo"
    assert record["target"] == target
    assert bytes.fromhex(record["bencoded"]) == "6:héllo".encode()
    assert record["key"] is record["seq"] is record["salt"] is None


def test_a_file_and_standard_input_are_put_as_they_are(
    table: Table,
    capfdbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = bytes(range(256))
    (tmp_path / "file").write_bytes(data)
    targets = set()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    for source in (str(tmp_path / "file"), "-"):
        assert dht("put", source, "--node", table.node) == 0
        targets.add(capfdbinary.readouterr().out.decode().strip())
    (target,) = targets
    assert dht("get", target, "--node", table.node) == 0
    assert capfdbinary.readouterr().out == data


def test_a_signed_value_can_be_changed(table: Table, capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "key"
    signed = ["--key-file", str(file), "--salt", "s", "--node", table.node]
    assert dht("put", "one", *signed) == 0
    key = capsys.readouterr().out.strip()
    assert len(key) == 64
    assert file.stat().st_mode & 0o777 == 0o600
    assert dht("put", "two", *signed, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["key"], record["seq"], record["stored"]) == (key, 2, 8)
    assert dht("get", key, "--salt", "s", "--node", table.node, "--json") == 0
    assert json.loads(capsys.readouterr().out)["text"] == "two"
    assert dht("put", "old", *signed, "--seq", "1") == 6
    assert "no DHT node took the value" in capsys.readouterr().err


def test_stats_tell_each_family(table: Table, capsys: Captured) -> None:
    assert dht("stats", "--node", table.node) == 0
    said = capsys.readouterr().out
    assert said.startswith("IPv4\n  id        ")
    assert "8 good" in said or "9 good" in said
    assert "ms round trip" in said
    assert dht("stats", "--node", table.node, "--json") == 0
    (family,) = json.loads(capsys.readouterr().out)["families"]
    assert family["family"] == "ipv4"
    assert family["nodes"]["good"] >= 8
    assert family["round_trip"] > 0


def test_nothing_is_kept_of_a_dht_that_was_named(table: Table, tmp_path: Path) -> None:
    assert run(["--home", str(tmp_path), "dht", "stats", "--node", table.node, "--bind", "127.0.0.1"]) == 0
    assert not (tmp_path / "cache").exists()


def test_with_discovery_off_and_no_node_it_is_exit_6(capsys: Captured) -> None:
    assert run(["dht", "stats"]) == 6
    assert "network.discovery is off" in capsys.readouterr().err


def test_a_node_that_is_not_there_is_exit_6(capsys: Captured) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        node = f"127.0.0.1:{silent.getsockname()[1]}"
        assert run(["dht", "peers", "0" * 40, "--node", node, "--bind", "127.0.0.1", "--timeout", "1"]) == 6
    assert "no DHT nodes known: no router has answered yet" in capsys.readouterr().err


def test_a_taken_port_is_exit_6_naming_the_flag(capsys: Captured) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = str(other.getsockname()[1])
        assert dht("stats", "--node", "127.0.0.1:9", "-p", port) == 6
    assert "-p/--port" in capsys.readouterr().err


def test_a_private_torrent_is_never_looked_for(capsys: Captured, tmp_path: Path) -> None:
    info: dict[bytes, Encodable] = {
        b"name": b"x",
        b"piece length": 16384,
        b"length": 1,
        b"pieces": b"p" * 20,
        b"private": 1,
    }
    (tmp_path / "x.torrent").write_bytes(encode({b"info": info}))
    assert dht("peers", str(tmp_path / "x.torrent"), "--node", "127.0.0.1:9") == 1
    assert "private" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        ["get", "xyz"],
        ["get", "00" * 21],
        ["get", "00" * 20, "--salt", "s"],
        ["put", "x", "--salt", "s"],
        ["put", "x", "--seq", "1"],
        ["put", "x", "--node", "nothing"],
        ["stats", "--bind", "eth0"],
        ["stats", "--timeout", "soon"],
        ["peers"],
        ["what"],
    ],
)
def test_bad_usage_is_exit_2(args: list[str], capsys: Captured) -> None:
    assert run(["dht", *args]) == 2
    assert capsys.readouterr().err.startswith("unchoke: ")


def test_a_value_that_is_too_long_is_exit_2(table: Table, capsys: Captured) -> None:
    assert dht("put", "x" * 1200, "--node", table.node) == 2
    assert "1000 bytes" in capsys.readouterr().err


def test_a_key_file_that_holds_no_key_is_exit_2_and_stays(capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("not a key")
    assert dht("put", "x", "--key-file", str(file), "--node", "127.0.0.1:9") == 2
    assert "64 hex digits" in capsys.readouterr().err
    assert file.read_text() == "not a key"
    assert dht("put", "x", "--key-file", str(tmp_path / "no" / "key"), "--node", "127.0.0.1:9") == 17


def test_hosts_and_addresses_are_parsed() -> None:
    assert parse_host("a.example:6881") == ("a.example", 6881)
    assert parse_host("[::1]:5") == ("::1", 5)
    assert parse_address("[::1]") == "::1"
    for wrong in ("", "a", "a:", ":5", "a:0", "a:70000", "a:٣"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            parse_host(wrong)
