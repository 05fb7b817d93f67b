"""Crash storms, bulk edits under kills and rate tests. Small versions of each are in `tests/crashes`."""
