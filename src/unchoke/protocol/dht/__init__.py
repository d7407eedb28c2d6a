"""The DHT (BEP 5) without its socket: messages (``krpc``), one node of one address family (``node``), and the parts of it."""
