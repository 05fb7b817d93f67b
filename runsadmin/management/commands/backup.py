"""`manage.py backup FILE`: makes a checked copy of the database while everything runs."""

import signal
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from runsadmin.management.base import ReportingCommand
from runsadmin.services import backups


class Command(ReportingCommand):
    help = (
        "Makes a backup of the database. Other processes may use the database meanwhile. The file gets its name only "
        "when it is complete and checked. It is a database file for SQLite, and an archive of pg_dump for PostgreSQL. "
        "Only its owner can read it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", metavar="FILE", type=Path, help="The file to write, which must not exist.")
        parser.add_argument("--overwrite", action="store_true", help="Replace the file if it exists.")

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # An interrupt leaves no unfinished file.
        backup = backups.create(options["file"], overwrite=options["overwrite"])
        self.report(
            f"Backed up to {backup.path} ({backup.size:,} bytes), and checked.",
            file=str(backup.path), size=backup.size, made_at=backup.made_at,
        )  # fmt: skip
