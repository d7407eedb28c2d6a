"""``unchoke demo`` sends nothing off this machine: captured in a namespace whose only way out swallows, and shows, everything."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop import capture, hosts
from interop.hosts import Host, Network
from interop.program import Program

pytestmark = pytest.mark.interop

KNOCK = "import socket; socket.socket({family}, socket.SOCK_DGRAM).sendto(b'knock', ('{address}', 6881))"


@pytest.fixture
def island() -> Iterator[Host]:
    """A host with default routes into nothing."""
    if (why := hosts.missing()) is not None:
        pytest.skip(why)
    with Network(1) as network:
        network.lead_nowhere(network.hosts[0])
        yield network.hosts[0]


def start_capture(host: Host) -> Program:
    watcher = host.start([sys.executable, str(Path(capture.__file__)), "outside"], "capture")
    watcher.wait_line("^capturing$")
    return watcher


def knock(host: Host, family: str, address: str) -> None:
    host.run([sys.executable, "-c", KNOCK.format(family=f"socket.{family}", address=address)])


@pytest.mark.long
@pytest.mark.timeout(180)
def test_a_demo_run_sends_nothing_outside(island: Host, tmp_path: Path) -> None:
    watcher = start_capture(island)
    # As a user runs it: the demo itself, not our test environment, keeps from looking for anybody.
    told = {"UNCHOKE_HOME": str(tmp_path), "HOME": str(tmp_path), "UNCHOKE_NETWORK__DISCOVERY": "1"}
    island.run([sys.executable, "-m", "unchoke", "demo"], env=told, timeout=150)
    # The last word is ours: when the capture has shown this packet, it has shown every packet before it.
    knock(island, "AF_INET", "203.0.113.9")
    watcher.wait_line("> 203.0.113.9:6881")
    assert len(watcher.lines) == 2, watcher.tail()


@pytest.mark.parametrize(
    ("family", "address", "seen"),
    [
        ("AF_INET", "203.0.113.9", r"^UDP 198.51.100.2:\d+ > 203.0.113.9:6881$"),
        ("AF_INET6", "2001:db8:1::9", r"^UDP 2001:db8::2:\d+ > 2001:db8:1::9:6881$"),
        ("AF_INET", "239.192.152.143", r"^UDP 198.51.100.2:\d+ > 239.192.152.143:6881$"),
    ],
    ids=["ipv4", "ipv6", "multicast"],
)
def test_the_capture_sees_what_leaves(island: Host, family: str, address: str, seen: str) -> None:
    watcher = start_capture(island)
    knock(island, family, address)
    watcher.wait_line(seen)
