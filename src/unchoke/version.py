"""The version, alone in a file so that the build reads it without importing anything."""

VERSION = "0.1.0"

#: What trackers, web seeds and peers are told (``User-Agent`` and BEP 10 ``v``).
USER_AGENT = "unchoke/" + ".".join(VERSION.split(".")[:2])

#: Azureus-style prefix of our peer ids (BEP 20): two letters, four version digits.
PEER_ID_PREFIX = b"-UK" + "".join(f"{int(part):x}" for part in VERSION.split(".")[:3]).ljust(4, "0").encode() + b"-"
