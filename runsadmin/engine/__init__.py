"""The background engine: Django's Tasks API on django-tasks-db, and what that leaves out.

`worker` runs tasks, `heartbeat` finds the tasks of workers that died, `schedule` enqueues what recurs.
Why it is made this way: docs/decisions/0002-background-engine.md.
"""

import threading

# Set once this process was asked to end. A task that may take long looks at it between two items and returns early;
# whoever stops the worker (honcho, systemd, an orchestrator) waits a few seconds only before it kills.
stopping = threading.Event()
