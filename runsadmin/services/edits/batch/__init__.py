"""Pushes many edits of one connection at once.

One thread, the coordinator, uses the database: it claims edits, decides what to write, and stores intents and outcomes
in blocks. A pool of threads makes all calls to upstream, including probes, and does not use the database. Therefore
the coordinator never waits for the network, and always renews its leases in time.
"""

from runsadmin.services.edits.batch.pushing import push_due
