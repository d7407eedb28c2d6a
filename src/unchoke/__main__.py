"""``python -m unchoke`` and the ``unchoke`` command."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and leave with its exit code.

    At once, without the interpreter's own end, in which a late Ctrl-C would end the process by signal: all that has to be
    closed is closed by now.
    """
    try:
        from unchoke.app.cli import run

        code = run()
    except KeyboardInterrupt:  # while modules are loaded
        code = 130
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
