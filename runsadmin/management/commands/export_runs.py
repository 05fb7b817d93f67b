"""`manage.py export_runs FILE`: writes the runs that match a search to a file, and its manifest next to it."""

import datetime as dt
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandParser

from runsadmin import lenient_json, private_files, search
from runsadmin.errors import InvalidSearch
from runsadmin.management.base import ReportingCommand, actor_of, add_actor, time_zone
from runsadmin.management.bulk_edit_runner import stopped_by_signals
from runsadmin.models import ExportFormat
from runsadmin.services import run_columns, views
from runsadmin.services.exports import Dump
from runsadmin.services.run_search import RunSearch
from runsadmin.text import counted

# Only to show the progress.
MAX_COUNTED = 10_000_000


class Command(ReportingCommand):
    help = (
        "Writes runs to a file, newest first, and FILE.manifest.json next to it, which says what may be missing. CSV "
        "and Parquet have columns; JSON Lines contain whole runs, which import_runs can read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "file",
            metavar="FILE",
            help="The name of the file, or - for standard output. Only files have a manifest.",
        )
        parser.add_argument("--where", metavar="SEARCH", help="Only runs that match a search, such as 'status:failed'.")
        parser.add_argument("--view", metavar="SLUG", help="The search and the columns of a saved view.")
        parser.add_argument(
            "--tz", type=time_zone, metavar="NAME", help="The time zone of dates in --where, such as Europe/Berlin."
        )
        parser.add_argument(
            "--format",
            choices=ExportFormat.values,
            help="Default: the extension of FILE, or csv if it has none of these.",
        )
        parser.add_argument("--columns", metavar="NAMES", help="Such as id,status,metadata.team. Default: all.")
        add_actor(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        dump = self._dump(options)
        with (
            stopped_by_signals() as stopping,
            self._opened(options["file"]) as file,
            self.progress_bar(total=self._total(dump), unit=" runs") as bar,
        ):
            for part in dump:
                file.write(part)
                bar.update(dump.tally.rows - bar.n)
                if stopping.is_set():
                    outcome = "What was written" if _is_stream(options["file"]) else "The file was deleted, since it"
                    self.fail(f"Interrupted. {outcome} is not complete.")
        manifest = dump.manifest()
        if not _is_stream(options["file"]):
            with self._opened(f"{options['file']}.manifest.json") as file:
                file.write(f"{lenient_json.dumps(manifest)}\n".encode())
        if options["file"] != "-":
            self.report(f"{counted(dump.tally.rows, 'run')} exported.", file=options["file"], manifest=manifest)

    def _dump(self, options: dict[str, Any]) -> Dump:
        if options["view"] is not None:
            if options["where"] is not None:
                self.fail("Choose the runs with --where or --view, not both.")
            view = views.resolve(options["view"], actor_of(options["actor"]))
            options |= {"where": view.query, "tz": options["tz"] or search.time_zone(view.tz)}
            options["columns"] = options["columns"] or view.columns or None
        found = RunSearch.parse(options["where"] or "", options["tz"] or dt.UTC)
        columns = None if options["columns"] is None else run_columns.parse(options["columns"])
        ending = Path(options["file"]).suffix.removeprefix(".")
        chosen = options["format"] or (ending if ending in ExportFormat.values else ExportFormat.CSV)
        return Dump(found, ExportFormat(chosen), columns)

    def _total(self, dump: Dump) -> int | None:
        """The number of runs, unless counting takes long or nobody sees the progress."""
        if self.as_json or not self.stderr.isatty():
            return None
        try:
            return dump.search.count(MAX_COUNTED)
        except InvalidSearch:
            return None

    @contextmanager
    def _opened(self, name: str) -> Iterator[BinaryIO]:
        """The file. It has another name until it is complete, and is deleted if it cannot be completed."""
        try:
            if name == "-":
                yield sys.stdout.buffer
            elif _is_stream(name):
                with Path(name).open("wb") as file:
                    yield file
            else:
                with private_files.written(Path(name), overwrite=True, mode=0o666) as part, part.open("wb") as file:
                    yield file
        except OSError as error:
            self.fail(f"{name} cannot be written: {error.strerror or error}.")


def _is_stream(name: str) -> bool:
    """Whether it is standard output, a pipe or a device such as /dev/null, which have no manifest."""
    path = Path(name)
    return name == "-" or (path.exists() and not path.is_file() and not path.is_dir())
