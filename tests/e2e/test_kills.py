"""``get`` killed with SIGKILL and started again: nothing that was written is fetched twice, and no byte differs.

The table of the thirty kills is printed; with UNCHOKE_KILLS_TABLE=FILE it is also written as a page of the manual.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from bitarray import bitarray
from bitarray.util import ones, zeros

from fakes import stage
from fakes.commands import Get, Given, Seeder, on_disk, recorded, seeding, write_torrent
from fakes.stage import Sample
from unchoke.types import BLOCK_SIZE

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

KIB, MIB = 1 << 10, 1 << 20
RATE = 16 * MIB
#: Lengths of pieces; ten kills each.
PIECES = (64 * KIB, 128 * KIB, 256 * KIB)
COMMAND = (
    "UNCHOKE_KILLS_TABLE=docs/reference/kills.md .venv/bin/python -m pytest -m long tests/e2e/test_kills.py -k thirty"
)
PAGE = """# Thirty kills

A real `unchoke get` is killed with SIGKILL at thirty moments of a download ({size:.0f} MiB in {files} files, large and small, from a
seeder that gives {rate} MiB/s), and the same command is run again. Every time it completes, and every byte is compared.
*Written*: pieces that lay whole in the files when it was killed. *Recorded*: those that the record knew; the record may lag
behind, and never runs ahead. *Open*: bytes of pieces of which some blocks had been sent and others not. *Fetched again*: bytes
that the seeder sent in both runs, counted at the seeder, so what was on its way when the kill came is in it. No piece that
was written was fetched again, and nothing exceeds the open pieces and one second of download.

{table}

Made by a test, with fixed seeds; the figures of a run differ a little from those of another:

    {command}
"""


def album(piece_length: int) -> Sample:
    """Two large files and many small ones, some smaller than a piece, one empty."""
    files = {"big.bin": 17 * MIB + 1, "empty": 0, "mid.bin": 6 * MIB + 12345}
    files |= {f"small/{number:02}.txt": 1 + 997 * number for number in range(50)}
    return stage.sample(files=files, name=f"album {piece_length >> 10}", piece_length=piece_length)


@dataclass(frozen=True)
class Kill:
    """What one kill left, and what it cost. Bytes, and counts of pieces."""

    piece_length: int
    share: float
    written: int
    recorded: int
    open: int
    again: int

    def row(self) -> str:
        return (
            f"| {self.piece_length >> 10} KiB | {100 * self.share:.1f} % | {self.written} | {self.recorded}"
            f" | {self.open >> 10} KiB | {self.again >> 10} KiB |"
        )


def table(kills: Sequence[Kill]) -> str:
    head = "| pieces of | killed at | written | recorded | open | fetched again |\n|---|---|---|---|---|---|"
    return "\n".join([head, *(kill.row() for kill in kills)])


def write_page(path: Path, what: Sample, kills: Sequence[Kill]) -> None:
    facts = {"size": len(what.data) / MIB, "files": len(what.files), "rate": RATE // MIB}
    path.write_text(PAGE.format(table=table(kills), command=COMMAND, **facts), encoding="utf-8")


def blocks_of(what: Sample, pieces: bitarray) -> bitarray:
    """The blocks of these pieces."""
    each = what.piece_length // BLOCK_SIZE
    found = zeros(len(pieces) * each, "big")
    for piece in pieces.search(1):
        found[piece * each : (piece + 1) * each] = 1
    return found[: -(-len(what.data) // BLOCK_SIZE)]


def open_bytes(what: Sample, given: bitarray) -> int:
    """Bytes of the pieces that were sent in part."""
    each = what.piece_length // BLOCK_SIZE
    parts = [given[at : at + each] for at in range(0, len(given), each)]
    return sum(what.piece_length for part in parts if part.any() and not part.all())


@pytest.fixture
async def seeder(tmp_path: Path) -> AsyncIterator[Seeder]:
    async with seeding(tmp_path, up=RATE) as seeder:
        yield seeder


async def killed_once(seeder: Seeder, given: Given, what: Sample, folder: Path, share: float, delay: float) -> Kill:
    """Download, kill at this share of the bytes (and ``delay`` seconds on), look, complete, compare."""
    torrent, home, out = write_torrent(what, folder), folder / "home", folder / "out"
    given.begin()
    seeder.limit(RATE)
    async with Get(torrent, out, home=home, peer=seeder.address) as get:
        await given.reached(int(share * len(what.data)))
        seeder.session.call_later(delay, get.kill)
        assert await get.ended() in (-9, 0)
    first = given.blocks
    row = recorded(home, what, out)
    everything = ones(what.metainfo.layout.piece_count, "big")
    have = row.have if row is not None else ~everything
    written = on_disk(what, out, everything)
    assert not (have & ~written).any(), "the record ran ahead of the data"

    given.begin()
    seeder.limit(0)
    async with Get(torrent, out, home=home, peer=seeder.address) as get:
        assert await get.ended() == 0, get.output
    what.assert_in(out)
    again = first & given.blocks
    assert not (again & blocks_of(what, written)).any(), "a piece that was written was fetched again"
    kill = Kill(
        what.piece_length, share, written.count(1), have.count(1), open_bytes(what, first), again.count(1) * BLOCK_SIZE
    )
    assert kill.again <= kill.open + RATE, kill
    return kill


async def test_thirty_kills(seeder: Seeder, tmp_path: Path) -> None:
    rng = Random(3)
    albums = [album(length) for length in PIECES]
    given = [await seeder.serve(what) for what in albums]
    kills = []
    for number in range(30):
        at = number % len(albums)
        share = {0: 0.0, 29: 1.0}.get(number, (number + rng.random()) / 30)
        folder = tmp_path / str(number)
        folder.mkdir()
        kills.append(await killed_once(seeder, given[at], albums[at], folder, share, rng.choice((0.0, 0.003, 0.03))))
    print(table(kills))  # noqa: T201
    assert max(kill.recorded for kill in kills) > 0
    if page := os.environ.get("UNCHOKE_KILLS_TABLE"):
        write_page(Path(page), albums[0], kills)


async def test_one_download_killed_again_and_again(seeder: Seeder, tmp_path: Path) -> None:
    """Also while it looks at what the last kill left."""
    rng, what = Random(11), album(128 * KIB)
    given, torrent = await seeder.serve(what), write_torrent(what, tmp_path)
    home, out = tmp_path / "home", tmp_path / "out"
    everything = ones(what.metainfo.layout.piece_count, "big")
    written = ~everything
    for number in range(6):
        given.begin()
        async with Get(torrent, out, "-v", home=home, peer=seeder.address) as get:
            if number % 3 == 2:
                await get.said("pieces trusted")
            else:
                await given.reached(rng.randrange(MIB, 4 * MIB))
            get.kill()
            assert await get.ended() == -9
        assert not (given.blocks & blocks_of(what, written)).any(), "a piece that was written was fetched again"
        before, written = written, on_disk(what, out, everything)
        assert not (before & ~written).any(), "what was written is gone"
        row = recorded(home, what, out)
        assert row is None or not (row.have & ~written).any(), "the record ran ahead of the data"
    assert written.count(1) > 10
    given.begin()
    async with Get(torrent, out, home=home, peer=seeder.address) as get:
        assert await get.ended() == 0, get.output
    assert not (given.blocks & blocks_of(what, written)).any()
    what.assert_in(out)


#: ``unchoke`` that kills itself before the n-th call by which a file gets or loses a name.
MORTAL = """
import os, signal, sys
left = int(os.environ["DIE_AT"])
def dying(call):
    def counted(*words, **more):
        global left
        if not str(words[0]).endswith(".lock"):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return call(*words, **more)
    return counted
