"""Web seeds (BEP 19): a torrent's web servers, and the connections over which they give; ``WebSeeds`` is the door to them."""

from __future__ import annotations

from unchoke.engine.webseed.fetcher import Fetcher
from unchoke.engine.webseed.seed import WebSeed
from unchoke.engine.webseed.seeds import WebSeeds

__all__ = ["Fetcher", "WebSeed", "WebSeeds"]
