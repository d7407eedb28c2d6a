"""Tools to test BitTorrent programs with: swarms of whole engines in one process, on virtual time, the same every time.

    from unchoke.testing import elapsed, make_torrent, run, swarm

    def test_a_swarm_survives_a_partition() -> None:
        async def scenario() -> None:
            async with swarm(make_torrent(2 << 20), seeds=1, leechers=10, up=128 << 10, seed=7) as world:
                half = [member.host for member in world.leechers[:5]]
                world.network.partition(half)
                await world.finished(world.leechers[5:])
                world.network.heal()
                await world.finished()
                assert all(member.downloaded >= world.torrent.size for member in world.leechers)

        run(scenario, seed=7)

``run`` gives the loop on virtual time (``VirtualLoop``). ``SimNetwork`` has hosts, and a host is what ``Session(network=...)``
takes; ``InlineExecutor`` and ``RamDisk().open`` are for ``executor=`` and ``storage=``. ``FakePeer`` and ``FakeServer`` are
peers by script, ``FaultyStorage`` and ``SlowExecutor`` bad disks. What fails is replayed by its seed. Sessions find each
other by UDP trackers (``SimTracker``); names are the loop's own (``VirtualLoop.names``); HTTP has no way in.
"""

from __future__ import annotations

from unchoke.testing.clock import (
    DeadlockError,
    LivelockError,
    SimulationError,
    TimeLimitError,
    VirtualLoop,
    elapsed,
    rng,
    run,
)
from unchoke.testing.executors import InlineExecutor, SlowExecutor
from unchoke.testing.fakepeer import FakePeer, FakeServer, Frame, seeding, wrong
from unchoke.testing.faults import CrashedError, Faults, FaultyStorage
from unchoke.testing.network import SimHost, SimNetwork
from unchoke.testing.ram import RamDisk
from unchoke.testing.swarms import LogLine, Member, SimSwarm, swarm
from unchoke.testing.torrents import TinyTorrent, make_torrent
from unchoke.testing.tracker import SimTracker

__all__ = [
    "run",
    "elapsed",
    "rng",
    "VirtualLoop",
    "SimulationError",
    "DeadlockError",
    "LivelockError",
    "TimeLimitError",
    "InlineExecutor",
    "SlowExecutor",
    "SimNetwork",
    "SimHost",
    "SimTracker",
    "FakePeer",
    "FakeServer",
    "Frame",
    "seeding",
    "wrong",
    "TinyTorrent",
    "make_torrent",
    "RamDisk",
    "FaultyStorage",
    "Faults",
    "CrashedError",
    "swarm",
    "SimSwarm",
    "Member",
    "LogLine",
]
