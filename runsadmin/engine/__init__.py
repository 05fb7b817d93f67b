"""The background engine: Django's Tasks API on django-tasks-db, plus the features that it lacks.

`worker` runs tasks, `heartbeat` requeues the tasks of dead workers, `recurring` enqueues recurring tasks.
The reasons are in docs/decisions/0002-background-engine.md.
"""

import threading

# Set when this process is asked to stop. Long tasks check it between items and return early, since supervisors
# wait only a few seconds before they kill a process.
stopping = threading.Event()
