"""A magnet link and nothing else: found by a tracker, ``x.pe``, DHT, PEX or LSD alone, from and to every other program.

All of it runs at one time in one town: the others are one process each with everything turned on, ours one for each way, in which
all but that way is off. Each test waits for one download: of theirs by us, or of ours by them (metadata and data are then ours).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from interop import hosts
from interop.finders import CANNOT, Aria2Finder, Finder, LibtorrentFinder, TransmissionFinder
from interop.town import WAYS, Ours, Parcel, Town

pytestmark = [pytest.mark.interop, pytest.mark.long, pytest.mark.timeout(120)]

KINDS: tuple[type[Finder], ...] = (LibtorrentFinder, Aria2Finder, TransmissionFinder)  # the slowest last
GETS = ("we", "they")
Case = tuple[str, str, str]
CASES: list[Case] = [
    case for case in itertools.product([kind.name for kind in KINDS], WAYS, GETS) if case not in CANNOT
]
PATIENCE = 60.0
#: Bytes a second for whoever stands between two that shall find each other.
CRAWL = 1000


class Fair:
    """Everything that runs. ``parcels``: what is fetched in each case; ``gets``: our process for each way."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.clients = {kind.name: kind(town) for kind in KINDS}
        self.parcels: dict[Case, Parcel] = {}
        self.gets: dict[str, Ours] = {}
        self._links: dict[Case, Parcel] = {}  # the same, as whoever shall fetch it is told
        self._between: list[Parcel] = []  # what libtorrent fetches slowly, for PEX
        self._seeds: list[Ours] = []
        self.dht = town.start_dht(*(client.at for client in self.clients.values()))
        self._tracker, self._other_tracker = town.tracker("tracker"), town.tracker("other-tracker")
        for case in CASES:
            self._prepare(case)

    def _prepare(self, case: Case) -> None:
        name, way, gets = case
        label = "-".join(case).replace(".", "")
        parcel = self.parcels[case] = self.town.parcel(label, tracker=self._tracker.url if way == "tracker" else "")
        if way == "pex":
            self._links[case] = (
                self._told_by_us(label, parcel) if gets == "they" else self._told_by_them(name, label, parcel)
            )
            return
        self._links[case] = parcel.told(f"x.pe={self.clients[name].at}") if way == "x.pe" else parcel
        if gets == "they" and way != "lsd":
            seed = self._seed(label, way, parcel)
            self._links[case] = parcel.told(f"x.pe={seed.at}") if way == "x.pe" else parcel

    def _seed(self, label: str, way: str, parcel: Parcel, *words: str) -> Ours:
        self._seeds.append(self.town.ours(f"seed-{label}", way, "seed", parcel.file, parcel.source, *words))
        return self._seeds[-1]

    def _told_by_us(self, label: str, parcel: Parcel) -> Parcel:
        """Our seed announces itself nowhere; a slow ``get`` of ours knows it, and is what the tracker tells."""
        tracker, seed = f"tr={self._tracker.url}", self._seed(label, "x.pe", parcel)
        link = parcel.told(tracker, f"x.pe={seed.at}").magnet
        self.town.ours(f"between-{label}", "pex", "get", link, "--down", str(CRAWL), "-d", self.town.folder / "between")
        return parcel.told(tracker)

    def _told_by_them(self, name: str, label: str, parcel: Parcel) -> Parcel:
        """Our seed is known to a tracker that only they are told of, and they are slow; we are told of them."""
        tracker = self._other_tracker.url
        self._seed(label, "x.pe", parcel, "--tracker", tracker)
        self._between.append(parcel.told(f"tr={tracker}", rate=CRAWL))
        return parcel.told(f"x.pe={self.clients[name].at}")

    def start(self) -> None:
        """In an order that wastes no time: who looks once, and then not for a minute, comes when there is something to be found."""
        transmission, libtorrent = self.clients["transmission"], self.clients["libtorrent"]
        assert isinstance(transmission, TransmissionFinder)
        assert isinstance(libtorrent, LibtorrentFinder)
        self._start_theirs("transmission")  # it takes its time for everything
        self._start_ours("lsd")
        for seed in self._seeds:
            seed.wait_seeding()
        for name in self.clients:
            self.dht.wait_line(f"^announce {self.parcels[name, 'dht', 'they'].infohash} ")
        self._start_theirs("libtorrent")
        self._start_theirs("aria2")
        transmission.wait_hearing()
        for case in CASES:
            if case[1:] == ("lsd", "they"):  # a first announce is heard by everybody who is there; later ones take time
                self._seed("-".join(case), "lsd", self.parcels[case])
        self._start_ours("tracker")
        self._start_ours("x.pe")
        self._start_ours("dht")
        for parcel in self._between:
            libtorrent.wait_metadata(parcel)  # whom it tells of in its first message, it has to know by then
        self._start_ours("pex")

    def _start_theirs(self, name: str) -> None:
        theirs = [self.parcels[case] for case in CASES if (case[0], case[2]) == (name, "we") and case[1] != "pex"]
        links = [self._links[case] for case in CASES if (case[0], case[2]) == (name, "they")]
        self.clients[name].start(theirs, links + (self._between if name == "libtorrent" else []))

    def _start_ours(self, way: str) -> None:
        magnets = [self._links[case].magnet for case in CASES if case[1:] == (way, "we")]
        self.gets[way] = self.town.ours(f"get-{way}", way, "get", "--json", *magnets, "-d", self.town.folder / "got")

    def assert_fetched(self, case: Case) -> None:
        name, way, gets = case
        parcel = self.parcels[case]
        if gets == "they":
            self.clients[name].wait(parcel, PATIENCE)
            return
        self.gets[way].wait_completed(parcel, PATIENCE)
        parcel.assert_in(self.town.folder / "got")
        if way == "pex":
            assert not self.clients[name].has(parcel), "it came from whom it told us of"


@pytest.fixture(scope="module")
def fair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fair]:
    for why in (hosts.missing(), *(kind.missing() for kind in KINDS)):
        if why is not None:
            pytest.skip(why)
    with Town(tmp_path_factory.mktemp("town")) as town:
        fair = Fair(town)
        fair.start()
        yield fair


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_found_and_fetched(fair: Fair, case: Case) -> None:
    fair.assert_fetched(case)


def test_every_pair_is_tried_or_has_a_reason() -> None:
    pairs = set(itertools.product([kind.name for kind in KINDS], WAYS, GETS))
    assert set(CANNOT) < pairs
    assert all(reason for reason in CANNOT.values())
    assert {(way, gets) for _, way, gets in CASES} == set(itertools.product(WAYS, GETS)), (
        "each way is tried with somebody"
    )
