"""Masking: how much of a tracker's or web seed's URL may be shown: a private tracker's path and query are its user's password.

Errors, reasons, events for people and logs at INFO and above show ``masked`` URLs; the API and DEBUG show them whole.
"""

from __future__ import annotations

import re

#: Parts of a tracker's path that say nothing about who asks; every other part may be a key.
_PLAIN_PART = re.compile(r"(announce|scrape|tracker)(\.php)?", re.ASCII)

#: Parts and values of a URL shorter than this are no keys (the shortest in use have 16 characters), and may be a word of a sentence.
_SHORTEST_KEY = 8


def masked(url: str) -> str:
    """``url`` fit to show: without user, password, query, and any part of the path that may be a key.

    ``https://t.example/…/announce?…`` shows that something was left out. About 120 characters at most; never raises.
    """
    scheme, mark, rest = url.partition("://")
    if not mark or not scheme.isalnum():
        return "…"
    rest, query, _ = rest.partition("#")[0].partition("?")
    authority, slash, path = rest.partition("/")
    host = "".join(c for c in authority.rpartition("@")[2] if c.isprintable())
    parts = [part if not part or _PLAIN_PART.fullmatch(part) else "…" for part in path.split("/")]
    hidden = "?…" if query else ""
    return f"{scheme[:8]}://{host[:80]}{slash}{_squeezed(parts)}{hidden}"


def _squeezed(parts: list[str]) -> str:
    """What is left out one after another is left out once."""
    kept = [part for at, part in enumerate(parts) if part != "…" or not at or parts[at - 1] != "…"]
    return "/".join(kept[:4])


def scrubbed(words: str, url: str) -> str:
    """``words`` that are about ``url``, without its secrets: some trackers repeat a key that they refuse."""
    for secret in sorted(_secrets(url), key=len, reverse=True) if "://" in url else ():
        words = words.replace(secret, "…")
    return words


def _secrets(url: str) -> set[str]:
    authority, _, rest = url.partition("://")[2].partition("/")
    parts = re.split(r"[/?&=;#]", rest) + re.split(r"[:@]", authority.rpartition("@")[0])
    return {part for part in parts if len(part) >= _SHORTEST_KEY and not _PLAIN_PART.fullmatch(part)}
