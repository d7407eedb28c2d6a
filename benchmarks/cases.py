"""The comparisons. In each the contenders take turns, round by round, so that the machine's moods hit all of them alike."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import contenders
from benchmarks.contenders import OURS, THEIRS
from benchmarks.measure import Run, cpu_of, peak_of
from benchmarks.report import Series
from benchmarks.stage import Stage, settle

Progress = Callable[[str], None]
LIMIT = "limit"


def download(stage: Stage, rounds: int, say: Progress, others: tuple[str, ...] = (THEIRS, LIMIT)) -> list[Series]:
    """Whole-process wall of a download from one libtorrent seeder (the limit: from a bare socket)."""
    series = [Series("download", name, stage.size) for name in (OURS, *others)]
    for name in (THEIRS, *(LIMIT for one in series if one.name == LIMIT)):
        stage.seeder(name)
    take_turns(series, rounds, lambda one: stage.download(one.name, LIMIT if one.name == LIMIT else THEIRS), say)
    return series


def limit(stage: Stage, rounds: int, say: Progress) -> list[Series]:
    """Only the machine's own limit: what a download can reach here."""
    series = [Series("limit", LIMIT, stage.size)]
    take_turns(series, rounds, lambda one: stage.download(LIMIT, LIMIT), say)
    return series


def seed(stage: Stage, rounds: int, say: Progress) -> list[Series]:
    """A libtorrent leecher's wall, and what each seeder spends on it."""
    return _seeders("seed", stage, rounds, say, [(OURS, THEIRS), (THEIRS, THEIRS)])


def ours(stage: Stage, rounds: int, say: Progress) -> list[Series]:
    """unchoke on both ends against libtorrent on both ends."""
    return _seeders("ours", stage, rounds, say, [(OURS, OURS), (THEIRS, THEIRS)])


def create(stage: Stage, rounds: int, say: Progress) -> list[Series]:
    """Making a v1 torrent of the payload, pieces of 1 MiB."""
    series = [Series("create", name, stage.size) for name in (OURS, THEIRS)]

    def turn(one: Series) -> Run:
        out = stage.folder / f"made-by-{one.name}.torrent"
        return stage.measure(contenders.creating(one.name, stage.payload, out))

    take_turns(series, rounds, turn, say)
    return series


def check(stage: Stage, rounds: int, say: Progress) -> list[Series]:
    """Verifying the complete payload."""
    series = [Series("check", name, stage.size) for name in (OURS, THEIRS)]
    take_turns(
        series,
        rounds,
        lambda one: stage.measure(contenders.checking(one.name, stage.torrent, stage.payload.parent)),
        say,
    )
    return series


def _seeders(case: str, stage: Stage, rounds: int, say: Progress, pairs: list[tuple[str, str]]) -> list[Series]:
    series = {f"{giver} to {taker}": (giver, taker) for giver, taker in pairs}

    def turn(one: Series) -> Run:
        giver, taker = series[one.name]
        program, _ = stage.seeder(giver)
        before = cpu_of(program.pid)
        took = stage.download(taker, giver)
        one.seeder_cpu.append(cpu_of(program.pid) - before)
        one.seeder_rss = peak_of(program.pid)
        return took

    for giver, _ in pairs:
        stage.seeder(giver)
    found = [Series(case, name, stage.size) for name in series]
    take_turns(found, rounds, turn, say)
    return found


def take_turns(series: list[Series], rounds: int, turn: Callable[[Series], Run], say: Progress) -> None:
    for number in range(1, rounds + 1):
        for one in series:
            settle()
            took = turn(one)
            one.runs.append(took)
            say(f"{one.case} {number}/{rounds} {one.name}: {took.wall:.2f} s")


CASES: dict[str, Callable[[Stage, int, Progress], list[Series]]] = {
    "download": download,
    "limit": limit,
    "seed": seed,
    "ours": ours,
    "create": create,
    "check": check,
}
