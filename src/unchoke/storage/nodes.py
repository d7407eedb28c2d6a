"""Saved nodes: what of the DHT outlives a run: our ids, and nodes to begin with; one small file in the cache folder.

It is a cache: a file that is missing, unreadable or damaged is as good as an empty one, and each entry that makes no sense is passed
over. It is replaced whole, so that of several programs that share a folder the last to end wins, and a kill leaves the old one.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unchoke.storage.base import storage_error
from unchoke.types import Address

log = logging.getLogger(__name__)

#: Nodes kept of one family. Eight answer for a bootstrap; of nodes a week old about one in five still does.
MAX_NODES = 400
#: Bytes read of a file. Two families of ``MAX_NODES`` have about 45 kB.
_MAX_FILE = 512 * 1024
_VERSION = 1
FAMILIES = (4, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedNodes:
    """One family's. ``node_id``: our id, 20 bytes, empty: none. ``external``: our address as others saw it, to which the id was made
    (BEP 42); empty: nobody had said."""

    node_id: bytes = b""
    external: str = ""
    nodes: tuple[Address, ...] = ()


def load_nodes(path: str) -> dict[int, SavedNodes]:
    """What was saved, by family (4, 6), at most ``MAX_NODES`` nodes in each. Never raises: what cannot be read is not there."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.info("! cannot read %s: %s", path, error)
        return {}
    try:
        content = json.loads(data) if len(data) <= _MAX_FILE else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        log.info("! %s is damaged, or another version's; nodes are looked for anew", path)
        return {}
    return {family: _family(content.get(f"ipv{family}"), family) for family in FAMILIES}


def save_nodes(path: str, saved: Mapping[int, SavedNodes]) -> None:
    """Replace the file; its folder is made if need be. Raises StorageError, with the old file as it was."""
    content: dict[str, object] = {"version": _VERSION}
    for family, one in saved.items():
        nodes = [str(address) for address in one.nodes[:MAX_NODES]]
        content[f"ipv{family}"] = {"id": one.node_id.hex(), "external": one.external, "nodes": nodes}
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _replace(path, folder, json.dumps(content, indent=1).encode("ascii"))
    except OSError as error:
        raise storage_error(error, "write", path) from error


def _replace(path: str, folder: str, data: bytes) -> None:
    handle, part = tempfile.mkstemp(prefix=".nodes-", suffix=".part", dir=folder)
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def _family(content: object, family: int) -> SavedNodes:
    if not isinstance(content, dict):
        return SavedNodes()
    return SavedNodes(
        node_id=_maybe_id(content.get("id")),
        external=_maybe_host(content.get("external"), family),
        nodes=tuple(dict.fromkeys(_addresses(content.get("nodes"), family))),
    )


def _addresses(content: object, family: int) -> Iterator[Address]:
    if not isinstance(content, list):
        return
    for text in content[:MAX_NODES]:
        if not isinstance(text, str):
            continue
        host, _, port = text.rpartition(":")
        host = _maybe_host(host.removeprefix("[").removesuffix("]"), family)
        if host and port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536:
            yield Address(host, int(port))


def _maybe_id(value: object) -> bytes:
    try:
        found = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        return b""
    return found if len(found) == 20 else b""


def _maybe_host(value: object, family: int) -> str:
    """A literal address of the family in its usual form, or nothing."""
    try:
        found = ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return ""
    return str(found) if found is not None and found.version == family and "%" not in str(found) else ""
