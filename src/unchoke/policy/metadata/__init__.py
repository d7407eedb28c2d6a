"""Metadata: a torrent's info dictionary from peers that may claim any size and give any bytes (BEP 9)."""
