"""Little networks on this machine: hosts are network namespaces, a program runs *in* one, nothing leads outside.

Two hosts are joined by one veth pair; more hang on a hub namespace that forwards and answers ARP for all of them, so that
every host sees one 10.99.0.0/24 either way (some clients refuse loopback peers, so 127.0.0.1 is not enough). The names
carry our process id: what a killed run left behind is removed by the next one. Root and ``ip`` are needed.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from interop.program import HostError, Program

SUBNET = "10.99.0"
_numbers = itertools.count(1)


def missing() -> str | None:
    """Why no network can be made here; None when one can."""
    if os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the program ip (iproute2) is not installed"
    if shutil.which("setpriv") is None:
        return "the program setpriv (util-linux) is not installed"
    return None


def _ip(*args: str) -> None:
    done = subprocess.run(["ip", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"ip {' '.join(args)}: {done.stderr.strip()}")


class Host:
    """One namespace with one address; ``argv`` prefixes a command that shall run in it."""

    def __init__(self, namespace: str, address: str) -> None:
        self.namespace = namespace
        self.address = address
        self.programs: list[Program] = []

    @property
    def argv(self) -> list[str]:
        return ["ip", "netns", "exec", self.namespace]

    def start(
        self,
        argv: Sequence[str],
        name: str,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: Path | None = None,
    ) -> Program:
        program = Program([*self.argv, *argv], f"{name} on {self.address}", env=env, cwd=cwd, stdin=stdin)
        self.programs.append(program)
        return program

    def run(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 30.0) -> str:
        """Run to the end and give what it printed; HostError when it fails."""
        done = subprocess.run(
            [*self.argv, *argv],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=None if env is None else {**os.environ, **env},
        )
        if done.returncode:
            raise HostError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def stop_all(self) -> None:
        for program in self.programs:
            program.tell(signal.SIGTERM)  # all at once, so that their goodbyes overlap
        for program in self.programs:
            program.stop(timeout=5)
        self.programs.clear()

    def __repr__(self) -> str:
        return f"<Host {self.address} [{self.namespace}, {sum(p.running for p in self.programs)} running]>"


class Network:
    """``with Network(3) as net:`` gives ``net.hosts`` with addresses 10.99.0.1 … 10.99.0.3. ``Network(1)`` has no link at all."""

    def __init__(self, count: int = 2) -> None:
        label = f"unchoke-{os.getpid()}-{next(_numbers)}"
        self.hosts = [Host(f"{label}-{i}", f"{SUBNET}.{i}") for i in range(1, count + 1)]
        self._hub = f"{label}-hub" if count > 2 else None

    def __enter__(self) -> Network:
        _sweep()
        try:
            for host in self.hosts:
                _add_namespace(host.namespace)
            if self._hub is not None:
                self._join_by_hub(self._hub)
            elif len(self.hosts) == 2:
                self._join_by_pair()
        except BaseException:
            self.close()
            raise
        return self

    def _join_by_pair(self) -> None:
        one, two = (host.namespace for host in self.hosts)
        _ip("link", "add", "eth0", "netns", one, "type", "veth", "peer", "name", "eth0", "netns", two)
        for host in self.hosts:
            self._configure(host)

    def _join_by_hub(self, hub: str) -> None:
        _add_namespace(hub)
        _sysctl(hub, "net.ipv4.ip_forward=1")
        for number, host in enumerate(self.hosts, 1):
            port = f"port{number}"
            _ip("link", "add", "eth0", "netns", host.namespace, "type", "veth", "peer", "name", port, "netns", hub)
            _ip("-n", hub, "link", "set", port, "up")
            _ip("-n", hub, "addr", "add", f"{SUBNET}.254/32", "dev", port)
            _ip("-n", hub, "route", "add", f"{host.address}/32", "dev", port)
            # The hub answers ARP for every other host at once: to the hosts it looks like one Ethernet.
            _sysctl(hub, f"net.ipv4.conf.{port}.proxy_arp=1", f"net.ipv4.neigh.{port}.proxy_delay=0")
            _sysctl(hub, f"net.ipv4.conf.{port}.send_redirects=0")
            self._configure(host)

    @staticmethod
    def lead_nowhere(host: Host, interface: str = "outside") -> None:
        """Give the host default routes through a cable that ends nowhere: what would leave shows on ``interface``."""
        name = host.namespace
        _ip("-n", name, "link", "add", interface, "arp", "off", "type", "veth", "peer", "name", "nowhere")
        # The kernel's own chatter on a new IPv6 link (solicitations, reports) would look like ours.
        quiet = (f"net.ipv6.conf.{interface}.{what}=0" for what in ("router_solicitations", "accept_ra", "accept_dad"))
        _sysctl(name, *quiet, f"net.ipv6.conf.{interface}.addr_gen_mode=1", "net.ipv6.conf.nowhere.disable_ipv6=1")
        _ip("-n", name, "addr", "add", "198.51.100.2/24", "dev", interface)
        _ip("-n", name, "addr", "add", "2001:db8::2/64", "dev", interface, "nodad")
        _ip("-n", name, "link", "set", "nowhere", "up")
        _ip("-n", name, "link", "set", interface, "up")
        _ip("-n", name, "route", "add", "default", "via", "198.51.100.1")
        _ip("-n", name, "-6", "route", "add", "default", "via", "2001:db8::1", "dev", interface)

    @staticmethod
    def _configure(host: Host) -> None:
        # A link-local address that is still being checked for doubles cannot be spoken from, for a second or two.
        _sysctl(host.namespace, "net.ipv6.conf.eth0.accept_dad=0")
        _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _ip("-n", host.namespace, "link", "set", "eth0", "up")

    def close(self) -> None:
        """End every program that still runs here, then remove the namespaces (their links go with them)."""
        for host in self.hosts:
            host.stop_all()
        for namespace in [host.namespace for host in self.hosts] + ([self._hub] if self._hub else []):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _add_namespace(name: str) -> None:
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _sysctl(namespace: str, *settings: str) -> None:
    for setting in settings:
        key, _, value = setting.partition("=")
        _ip("netns", "exec", namespace, "sh", "-c", f"echo {value} > /proc/sys/{key.replace('.', '/')}")


def _sweep() -> None:
    """Remove namespaces of runs whose process no longer exists."""
    folder = Path("/run/netns")
    for entry in folder.iterdir() if folder.is_dir() else ():
        found = re.fullmatch(r"unchoke-(\d+)-\d+-(?:\d+|hub)", entry.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            subprocess.run(["ip", "netns", "del", entry.name], capture_output=True, check=False)
