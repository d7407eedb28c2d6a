"""The probe: what a file system folds or refuses, found out without leaving a trace."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from unchoke.storage import probe
from unchoke.storage.probe import needs_portable


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_answers", {})


def test_it_leaves_nothing_behind_and_asks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = needs_portable(str(tmp_path / "not" / "there"))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(tempfile, "mkdtemp", None)
    assert needs_portable(str(tmp_path)) == answer


def test_a_file_system_that_folds_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda path: str(path).endswith("CASE"))
    assert needs_portable(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_refuses_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if "?" in str(path):
            raise OSError(errno.EINVAL, "")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    assert needs_portable(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folds", [True, False])
def test_where_nothing_can_be_written_names_are_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folds: bool
) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError(errno.EACCES, "")

    (tmp_path / "12").touch()
    (tmp_path / "Name").touch()
    if folds:
        monkeypatch.setattr(os.path, "lexists", lambda path: True)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert needs_portable(str(tmp_path)) == folds
