"""A home as three namespaces: a machine, its router (nftables, miniupnpd) and somebody outside; nothing leads further.

    machine 192.168.77.2, 2001:db8:77::2 — router 192.168.77.1, 2001:db8:77::1 | 198.18.7.1 — outside 198.18.7.9, 2001:db8:99::9

The router's firewall lets nobody in but through what miniupnpd opens. 9.9.9.9 is only the label that the router gives as its address
outside: the program insists on a public one. No packet goes there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from interop.hosts import Host, Network, missing
from interop.program import Program

LABEL = "9.9.9.9"
WAN = "198.18.7.1"
MACHINE6 = "2001:db8:77::2"
ROUTER6 = "fe80::77:1"

_FIREWALL = """
table inet filter {
    chain miniupnpd {
    }
    chain prerouting_miniupnpd {
    }
    chain postrouting_miniupnpd {
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "lan" accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        jump miniupnpd
    }
    chain prerouting {
        type nat hook prerouting priority -100; policy accept;
        jump prerouting_miniupnpd
    }
    chain postrouting {
        type nat hook postrouting priority 100; policy accept;
        jump postrouting_miniupnpd
    }
    chain input {
        type filter hook input priority 0; policy accept;
    }
}
"""

_DAEMON = f"""
ext_ifname=wan
ext_ip={LABEL}
listening_ip=lan
http_port=5000
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
uuid=7d1a4a52-0a3c-4c5e-9d6e-6b8f3a1c2e4d
allow 1024-65535 192.168.77.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


def missing_home() -> str | None:
    """Why there can be no such home here; None when there can."""
    for program, package in (("miniupnpd", "miniupnpd-nftables"), ("nft", "nftables")):
        if shutil.which(program) is None:
            return f"the program {program} ({package}) is not installed"
    return missing()


class Home(Network):
    """``with Home(folder) as home``: ``machine``, ``router`` and ``outside`` are ``Host``s."""

    def __init__(self, folder: Path) -> None:
        super().__init__(3)
        self.machine, self.router, self.outside = self.hosts
        self.machine.address, self.router.address, self.outside.address = "192.168.77.2", "192.168.77.1", "198.18.7.9"
        self._folder = folder

    def __enter__(self) -> Home:
        super().__enter__()
        return self

    def _join_by_hub(self, hub: str) -> None:
        self._join("eth0", self.machine, "lan")
        self._join("eth0", self.outside, "wan")
        _set_up(self.machine, "eth0", "192.168.77.2/24", f"{MACHINE6}/64")
        _set_up(self.router, "lan", "192.168.77.1/24", "2001:db8:77::1/64", f"{ROUTER6}/64")
        _set_up(self.router, "wan", f"{WAN}/24", "2001:db8:99::1/64")
        _set_up(self.outside, "eth0", "198.18.7.9/24", "2001:db8:99::9/64")
        for host, via, via6 in (
            (self.machine, "192.168.77.1", ROUTER6),  # a home router announces itself by its address of the link
            (self.outside, WAN, "2001:db8:99::1"),
        ):
            host.run(["ip", "route", "add", "default", "via", via])
            host.run(["ip", "-6", "route", "add", "default", "via", via6, "dev", "eth0"])
        for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.router.run(["sh", "-c", f"echo 1 > /proc/sys/net/{setting}"])
        rules = self._folder / "rules.nft"
        rules.write_text(_FIREWALL)
        self.router.run(["nft", "-f", str(rules)])

    def _join(self, name: str, host: Host, port: str) -> None:
        pair = ["link", "add", port, "type", "veth", "peer", "name", name, "netns", host.namespace]
        self.router.run(["ip", *pair])

    def start_daemon(self) -> Program:
        """miniupnpd on the router; returns when it listens."""
        settings = self._folder / "miniupnpd.conf"
        settings.write_text(_DAEMON)
        pid = self._folder / "miniupnpd.pid"
        daemon = self.router.start(["miniupnpd", "-d", "-f", str(settings), "-P", str(pid)], "miniupnpd")
        daemon.wait_line("Listening for NAT-PMP/PCP")
        return daemon

    def refuse(self, rule: str) -> None:
        """Packets to the router that are dropped, as an nftables match."""
        self.router.run(["nft", "add", "rule", "inet", "filter", "input", *rule.split(), "drop"])

    def openings(self, port: int) -> list[str]:
        """The router's rules that name this port."""
        listed = self.router.run(["nft", "list", "ruleset"]).splitlines()
        return [line.strip() for line in listed if f"dport {port} " in line]


def _set_up(host: Host, interface: str, *addresses: str) -> None:
    for address in addresses:
        nodad = ["nodad"] if ":" in address else []
        host.run(["ip", "addr", "add", address, "dev", interface, *nodad])
    host.run(["ip", "link", "set", interface, "up"])
