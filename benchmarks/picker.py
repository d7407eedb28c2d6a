"""What the picker's thoughts cost: ``python -m benchmarks.picker``. The figures of docs/decisions/0003 come from here.

Microseconds, the median of several rounds. *in piece* is a block of a piece already open, *new piece* the choice of the next
one, *block* both together in pieces of 16 blocks. Partial peers have each piece with a chance of one half.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from random import Random

from bitarray import bitarray

from unchoke.layout import FileEntry, TorrentLayout
from unchoke.policy.picker import PickerSettings, PiecePicker
from unchoke.types import BLOCK_SIZE

COUNTS = (1_000, 100_000, 500_000)
PARTIAL = 50
ROUNDS = 7


def halves(count: int, rng: Random) -> bitarray:
    """A bitfield of 50 % density."""
    bits = bitarray(endian="big")
    bits.frombytes(rng.randbytes(-(-count // 8)))
    del bits[count:]
    return bits


def make(count: int, blocks: int, peers: list[bitarray | None]) -> PiecePicker:
    layout = TorrentLayout(blocks * BLOCK_SIZE, [FileEntry((), count * blocks * BLOCK_SIZE)])
    picker = PiecePicker(layout, Random(1), settings=PickerSettings(random_first=0))
    for peer in peers:
        picker.add_peer(peer)
    return picker


def median(measure: Callable[..., float], *given: object) -> float:
    """Microseconds."""
    return statistics.median(measure(*given) for _ in range(ROUNDS)) * 1e6


def pick(count: int, blocks: int, peers: list[bitarray | None], asked: int, rounds: int) -> float:
    """Seconds a block, asking ``asked`` blocks at a time of the first peer; every piece is finished before the next question."""
    picker = make(count, blocks, peers)
    pieces, spent, got = peers[0], 0.0, 0
    for _ in range(rounds):
        began = time.perf_counter()
        found = picker.next("a", pieces, asked, lambda piece: True)
        spent += time.perf_counter() - began
        got += len(found)
        for piece, begin, _length in found:
            open_piece = picker.received("a", piece, begin)
            if open_piece is not None and not open_piece.left:
                picker.piece_good(piece)
    return spent / got


def adding(count: int, rng: Random) -> tuple[float, float, float]:
    """A peer that joins 50 others, leaves them again, and tells of one more piece."""
    picker = make(count, 1, [halves(count, rng) for _ in range(PARTIAL)])
    peer = halves(count, rng)
    lacks = [piece for piece in range(min(count, 2_000)) if not peer[piece]]

    def comes_and_goes() -> tuple[float, float]:
        began = time.perf_counter()
        picker.add_peer(peer)
        middle = time.perf_counter()
        picker.remove_peer(peer)
        return middle - began, time.perf_counter() - middle

    def haves() -> float:
        began = time.perf_counter()
        for piece in lacks:
            picker.add_have(piece)
        return (time.perf_counter() - began) / len(lacks)

    turns = [comes_and_goes() for _ in range(ROUNDS)]
    comes, goes = (statistics.median(times) * 1e6 for times in zip(*turns, strict=True))
    return comes, goes, median(haves)


def by_loop(count: int, rng: Random) -> float:
    """What bit slicing is instead of: a list of counts, and a loop over the set bits."""
    counts, peer = [0] * count, halves(count, rng)

    def loop() -> float:
        began = time.perf_counter()
        for piece in peer.search(1):
            counts[piece] += 1
        return time.perf_counter() - began

    return median(loop)


def say(cells: list[str], widths: tuple[int, ...]) -> None:
    print("".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)), flush=True)


def main() -> None:
    rng = Random(1)
    print(f"{PARTIAL} partial peers counted, one more comes (a bitfield), goes, tells of a piece; in µs")
    widths = (10, 12, 12, 12, 16)
    say(["pieces", "bitfield", "goes", "have", "bitfield, loop"], widths)
    for count in COUNTS:
        comes, goes, have = adding(count, rng)
        say([f"{count:,}", f"{comes:.1f}", f"{goes:.1f}", f"{have:.2f}", f"{by_loop(count, rng):,.0f}"], widths)
    print("\nA question for blocks, of a peer that has all (seed) or half (partial) of the pieces; in µs")
    widths = (10, 10, 12, 12, 12)
    say(["pieces", "swarm", "in piece", "new piece", "block"], widths)
    seeds: list[bitarray | None] = [None] * PARTIAL
    for count in COUNTS:
        partial: list[bitarray | None] = [halves(count, rng) for _ in range(PARTIAL)]
        for name, peers in (("seeds", seeds), ("partial", partial)):
            within = median(pick, 8, 4096, seeds, 256, 64)
            new = median(pick, count, 1, peers, 1, 200)
            both = median(pick, count, 16, peers, 64, 10)
            say([f"{count:,}", name, f"{within:.2f}", f"{new:.1f}", f"{both:.2f}"], widths)


if __name__ == "__main__":
    main()
