"""`manage.py track_threads ID…`: has threads mirrored from now on."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from runsadmin.errors import NotFound, Rejected
from runsadmin.management.speech import SpeakingCommand, actor_of, add_actor, add_connection, connection_of
from runsadmin.services import threads


class Command(SpeakingCommand):
    help = "Tracks threads, so that syncs read their runs. Ids that are tracked already stay as they are."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("thread_ids", nargs="*", metavar="ID")
        parser.add_argument(
            "--from-file",
            metavar="FILE",
            help="Reads ids from a file, one a line; - is standard input.",
        )
        parser.add_argument("--listed", action="store_true", help="All that the upstream lists; few servers can.")
        add_connection(parser)
        add_actor(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        connection = connection_of(options["connection"])
        actor = actor_of(options["actor"])
        wanted = [*options["thread_ids"], *self._from_file(options["from_file"])]
        if options["listed"]:
            wanted += self._listed(connection)
        if not wanted:
            self.give_up("Name some threads: ID…, --from-file FILE or --listed.")
        tracked = threads.track(connection=connection, thread_ids=wanted, actor=actor)
        for thread_id in tracked.invalid:
            self.complain(f"{thread_id[:60]!r} cannot be the id of a thread.")
        self.say(
            f"{len(tracked.added)} now tracked, {len(tracked.already)} tracked already.",
            connection=connection,
            added=tracked.added,
            already=tracked.already,
            invalid=tracked.invalid,
        )

    def _from_file(self, name: str | None) -> list[str]:
        if name is None:
            return []
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            self.give_up(f"{name} cannot be read: {error}")
        return text.split()

    def _listed(self, connection: str) -> list[str]:
        try:
            return threads.listed_upstream(connection=connection)
        except (NotFound, Rejected):
            self.give_up(f"The upstream of connection {connection!r} cannot list its threads: name them.")
