"""One announce over each address family that a tracker's name has and we speak (BEP 7), as if it were one.

The first family that answers decides; the other is given a moment more, so that a machine whose IPv6 leads nowhere does not
wait for it. Replies are joined, failures count only if there is nothing else.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine, Sequence
from typing import Any

from unchoke.errors import TrackerError, UnchokeError
from unchoke.protocol.tracker.models import AnnounceReply
from unchoke.types import Address

#: Seconds the slower family gets once the faster one has answered.
GRACE = 2.0


def one_of_each_family(addresses: Sequence[Address]) -> list[Address]:
    """The best address of each family, in order."""
    found: dict[bool, Address] = {}
    for address in addresses:
        found.setdefault(":" in address.host, address)
    return list(found.values())


async def announce_over_families(announces: Sequence[Coroutine[Any, Any, AnnounceReply]]) -> AnnounceReply:
    """Run them at once and join what they bring. If all fail, raises a tracker's own words before a failure to reach it.

    Cancelling this cancels all of them; none outlives the call.
    """
    if len(announces) == 1:
        return await announces[0]
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(announce) for announce in announces]
    try:
        pending: set[asyncio.Task[AnnounceReply]] = set(tasks)
        while pending and not any(_has_answer(task) for task in tasks):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending:
            await asyncio.wait(pending, timeout=GRACE)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return _joined(tasks)


def _has_answer(task: asyncio.Task[AnnounceReply]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _joined(tasks: Sequence[asyncio.Task[AnnounceReply]]) -> AnnounceReply:
    replies = [task.result() for task in tasks if _has_answer(task)]
    if not replies:
        errors = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
        errors.sort(
            key=lambda error: (isinstance(error, UnchokeError), not isinstance(error, TrackerError))
        )  # bugs first
        raise errors[0] if errors else TrackerError("no answer", kind="timeout")
    first, *others = replies
    if not others:
        return first
    peers = dict.fromkeys(peer for reply in replies for peer in reply.peers)
    return dataclasses.replace(first, peers=tuple(peers))
