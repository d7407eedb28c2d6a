"""Sources: what a session may be given to add, and what becomes of it: a metainfo, or a magnet link that says where to ask for one."""

from __future__ import annotations

import logging
import os
from typing import Any

from unchoke.engine.named import written
from unchoke.engine.net.http import HttpClient
from unchoke.engine.parsing import MOST_METAINFO, Source, parse_kept, read_metainfo
from unchoke.engine.resume import Resume
from unchoke.engine.tasks import Executor, on_thread
from unchoke.errors import MetainfoError, StorageError
from unchoke.protocol.magnet import Magnet, is_magnet, maybe_infohash
from unchoke.protocol.metainfo import Metainfo

log = logging.getLogger(__name__)

#: Seconds that fetching a .torrent file by its URL may take.
FETCH_TIMEOUT = 60.0


async def find(source: Source | Magnet, http: HttpClient, executor: Executor | None) -> Metainfo | Magnet:
    """What the source is; a path that exists is one. Raises MetainfoError, MagnetError, NotFoundError, NetworkError, StorageError."""
    if isinstance(source, Magnet):
        return source
    if isinstance(source, str):
        if is_magnet(source):
            return Magnet.parse(source)
        if source.lower().startswith(("http://", "https://")):
            return await fetch(source, http, executor)
        infohash = maybe_infohash(source)
        if infohash is not None and not await on_thread(executor, os.path.lexists, source):
            return Magnet(infohash_v1=infohash) if len(infohash) == 20 else Magnet(infohash_v2=infohash)
    return await on_thread(executor, read_metainfo, source)


async def fetch(url: str, http: HttpClient, executor: Executor | None) -> Metainfo:
    """The .torrent file at an http(s) URL. Raises NotFoundError (404, 410), NetworkError, MetainfoError."""
    reply = await http.fetch(url, max_size=MOST_METAINFO, timeout=FETCH_TIMEOUT)
    body = reply.checked().body
    try:
        return await on_thread(executor, read_metainfo, body)
    except MetainfoError as error:
        raise MetainfoError(f"{url}: {error}") from None


async def kept(magnet: Magnet, resume: Resume, executor: Executor | None) -> Metainfo | None:
    """What peers told an earlier run of this torrent, in whatever folder."""
    try:
        data = await resume.metainfo((bytes(magnet.infohash), ""))
        metainfo = await on_thread(executor, parse_kept, data) if data else None
    except (StorageError, MetainfoError) as error:
        log.info("! the metadata of %s that was kept is of no use: %s", magnet.infohash, error)
        return None
    return metainfo if metainfo is not None and metainfo.infohash == magnet.infohash else None


def ranges(magnet: Magnet) -> str:
    """The files it selects, as options keep them."""
    return ",".join(f"{part[0]}-{part[-1]}" for part in magnet.select or ())


def hints(magnet: Magnet) -> dict[str, Any]:
    """What a magnet link says besides, as options keep it."""
    return {
        "web_seeds": magnet.web_seeds,
        "peers": written(magnet.peers),
        "infohash_v2": magnet.infohash_v2.hex() if magnet.infohash_v2 is not None else "",
    }
