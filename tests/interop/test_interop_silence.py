"""What must not be said: of private torrents to DHT, local network and peers (BEP 27), and anything at all with discovery off."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop import capture, hosts
from interop.clients import Libtorrent
from interop.hosts import Host, Network
from interop.program import Program
from interop.town import ALL, HERE, Ours, Parcel, Town

pytestmark = [pytest.mark.interop, pytest.mark.long]

NOBODY = "magnet:?xt=urn:btih:c9e15763f722f23e98a29decdfae341b98d53056"
KNOCK = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'knock', ('203.0.113.9', 6881))"
TIMED_OUT = 8
SWITCHES = ("--no-dht", "--no-lsd", "--no-pex", "--no-port-mapping")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    for why in (hosts.missing(), Libtorrent.missing()):
        if why is not None:
            pytest.skip(why)
    with Town(tmp_path) as town:
        yield town


def offers(town: Town, ours: Ours, parcel: Parcel) -> set[str]:
    argv = [sys.executable, str(HERE / "caller.py"), ours.address, str(ours.port), parcel.infohash]
    return set(town.there.run(argv).split())


def test_nobody_hears_of_a_private_torrent(town: Town) -> None:
    dht = town.start_dht()
    ear = town.there.start([sys.executable, str(HERE / "lsd_ear.py"), town.there.address], "ear")
    ear.wait_line("^listening$")
    private, public = town.parcel("private", private=True), town.parcel("public")
    # One process, so that what is heard of one torrent tells that the other had its turn.
    got = town.folder / "got"
    ours = town.ours("both", ALL, "get", private.file, public.file, "-d", got)
    serving = town.ours("seed", ALL, "seed", private.file, private.source)
    serving.wait_seeding()

    dht.wait_line(f"^announce {public.infohash} {ours.address} {ours.port}$")
    ear.wait_line(f"^announced {public.infohash} {ours.address} {ours.port}$")
    assert {"ut_pex", "ut_metadata"} <= offers(town, ours, public)
    assert "ut_metadata" in offers(town, ours, private)
    for one in (ours, serving):
        assert "ut_pex" not in offers(town, one, private)
    assert not [line for program in (dht, ear) for line in program.lines if private.infohash in line]
    ours.program.stop()
    serving.program.stop()
    private.assert_nothing_in(got)  # though one of them has it


@pytest.fixture
def islands() -> Iterator[list[Host]]:
    """Two hosts that do not see each other, with default routes into nothing."""
    if (why := hosts.missing()) is not None:
        pytest.skip(why)
    with Network(1) as one, Network(1) as other:
        for network in (one, other):
            network.lead_nowhere(network.hosts[0])
        yield [*one.hosts, *other.hosts]


def start_capture(host: Host) -> Program:
    watcher = host.start([sys.executable, str(Path(capture.__file__)), "outside"], "capture")
    watcher.wait_line("^capturing$")
    return watcher


def search(host: Host, home: Path, *words: str, discovery: bool) -> Program:
    """``unchoke get`` looks for a torrent that nobody has, for two seconds."""
    home.mkdir()
    env = {"UNCHOKE_HOME": str(home), "HOME": str(home), "UNCHOKE_NETWORK__DISCOVERY": str(int(discovery))}
    argv = [sys.executable, "-m", "unchoke", "get", NOBODY, "-d", str(home), "--timeout", "2s", "--no-progress"]
    return host.start([*argv, *words], "unchoke", env=env)


def packets(watcher: Program, host: Host) -> list[str]:
    """What has left until now. The last word is ours: when that is seen, so is every packet before it."""
    host.run([sys.executable, "-c", KNOCK])
    watcher.wait_line("> 203.0.113.9:6881")
    return watcher.lines[1:-1]


def test_with_discovery_off_nothing_leaves(islands: list[Host], tmp_path: Path) -> None:
    """By the setting, or by all of the switches. With neither it looks around, so that we know what we would see."""
    quiet, loud = islands
    watchers = [start_capture(host) for host in islands]
    searches = [
        search(quiet, tmp_path / "setting", discovery=False),
        search(quiet, tmp_path / "switches", *SWITCHES, discovery=True),
        search(loud, tmp_path / "loud", discovery=True),
    ]
    for program in searches:
        assert program.wait() == TIMED_OUT, program.tail()
    assert packets(watchers[0], quiet) == []
    seen = "\n".join(packets(watchers[1], loud))
    assert "> 239.192.152.143:6771" in seen, "the local network"
    assert "> 198.51.100.1:5351" in seen, "the router"
