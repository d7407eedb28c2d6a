"""A real router's daemon (miniupnpd) opens our port by each protocol: somebody outside gets in, until we close."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interop.home import LABEL, MACHINE6, WAN, Home, missing_home
from interop.hosts import Host
from interop.program import HostError, Program

pytestmark = [pytest.mark.interop, pytest.mark.long]

HERE = Path(__file__).parent
PORT = 51413
GREETED = "import socket, sys; print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).recv(9).decode())"

NO_PCP = "udp dport 5351 @th,64,8 2"  # the first byte of a request: its version
NO_SOCKET = "udp dport 5351"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    if (why := missing_home()) is not None:
        pytest.skip(why)
    with Home(tmp_path) as made:
        made.start_daemon()
        yield made


def start(host: Host) -> Program:
    program = host.start([sys.executable, str(HERE / "portmap_peer.py"), str(PORT)], "portmap")
    program.wait_line("listening")
    return program


def wait_mapped(program: Program, *methods: str) -> dict[str, Any]:
    """What it says when every mapping is by these methods: TCP and UDP over IPv4, then over IPv6."""
    four, six = methods
    wanted = {"4 TCP": four, "4 UDP": four, "6 TCP": six, "6 UDP": six}
    found = program.wait_line(rf"^{{.*{json.dumps(wanted)[1:-1]}.*}}$")
    said: dict[str, Any] = json.loads(found[0])
    return said


def get_in(host: Host, address: str, port: int = PORT) -> str:
    return host.run([sys.executable, "-c", GREETED, address, str(port)]).strip()


@pytest.mark.parametrize(
    ("refused", "methods"),
    [(None, ("PCP", "PCP")), (NO_PCP, ("NAT-PMP", "UPnP")), (NO_SOCKET, ("UPnP", "UPnP"))],
    ids=["PCP", "NAT-PMP", "UPnP"],
)
def test_somebody_outside_gets_in_until_we_close(home: Home, refused: str | None, methods: tuple[str, str]) -> None:
    if refused is not None:
        home.refuse(refused)
    with pytest.raises(HostError):
        get_in(home.outside, WAN)
    program = start(home.machine)
    said = wait_mapped(program, *methods)
    assert (said["status"], said["port"], said["address"]) == ("mapped", PORT, LABEL)
    assert get_in(home.outside, WAN) == "hello"
    assert get_in(home.outside, MACHINE6) == "hello"
    assert program.stop() == 0
    assert program.lines[-1] == "closed"
    left = home.openings(PORT)
    if methods[1] == "PCP":
        # miniupnpd 2.3.1 compares a hole's label with whatever lies behind it in memory, and refuses to close some.
        left = [rule for rule in left if "nh,192" not in rule]
    assert left == []


def test_what_a_killed_run_left_behind_is_taken_over(home: Home) -> None:
    killed = start(home.machine)
    wait_mapped(killed, "PCP", "PCP")
    killed.stop(9)
    assert home.openings(PORT) != []
    program = start(home.machine)
    assert wait_mapped(program, "PCP", "PCP")["port"] == PORT
    assert get_in(home.outside, WAN) == "hello"
    assert program.stop() == 0
