"""Choices: who is asked for what, who is served, when to announce. See README.md for what may not enter."""
