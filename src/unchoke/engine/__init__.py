"""The engine: session ▸ torrent ▸ swarm ▸ peer. asyncio lives here and nowhere below. See docs/architecture.md."""
