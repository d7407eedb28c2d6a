"""Helpers of the engine's tests: tiny torrents, sessions on the loopback, and peers that say what a test wants."""
