"""Prepares a mirror of the fast upstream, a planned bulk edit of all its runs, and idle workers."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth.models import User
from django.db import connection

from bench.child_processes import stopping
from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, Edit, Sync, Thread, Worker
from runsadmin.services import bulk_edits, syncs


def planned(*, threads: int) -> BulkEdit:
    actor = User.objects.create_superuser("bench")
    Thread.objects.bulk_create(
        Thread(connection="default", upstream_id=f"thread_{number:06}") for number in range(threads)
    )
    full = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=actor)
    syncs.run(full, until=float("inf"))
    selection = bulk_edits.by_search("metadata.team:search")
    bulk_edit = bulk_edits.plan(
        selection=selection, patch=BulkPatch({"team": "red"}), actor=actor, source=Edit.Source.ADMIN, reason="benchmark"
    )
    bulk_edit = bulk_edits.continue_planning(bulk_edit, until=float("inf"))
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")  # A server in use does this automatically within about a minute.
    return bulk_edit


@contextmanager
def workers(number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    command = [sys.executable, "manage.py", "worker"]
    with stopping([subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(number)]) as started:
        while Worker.objects.count() < number:
            time.sleep(0.1)
        time.sleep(3)  # By then, the workers are idle.
        yield started
