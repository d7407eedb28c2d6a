"""PortMapping: what has become of one port of ours in one router; kept by ``Side``."""

from __future__ import annotations

from unchoke.engine.portmap.igd import Opened, Opener
from unchoke.engine.portmap.records import MappingSnapshot, MappingStatus


class PortMapping:
    """What has become of one port. ``wished``: the port asked for outside, at first our own, then the one that was given."""

    __slots__ = (
        "check_at", "errors", "expires", "external", "external_port", "internal", "method", "opened", "opener", "renew_at",
        "status", "tcp", "wished",
    )  # fmt: skip

    def __init__(self, tcp: bool, internal: int) -> None:
        self.tcp = tcp
        self.internal = internal
        self.wished = internal
        self.status: MappingStatus = "asking"
        self.method = ""
        self.external_port: int | None = None
        self.external = ""
        self.errors: dict[str, str] = {}
        self.opener: Opener | None = None  # by UPnP
        self.opened: Opened | None = None
        self.renew_at: float | None = None
        self.expires: float | None = None
        self.check_at = 0.0

    @property
    def is_wanted(self) -> bool:
        """Neither mapped nor superfluous."""
        return self.status in ("asking", "failed")

    @property
    def error(self) -> str:
        return (
            "; ".join(f"{method}: {why}" for method, why in sorted(self.errors.items()))
            if self.status == "failed"
            else ""
        )

    @property
    def due(self) -> float:
        """When a mapping by UPnP is to be renewed or looked at."""
        return self.check_at if self.renew_at is None else min(self.check_at, self.renew_at)

    def granted(self, method: str, port: int, external: str) -> None:
        self.status, self.method = "mapped", method
        self.external_port = self.wished = port
        self.external = external
        self.errors.clear()

    def lost(self) -> None:
        self.status, self.method, self.external_port, self.external = "asking", "", None, ""
        self.opener = self.opened = self.renew_at = self.expires = None
        self.errors.clear()

    def snapshot(self, family: int, expires_in: float | None) -> MappingSnapshot:
        port, external = self.external_port, self.external
        return MappingSnapshot(
            family, self.tcp, self.status, self.internal, self.method, port, external, expires_in, self.error
        )

    def __repr__(self) -> str:
        return f"<PortMapping {'TCP' if self.tcp else 'UDP'} {self.internal} [{self.status} {self.method}]>"
