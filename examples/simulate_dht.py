"""Simulate a DHT with dead and hostile nodes on virtual time: announce at one node, search from another, many times.

python examples/simulate_dht.py --seed 7
"""

from __future__ import annotations

import argparse
import time

from unchoke.testing.dht import simulate


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate a DHT on virtual time, twice.")
    parser.add_argument("--seed", type=int, default=7, help="of all chance; the same seed is the same run")
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--trials", type=int, default=200, help="announces, each searched for by another node")
    parser.add_argument("--dead", type=float, default=0.3, help="share of the nodes that is dead")
    parser.add_argument("--hostile", type=float, default=0.1, help="share of the nodes that lies")
    args = parser.parse_args()

    reports = []
    for _ in range(2):
        began = time.perf_counter()
        reports.append(
            simulate(seed=args.seed, nodes=args.nodes, trials=args.trials, dead=args.dead, hostile=args.hostile)
        )
        print(f"{reports[-1].table()}\n(simulated in {time.perf_counter() - began:.1f} s)\n")
    print("twice the same" if reports[0] == reports[1] else "NOT the same: a bug, please report it")


if __name__ == "__main__":
    main()
