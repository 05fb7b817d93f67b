"""`manage.py worker`: runs background tasks. Any number can run, on any machines that share the database."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import connection
from django.utils.module_loading import import_string

from runsadmin.engine.worker import WorkerProcess, lanes_for_all_queues
from runsadmin.errors import WrongSchema
from runsadmin.management.base import fail_if_database_failed
from runsadmin.services import schema


class Command(BaseCommand):
    help = (
        "Runs background tasks and enqueues recurring ones. On SIGTERM or Ctrl-C it lets its requests in flight end; "
        "a second signal ends it at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--lane",
            action="append",
            metavar="QUEUE[,QUEUE]",
            help="Queues from which one thread takes tasks, one at a time. Repeat the option for more threads "
            "(default: one thread for each queue in settings.TASKS).",
        )
        parser.add_argument(
            "--schedule", default="runsadmin.tasks.SCHEDULE", help="Dotted path of the schedule (default: %(default)s)."
        )
        parser.add_argument(
            "--poll-every", type=float, default=0.25, help="Seconds between polls for tasks (default: %(default)s)."
        )
        parser.add_argument(
            "--beat-every", type=float, default=2, help="Seconds between two heartbeats (default: %(default)s)."
        )
        parser.add_argument(
            "--dead-after",
            type=float,
            default=10,
            help="Seconds without a heartbeat after which a worker's tasks are requeued (default: %(default)s).",
        )
        parser.add_argument(
            "--nice",
            type=int,
            choices=range(20),
            default=0,
            metavar="N",
            help="Lowers the worker's CPU priority by up to 19, to keep web processes fast (default: %(default)s).",
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except DatabaseError as error:
            fail_if_database_failed(error)
            raise

    def handle(self, **options: Any) -> None:
        if options["dead_after"] < 3 * options["beat_every"]:
            raise CommandError("--dead-after must be at least three times --beat-every: a heartbeat may be late.")
        if not options["skip_checks"]:
            require_current_schema()
        if options["nice"]:
            lower_priority(options["nice"])
        lanes = [lane.split(",") for lane in options["lane"] or ()] or lanes_for_all_queues()
        WorkerProcess(
            schedule=import_string(options["schedule"]),
            lanes=lanes,
            poll_every=options["poll_every"],
            beat_every=options["beat_every"],
            dead_after=options["dead_after"],
        ).run()


def require_current_schema() -> None:
    """Raises CommandError if the schema does not match the code: a worker must not act on rows of another version."""
    try:
        schema.require_current()
    except WrongSchema as error:
        raise CommandError(str(error)) from None
    connection.close()


def lower_priority(niceness: int) -> None:
    os.nice(niceness)
    if os.getsid(0) == os.getpid():
        # Linux first divides the CPU among sessions, whatever the niceness of their processes: set that of the session.
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))
