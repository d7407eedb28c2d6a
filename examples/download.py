"""Download a torrent with the library: add, follow, wait.

python examples/download.py ubuntu.torrent Downloads
"""

from __future__ import annotations

import asyncio
import sys

import unchoke
from unchoke.engine.events import PieceCompleted, TorrentCompleted


async def main(source: str, folder: str) -> None:
    async with unchoke.Session() as session:
        torrent = await session.add(source, folder=folder)

        async def follow() -> None:
            async for event in torrent.events():
                if isinstance(event, PieceCompleted):
                    now = torrent.snapshot()
                    print(f"piece {event.piece}: {100 * now.progress:.0f} % from {now.peers} peers")
                elif isinstance(event, TorrentCompleted):
                    return

        following = asyncio.create_task(follow())
        await torrent.done()
        following.cancel()
        print(f"{torrent.path} is complete")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "."))
