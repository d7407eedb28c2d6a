"""WebSeed: one URL of one torrent: where it has files, which pieces may be asked of it, and what became of it. (BEP 19)

When it is left alone, for how long, and how much it is asked for at a time is its record's (``policy.webseed``); which pieces make a
run is the picker's choice.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from bitarray.util import ones

from unchoke.engine.net import urls
from unchoke.engine.net.ranges import Part, RangeError
from unchoke.engine.webseed.fetcher import Fetcher
from unchoke.engine.webseed.filler import FetchOwner
from unchoke.errors import NetworkError
from unchoke.masking import masked
from unchoke.policy.picker import Run
from unchoke.policy.webseed import WebSeedRecord, WebSeedSettings, WebSeedState
from unchoke.protocol.metainfo import Metainfo
from unchoke.protocol.webseed.files import file_url
from unchoke.rates import Rate
from unchoke.types import Address

if TYPE_CHECKING:
    from bitarray import bitarray

log = logging.getLogger(__name__)

#: Bytes before a run that are read and thrown away, where a server sends whole files only and others may give it.
MOST_SKIPPED = 4 * 1024 * 1024
#: Bytes that a run must have left for another connection to take half of them.
LEAST_STEAL = 4 * 1024 * 1024


class SeedFamily(Protocol):
    """What a web seed asks of those it belongs to."""

    metainfo: Metainfo
    is_closed: bool
    is_single: bool

    @property
    def owner(self) -> FetchOwner: ...

    def now(self) -> float: ...

    def begin(self) -> None:
        """More connections may help."""

    def has_rivals(self, seed: WebSeed) -> bool:
        """May others give what is hard to have from this one?"""

    def ended(self, seed: WebSeed) -> None:
        """One of its connections has."""


class WebSeed:
    """One URL of one torrent. ``address`` names it where a peer's address stands; ``pieces``: those it may have, None for all."""

    __slots__ = (
        "_family",
        "address",
        "fetchers",
        "host",
        "pieces",
        "rate",
        "record",
        "settings",
        "url",
        "wasted",
    )

    def __init__(self, family: SeedFamily, url: str, number: int, settings: WebSeedSettings, now: float) -> None:
        self._family = family
        self.url = url
        self.settings = settings
        self.record = WebSeedRecord(settings)
        self.fetchers: dict[Fetcher, None] = {}
        self.rate = Rate(now)
        self.wasted = 0
        self.pieces: bitarray | None = None
        host, port = "", 0
        try:
            host, port = urls.host_and_port(url)
        except NetworkError as error:
            self.record.give_up(str(error))
        self.host = f"{host}:{port}"
        self.address = Address(f"{host} (web seed {number})", port)  # no peer's: who lies here does not lie there

    @property
    def label(self) -> str:
        """What may be shown of its URL."""
        return masked(self.url)

    @property
    def timeout(self) -> float:
        """Seconds in which a block must come."""
        return self.settings.timeout

    def url_of(self, file: int) -> str | None:
        """Where it has a file; None if there is no address for that."""
        metainfo = self._family.metainfo
        path = metainfo.layout.files.paths[file]
        return file_url(self.url, metainfo.name, path, multi_file=metainfo.multi_file)

    # ------------------------------------------------------------------ runs

    def next_run(self) -> Run | None:
        """What one of its connections should fetch now; None: nothing, or it is left alone."""
        family = self._family
        if family.is_closed or not self.record.connections(family.now()):
            return None
        picker, size = family.owner.picker, family.owner.layout.piece_length
        most = self.record.run(picker.left * size)
        run = picker.take_run(self, self.pieces, max(1, most // size), least=-(-LEAST_STEAL // size))
        if run is not None or not self.record.ranges:
            return run
        mine = [one.run.piece.index for one in self.fetchers if one.run is not None and one.run.piece is not None]
        return picker.again_run(self, self.pieces, mine)

    def failed(self, error: RangeError, file: int) -> None:
        """A file of it could not be had."""
        words, now = str(error), self._family.now()
        log.info("! web seed of %s: %s", self._family.metainfo.name, words)
        if error.for_good:
            self.record.give_up(words)
        elif error.only_file:
            self.record.lacks(file, words, now, only=self._family.is_single)
            self._count_pieces()
        else:
            self.record.failed(words, now, error.retry_after)

    def lied(self, piece: int) -> None:
        """Its data for this piece was wrong."""
        self.record.lied(piece)
        self._count_pieces()
        log.warning("! web seed %s: wrong data for piece %d", self.label, piece)
        if self.record.is_out:
            for fetcher in list(self.fetchers):
                fetcher.close()

    def recall(self, now: float) -> None:
        """What was missing long ago may be there."""
        if self.record.recall(now):
            self._count_pieces()

    def _count_pieces(self) -> None:
        """``pieces`` anew: all but those of missing files, and those it was wrong about."""
        record, layout = self.record, self._family.owner.layout
        self.pieces = None
        if record.missing or record.wrong:
            self.pieces = pieces = ones(layout.piece_count, "big")
            for file in record.missing:
                span = layout.file_pieces(file)
                pieces[span.start : span.stop] = 0
            for piece in record.wrong:
                pieces[piece] = 0

    # ------------------------------------------------------------------ what fetchers tell

    def looked_at(self, part: Part, run: Run, offset: int, length: int, size: int) -> None:
        """Does it know ranges? One that does not is asked for everything behind, too. Raises RangeError for too much before."""
        record = self.record
        if not part.whole:
            if not record.ranges:
                record.ranges = True
                self._family.begin()  # more connections may help
        elif offset or length < size:
            record.ranges = False
            if offset > max(MOST_SKIPPED, length) and self._family.has_rivals(self):
                raise RangeError("the server knows no ranges, and what is wanted is far behind in a file")
            self._family.owner.picker.extend(run, self.pieces)

    def received(self, length: int) -> None:
        self.rate.add(length, self._family.now())

    def delivered(self, length: int, seconds: float) -> None:
        self.record.delivered(length, seconds)

    def ended(self, fetcher: Fetcher) -> None:
        self.fetchers.pop(fetcher, None)
        self._family.ended(self)

    def state(self, now: float) -> WebSeedState:
        record = self.record
        waits = now < record.next_try
        status = "out" if record.is_out else "busy" if self.fetchers else "waiting" if waits else "idle"
        return WebSeedState(
            url=self.url,
            status=status,
            connections=len(self.fetchers),
            rate=self.rate.rate(now),
            downloaded=self.rate.total,
            wasted=self.wasted,
            error=record.error,
            next_try=record.next_try,
        )

    def __repr__(self) -> str:
        return f"<WebSeed {self.label} [{len(self.fetchers)} connections | {self.record}]>"
