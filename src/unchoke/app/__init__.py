"""Faces on the engine: the command line, and later the daemon and its user interfaces."""
