"""The background engine: Django's Tasks API on django-tasks-db, and what that lacks.

`worker` runs tasks, `heartbeat` requeues the tasks of dead workers, `schedule` enqueues recurring tasks.
The reasons are in docs/decisions/0002-background-engine.md.
"""

import threading

# Set when this process is asked to end. Long tasks check it between two items and return early: supervisors wait only
# a few seconds before they kill.
stopping = threading.Event()
