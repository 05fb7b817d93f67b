"""The base class of our commands: text or JSON output, one error per line, and an exit code."""

import datetime as dt
from argparse import ArgumentTypeError
from collections.abc import Iterable
from typing import Any, NoReturn

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from tqdm import tqdm

from runsadmin import db_errors, lenient_json, search
from runsadmin.errors import InvalidMetadata, RunsAdminError
from runsadmin.models import Edit, EditStatus
from runsadmin.services import connections, probes
from runsadmin.text import clean, counted


class ReportingCommand(BaseCommand):
    """With --json, standard output has one JSON object per line. Errors go to standard error."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print JSON: one object per line.")

    def execute(self, *args: Any, **options: Any) -> str | None:
        self.as_json = options["json"]
        self.errors_count = 0
        try:
            result = super().execute(*args, **options)
        except InvalidMetadata as invalid:
            for error in invalid.errors:
                self.warn(error.message)
            self.fail("Nothing was changed.")
        except RunsAdminError as error:
            self.fail(str(error))
        except DatabaseError as error:
            fail_if_database_failed(error)
            raise
        if self.errors_count:
            raise CommandError(f"{counted(self.errors_count, 'error')}, listed above.", returncode=1)
        return result

    def report(self, message: str, *, is_success: bool = True, errors: int = 1, **data: Any) -> None:
        """Prints the message or, with --json, the data if there is any. A failure counts as this many `errors`."""
        if not is_success:
            self.warn(message, errors)
        if self.as_json and data:
            self.stdout.write(lenient_json.dumps(data))
        elif is_success and not self.as_json:
            self.stdout.write(message)

    def report_edit(self, edit: Edit, note: str = "", **data: Any) -> None:
        """Reports the outcome of an edit. Only an applied edit is a success."""
        message = f"{edit.run.upstream_id}: {edit.get_status_display().lower()}. {edit.detail}".strip()
        self.report(
            f"{message} {note}".strip(), is_success=edit.status == EditStatus.APPLIED,
            run=edit.run.upstream_id, connection=edit.run.connection, edit=edit.pk, status=edit.status,
            detail=edit.detail, upstream_request_id=edit.upstream_request_id, **data,
        )  # fmt: skip

    def warn(self, message: str, errors: int = 1) -> None:
        """Prints an error and continues; the command will exit with 1. A summary may count as several errors."""
        self.errors_count += errors
        self.stderr.write(message)

    def try_connections(self, aliases: Iterable[str]) -> None:
        """Probes held connections, releases those that work again, and prints why the others are held."""
        for alias in dict.fromkeys(aliases):
            probes.probe_now(alias)
            if reason := connections.hold_reason(alias):
                self.stderr.write(f"{alias}: {reason}")

    def progress_bar(self, iterable: Iterable[Any] | None = None, **options: Any) -> "tqdm[Any]":
        """A progress bar, which is shown only on a terminal and without --json."""
        return tqdm(iterable, disable=self.as_json or None, **options)

    def report_duplicates(self, count: int) -> None:
        if count:
            self.stderr.write(f"Duplicates ignored: {count:,}.")

    def fail(self, message: str) -> NoReturn:
        raise CommandError(message) from None


def fail_if_database_failed(error: DatabaseError) -> None:
    """Raises CommandError instead of showing a traceback, unless the error is one of the program."""
    if failure := db_errors.failure_behind(error):
        advice = "" if db_errors.is_damaged(failure) else " What was saved before is kept. Run this again later."
        raise CommandError(f"{db_errors.described(failure)}{advice}") from None


def add_actor(parser: CommandParser) -> None:
    parser.add_argument(
        "--actor",
        metavar="USER",
        help="The account that is recorded as the actor and whose permissions apply. "
        "Default: the active superuser, if there is exactly one.",
    )


def actor_of(username: str | None) -> User:
    """The account with this name, or by default the only superuser. Raises CommandError if there is none."""
    if username is not None:
        user = User.objects.filter(username=clean(username)).first()
        if user is None:
            raise CommandError(f"There is no account {username!r}.")
        return user
    superusers = User.objects.filter(is_superuser=True, is_active=True)[:2]
    if len(superusers) != 1:
        raise CommandError("Name the acting account: --actor USER. (There is no single superuser to use by default.)")
    return superusers[0]


def time_zone(name: str) -> dt.tzinfo:
    """The type of an argument that names a time zone."""
    try:
        return search.time_zone(name)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
