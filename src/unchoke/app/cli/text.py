"""Text for people and from people: sizes, rates, times and file numbers, printed and parsed; names of strangers made harmless.

Sizes are printed in binary units (KiB, MiB), rates in decimal ones (kB/s, MB/s), as the flags take them. The parsers raise
ValueError with a sentence; the ``click`` types around them turn that into a usage error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

T = TypeVar("T")

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]  # older versions of click have it not generic
else:
    ParamType = click.ParamType

#: Controls (C0, DEL, C1), what turns the direction of writing, and separators that some terminals break lines at.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Text from a stranger, fit for a terminal: on one line, no controls, nothing that turns or hides characters.

    Bytes that were no text (lone surrogates) show as U+FFFD.
    """
    return _LONE_SURROGATE.sub("\ufffd", _HARMFUL.sub("", text))


# printing


def format_size(size: float) -> str:
    """``"1.4 GiB"``; whole bytes below 1 KiB."""
    return _scaled(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))


def format_rate(rate: float) -> str:
    """``"2.1 MB/s"`` for bytes a second."""
    return _scaled(rate, 1000, ("B/s", "kB/s", "MB/s", "GB/s", "TB/s", "PB/s", "EB/s"))


def _scaled(value: float, base: int, units: tuple[str, ...]) -> str:
    if value < base:
        return f"{value:.0f} {units[0]}"
    number = 0
    while value >= base - 0.05 and number < len(units) - 1:  # 1023.96 would print as 1024.0
        value /= base
        number += 1
    return f"{value:.1f} {units[number]}"


def format_duration(seconds: float | None) -> str:
    """``"45s"``, ``"2m05s"``, ``"3h07m"``, ``"4d02h"``; ``"-"`` for None and for ever."""
    if seconds is None or not math.isfinite(seconds) or seconds > 1e9:
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


# parsing

_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([kmgtp]?)(i?)b?(/s)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)s?)?")
_NUMBERS = re.compile(r"([0-9]{1,9})(-?)([0-9]{0,9})")


def parse_size(text: str) -> int:
    """Bytes: ``"2M"`` and ``"2MB"`` are 2,000,000, ``"1Mi"`` and ``"1MiB"`` 1,048,576, a bare number bytes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]) or match[4]:
        raise ValueError(f"{clean(text)!r} is no size: write it like 500k, 2M, 1.5G (1000s) or 16Ki, 1MiB (1024s)")
    unit: int = (1024 if match[3] else 1000) ** _POWERS[match[2].lower()]
    return round(float(match[1]) * unit)


def parse_rate(text: str) -> int:
    """Bytes a second, written as a size, with or without ``/s``. 0 stands for no limit."""
    try:
        return parse_size(text.strip().removesuffix("/s"))
    except ValueError:
        raise ValueError(
            f"{clean(text)!r} is no rate: write it like 500k or 2M (bytes a second, 1000s), or 1Mi"
        ) from None


def parse_duration(text: str) -> float:
    """Seconds: ``"90"``, ``"45s"``, ``"30m"``, ``"1h30m"``, ``"2d"``."""
    match = _DURATION.fullmatch(text.strip().lower()) if text.strip() else None
    if match is None:
        raise ValueError(f"{clean(text)!r} is no time: write it like 90, 45s, 30m or 1h30m")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


def parse_selection(text: str) -> tuple[range, ...]:
    """File numbers as people count, from 1: ``"1-3,5,8-"`` becomes ranges of indexes from 0. An open end goes on for ever."""
    found: list[range] = []
    for part in text.split(","):
        match = _NUMBERS.fullmatch(part.strip())
        first = int(match[1]) if match else 0
        last = first if match and not match[2] else int(match[3] or 10**9) if match else 0
        if not 1 <= first <= last:
            raise ValueError(f"{clean(part)!r} are no file numbers: write them like 1-3,5 (counting from 1)")
        found.append(range(first - 1, last))
    return tuple(found)


def selected(ranges: Iterable[range], count: int) -> list[int]:
    """The file indexes (from 0) that ``ranges`` name, of ``count`` files. ValueError if one begins behind the last file."""
    chosen: set[int] = set()
    for part in ranges:
        if part.start >= count:
            raise ValueError(f"there is no file {part.start + 1}: the torrent has {count}")
        chosen.update(range(part.start, min(part.stop, count)))
    return sorted(chosen)


class Parsed(ParamType, Generic[T]):
    """A ``click`` type around a parser that raises ValueError."""

    def __init__(self, name: str, parser: Callable[[str], T]) -> None:
        self.name = name
        self.parser = parser

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value  # a default, parsed already
        try:
            return self.parser(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def parse_tracker(text: str) -> str:
    """A tracker or web seed URL, as it is; ValueError without a scheme and a host."""
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/?#]+\S*", text):
        raise ValueError(f"{clean(text)!r} is no URL: write it like http://tracker.example:6969/announce")
    return text


SIZE = Parsed("size", parse_size)
RATE = Parsed("rate", parse_rate)
DURATION = Parsed("time", parse_duration)
SELECTION = Parsed("numbers", parse_selection)
URL = Parsed("url", parse_tracker)
