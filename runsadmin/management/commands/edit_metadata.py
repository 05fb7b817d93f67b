"""`manage.py edit_metadata RUN… --set k=v --remove k`: edits the metadata of runs in the foreground.

Named runs are edited one by one. --where, --view and --ids-from start a bulk edit, as do the options that need a plan:
--rename, --dry-run, --canary, --wait-for-active.
"""

import datetime as dt
import math
import time
from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandParser

from runsadmin import conf, id_lists, search
from runsadmin.errors import (
    InvalidId,
    InvalidMetadata,
    InvalidSelection,
    InvalidTransition,
    ReadOnlyConnection,
    UnknownConnection,
)
from runsadmin.management import pair_arguments
from runsadmin.management.base import ReportingCommand, actor_of, add_actor, time_zone
from runsadmin.management.bulk_edit_runner import ERRORS_SHOWN, BulkEditRunner, stopped_by_signals
from runsadmin.models import BulkEdit, Edit, Run
from runsadmin.services import bulk_edits, edits, permissions, views
from runsadmin.services.bulk_edits import LONGEST_WAIT, Selection

WAIT = 60.0

# How runs are chosen.
_CHOICES = {
    "run_ids": "RUN …",
    "where": "--where SEARCH",
    "view": "--view SLUG",
    "ids_from": "--ids-from FILE",
    "resume": "--resume ID",
}
# Options that need a plan.
_PLANNED = ("where", "view", "ids_from", "canary", "wait_for_active")
# Options that cannot be combined with --resume.
_FIXED = ("set", "remove", "rename", "reason", "connection", "canary", "wait_for_active")
_REASONS = {
    "unknown": "this run is not in the mirror, so it was not edited. Check the id, or sync its thread first.",
    "ambiguous": "several connections have this run: name one with --connection.",
}


