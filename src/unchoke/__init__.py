"""unchoke: a complete BitTorrent client, engine and library.

The public names are loaded when they are first used (PEP 562), so that ``import unchoke`` and ``unchoke --version``
cost nothing. Everything below these names may change between versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unchoke.version import VERSION

if TYPE_CHECKING:
    from unchoke import errors
    from unchoke.engine.create import create_torrent
    from unchoke.engine.session import Session, download
    from unchoke.engine.settings import Settings
    from unchoke.engine.torrent import Torrent
    from unchoke.protocol.magnet import Magnet
    from unchoke.protocol.metainfo import Metainfo

__all__ = [
    "Session",
    "Torrent",
    "Settings",
    "Metainfo",
    "Magnet",
    "create_torrent",
    "download",
    "errors",
    "__version__",
]

__version__ = VERSION

_HOMES = {
    "Session": "unchoke.engine.session",
    "download": "unchoke.engine.session",
    "Torrent": "unchoke.engine.torrent",
    "Settings": "unchoke.engine.settings",
    "Metainfo": "unchoke.protocol.metainfo",
    "Magnet": "unchoke.protocol.magnet",
    "create_torrent": "unchoke.engine.create",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "errors":
        return import_module("unchoke.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
