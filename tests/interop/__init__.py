"""Real BitTorrent programs of other people, and the little networks they run in."""
