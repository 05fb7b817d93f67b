"""`manage.py purge_runs`: erases runs from the mirror for good, with the values in their edits."""

import datetime as dt
from argparse import ArgumentTypeError
from itertools import batched
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from runsadmin import id_lists
from runsadmin.management.base import ReportingCommand
from runsadmin.management.bulk_edit_runner import stopped_by_signals
from runsadmin.models import EditStatus, Run
from runsadmin.models.run import RunQuerySet
from runsadmin.services import purging
from runsadmin.services.purging import BATCH, Purged
from runsadmin.services.run_search import RunSearch
from runsadmin.text import counted

_AGE = ("before", "older_than")


class Command(ReportingCommand):
    help = (
        "Erases runs from the mirror for good: the runs, their metadata pairs and the values in their edits. The edits "
        "remain, with a note. Nothing changes upstream: a run that upstream still has is mirrored again by the next "
        "sync that reads it. An interrupted purge is continued by the same command."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run_ids", nargs="*", metavar="RUN", help="The upstream id of a run.")
        parser.add_argument("--where", metavar="SEARCH", help="All runs that match a search, such as 'status:failed'.")
        parser.add_argument(
            "--before",
            type=_time,
            metavar="TIME",
            help="Runs created before this date or time (UTC), such as 2026-01-31.",
        )
        parser.add_argument("--older-than", type=int, metavar="DAYS", help="Runs created more than DAYS days ago.")
        parser.add_argument("--connection", metavar="ALIAS", help="Only runs of this connection.")
        parser.add_argument("--dry-run", action="store_true", help="Only count what would be erased.")
        parser.add_argument(
            "--no-input", "--noinput", action="store_false", dest="interactive", help="Do not ask for confirmation."
        )
        parser.add_argument(
            "--no-vacuum",
            action="store_false",
            dest="vacuum",
            help="SQLite: do not rewrite the file at the end. Copies of some erased text may then remain in it.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        runs = self._selected(options)
        if options["connection"] is not None:
            runs = runs.filter(connection=options["connection"])
        keys = purging.select(runs)
        if options["dry_run"]:
            return self._report(self._count(keys), is_dry_run=True)
        if keys and options["interactive"]:
            self._confirm(len(keys))
        with stopped_by_signals() as stopping:
            purging.overwrite_deleted()
            done = Purged()
            with self.progress_bar(total=len(keys), unit=" runs") as bar:
                for batch in batched(keys, BATCH, strict=False):
                    if stopping.is_set():
                        self.warn("Interrupted. Run the same command to continue.")
                        break
                    done += purging.purge(batch)
                    bar.update(len(batch))
            texts = purging.purge_unused_texts()
        if options["vacuum"] and not purging.rewrite_file():
            self.warn(
                "The database file could not be rewritten, so it may still contain erased text. Run the same command "
                "again when no other process writes and there is enough space for a copy of the file."
            )
        self._report(done, is_dry_run=False, shared_texts=texts)

    def _selected(self, options: dict[str, Any]) -> RunQuerySet:
        named = [name for name in ("run_ids", "where", *_AGE) if options[name] not in ([], None)]
        if len(named) != 1:
            self.fail("Choose the runs with exactly one of RUN …, --where, --before or --older-than.")
        if options["where"] is not None:
            if not options["where"].strip():
                self.fail("This would select every run. If that is intended, use --before with a time in the future.")
            return RunSearch.parse(options["where"]).matching()
        if named == ["run_ids"]:
            return self._named(options["run_ids"])
        before = options["before"]
        if before is None:
            before = timezone.now() - dt.timedelta(days=options["older_than"])
        return Run.objects.filter(created_at__lt=before)

    def _named(self, run_ids: list[str]) -> RunQuerySet:
        ids = id_lists.from_arguments(run_ids)
        runs = Run.objects.filter(upstream_id__in=ids)
        known = set(runs.values_list("upstream_id", flat=True))
        for unknown in dict.fromkeys(id for id in ids if id not in known):
            self.warn(f"{unknown}: this run is not in the mirror.")
        return runs

    def _count(self, keys: list[int]) -> Purged:
        total = Purged()
        for batch in self.progress_bar(list(batched(keys, BATCH, strict=False)), unit=" batches"):
            total += purging.count(batch)
        return total

    def _confirm(self, runs: int) -> None:
        if self.as_json:
            self.fail("With --json, use --no-input to confirm.")
        erased = f"up to {counted(runs, 'run')} and the values in their edits"
        self.stdout.write(f"This erases {erased}. It cannot be undone.")
        if input("Type 'yes' to continue, or anything else to cancel: ") != "yes":
            self.fail("Nothing was erased.")

    def _report(self, purged: Purged, *, is_dry_run: bool, shared_texts: int = 0) -> None:
        for status, count in sorted(purged.left_out.items()):
            message = f"Runs left out because of an edit that is {EditStatus(status).label.lower()}: {count:,}."
            self.report(message, is_success=is_dry_run, errors=count)
        self.report(
            f"{'Would erase' if is_dry_run else 'Erased'} {counted(purged.runs, 'run')}, "
            f"{counted(purged.pairs, 'pair')} and the values of {counted(purged.edits, 'edit')}.",
            runs=purged.runs, pairs=purged.pairs, edits=purged.edits, left_out=dict(purged.left_out),
            shared_texts=shared_texts, dry_run=is_dry_run,
        )  # fmt: skip


def _time(text: str) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date or time such as 2026-01-31 or 2026-01-31T12:00.") from None
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)
