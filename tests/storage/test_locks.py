"""Locks between processes: who comes second hears the pid; who dies gives back."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from unchoke.errors import StorageError
from unchoke.storage import locks
from unchoke.storage.locks import FileLock, FolderLock, PairLock, TakenError

_INFOHASH = bytes(range(20))
_HOLDER = """
import sys
from unchoke.storage.locks import PairLock
lock = PairLock(sys.argv[1], bytes(range(20)), sys.argv[2], "song")
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def _holder(place: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", _HOLDER, str(place), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_second_hears_who_has_it_and_gets_it_after_a_kill(tmp_path: Path) -> None:
    mine = PairLock(str(tmp_path / "locks"), _INFOHASH, str(tmp_path), "song")
    with _holder(tmp_path / "locks", tmp_path) as process:
        with pytest.raises(TakenError) as caught:
            mine.acquire()
        assert caught.value.pid == process.pid
        assert f"song in {tmp_path} is in use by process {process.pid}" in str(caught.value)
        assert caught.value.exit_code == 1
        process.kill()
        process.wait()
        mine.acquire()
    assert Path(mine.path).read_text() == f"{os.getpid()}\n"
    mine.release()


def test_other_pairs_are_free(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    place = str(tmp_path / "locks")
    pairs = [(_INFOHASH, "a"), (_INFOHASH, "b"), (bytes(20), "a")]
    held = [PairLock(place, infohash, str(tmp_path / folder)) for infohash, folder in pairs]
    for lock in held:
        lock.acquire()
    assert len(os.listdir(place)) == 3
    for lock in held:
        lock.release()


def test_a_folder_by_another_name_is_the_same_pair(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with PairLock(str(tmp_path), _INFOHASH, str(tmp_path / "real")), pytest.raises(TakenError):
        PairLock(str(tmp_path), _INFOHASH, str(tmp_path / "link")).acquire()


def test_a_state_directory_has_one_owner_and_is_named(tmp_path: Path) -> None:
    first, second = FolderLock(str(tmp_path / "state")), FolderLock(str(tmp_path / "state"))
    first.acquire()
    with pytest.raises(TakenError, match=f"{tmp_path}/state is in use by process {os.getpid()}"):
        second.acquire()
    first.release()
    first.release()
    with second:
        assert "held" in repr(second)
    assert os.listdir(tmp_path / "state") == []


def test_a_file_left_by_a_dead_owner_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.write_text("1234567890 and much more than a pid\n")
    with FileLock(str(path), "x"):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_file_removed_between_opening_and_locking_is_not_taken_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.lock"
    lock_now, left = locks._lock_now, [path]

    def lose_it_first(fd: int) -> None:
        lock_now(fd)
        if left:
            left.pop().unlink()  # its last owner gave it back after we had opened it

    monkeypatch.setattr(locks, "_lock_now", lose_it_first)
    with FileLock(str(path), "x"):
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(TakenError):
            FileLock(str(path), "x").acquire()


def test_an_owner_who_has_not_written_its_pid_is_another_process(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with FileLock(str(path), "x"):
        path.write_text("")
        with pytest.raises(TakenError, match="x is in use by another process") as caught:
            FileLock(str(path), "x").acquire()
    assert caught.value.pid == 0


def test_without_locks_on_the_file_system_we_go_on_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(fd: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(locks, "_lock_now", unsupported)
    with FileLock(str(tmp_path / "x.lock"), "x") as lock:
        assert lock.is_held
    assert "no locks on this file system" in caplog.text


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot lock"):
        FileLock(str(tmp_path / "file" / "x.lock"), "x").acquire()
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(StorageError, match="cannot lock"):
        FileLock(str(tmp_path / "link"), "x").acquire()
    assert (tmp_path / "file").read_text() == ""


def test_taking_it_twice_is_a_mistake(tmp_path: Path) -> None:
    with FileLock(str(tmp_path / "x"), "x") as lock, pytest.raises(RuntimeError):
        lock.acquire()
