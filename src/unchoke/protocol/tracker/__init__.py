"""Tracker codecs: one set of models (``models``), spoken over HTTP (``http``) and UDP (``udp``)."""
