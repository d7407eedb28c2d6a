"""``python -m fuzz [TARGET ...] [--seconds 10] [--seed 1]``: broken input for each target, by chance that can be repeated.

Prints how many inputs each has seen and the slowest of them; the first input that raises what it may not is printed, and is exit 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from random import Random

from fuzz.targets import TARGETS, Target

#: Pieces that break more than single bytes do: huge and negative numbers, nests, ends.
_PARTS = (
    b"i-1e", b"i99999999999999999999e", b"l" * 200, b"d" * 200, b"e", b"0:", b"4294967295:", b"\xff\xff\xff\xff", b"\0" * 4,
    b"\r\n\r\n",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&lt;", b"%00", b"\x7f\xff\xff\xff", b"i0e", b"le", b"de", b"://", b"[::ffff:127.0.0.1]",
)  # fmt: skip


def broken(target: Target, rng: Random) -> Iterator[bytes]:
    """Good input with a few things wrong, for ever."""
    while True:
        data = bytearray(rng.choice(target.seeds))
        for _ in range(rng.choice((1, 1, 2, 3, 8))):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(6):
                case 0:
                    data[at : at + 1] = rng.randbytes(1)
                case 1:
                    data[at:at] = rng.choice(_PARTS)
                case 2:
                    del data[at : at + rng.randrange(1, 9)]
                case 3:
                    data[at:at] = data[: rng.randrange(len(data) + 1)]
                case 4:
                    del data[at:]
                case _:
                    data[at : at + 4] = rng.choice(_PARTS)
        yield bytes(data[:65536])


def feed(target: Target, rng: Random, *, count: int | None = None, seconds: float | None = None) -> tuple[int, float]:
    """Read so many inputs, or for so long; gives their number and the slowest one's seconds. Raises what the target may not."""
    slowest, number = 0.0, 0
    began = time.perf_counter()
    for number, data in enumerate(broken(target, rng), 1):
        start = time.perf_counter()
        try:
            target.read(data)
        except target.allowed:
            pass
        except Exception as error:
            error.add_note(f"input: {data!r}")
            raise
        now = time.perf_counter()
        slowest = max(slowest, now - start)
        if number == count or (seconds is not None and now - began >= seconds):
            break
    return number, slowest


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz", description="Broken input for everything that reads strangers' bytes."
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target (default 10)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if unknown := [name for name in args.targets if name not in TARGETS]:
        parser.error(f"no such target: {', '.join(unknown)}")
    for name in args.targets or TARGETS:
        count, slowest = feed(TARGETS[name], Random(args.seed), seconds=args.seconds)
        sys.stdout.write(f"{name:<20} {count:>9,} inputs, the slowest took {1000 * slowest:.1f} ms\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
