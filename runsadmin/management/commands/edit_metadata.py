"""`manage.py edit_metadata RUN… --set k=v --remove k`: edits runs, here and now. No worker is needed.

A few runs that are named are edited one by one. Many (--where, --ids-from) are a bulk edit, as is all that only a plan
can do: --rename, --dry-run, --canary, --wait-for-active.
"""

import datetime as dt
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandParser
from tqdm import tqdm

from runsadmin import conf, id_lists
from runsadmin.errors import InvalidId, InvalidMetadata, InvalidSelection, InvalidTransition, UnknownConnection
from runsadmin.management import id_files, pair_arguments
from runsadmin.management.base import ReportingCommand, actor_of, add_actor
from runsadmin.management.bulk_edit_runner import MISTAKES_SHOWN, Foreground, stopped_by_signals
from runsadmin.models import BulkEdit, Edit, EditStatus, Run
from runsadmin.services import bulk_edits, edits, permissions
from runsadmin.services.bulk_edits import LONGEST_WAIT, Selection

WAIT = 60.0

# Options that only a plan knows.
_PLANNED = ("where", "ids_from", "canary", "wait_for_active")
# Those that are settled once there is a bulk edit.
_SETTLED = ("set", "remove", "rename", "reason", "connection", "canary", "wait_for_active")
_WHY = {
    "unknown": "no such run is mirrored here, so nothing was done for it.",
    "ambiguous": "several connections have this run: name one with --connection.",
}


