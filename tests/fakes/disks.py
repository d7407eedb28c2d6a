"""Small disks that a test may fill, take away and make read-only: tmpfs mounts of its own. Root is needed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHUNK = 1 << 16


def why_not() -> str:
    """Why no disk can be mounted here; empty: it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "mounting a disk of its own needs root"
    return ""


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=20)


class Disk:
    """A tmpfs of ``size`` bytes at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "somebody else's file"

    @property
    def free(self) -> int:
        """Bytes left."""
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take all its room but ``leave`` bytes."""
        with self._filler.open("ab", buffering=0) as file:
            while (room := self.free - leave) > 0:
                try:
                    file.write(bytes(min(CHUNK, room)))
                except OSError:
                    return  # whoever else writes here was faster

    def make_room(self) -> None:
        """Give it back."""
        self._filler.unlink()

    def remount(self, how: str) -> None:
        """``ro`` or ``rw``. Nothing may be open for writing there."""
        _run("mount", "-o", f"remount,{how}", str(self.path))


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[Disk]:
    """Mounted until the end. Skips the test where that cannot be."""
    if reason := why_not():
        pytest.skip(reason)
    path.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "unchoke-test", str(path))
    try:
        yield Disk(path)
    finally:
        _run("umount", "-l", str(path))


def plug_in(disk: Disk, path: Path) -> None:
    """The disk is at ``path`` too."""
    _run("mount", "--bind", str(disk.path), str(path))


def pull_out(path: Path) -> None:
    """It is not there any more, whoever uses it."""
    _run("umount", "-l", str(path))
