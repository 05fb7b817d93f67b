"""`manage.py restore FILE`: replaces the database with a backup. Afterwards, nothing is sent until users release it."""

import signal
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from runsadmin.management.base import ReportingCommand
from runsadmin.services import backups
from runsadmin.text import counted


class Command(ReportingCommand):
    help = (
        "Checks a backup and replaces the database with it. Web processes, workers and other commands must be stopped. "
        "A replaced SQLite database is kept under another name. Nothing is sent afterwards, until users release the "
        "connection and the edits that had not ended."
    )
    requires_system_checks: list[str] = []  # Checks open the database, which may be damaged.

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", metavar="FILE", type=Path, help="A backup, made with `manage.py backup`.")
        parser.add_argument(
            "--ignore-sessions",
            action="store_true",
            help="PostgreSQL: restore even if other sessions are connected, such as those of a program that watches "
            "the server. Processes of runsadmin must always be stopped.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # An interrupt leaves no unfinished file.
        restored = backups.restore(options["file"], ignore_sessions=options["ignore_sessions"])
        migrated = ", and migrated it" if restored.migrated else ""
        kept = f" The replaced database is {restored.kept}." if restored.kept else ""
        waiting = f"{counted(restored.waiting_edits, 'edit')} and " if restored.waiting_edits else ""
        self.report(
            f"Restored the backup of {restored.made_at:%Y-%m-%d %H:%M:%S} UTC{migrated}.{kept} Nothing is sent: "
            f"{waiting}all connections wait for a user to release them. Start the processes, sync, check the edits, "
            "and release them (docs/operations.md, Backups).",
            made_at=restored.made_at, waiting_edits=restored.waiting_edits, migrated=restored.migrated,
            kept=None if restored.kept is None else str(restored.kept),
        )  # fmt: skip
