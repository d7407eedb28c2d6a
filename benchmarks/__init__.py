"""What unchoke costs beside libtorrent on the same machine: ``python -m benchmarks`` (see ``--help``).

Root and Linux: two network namespaces joined by a veth pair. The namespaces and the libtorrent peer are those of the
interop tests, so that what is measured is what is tested.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
