"""Fetcher: one connection to a web seed at work: it takes a run of pieces, asks for it file by file, and has it put in place.

Whoever helps himself to the run's end makes it shorter; the rest of an answer is then not waited for. An answer that breaks off is gone
on with where it was. Whether its server is worth another try is the web seed's to say. (BEP 19)
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from unchoke.engine.net.ranges import Part, RangeClient, RangeError
from unchoke.engine.webseed.filler import FetchOwner, Filler
from unchoke.policy.picker import Run
from unchoke.types import BLOCK_SIZE

log = logging.getLogger(__name__)

#: An answer that broke off after so many bytes is gone on with at once; or after we did not take it for so many seconds.
WORTH_IT = 1024 * 1024
OUR_FAULT = 5.0


class FetchServer(Protocol):
    """What a fetcher asks of the web seed that it works for, and tells it."""

    def __hash__(self) -> int: ...

    @property
    def label(self) -> str: ...

    @property
    def timeout(self) -> float: ...

    def next_run(self) -> Run | None: ...

    def url_of(self, file: int) -> str | None: ...

    def looked_at(self, part: Part, run: Run, offset: int, length: int, size: int) -> None:
        """An answer begins. Raises RangeError if it is not worth reading."""

    def received(self, length: int) -> None: ...

    def delivered(self, length: int, seconds: float) -> None: ...

    def failed(self, error: RangeError, file: int) -> None: ...

    def ended(self, fetcher: Fetcher) -> None: ...


class Fetcher:
    """``run``: its first. ``task``: what runs ``work``."""

    __slots__ = ("_client", "_filler", "_loop", "_owner", "_part", "_woken", "is_closed", "seed", "task")

    def __init__(self, seed: FetchServer, owner: FetchOwner, client: RangeClient, run: Run) -> None:
        self.seed = seed
        self.is_closed = False
        self.task: asyncio.Task[None] | None = None
        self._owner = owner
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._filler = Filler(seed, owner)
        self._filler.begin(run)
        self._part: Part | None = None
        self._woken = asyncio.Event()

    @property
    def run(self) -> Run | None:
        """What it fetches."""
        return self._filler.run

    @property
    def waits_for_limit(self) -> bool:
        """It could go on, were there no limit."""
        return self._filler.waits_for_limit

    # ------------------------------------------------------------------ runs

    async def work(self) -> None:
        """Fetch runs until there is nothing to do, or the server fails."""
        try:
            while self._filler.run is not None:
                await self._fetch()
                self._filler.end()
                run = None if self.is_closed else self.seed.next_run()
                if run is not None:
                    self._filler.begin(run)
        finally:
            self.close()

    async def _fetch(self) -> None:
        """One run, to its end or until the server fails."""
        layout, filler = self._owner.layout, self._filler
        start, began, idle = filler.at, self._loop.time(), filler.stalled_for
        while not self.is_closed and filler.at < filler.stop:
            before, stalled = filler.at, filler.stalled_for
            span = layout.spans(before, 1)[0]
            filler.stop_at = before - span.offset + layout.files.lengths[span.file]
            try:
                if layout.files.pads[span.file]:
                    await self._pad()
                else:
                    await self._fetch_from(span.file, span.offset)
            except RangeError as error:
                filler.begin_again()
                forgiven = filler.at - before >= WORTH_IT or filler.stalled_for - stalled >= OUR_FAULT
                if self.is_closed or error.only_file or not forgiven:
                    self._failed(error, span.file)
                    return
                log.debug("! %s: %s; asked on", self.seed, error)
        if filler.at > start and not self.is_closed:
            self.seed.delivered(filler.at - start, self._loop.time() - began - (filler.stalled_for - idle))

    def _failed(self, error: RangeError, file: int) -> None:
        if not self.is_closed:
            self.seed.failed(error, file)

    async def _pad(self) -> None:
        """Pad files are zeros, and nobody has them (BEP 47)."""
        while not self._filler.is_done:
            if self._filler.fill_with_zeros():
                await asyncio.sleep(0)
            else:
                self._woken.clear()
                await self._woken.wait()

    async def _fetch_from(self, file: int, offset: int) -> None:
        """From ``offset`` of a file on, to its end or the run's."""
        filler, run = self._filler, self._filler.run
        assert run is not None
        size, before = self._owner.layout.files.lengths[file], filler.at
        length = min(filler.stop, filler.stop_at) - before
        filler.moved()
        part = self._part = await self._ask(file, offset, length, size)
        try:
            self.seed.looked_at(part, run, offset, length, size)
            filler.skip = offset - part.start
            await part.receive(self)
        finally:
            self._part = None
            part.close()
        if filler.at - before < min(length, BLOCK_SIZE) and not filler.is_done:
            raise RangeError(f"{self.seed.label} sends nothing of what it was asked for", "garbage")

    async def _ask(self, file: int, offset: int, length: int, size: int) -> Part:
        url, timeout = self.seed.url_of(file), self.seed.timeout
        if url is None:
            raise RangeError("no address can be made of this file's name", only_file=True)
        try:
            async with asyncio.timeout(timeout):
                return await self._client.ask(url, offset, length, size)
        except TimeoutError:
            raise RangeError(f"{self.seed.label}: no answer within {timeout:g} s", "timeout") from None

    # ------------------------------------------------------------------ bytes (Sink)

    @property
    def is_done(self) -> bool:
        return self._filler.is_done

    def room(self) -> memoryview | None:
        return self._filler.room()

    def came(self, count: int) -> None:
        self.seed.received(count)
        self._filler.came(count)

    def wake(self) -> None:
        """There may be room now, or a turn at the limit."""
        if self._filler.is_stalled:
            self._woken.set()
            if self._part is not None:
                self._part.go_on()

    # ------------------------------------------------------------------ its end

    def is_late(self, now: float) -> bool:
        """It waits for its server, in vain, for too long."""
        return (
            self._part is not None and not self._filler.is_stalled and now - self._filler.moved_at > self.seed.timeout
        )

    def give_up(self) -> None:
        """Stop reading: the server is too slow. What came is kept."""
        if self._part is not None:
            self._part.abort(f"hardly anything within {self.seed.timeout:g} s")

    def close(self) -> None:
        """The end, at once; its task ends soon."""
        if self.is_closed:
            return
        self.is_closed = True
        self._filler.close()
        self.seed.ended(self)
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "waits" if self._filler.is_stalled else "reads"
        return f"<Fetcher of {self.seed.label} [{state} | {self.run}]>"
