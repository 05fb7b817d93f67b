"""`manage.py import_runs FILE`: reads the runs of a service that is gone into an archive."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandParser

from runsadmin.management.base import ReportingCommand
from runsadmin.management.bulk_edit_runner import stopped_by_signals
from runsadmin.services import imports
from runsadmin.services.imports import BadItem, Imported
from runsadmin.text import counted

BAD_SHOWN = 20


class Command(ReportingCommand):
    help = (
        "Reads runs from a file into an archive: a connection with RUNSADMIN_UPSTREAM_ALIAS_KIND=archive. The file has "
        "a Run of the API on each line, as export_runs writes it, or is a JSON array or a list response with `data`. "
        "Runs that are already there are not written again, so the same command continues an interrupted import."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", metavar="FILE", help="The name of the file; - is standard input.")
        parser.add_argument("--connection", metavar="ALIAS", help="The archive. Optional if there is only one.")

    def handle(self, *args: Any, **options: Any) -> None:
        alias = imports.target(options["connection"]).alias
        done = Imported()
        with stopped_by_signals() as stopping, self._opened(options["file"]) as (file, size):
            reader = imports.Reader(file)
            with self.progress_bar(total=size, unit="B", unit_scale=True) as bar:
                for batch in imports.import_runs(connection=alias, items=reader):
                    self._report_bad(batch.bad, shown=done.bad_count)
                    done += batch
                    bar.set_postfix(runs=f"{done.read:,}", refresh=False)
                    bar.update(reader.position - bar.n)
                    if stopping.is_set():
                        self.warn("Interrupted. Run the same command again to continue.")
                        break
        if not done.read and not done.bad_count:
            self.fail("The file has no runs.")
        self._report(alias, done)

    def _report_bad(self, bad: tuple[BadItem, ...], *, shown: int) -> None:
        listed = bad if self.as_json else bad[: max(0, BAD_SHOWN - shown)]
        for item in listed:
            self.report(f"{item.where}: {item.why}", is_success=False, where=item.where, error=item.why)
        self.errors_count += len(bad) - len(listed)

    def _report(self, alias: str, done: Imported) -> None:
        if not self.as_json and (more := done.bad_count - BAD_SHOWN) > 0:
            self.stderr.write(f"… and {more:,} more that are not runs; --json lists all of them.")
        unchanged = done.read - done.created - done.updated
        self.report(
            f"{counted(done.read, 'run')} read into {alias}: {done.created:,} new, {done.updated:,} changed,"
            f" {unchanged:,} unchanged.",
            connection=alias, read=done.read, created=done.created, updated=done.updated, unchanged=unchanged,
            bad=done.bad_count,
        )  # fmt: skip

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[BinaryIO, int | None]]:
        """The file, and its size if known."""
        if name == "-":
            if sys.stdin is None:  # The parent process has closed standard input.
                self.fail("Standard input is closed. Name a file.")
            yield sys.stdin.buffer, None
            return
        try:
            file = Path(name).open("rb")  # noqa: SIM115 - it is closed below.
        except (OSError, ValueError) as error:  # A name with U+0000 is a ValueError.
            self.fail(f"{name} cannot be read: {error}. Check its name and permissions.")
        with file:
            yield file, os.fstat(file.fileno()).st_size