class Command(ReportingCommand):
    help = (
        "Sets, removes and renames metadata of runs, upstream and in the mirror; other keys keep their values. Every "
        "edit is logged. Named runs are edited one by one; edits that take longer than --wait continue in the "
        "background. With --where, --view, --ids-from, --rename, --dry-run, --canary or --wait-for-active, the command "
        "makes a bulk edit, which it plans, shows, and pushes until it ends. Ctrl-C pauses the bulk edit."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run_ids", nargs="*", metavar="RUN", help="The upstream id of a run.")
        parser.add_argument(
            "--where", metavar="SEARCH", help="All runs that match a search, such as 'status:failed metadata.team:ads'."
        )
        parser.add_argument("--view", metavar="SLUG", help="All runs that match the search of a saved view.")
        parser.add_argument(
            "--tz", type=time_zone, metavar="NAME", help="The time zone of dates in --where, such as Europe/Berlin."
        )
        parser.add_argument(
            "--ids-from",
            metavar="FILE",
            help="A file with an id on each line, or a CSV file with a header line; - is standard input.",
        )
        parser.add_argument("--resume", type=int, metavar="ID", help="Continue this bulk edit, or apply its plan.")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="Set a key. The value begins after the first =. In a bulk edit it may contain fields of the run: "
            "{model}, {created:%%Y-%%m}.",
        )
        parser.add_argument("--remove", action="append", default=[], metavar="KEY", help="Remove a key.")
        parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW", help="Rename a key.")
        parser.add_argument("--reason", default="", help="Logged with each edit. Required for a bulk edit.")
        parser.add_argument(
            "--connection",
            metavar="ALIAS",
            help="Only runs of this connection. Required if another has the same run ids.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Show the plan and send nothing.")
        parser.add_argument("--canary", type=int, metavar="N", help="Send the first N edits, then pause.")
        parser.add_argument(
            "--wait-for-active",
            type=_wait,
            metavar="SECONDS",
            help="How long to wait for active runs to end. By default, they are skipped.",
        )
        parser.add_argument(
            "--wait",
            nargs="?",
            type=float,
            const=float("inf"),
            metavar="SECONDS",
            help=f"How long to wait for the outcome. Default: {WAIT:g} seconds for each named run; for a bulk edit, "
            "until it ends. Without a value: no limit.",
        )
        add_actor(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = actor_of(options["actor"])
        permissions.require(actor, permissions.Action.EDIT_METADATA)
        named = [name for name in _CHOICES if options[name] not in ([], None)]
        if len(named) != 1:
            self.fail(f"Choose the runs with exactly one of {', '.join(_CHOICES.values())}.")
        if options["tz"] is not None and named != ["where"]:
            self.fail("--tz needs --where: it is the time zone of the dates in the search.")
        if options["view"] is not None:
            view = views.resolve(options["view"], actor)
            options |= {"where": view.query, "tz": search.time_zone(view.tz)}
        if named == ["resume"]:
            self._resume(actor, options)
        elif options["rename"] or options["dry_run"] or any(options[name] is not None for name in _PLANNED):
            self._edit_many(actor, options)
        else:
            self._edit_each(actor, options)

    # --- Bulk edits

    def _edit_many(self, actor: User, options: dict[str, Any]) -> None:
        if not options["dry_run"]:
            bulk_edits.check_may_apply(actor)
        patch = pair_arguments.parse_bulk(options["set"], options["remove"], options["rename"])
        try:
            selection = self._selection(options)
        except InvalidSelection as error:
            self._report_not_selected(error.not_selected)
            raise
        bulk_edit = bulk_edits.plan(
            selection=selection,
            patch=patch,
            actor=actor,
            source=Edit.Source.COMMAND,
            reason=options["reason"],
            wait_for_active=options["wait_for_active"],
            canary=options["canary"],
        )
        self._report_not_selected(selection.not_selected)
        self.report_duplicates(selection.duplicates)
        self._run(bulk_edit, actor, options)

    def _selection(self, options: dict[str, Any]) -> Selection:
        if options["where"] is not None:
            if not options["where"].strip():
                self.fail("This would select every run. If that is intended, use --where connection:ALIAS.")
            # No page or request waits for this process, so the search may take long.
            return bulk_edits.by_search(
                options["where"], connection=options["connection"], tz=options["tz"] or dt.UTC, seconds=math.inf
            )
        if options["ids_from"] is not None:
            ids = id_lists.read_file(options["ids_from"], "run")
        else:
            ids = id_lists.from_arguments(options["run_ids"])
        return bulk_edits.by_ids(ids, connection=options["connection"])

    def _resume(self, actor: User, options: dict[str, Any]) -> None:
        for name in _FIXED:
            if options[name] not in ([], "", None):
                option = f"--{name.replace('_', '-')}"
                self.fail(f"{option} cannot be combined with --resume: a bulk edit keeps its original options.")
        bulk_edit = BulkEdit.objects.filter(pk=options["resume"]).first()
        if bulk_edit is None:
            self.fail(f"There is no bulk edit {options['resume']}.")
        bulk_edits.check_may_apply(actor)
        self._run(bulk_edit, actor, options)

    def _run(self, bulk_edit: BulkEdit, actor: User, options: dict[str, Any]) -> None:
        until = float("inf") if options["wait"] is None else time.monotonic() + options["wait"]
        with stopped_by_signals() as stopping:
            BulkEditRunner(self, actor, stopping).run(bulk_edit, dry_run=options["dry_run"], until=until)

    def _report_not_selected(self, not_selected: Sequence[tuple[str, str]]) -> None:
        shown = not_selected if self.as_json else not_selected[:ERRORS_SHOWN]
        for run_id, why in shown:
            self._report_not_edited(run_id, _REASONS[why])
        if (more := len(not_selected) - len(shown)) > 0:
            self.warn(f"… and {more:,} more that cannot be edited; --json lists all of them.", more)

    # --- Named runs, one by one

    def _edit_each(self, actor: User, options: dict[str, Any]) -> None:
        patch = pair_arguments.parse(options["set"], options["remove"])
        if not patch:
            self.fail("Say what to change: --set KEY=VALUE or --remove KEY.")
        wait = WAIT if options["wait"] is None else options["wait"]
        given = id_lists.from_arguments(options["run_ids"])
        run_ids = list(dict.fromkeys(given))
        self.report_duplicates(len(given) - len(run_ids))
        found = [run for run_id in run_ids if (run := self._find(run_id, options["connection"]))]
        self.try_connections(run.connection for run in found)
        for run in self.progress_bar(found, unit=" runs"):
            try:
                edit = edits.record(
                    run=run, patch=patch, actor=actor, source=Edit.Source.COMMAND, reason=options["reason"]
                )
            except (InvalidMetadata, InvalidId, InvalidTransition, UnknownConnection, ReadOnlyConnection) as error:
                self._report_not_edited(run.upstream_id, str(error))
            else:
                edit = edits.push_until_settled(edit, until=time.monotonic() + wait)
                if waits_for := edits.waits_of([edit]).get(edit.pk):
                    self.report_edit(edit, str(waits_for), waits_for=waits_for.what, waits_until=waits_for.until)
                else:
                    self.report_edit(edit, waits_for=None, waits_until=None)

    def _find(self, run_id: str, alias: str | None) -> Run | None:
        runs = Run.objects.select_related("thread").filter(upstream_id=run_id)
        if alias is not None:
            runs = runs.filter(connection=conf.connection(alias).alias)
        match list(runs):
            case [run]:
                return run
            case []:
                self._report_not_edited(run_id, _REASONS["unknown"])
            case several:
                names = ", ".join(run.connection for run in several)
                self._report_not_edited(
                    run_id, f"several connections have this run: name one with --connection ({names})."
                )
        return None

    def _report_not_edited(self, run_id: str, why: str) -> None:
        self.report(
            f"{run_id}: {why}", is_success=False, run=run_id, connection=None, edit=None, status=None, detail=why
        )


def _wait(text: str) -> dt.timedelta:
    try:
        wait = dt.timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        wait = dt.timedelta()
    if not dt.timedelta() < wait <= LONGEST_WAIT:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds up to {LONGEST_WAIT.total_seconds():,.0f}.")
    return wait