class Command(ReportingCommand):
    help = (
        "Sets, removes and renames pairs of the metadata of runs, upstream and here. Keys that are not named stay as "
        "they are. Every edit stands in the log. Runs that are named are edited one by one; what is not settled in "
        "time goes on in the background. With --where, --ids-from, --rename, --dry-run, --canary or --wait-for-active "
        "it is a bulk edit: planned, shown, and then pushed until it has ended. Ctrl-C pauses it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run_ids", nargs="*", metavar="RUN", help="The id that upstream gave it.")
        parser.add_argument(
            "--where", metavar="SEARCH", help="All runs that it finds: 'status:failed metadata.team:ads'."
        )
        parser.add_argument(
            "--ids-from",
            metavar="FILE",
            help="A file with an id on each line, or a CSV file with a header line; - is standard input.",
        )
        parser.add_argument("--resume", type=int, metavar="ID", help="Goes on with this bulk edit; applies a plan.")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="The first = splits. In a bulk edit the value may name fields of the run: {model}, {created:%%Y-%%m}.",
        )
        parser.add_argument("--remove", action="append", default=[], metavar="KEY")
        parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW")
        parser.add_argument("--reason", default="", help="Stands in the log. A bulk edit needs one.")
        parser.add_argument("--connection", metavar="ALIAS", help="Needed where two connections have the same run id.")
        parser.add_argument("--dry-run", action="store_true", help="Plans and shows it, and sends nothing.")
        parser.add_argument("--canary", type=int, metavar="N", help="Sends the first N, and then pauses.")
        parser.add_argument(
            "--wait-for-active",
            type=_wait,
            metavar="SECONDS",
            help="How long runs that are active now may take to end.",
        )
        parser.add_argument(
            "--wait",
            nargs="?",
            type=float,
            const=float("inf"),
            metavar="SECONDS",
            help=f"How long it is waited for: {WAIT:g} for each run that is named; a bulk edit until it has ended.",
        )
        add_actor(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = actor_of(options["actor"])
        permissions.require(actor, permissions.Action.EDIT_METADATA)
        named = [name for name in ("run_ids", "where", "ids_from", "resume") if options[name] not in ([], None)]
        if len(named) != 1:
            self.give_up("Say which runs: RUN …, --where SEARCH, --ids-from FILE, or --resume ID. One of them.")
        if named == ["resume"]:
            self._resume(actor, options)
        elif options["rename"] or options["dry_run"] or any(options[name] is not None for name in _PLANNED):
            self._edit_many(actor, options)
        else:
            self._edit_each(actor, options)

    # --- Many, by a plan

    def _edit_many(self, actor: User, options: dict[str, Any]) -> None:
        if not options["dry_run"]:
            bulk_edits.check_may_apply(actor)
        patch = pair_arguments.parse_bulk(options["set"], options["remove"], options["rename"])
        try:
            selection = self._choose(options)
        except InvalidSelection as error:
            self._tell_left_out(error.left_out)
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
        self._tell_left_out(selection.left_out)
        self._tell_duplicates(selection.duplicates)
        self._go_on(bulk_edit, actor, options)

    def _choose(self, options: dict[str, Any]) -> Selection:
        if options["where"] is not None:
            if not options["where"].strip():
                self.give_up("This would choose every run: say --where connection:ALIAS where that is meant.")
            return bulk_edits.by_search(options["where"], connection=options["connection"])
        if options["ids_from"] is not None:
            ids = id_files.read(options["ids_from"], "run")
        else:
            ids = id_lists.from_arguments(options["run_ids"])
        return bulk_edits.by_ids(ids, connection=options["connection"])

    def _resume(self, actor: User, options: dict[str, Any]) -> None:
        for name in _SETTLED:
            if options[name] not in ([], "", None):
                option = f"--{name.replace('_', '-')}"
                self.give_up(f"{option} does not go with --resume: a bulk edit stays what it was made as.")
        bulk_edit = BulkEdit.objects.filter(pk=options["resume"]).first()
        if bulk_edit is None:
            self.give_up(f"There is no bulk edit {options['resume']}.")
        bulk_edits.check_may_apply(actor)
        self._go_on(bulk_edit, actor, options)

    def _go_on(self, bulk_edit: BulkEdit, actor: User, options: dict[str, Any]) -> None:
        until = float("inf") if options["wait"] is None else time.monotonic() + options["wait"]
        with stopped_by_signals() as stopping:
            Foreground(self, actor, stopping).go_on(bulk_edit, dry_run=options["dry_run"], until=until)

    def _tell_left_out(self, left_out: Sequence[tuple[str, str]]) -> None:
        shown = left_out if self.speaks_json else left_out[:MISTAKES_SHOWN]
        for run_id, why in shown:
            self._refuse(run_id, _WHY[why])
        if (more := len(left_out) - len(shown)) > 0:
            self.mistakes += more
            self.stderr.write(f"… and {more:,} more that cannot be edited; --json lists all of them.")

    def _tell_duplicates(self, count: int) -> None:
        if count:
            self.stderr.write(f"Duplicates ignored: {count:,}.")

    # --- A few, one by one

    def _edit_each(self, actor: User, options: dict[str, Any]) -> None:
        patch = pair_arguments.parse(options["set"], options["remove"])
        if not patch:
            self.give_up("Say what to change: --set KEY=VALUE, --remove KEY.")
        wait = WAIT if options["wait"] is None else options["wait"]
        given = id_lists.from_arguments(options["run_ids"])
        run_ids = list(dict.fromkeys(given))
        self._tell_duplicates(len(given) - len(run_ids))
        found = [run for run_id in run_ids if (run := self._find(run_id, options["connection"]))]
        self.try_connections(run.connection for run in found)
        for run in tqdm(found, unit=" runs", disable=self.speaks_json or not sys.stderr.isatty()):
            try:
                edit = edits.record(
                    run=run, patch=patch, actor=actor, source=Edit.Source.COMMAND, reason=options["reason"]
                )
            except (InvalidMetadata, InvalidId, InvalidTransition, UnknownConnection) as error:
                self._refuse(run.upstream_id, str(error))
            else:
                self._tell(run, edits.push_until_settled(edit, until=time.monotonic() + wait))

    def _find(self, run_id: str, alias: str | None) -> Run | None:
        runs = Run.objects.select_related("thread").filter(upstream_id=run_id)
        if alias is not None:
            runs = runs.filter(connection=conf.connection(alias).alias)
        match list(runs):
            case [run]:
                return run
            case []:
                self._refuse(run_id, _WHY["unknown"])
            case several:
                names = ", ".join(run.connection for run in several)
                self._refuse(run_id, f"several connections have this run: name one with --connection ({names}).")
        return None

    def _refuse(self, run_id: str, why: str) -> None:
        self.say(f"{run_id}: {why}", is_fine=False, run=run_id, connection=None, edit=None, status=None, detail=why)

    def _tell(self, run: Run, edit: Edit) -> None:
        wait = edits.waits_of([edit]).get(edit.pk)
        words = f"{run.upstream_id}: {edit.get_status_display().lower()}. {edit.detail}".strip()
        self.say(
            words if wait is None else f"{words} {wait}",
            is_fine=edit.status == EditStatus.APPLIED,
            run=run.upstream_id,
            connection=run.connection,
            edit=edit.pk,
            status=edit.status,
            detail=edit.detail,
            waits_for=None if wait is None else wait.what,
            waits_until=None if wait is None or wait.until is None else wait.until.isoformat(),
            upstream_request_id=edit.upstream_request_id,
        )


def _wait(text: str) -> dt.timedelta:
    try:
        wait = dt.timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        wait = dt.timedelta()
    if not dt.timedelta() < wait <= LONGEST_WAIT:
        raise ArgumentTypeError(f"{text!r} is no number of seconds up to {LONGEST_WAIT.total_seconds():,.0f}.")
    return wait
