"""Bytes: what BitTorrent programs say to each other, parsed and built. See README.md for what may not enter."""