for name in ("link", "rename", "replace", "unlink"):
    setattr(os, name, dying(getattr(os, name)))
from unchoke.__main__ import main
sys.exit(main())
"""


async def test_killed_at_every_step_of_the_naming(seeder: Seeder, tmp_path: Path) -> None:
    """At the end files get their own names, and then move to another folder: no step of that loses one, or leaves two."""
    what = stage.sample(files={"one": 300_000, "sub/two": 100, "sub/three": 200_000}, name="three files")
    given = await seeder.serve(what)
    seeder.limit(0)
    killed = True
    step = 0
    while killed:
        step += 1
        folder = tmp_path / f"{step}"
        torrent, home, out = write_torrent(what, folder), folder / "home", folder / "out"
        env = {
            "UNCHOKE_DISK__INCOMPLETE_SUFFIX": ".part",
            "UNCHOKE_DISK__INCOMPLETE_DIR": str(folder / "unfinished"),
            "DIE_AT": str(step),
        }
        async with Get(torrent, out, home=home, peer=seeder.address, env=env, start=("-c", MORTAL)) as get:
            status = await get.ended()
            assert status in (-9, 0), get.output
            killed = status == -9
        given.begin()
        async with Get(torrent, out, home=home, peer=seeder.address, env=env) as get:
            assert await get.ended() == 0, f"step {step}: {get.output}"
        what.assert_in(out)
        assert given.total == 0, f"step {step}: all was written when it was killed"
        assert [path for path in (folder / "unfinished").rglob("*") if path.is_file()] == []
    assert step > 6, "three files were renamed, and three moved"


async def test_killed_with_a_selection_and_then_all_of_it(seeder: Seeder, tmp_path: Path) -> None:
    """The shares of unwanted files wait in a part file; nothing of them is lost on the way into their own."""
    what = album(256 * KIB)
    given, torrent = await seeder.serve(what), write_torrent(what, tmp_path)
    home, out = tmp_path / "home", tmp_path / "out"
    wanted = ("-s", "3,5-50")  # mid.bin, and all small files but three
    for share in (0.05, 0.1, 0.2, 0.3):
        given.begin()
        async with Get(torrent, out, *wanted, home=home, peer=seeder.address) as get:
            given.at(int(share * len(what.data)), get.kill)
            assert await get.ended() in (-9, 0)
    seeder.limit(0)
    async with Get(torrent, out, *wanted, home=home, peer=seeder.address) as get:
        assert await get.ended() == 0, get.output
    names = [path for path, _ in what.files]
    assert not (out / names[0]).exists(), "an unwanted file is not made"
    for number in (2, *range(4, 50)):
        path, data = what.files[number]
        assert (out / path).read_bytes() == data, path
    given.begin()
    async with Get(torrent, out, home=home, peer=seeder.address) as get:
        given.at(len(what.data) // 2, get.kill)
        assert await get.ended() == -9
    async with Get(torrent, out, home=home, peer=seeder.address) as get:
        assert await get.ended() == 0, get.output
    what.assert_in(out)
