"""A program that runs beside the test: its lines as they come, its end, and whether it listens. Waiting is always bounded."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_LISTEN = "0A"  # the state column of /proc/net/tcp


class HostError(Exception):
    """A program ended early, said nothing in time, or a namespace could not be made."""


class Program:
    """A running program whose lines (both streams) are read as they come. Ended by its own process id, always awaited."""

    def __init__(
        self,
        argv: Sequence[str],
        name: str,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: Path | None = None,
    ) -> None:
        self.name = name
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        # The kernel ends the child when we die, even by SIGKILL: a test run leaves nothing behind.
        with (stdin or Path(os.devnull)).open("rb") as given:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *argv],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
            )
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for raw in stream:
                for line in re.split(r"[\r\n]+", raw.decode(errors="replace")):
                    if line:
                        with self._news:
                            self.lines.append(line)
                            self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_line(self, pattern: str, timeout: float = 20.0) -> re.Match[str]:
        """The first line (of all so far and to come) that matches. Raises HostError when the program ends or time is up."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout
        seen = 0
        with self._news:
            while True:
                for line in self.lines[seen:]:
                    if found := wanted.search(line):
                        return found
                seen = len(self.lines)
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "ended" if self._ended else f"said in {timeout:g} s nothing like {pattern!r}"
                    raise HostError(f"{self.name} {why}:\n{self.tail()}")
                self._news.wait(left)

    def wait(self, timeout: float = 30.0) -> int:
        """The exit status. Raises HostError (the program goes on) when time is up."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise HostError(f"{self.name} still runs after {timeout:g} s:\n{self.tail()}") from None
        self._reader.join(5)
        return status

    def tell(self, signum: int) -> None:
        """Send a signal and do not wait. Harmless when the program has ended."""
        if self.running:
            self._process.send_signal(signum)

    def stop(self, signum: int = signal.SIGTERM, timeout: float = 15.0) -> int:
        """Ask it to end, insist after ``timeout``; the exit status (negative: the signal). Harmless when it has ended."""
        self.tell(signum)
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join(5)
        return status

    def tail(self, count: int = 30) -> str:
        return "\n".join(f"    {line}" for line in self.lines[-count:])

    def is_listening(self, port: int) -> bool:
        """Whether a TCP socket of its namespace listens on ``port``."""
        for table in ("tcp", "tcp6"):
            try:
                rows = Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]
            except OSError:
                continue
            for row in rows:
                fields = row.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    return True
        return False

    def wait_listening(self, port: int, timeout: float = 20.0) -> None:
        self.wait_until(lambda: self.is_listening(port), f"listen on port {port}", timeout)

    def wait_until(self, reached: Callable[[], bool], what: str, timeout: float) -> None:
        """Ask ``reached`` every 50 ms; HostError with the output when the program ends first or time is up."""
        deadline = time.monotonic() + timeout
        while not reached():
            if not self.running:
                raise HostError(f"{self.name} ended and did not {what}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise HostError(f"{self.name} did not {what} in {timeout:g} s:\n{self.tail()}")
            time.sleep(0.05)

    def __repr__(self) -> str:
        return f"<Program {self.name} [pid {self.pid}, {'running' if self.running else 'ended'}]>"
