"""`manage.py track_threads ID…`: tracks threads, so that syncs mirror their runs."""

from typing import Any

from django.core.management.base import CommandParser

from runsadmin import conf, id_lists
from runsadmin.errors import NotFound, Rejected
from runsadmin.management.base import ReportingCommand, actor_of, add_actor
from runsadmin.services import threads

INVALID_SHOWN = 20


class Command(ReportingCommand):
    help = "Tracks threads, so that syncs mirror their runs. Threads that are already tracked are not changed."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("thread_ids", nargs="*", metavar="ID", help="The upstream id of a thread.")
        parser.add_argument(
            "--from-file",
            metavar="FILE",
            help="A file with an id on each line, or a CSV file with a header line; - is standard input.",
        )
        parser.add_argument(
            "--listed", action="store_true", help="Track all threads that upstream lists. Few servers can list them."
        )
        parser.add_argument("--connection", metavar="ALIAS", help="Required if several are configured.")
        add_actor(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        connection = conf.default_upstream() if options["connection"] is None else options["connection"]
        if connection is None:
            known = " | ".join(conf.upstreams())
            self.fail(f"Several connections are configured. Name one: --connection {known}.")
        actor = actor_of(options["actor"])
        wanted = id_lists.from_arguments(options["thread_ids"])
        if options["from_file"] is not None:
            wanted += id_lists.read_file(options["from_file"], "thread")
        if options["listed"]:
            wanted += self._listed(connection)
        if not wanted:
            self.fail("Name the threads with ID…, --from-file FILE or --listed.")
        tracked = threads.track(connection=connection, thread_ids=wanted, actor=actor)
        shown = tracked.invalid[:INVALID_SHOWN]
        for thread_id in shown:
            self.warn(f"{thread_id[:60]!r} is not a valid thread id.")
        if (more := len(tracked.invalid) - len(shown)) > 0:
            self.warn(f"… and {more:,} more invalid {'id' if more == 1 else 'ids'}.", more)
        self.report_duplicates(tracked.duplicates)
        self.report(
            f"{len(tracked.added):,} now tracked, {len(tracked.already):,} already tracked.",
            connection=connection,
            added=tracked.added,
            already=tracked.already,
            invalid=tracked.invalid,
            duplicates=tracked.duplicates,
        )

    def _listed(self, connection: str) -> list[str]:
        try:
            return threads.listed_upstream(connection=connection)
        except (NotFound, Rejected):
            self.fail(f"The upstream of connection {connection!r} cannot list its threads. Name them instead.")
