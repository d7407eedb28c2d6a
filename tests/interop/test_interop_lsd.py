"""Local service discovery between neighbours on one cable: ours and ours, ours and libtorrent, IPv4 and IPv6 (BEP 14)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from interop.clients import Libtorrent
from interop.hosts import Host
from interop.program import Program

pytestmark = [pytest.mark.interop, pytest.mark.long]

SCRIPT = Path(__file__).with_name("lsd_neighbour.py")


def neighbour(host: Host, kind: str, port: int, home: Path) -> Program:
    return host.start([sys.executable, str(SCRIPT), kind, str(port)], kind, cwd=home)


@pytest.mark.parametrize("other", ["ours", "libtorrent"])
def test_neighbours_find_each_other(pair: list[Host], other: str, tmp_path: Path) -> None:
    if other == "libtorrent" and (why := Libtorrent.missing()) is not None:
        pytest.skip(why)
    here, there = pair
    there.run(["ip", "route", "replace", "239.0.0.0/8", "dev", "eth0"])  # libtorrent speaks to where routes lead
    try:
        first = neighbour(here, "ours", 7001, tmp_path)
        first.wait_line("^announced$")
        second = neighbour(there, other, 7002, tmp_path)
        first.wait_line(rf"^found {there.address} 7002$")
        second.wait_line(rf"^found {here.address} 7001$")
        second.wait_line(r"^found fe80::\S+ 7001$")
        if other == "ours":  # libtorrent announces over IPv6 only where it has more than a link-local address
            first.wait_line(r"^found fe80::\S+ 7002$")
    finally:
        for host in pair:
            host.stop_all()
