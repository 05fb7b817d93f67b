"""A mirror of what the quick upstream holds, a plan over it, and workers that are ready."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth.models import User

from bench.push import stopping
from bench.upstream import a_run
from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, Thread, Worker
from runsadmin.services import bulk_edits, clock, runs
from runsadmin.upstream.records import RunRecord


def planned(*, threads: int, runs_per_thread: int) -> BulkEdit:
    actor = User.objects.create_superuser("bench")
    now = clock.now()
    for t in range(threads):
        thread = Thread.objects.create(connection="default", upstream_id=f"thread_{t:06}")
        records = [
            RunRecord.read(
                a_run(thread.upstream_id, f"run_{t:06}_{r:04}", 1_760_000_000 - r), thread_id=thread.upstream_id
            )
            for r in range(runs_per_thread)
        ]
        runs.store(thread, records, asked_at=now, answered_at=now)
    chosen = bulk_edits.by_search("metadata.team:search")
    bulk_edit = bulk_edits.plan(chosen=chosen, patch=BulkPatch({"team": "red"}), actor=actor, reason="benchmark")
    return bulk_edits.go_on_planning(bulk_edit, until=float("inf"))


@contextmanager
def workers(number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    command = [sys.executable, "manage.py", "worker"]
    with stopping([subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(number)]) as started:
        while Worker.objects.count() < number:
            time.sleep(0.1)
        time.sleep(3)  # Until they are idle.
        yield started
