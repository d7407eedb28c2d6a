"""``unchoke doctor`` and ``unchoke dht`` on a machine that has no network at all: exactly what is missing, and soon."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.hosts import Host, Network, missing

pytestmark = pytest.mark.interop


@pytest.fixture
def lonely() -> Iterator[Host]:
    """A host without a link, and so without a route."""
    if (why := missing()) is not None:
        pytest.skip(why)
    with Network(1) as network:
        yield network.hosts[0]


def unchoke(host: Host, home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {"UNCHOKE_HOME": str(home), "UNCHOKE_NETWORK__DISCOVERY": "1", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    command = [*host.argv, sys.executable, "-m", "unchoke", *args]
    return subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, timeout=20, check=False)


def test_what_is_missing_without_a_network(lonely: Host, tmp_path: Path) -> None:
    done = unchoke(lonely, tmp_path, "doctor", "--json", "--tracker", "udp://tracker.example:80/announce")
    assert done.returncode == 6, done.stderr
    findings = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    levels = {name: one["level"] for name, one in findings.items()}
    assert levels == {
        "python": "ok",
        "open files": "ok",
        "download folder": "ok",
        "state folder": "ok",
        "cache folder": "ok",
        "clock": "ok",
        "proxies": "ok",
        "IPv4": "bad",
        "IPv6": "bad",
        "DNS": "bad",
        "port": "ok",
        "port mapping": "warn",
        "DHT": "bad",
        "reachable": "warn",
        "tracker udp://tracker.example:80/announce": "bad",
    }
    assert findings["IPv4"]["words"] == "no default route: nobody outside can be reached"
    assert findings["DNS"]["words"].startswith("0 of 5 names resolved")
    assert "no DHT nodes known" in findings["DHT"]["words"]
    assert "no router to ask" in findings["port mapping"]["words"]
    assert "cannot be known from here" in findings["reachable"]["words"]
    assert all(one["advice"] for one in findings.values() if one["level"] in ("warn", "bad"))

    joined = unchoke(lonely, tmp_path, "dht", "stats")
    assert joined.returncode == 6
    assert "no DHT nodes known: the name " in joined.stderr
    assert joined.stderr.count("\n") == 1
