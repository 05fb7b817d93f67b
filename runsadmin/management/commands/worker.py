"""`manage.py worker`: runs background tasks. Any number can run, on any machines that share the database."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.module_loading import import_string

from runsadmin.engine.worker import WorkerProcess, lanes_for_all_queues


class Command(BaseCommand):
    help = "Run background tasks and the schedule until SIGTERM or Ctrl-C (twice: at once)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--lane",
            action="append",
            metavar="QUEUE[,QUEUE]",
            help="Queues that one loop takes tasks from, one task at a time; repeat it for more loops in this process "
            "(default: one loop for each queue of settings.TASKS).",
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
            help="Seconds of silence after which a worker's tasks are requeued (default: %(default)s).",
        )

    def handle(self, **options: Any) -> None:
        if options["dead_after"] < 3 * options["beat_every"]:
            raise CommandError("--dead-after must be at least three times --beat-every: a worker may be late once.")
        lanes = [lane.split(",") for lane in options["lane"] or ()] or lanes_for_all_queues()
        WorkerProcess(
            schedule=import_string(options["schedule"]),
            lanes=lanes,
            poll_every=options["poll_every"],
            beat_every=options["beat_every"],
            dead_after=options["dead_after"],
        ).run()
