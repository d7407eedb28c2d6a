"""``unchoke tracker`` as a program: what it prints, how it ends, and what it says when it cannot begin."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from urllib.request import ProxyHandler, build_opener

import pytest

from unchoke.app.cli import run

COMMAND = [sys.executable, "-m", "unchoke", "tracker", "--bind", "127.0.0.1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_addresses_serves_and_stops_when_told(number: signal.Signals) -> None:
    with subprocess.Popen([*COMMAND, "-p", "0", "--interval", "7"], stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            http, udp, ready = (program.stdout.readline().strip() for _ in range(3))
            assert http.startswith("http://127.0.0.1:")
            assert http.endswith("/announce")
            assert udp == http.replace("http:", "udp:")
            assert ready == "ready"
            query = f"?info_hash={'h' * 20}&peer_id={'p' * 20}&port=5&left=0"
            with build_opener(ProxyHandler({})).open(http + query, timeout=10) as reply:
                assert b"8:intervali7e" in reply.read()
            program.send_signal(number)
            assert program.wait(10) == 0
            assert program.stdout.read() == ""
        finally:
            program.kill()


def test_a_taken_port_is_exit_6_naming_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert run(["tracker", "--bind", "127.0.0.1", "-p", str(port)]) == 6
    said = capsys.readouterr()
    assert said.out == ""
    assert f"port {port} is taken" in said.err
    assert "-p/--port" in said.err


def test_an_address_that_is_not_ours_is_exit_6(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tracker", "--bind", "192.0.2.1"]) == 6
    assert "--bind" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["-p", "65536"], ["-p", "x"], ["--interval", "0"], ["what"]])
def test_bad_usage_is_exit_2(flags: list[str]) -> None:
    assert run(["tracker", *flags]) == 2


def test_what_is_no_http_prints_nothing() -> None:
    words = [*COMMAND, "-p", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            _, udp, _ = (program.stdout.readline().strip() for _ in range(3))
            port = int(udp.rpartition(":")[2].partition("/")[0])
            for junk in (
                b"\x13BitTorrent protocol" + bytes(48),
                b"GET / HTTP/9\r\n\r\n",
                b"GET /\xff\x00 HTTP/1.1\r\nx\r\n\r\n",
            ):
                with socket.create_connection(("127.0.0.1", port), 10) as stranger:
                    stranger.sendall(junk)
                    assert b"400" in stranger.recv(4096)
            program.send_signal(signal.SIGINT)
            assert program.communicate(timeout=10)[1] == ""
            assert program.returncode == 0
        finally:
            program.kill()
