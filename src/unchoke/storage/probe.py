"""Probe: does a file system need portable names? It does if it folds case or normal forms, or refuses characters or raw bytes.

A few empty files are made in a temporary folder and removed again. Where nothing can be written, names already there are looked
up with their case swapped instead. Answers are remembered for each folder, so that ten thousand torrents ask once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import islice

from unchoke.layout import TorrentLayout
from unchoke.storage.paths import Components, map_paths

#: Names POSIX allows and FAT, NTFS or SMB do not; raw bytes that ZFS (utf8only) and APFS refuse.
_ODD_NAMES = ('<>:"|?*\\', "\x01", "dot.", "space ", "CON", "\udcff")
#: A name that is there, and one that must not be.
_TWINS = (("case", "CASE"), ("\u00e9", "e\u0301"))
#: Folders remembered; past it we start anew.
_REMEMBERED = 1024
_answers: dict[tuple[int, int], bool] = {}


def choose_names(
    folder: str, name: str, layout: TorrentLayout, multi_file: bool, portable: bool | None
) -> tuple[bool, list[Components | None]]:
    """The rule and the paths; the file system is asked only if the rule would change a name."""
    if portable is not None:
        return portable, map_paths(name, layout, multi_file, portable=portable)
    plain = map_paths(name, layout, multi_file, portable=False)
    changed = map_paths(name, layout, multi_file, portable=True)
    if plain == changed or not needs_portable(folder):
        return False, plain
    return True, changed


def needs_portable(folder: str) -> bool:
    """Whether torrents in this folder (it need not exist yet) must use the portable rule of ``map_paths``. Never raises OSError."""
    if os.name == "nt":
        return True
    where = nearest_existing(folder)
    try:
        status = os.stat(where)
    except OSError:
        return False
    key = (status.st_dev, status.st_ino)
    answer = _answers.get(key)
    if answer is None:
        if len(_answers) >= _REMEMBERED:
            _answers.clear()
        answer = _answers[key] = _probe(where)
    return answer


def nearest_existing(folder: str) -> str:
    """The folder, or the first one above it that is there: a new folder behaves like its parent."""
    path = os.path.abspath(folder)
    while not os.path.isdir(path):
        above = os.path.dirname(path)
        if above == path:
            break
        path = above
    return path


def _probe(folder: str) -> bool:
    try:
        place = tempfile.mkdtemp(prefix=".unchoke-probe-", dir=folder)
    except OSError:
        return _folds_by_looking(folder)
    try:
        return _folds(place) or _refuses(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _folds(place: str) -> bool:
    for there, twin in _TWINS:
        try:
            _touch(os.path.join(place, there))
        except (OSError, UnicodeEncodeError):
            return True
        if os.path.lexists(os.path.join(place, twin)):
            return True
    return False


def _refuses(place: str) -> bool:
    """Is any odd name refused, or quietly stored as another?"""
    for name in _ODD_NAMES:
        try:
            _touch(os.path.join(place, name))
        except (OSError, UnicodeEncodeError):
            return True
    return not set(_ODD_NAMES) <= set(os.listdir(place))


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600))


def _folds_by_looking(folder: str) -> bool:
    """Does a name that is there answer to its swapped case too?"""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, 100)]
    except OSError:
        return False
    for name in names:
        twin = name.swapcase()
        if twin != name and twin not in names:
            return os.path.lexists(os.path.join(folder, twin))
    return False
