"""What is printed and kept: minimum, median and maximum of each series, the ratios, and the same as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import MIB, Run

GIB = 1 << 30


@dataclass
class Series:
    """All runs of one program in one case. ``seeder_cpu``: seconds the other side used in each run, where measured."""

    case: str
    name: str
    size: int
    runs: list[Run] = field(default_factory=list)
    seeder_cpu: list[float] = field(default_factory=list)
    seeder_rss: int = 0

    @property
    def wall(self) -> float:
        return statistics.median(run.wall for run in self.runs)

    @property
    def cpu_per_gib(self) -> float:
        return statistics.median(run.cpu for run in self.runs) * GIB / self.size

    @property
    def seeder_cpu_per_gib(self) -> float:
        return statistics.median(self.seeder_cpu) * GIB / self.size

    @property
    def rss(self) -> int:
        return max(run.rss for run in self.runs)

    def row(self) -> str:
        walls = [run.wall for run in self.runs]
        line = f"{self.name:<26}{min(walls):8.2f}{self.wall:8.2f}{max(walls):8.2f}"
        line += f"{self.size / MIB / self.wall:9.0f}{self.cpu_per_gib:10.2f}{self.rss / MIB:9.0f}"
        if self.seeder_cpu:
            line += f"{self.seeder_cpu_per_gib:12.2f}{self.seeder_rss / MIB:11.0f}"
        return line

    def as_json(self) -> dict[str, object]:
        walls = [run.wall for run in self.runs]
        found: dict[str, object] = {
            "case": self.case,
            "name": self.name,
            "size": self.size,
            "wall": {"min": min(walls), "median": self.wall, "max": max(walls), "all": walls},
            "mib_per_s": self.size / MIB / self.wall,
            "cpu_s_per_gib": self.cpu_per_gib,
            "peak_rss": self.rss,
        }
        if self.seeder_cpu:
            found["seeder"] = {"cpu_s_per_gib": self.seeder_cpu_per_gib, "peak_rss": self.seeder_rss}
        return found


def table(case: str, about: str, series: list[Series]) -> str:
    head = f"{'':<26}{'min s':>8}{'median':>8}{'max':>8}{'MiB/s':>9}{'CPU s/GiB':>10}{'RSS MiB':>9}"
    if any(one.seeder_cpu for one in series):
        head += f"{'seeder CPU':>12}{'seeder RSS':>11}"
    lines = [f"{case}: {about}", head, *(one.row() for one in series)]
    return "\n".join(lines + ratios(series))


def ratios(series: list[Series]) -> list[str]:
    """Ours over each of the others: below 1 we are better."""
    first, lines = series[0], []
    for other in series[1:]:
        line = f"  {first.name} / {other.name}: wall {first.wall / other.wall:.2f}×"
        line += f", CPU {first.cpu_per_gib / max(other.cpu_per_gib, 1e-9):.2f}×, RSS {first.rss / other.rss:.2f}×"
        if first.seeder_cpu and other.seeder_cpu:
            line += f", seeder CPU {first.seeder_cpu_per_gib / max(other.seeder_cpu_per_gib, 1e-9):.2f}×"
        lines.append(line)
    return lines


def machine() -> dict[str, object]:
    return {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}


def write_json(path: Path, series: list[Series]) -> None:
    path.write_text(json.dumps({"machine": machine(), "series": [one.as_json() for one in series]}, indent=1) + "\n")
