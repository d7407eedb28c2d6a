"""Files: where a torrent's bytes rest. See README.md for what may not enter."""
