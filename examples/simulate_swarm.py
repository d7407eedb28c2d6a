"""Simulate a swarm of whole engines on virtual time, twice, and show that both times are the same.

python examples/simulate_swarm.py --seed 7
"""

from __future__ import annotations

import argparse
import time

from unchoke.testing import elapsed, make_torrent, run, swarm


async def simulate(seed: int, leechers: int, pieces: int, up: int, super_seed: bool) -> str:
    """One seed, so many leechers, lines of ``up`` bytes/s for all: who finished when, and gave how much."""
    torrent = make_torrent(pieces * 32768, seed=seed, name="simulated")
    async with swarm(torrent, seeds=0, leechers=leechers, up=up, seed=seed) as world:
        first = await world.add("seed01", complete=True, up=up, super_seed=super_seed)
        await world.finished()
        copies = world.copies(first)
        return f"{world.table()}\nall done after {elapsed():.3f} s; the seed gave {copies:.3f} copies"


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate a swarm on virtual time, twice.")
    parser.add_argument("--seed", type=int, default=7, help="of all chance; the same seed is the same swarm")
    parser.add_argument("--leechers", type=int, default=20)
    parser.add_argument("--pieces", type=int, default=64, help="of 32 KiB each")
    parser.add_argument("--up", type=int, default=256 * 1024, help="everybody's uplink in bytes/s")
    parser.add_argument("--super-seed", action="store_true", help="the seed shows each peer one piece at a time")
    args = parser.parse_args()

    results = []
    for _ in range(2):
        began = time.perf_counter()
        scenario = simulate(args.seed, args.leechers, args.pieces, args.up, args.super_seed)
        results.append(run(lambda work=scenario: work, seed=args.seed))  # type: ignore[misc]
        print(f"{results[-1]}\n(simulated in {time.perf_counter() - began:.1f} s)\n")
    print("twice the same" if results[0] == results[1] else "NOT the same: a bug, please report it")


if __name__ == "__main__":
    main()
