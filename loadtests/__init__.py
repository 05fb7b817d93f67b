"""Crash storms, bulk edits with killed workers, and rate tests. `tests/crashes` has a small version of each."""
