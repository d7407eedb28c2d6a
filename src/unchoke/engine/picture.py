"""Picture: a torrent's snapshot, taken from it and from whatever of it is live at the moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unchoke.engine.reasons import Source as Told
from unchoke.engine.reasons import span
from unchoke.engine.stats import TorrentSnapshot
from unchoke.errors import StorageError
from unchoke.masking import masked

if TYPE_CHECKING:
    from unchoke.engine.swarm import Swarm
    from unchoke.engine.torrent import Torrent

#: How a torrent that stands still came to.
_STOPPED_BY = {
    "stopped by its user": "user",
    "not started yet": "",
    "verified": "user",
    "the session closed it": "session",
}


def picture(torrent: Torrent, now: float) -> TorrentSnapshot:
    """What is now. No I/O, no walk over pieces."""
    row, contents, have, swarm = torrent.row, torrent.contents, torrent.have, torrent.swarm
    ledger, held = torrent.ledger, torrent.held
    live: dict[str, Any] = {"done": 0, "pieces_done": 0, "seeds": 0}
    if swarm is not None:
        live |= _live(torrent, now)
    if not torrent.has_metainfo:
        live |= _seeking(torrent)
    if have is not None and contents is not None:
        live["done"] = contents.bytes_of(have & contents.wanted if torrent.options.files is not None else have)
        live["pieces_done"] = have.count(1)
    elif row.complete and contents is None:  # it sleeps, or was never opened
        live["done"], live["pieces_done"] = torrent.wanted_bytes, row.piece_count
    room = contents.room if contents is not None else None
    short = torrent.state == "no space" or (torrent.state == "downloading" and room is not None)
    return TorrentSnapshot(
        infohash=torrent.infohash,
        name=row.name,
        now=now,
        state=torrent.state,
        reason=torrent.reason,
        wanted=torrent.wanted_bytes,
        piece_count=row.piece_count,
        checked=contents.checked if contents is not None else 0.0,
        downloaded=ledger.downloaded,
        uploaded=ledger.uploaded,
        wasted=ledger.wasted,
        corrupt=ledger.corrupt + (swarm.intake.corrupt if swarm is not None else 0),
        active_time=ledger.active_time(now),
        seeding_time=ledger.seeding_time(now),
        added_at=row.added_at,
        completed_at=row.completed_at,
        forced=torrent.options.forced,
        position=row.position,
        queued_behind=held.ahead if held is not None else 0,
        queue_limit=held.limit if held is not None else "",
        checks_ahead=int(contents is not None and contents.waits_for_turn),
        space_free=room.free if short and room is not None else None,
        space_needed=room.missing if short and room is not None else None,
        space_path=row.folder,
        stopped_by="" if torrent.state != "stopped" else _STOPPED_BY.get(torrent.reason, "goal"),
        error_kind="storage" if isinstance(torrent.error, StorageError) else "",
        error_since=torrent.error_since if torrent.error is not None else None,
        retry_at=torrent.retry_at if torrent.error is not None and torrent.retry_at > now else None,
        ratio_goal=torrent.goals.ratio,
        trackers=torrent.trackers.snapshot(),
        told=(*torrent.told(now), *_web_seeds(swarm, now)),
        **live,
    )


def _web_seeds(swarm: Swarm | None, now: float) -> tuple[Told, ...]:
    """What the web servers said that have the data."""
    if swarm is None or swarm.web_seeds is None:
        return ()
    found = []
    for seed in swarm.web_seeds.snapshot():
        said = {"busy": "is sending", "idle": "is ready"}.get(seed.status, f"failed: {seed.error}")
        next_in = max(0.0, seed.next_try - now) if seed.status == "waiting" else None
        said += f" (again in {span(next_in)})" if next_in is not None else ""
        found.append(Told("web seed", masked(seed.url), said, None, next_in))
    return tuple(found)


def _seeking(torrent: Torrent) -> dict[str, Any]:
    """How far the search for its metainfo has come."""
    if torrent.seeker is None:
        return {"metadata": (0, 0)}
    swarm = torrent.seeker.swarm
    progress = swarm.progress
    return {
        "metadata": (progress.received, progress.size or 0),
        "metadata_trouble": progress.trouble,
        "offering": progress.offering,
        "peers": len(swarm.peers),
        "known_peers": len(swarm.peerlist),
        "dialing": swarm.dialing,
        "last_refusal": swarm.last_refusal,
    }


def _live(torrent: Torrent, now: float) -> dict[str, Any]:
    """What only a swarm knows."""
    swarm = torrent.swarm
    assert swarm is not None
    peers, intake = swarm.peers, swarm.intake
    down_rate = intake.rate.rate(now) if torrent.state == "downloading" else 0.0
    up_rate = swarm.up_rate.rate(now)
    limited_by, up_limited_by = swarm.held_by(now)
    limits = torrent.session_limits
    return {
        "down_rate": down_rate,
        "up_rate": up_rate,
        "limited_by": limited_by,
        "limit": torrent.options.down if limited_by == "torrent" else limits[0],
        "up_limited_by": up_limited_by,
        "up_limit": torrent.options.up if up_limited_by == "torrent" else limits[1],
        "peers": len(peers),
        "web_seeds": sum(seed.status == "busy" for seed in swarm.web_seeds.snapshot()) if swarm.web_seeds else 0,
        "seeds": sum(peer.download.has_all for peer in peers),
        "known_peers": len(swarm.peerlist),
        "dialing": swarm.dialing,
        "unchoked_by": sum(not peer.wire.they_choke for peer in peers),
        "interesting": sum(peer.wire.we_interested for peer in peers),
        "snubbed": sum(peer.download.pipeline.snubbed for peer in peers),
        "wanting": sum(peer.wire.they_interested for peer in peers),
        "serving": sum(not peer.wire.we_choke for peer in peers),
        "limited": swarm.down.available(now) <= 0,
        "verifying": intake.is_verifying,
        "disk_waits": intake.disk.refused,
        "last_refusal": swarm.last_refusal,
    }
