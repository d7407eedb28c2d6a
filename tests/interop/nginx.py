"""nginx as a web seed: one process, its own folder for everything, no service of the machine."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from interop.hosts import Host
from interop.program import Program

PORT = 8080
_CONFIG = """
daemon off;
master_process off;
pid {home}/pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log {home}/asked;
    sendfile on;
    tcp_nopush on;
    {temporary}
    server {{ listen {address}:{port}; root {root}; {more} }}
}}
"""


def missing() -> str | None:
    """Why there is no nginx; None when there is one."""
    return None if shutil.which("nginx") else "the program nginx is not installed"


class Nginx:
    """Serves the files below ``root``. ``more``: words of its configuration, inside the server."""

    def __init__(self, host: Host, home: Path, root: Path, *, port: int = PORT, more: str = "") -> None:
        self.home = home
        self.url = f"http://{host.address}:{port}"
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        config = home / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                home=home,
                address=host.address,
                port=port,
                root=root,
                more=more,
                temporary=" ".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds),
            )
        )
        argv = ["nginx", "-p", str(home), "-c", str(config), "-e", "stderr"]
        self.program: Program = host.start(argv, "nginx")
        self.program.wait_listening(port)

    def asked(self) -> list[tuple[str, int]]:
        """(path, status) of each request that has ended."""
        lines = (self.home / "asked").read_text().splitlines()
        return [(found[1], int(found[2])) for line in lines if (found := re.search(r'"GET (\S+) [^"]*" (\d+)', line))]
