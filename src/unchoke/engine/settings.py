"""Settings: everything that can be tuned, composed of the small frozen classes that stand beside the code they tune.

``app/config`` fills them from TOML and ``UNCHOKE_SECTION__KEY``; the library passes them in. Each field's docstring has its
unit, the reason of its default and its BEP; the reference manual is generated from them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from unchoke.policy.announce import AnnounceSettings
from unchoke.policy.bandwidth import BandwidthSettings
from unchoke.policy.choker import ChokerSettings
from unchoke.policy.eviction import EvictionSettings
from unchoke.policy.goals import GoalSettings
from unchoke.policy.metadata.settings import MetadataSettings
from unchoke.policy.peerlist import PeerListSettings
from unchoke.policy.pex import PexSettings
from unchoke.policy.picker import PickerSettings
from unchoke.policy.pipeline import PipelineSettings
from unchoke.policy.queue import QueueSettings
from unchoke.policy.superseed import SuperSeedSettings
from unchoke.policy.webseed import WebSeedSettings

#: What says no in the environment.
_OFF = frozenset(("0", "false", "no", "off"))

#: See ``DiskSettings.preallocate``.
Preallocate = Literal["off", "sparse", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """Sockets: where we listen, and how many conversations we hold."""

    port: int = 0
    """TCP and UDP port for peers. 0: the first free one of 51413-51422, else any."""

    bind: str = ""
    """Literal address to listen on and dial from; empty: every address of both families."""

    discovery: bool = field(default_factory=lambda: os.environ.get("UNCHOKE_NETWORK__DISCOVERY", "1") not in _OFF)
    """Find peers by other means than trackers and given addresses. Off: no DHT, no LSD, no PEX, no port mapping, whatever their own
    settings say. The environment's word holds for the library too, so that nothing in a sandbox or a test sends a packet."""

    allow_private: bool = False
    """May a torrent's trackers and web seeds lead to this machine or its network through a name or a redirect? Off, such a host is
    asked only if the URL shows it in plain sight (``http://192.168.1.2/announce``): a torrent is a stranger's. What the user
    gives is always asked."""

    max_connections: int = 500
    """Conversations in the whole session (libtorrent: 200 by default, qBittorrent: 500)."""

    max_connections_per_torrent: int = 100
    """Conversations in one torrent (qBittorrent: 100)."""

    max_connections_per_host: int = 16
    """Incoming conversations from one address in one torrent: room for a household or an office, not for a siege."""

    max_half_open: int = 50
    """Outgoing connections being tried at one time. Home routers track each; a long row of dead peers must still not cost minutes."""

    connect_timeout: float = 10.0
    """Seconds until a dial counts as failed (libtorrent: 15; most that answer do so within 3)."""

    handshake_timeout: float = 10.0
    """Seconds a connected peer has to finish its handshake (libtorrent: 10)."""

    idle_timeout: float = 240.0
    """Seconds without a whole message until a peer is closed. Keep-alives come every two minutes (BEP 3)."""

    receive_buffer: int = 64 * 1024
    """Bytes of the one buffer all peers of a loop receive into. uvloop reads a hot socket many times a turn: with 256 KiB it
    held the loop for 41 ms, with 64 KiB for 20."""

    socket_buffer: int = 0
    """Bytes asked of the kernel for each peer's receive buffer (SO_RCVBUF); 0 leaves it to the kernel, whose own tuning
    goes higher on a long fat line (a fixed 2 MiB was never faster in the bench, and caps the window)."""

    max_message: int = 1024 * 1024
    """Longest wire message accepted, checked before a byte of its body is kept. A bitfield of 8,000,000 pieces fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSettings:
    """Memory and threads between the network and the files."""

    write_buffer: int = 16 * 1024 * 1024
    """Bytes of pieces being received at one time, over all torrents. A torrent whose pieces do not fit has a few of them
    written block by block and read back, for which a quarter more is used (at least 1 MiB). A download of 1 GiB peaked at
    49 MiB of memory, with twice the buffer at 65, no faster."""

    read_buffer: int = 16 * 1024 * 1024
    """Bytes read for peers and not yet sent, over all torrents: 64 reads of 256 KiB. Who comes later waits for one of them."""

    threads: int = 0
    """Threads that hash and write pieces; 0: one fewer than there are cores (the loop has one), from 2 to 4: one hashes while the
    other writes. On two busy cores 1 GiB from a web seed took 2.57 s with one thread and 1.78 with two, from a peer 2.6 and 2.4
    (medians of 7 and 8)."""

    check_threads: int = 0
    """Threads that verify existing data; 0: one for each core."""

    open_files: int = 128
    """File handles kept open, over all torrents."""

    preallocate: Preallocate = "sparse"
    """How a file is made: ``sparse`` at its full size without taking room, ``full`` with all its room taken at once (no
    fragments, and no late "disk full"; slow where the file system cannot reserve), ``off`` growing as it is written."""

    incomplete_dir: str = ""
    """Folder in which torrents live until they are complete; empty: where they will be."""

    incomplete_suffix: str = ""
    """What a file's name ends with until it is complete, like ".part"; empty: nothing."""

    sync_interval: float = 30.0
    """Seconds between two times that a download's files are brought to rest (fdatasync), and its record marked so. After a loss of
    power what came later is hashed again."""

    look_interval: float = 15.0
    """Seconds between two looks at the disk of an active torrent: are its files still there, and is there room?"""

    portable_names: bool = False
    """Name files so that every operating system can hold them, not only this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtSettings:
    """The distributed hash table (BEP 5)."""

    enabled: bool = True
    """Take part in it. Private torrents are never looked for in it (BEP 27)."""

    routers: tuple[str, ...] = (
        "dht.libtorrent.org:25401",
        "router.bittorrent.com:6881",
        "dht.transmissionbt.com:6881",
        "router.utorrent.com:6881",
    )
    """Where a node without any other begins: host:port. Asked only as long as too few nodes are known."""

    announce_interval: float = 900.0
    """Seconds between two announces of one torrent (libtorrent: 15 minutes; nodes forget after 30)."""

    read_only: bool = False
    """Ask, and answer nothing (BEP 43): for machines that nobody can reach, or that pay for each byte."""

    def __post_init__(self) -> None:
        for router in self.routers:
            host, _, port = router.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ValueError(f"the DHT router {router!r} is no host:port")


@dataclass(frozen=True, slots=True, kw_only=True)
class LsdSettings:
    """Peers on the local network (BEP 14)."""

    enabled: bool = True
    """Announce torrents by multicast, and listen. Never private ones (BEP 27)."""

    announce_interval: float = 300.0
    """Seconds between two announces of one torrent (BEP 14: five minutes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortmapSettings:
    """Asking the router to let peers in: PCP, NAT-PMP, UPnP."""

    enabled: bool = True
    """Map the peers' port, TCP and UDP, for as long as the session lives."""

    router: str = ""
    """Literal address of the router to ask; empty: the default route's. For tunnels whose far end maps ports (NAT-PMP of VPN
    providers) while the default route has no router, or another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole session's."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    disk: DiskSettings = field(default_factory=DiskSettings)
    bandwidth: BandwidthSettings = field(default_factory=BandwidthSettings)
    picker: PickerSettings = field(default_factory=PickerSettings)
    pipeline: PipelineSettings = field(default_factory=PipelineSettings)
    choker: ChokerSettings = field(default_factory=ChokerSettings)
    superseed: SuperSeedSettings = field(default_factory=SuperSeedSettings)
    eviction: EvictionSettings = field(default_factory=EvictionSettings)
    peerlist: PeerListSettings = field(default_factory=PeerListSettings)
    announce: AnnounceSettings = field(default_factory=AnnounceSettings)
    queue: QueueSettings = field(default_factory=QueueSettings)
    goals: GoalSettings = field(default_factory=GoalSettings)
    dht: DhtSettings = field(default_factory=DhtSettings)
    pex: PexSettings = field(default_factory=PexSettings)
    lsd: LsdSettings = field(default_factory=LsdSettings)
    metadata: MetadataSettings = field(default_factory=MetadataSettings)
    portmap: PortmapSettings = field(default_factory=PortmapSettings)
    webseed: WebSeedSettings = field(default_factory=WebSeedSettings)
