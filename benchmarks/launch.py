"""Run one program and write what it cost, as JSON, to the file named first; started with ``python -I -S`` to stay tiny.

A process of its own because Linux counts the memory of the parent at the moment of the exec into the child's peak: from
here that is some 10 MiB, less than anything we measure.
"""

import os
import sys
import time

began = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - began
exitcode, cpu, rss = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
with open(sys.argv[1], "w") as out:
    out.write(f'{{"exit": {exitcode}, "wall": {wall!r}, "cpu": {cpu!r}, "rss": {rss}}}')
