"""Hypothesis strategies: what strangers may send, right, nearly right and wrong; for the tests and for fuzzing."""
