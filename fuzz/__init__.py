"""Fuzzing: everything that reads a stranger's bytes, fed with broken ones. ``python -m fuzz``."""
