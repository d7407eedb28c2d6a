"""What ``unchoke doctor`` can see without the network: Python, limits, folders, clock, proxies. Each check is a function that
gives a ``Finding`` in words, with what to do about it.

They block, for as long as a dead disk likes: whoever calls them bounds that. None changes anything, but that a file is made and
removed again where torrents and records would go.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unchoke.app.cli.text import clean, format_size
from unchoke.version import VERSION

if TYPE_CHECKING:
    from unchoke.engine.settings import Settings

Level = Literal["ok", "warn", "bad", "skipped"]

#: Descriptors for what is neither a peer nor a torrent's file: sockets that listen, trackers, the database, threads.
OTHER_FILES = 64
#: Bytes free below which a folder is worth a word, and below which hardly a torrent fits.
LITTLE, TOO_LITTLE = 1 << 30, 100 << 20
#: No clock is right that shows a time before this program was written, or a lifetime after it.
EARLIEST, LATEST = 1_735_689_600, 4_102_444_800  # 2025 and 2100
#: A clock may be this far behind the date of our own files: they can come from another time zone's machine.
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``words``: how it is; ``advice``: what to do, empty if there is nothing. ``network``: it is one of the
    network's, not of this machine alone."""

    name: str
    level: Level
    words: str
    advice: str = ""
    network: bool = False


def python(loop: str) -> Finding:
    """``loop``: what the event loop calls itself."""
    words = f"unchoke {VERSION}, Python {platform.python_version()} on {platform.system()}, event loop {loop}"
    from unchoke.engine.dht.signing import can_sign

    if not can_sign():
        advice = "pip install cryptography: without it signed values of the DHT cannot be read or put"
        return Finding("python", "warn", f"{words}; the package cryptography does not load", advice)
    return Finding("python", "ok", words)


def open_files(settings: Settings) -> Finding:
    """Does the system allow as many open files and sockets as the settings may want?"""
    wanted = settings.network.max_connections + settings.disk.open_files + OTHER_FILES
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return Finding("open files", "ok", "this system sets no limit on open files")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return Finding("open files", "ok", f"{'any number' if soft == resource.RLIM_INFINITY else soft} may be open")
    can_raise = hard == resource.RLIM_INFINITY or hard >= wanted
    how = (
        f"`ulimit -n {wanted}` before unchoke" if can_raise else f"have the system's limit ({hard}) raised to {wanted}"
    )
    return Finding(
        "open files",
        "bad" if soft < 2 * OTHER_FILES else "warn",
        f"only {soft} files and sockets may be open; the settings may want {wanted}",
        f"{how}, or lower network.max_connections ({settings.network.max_connections})",
    )


def folder(name: str, path: Path) -> Finding:
    """Can files be written in this folder, and is there room?"""
    where = str(path)
    try:
        where = _nearest(path)
        with tempfile.TemporaryFile(prefix=".unchoke-doctor-", dir=where) as file:
            file.write(b"unchoke")
        free = shutil.disk_usage(where).free
    except OSError as error:
        words = f"nothing can be written in {clean(where)}: {error.strerror or error}"
        return Finding(name, "bad", words, "choose another folder, or give yourself the right to write there")
    there = "" if where == os.path.abspath(path) else f" (made when it is needed, below {clean(where)})"
    words = f"{clean(str(path))}{there}: {format_size(free)} free"
    if free < LITTLE:
        return Finding(
            name, "bad" if free < TOO_LITTLE else "warn", words, "make room: a download stops at a full disk"
        )
    return Finding(name, "ok", words)


def _nearest(path: Path) -> str:
    from unchoke.storage.probe import nearest_existing

    return nearest_existing(str(path))


def clock() -> Finding:
    """Is the time of day possible? Certificates of trackers, and dates of torrents, need one that is about right."""
    now = time.time()
    words = (
        time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now)) if 0 <= now < 2**40 else f"{now:.0f} s since 1970"
    )
    earliest = float(EARLIEST)
    try:
        earliest = max(earliest, os.stat(__file__).st_mtime - DAY)
    except OSError:
        pass  # a program in an archive
    if earliest <= now <= LATEST:
        return Finding("clock", "ok", f"it shows {words}")
    return Finding("clock", "bad", f"it shows {words}, which cannot be", "set the clock: HTTPS trackers fail otherwise")


def proxies(env: Mapping[str, str]) -> Finding:
    """Proxies in the environment, which we do not use; a user may count on them. What they say (a password) is not shown."""
    names = sorted(name for name in env if name.lower() in ("http_proxy", "https_proxy", "all_proxy") and env[name])
    if not names:
        return Finding("proxies", "ok", "none in the environment")
    return Finding(
        "proxies",
        "warn",
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} set, and not used: peers and trackers see your own address",
        "use a VPN if that must not be",
    )


def loop_name() -> str:
    """What kind of event loop commands run on here."""
    if sys.platform == "win32":
        return "asyncio"
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio"
    return "uvloop"
