"""`manage.py upgrade`: applies new migrations, after a backup of SQLite. `make run` calls it."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandParser

from runsadmin.management.base import ReportingCommand
from runsadmin.services import backups, schema
from runsadmin.text import counted


class Command(ReportingCommand):
    help = (
        "Applies the migrations that the database lacks. Before that, it backs up a SQLite database, and keeps the "
        "last three of these backups. Back up PostgreSQL with `manage.py backup` first."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--backups",
            metavar="FOLDER",
            type=Path,
            default=settings.BASE_DIR / "var" / "backups",
            help="Where the backups are (default: %(default)s).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if backup := backups.before_migrating(options["backups"]):
            self.report(f"Backed up the database to {backup.path} before migrating it.", file=str(backup.path))
        count = len(schema.difference().unapplied)
        call_command("migrate", verbosity=0, interactive=False, skip_checks=False)
        done = f"Applied {counted(count, 'migration')}." if count else "There are no migrations to apply."
        self.report(done, migrations=count)
