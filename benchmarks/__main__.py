"""``python -m benchmarks``: the command line. Progress goes to standard error, tables to standard output."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from benchmarks import big, cases, idle, report, webseed
from benchmarks.contenders import THEIRS
from benchmarks.measure import BenchError
from benchmarks.stage import Stage
from interop.program import HostError

#: Cases about many torrents and large ones; they need no second host.
ALONE = ("idle", "big")
CASES = {**cases.CASES, "webseed": webseed.webseed}
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def size(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if found is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"not a size: {text!r} (64MiB, 1GiB)")
    return int(found[1]) * UNITS[found[2]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="unchoke beside libtorrent, here and now")
    known = (*CASES, *ALONE)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(known)}; default: download")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=size, default=size("1GiB"), help="of the payload; default 1GiB")
    parser.add_argument("--quick", action="store_true", help="128MiB, 2 rounds: does it run at all?")
    parser.add_argument("--aria2", action="store_true", help="aria2 takes part in the download case")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds one run may take")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    args = parser.parse_args()
    if unknown := [name for name in args.cases if name not in known]:
        parser.error(f"no such case: {', '.join(unknown)}")
    if args.quick:
        args.size, args.rounds = size("128MiB"), 2
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    args.cases = args.cases or ["download"]
    return args


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def alone(args: argparse.Namespace) -> None:
    """Those of the cases that need no second host; they are done then."""
    if "idle" in args.cases:
        plan = idle.Plan(500, 10.0) if args.quick else idle.Plan(5000, 60.0)
        print(idle.table(idle.idle(plan, say)) + "\n", flush=True)
    if "big" in args.cases:
        print("\n".join(big.big(say)), flush=True)
    args.cases = [name for name in args.cases if name not in ALONE]


def main() -> int:
    args = arguments()
    os.environ["UNCHOKE_NETWORK__DISCOVERY"] = "0"  # of all that is started here: nothing speaks unasked
    found: list[report.Series] = []
    try:
        alone(args)
        if not args.cases:
            return 0
        with Stage(args.size, args.timeout) as stage:
            for name in args.cases:
                case = CASES[name]
                if name == "download" and args.aria2:
                    series = cases.download(stage, args.rounds, say, (THEIRS, cases.LIMIT, "aria2"))
                else:
                    series = case(stage, args.rounds, say)
                found += series
                print(report.table(name, (case.__doc__ or "").strip(), series) + "\n", flush=True)
    except (BenchError, HostError) as error:
        say(f"failed: {error}")
        return 1
    finally:
        if args.json and found:
            report.write_json(args.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
