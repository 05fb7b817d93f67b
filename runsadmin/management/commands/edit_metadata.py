"""`manage.py edit_metadata RUN… --set k=v --remove k`: edits runs that are named, here and now. No worker is needed."""

import sys
import time
from typing import Any

from django.core.management.base import CommandParser
from tqdm import tqdm

from runsadmin import conf
from runsadmin.errors import IllegalChange, InvalidId, InvalidMetadata, UnknownConnection
from runsadmin.management import pairs
from runsadmin.management.speech import SpeakingCommand, actor_of, add_actor
from runsadmin.models import Edit, EditStatus, Run
from runsadmin.services import edits, permissions


class Command(SpeakingCommand):
    help = (
        "Sets and removes pairs of the metadata of runs, upstream and here. Keys that are not named stay as they are. "
        "Every edit stands in the log; what is not settled in time goes on in the background."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run_ids", nargs="+", metavar="RUN", help="The id that upstream gave it.")
        parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="The first = splits.")
        parser.add_argument("--remove", action="append", default=[], metavar="KEY")
        parser.add_argument("--reason", default="", help="Stands in the log.")
        parser.add_argument("--connection", metavar="ALIAS", help="Needed where two connections have the same run id.")
        parser.add_argument(
            "--wait", type=float, default=60, metavar="SECONDS", help="For each edit; default: %(default)s."
        )
        add_actor(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        actor = actor_of(options["actor"])
        permissions.require(actor, permissions.Action.EDIT_METADATA)
        patch = pairs.parse(options["set"], options["remove"])
        if not patch:
            self.give_up("Say what to change: --set KEY=VALUE, --remove KEY.")
        run_ids = list(dict.fromkeys(options["run_ids"]))
        found = [self._find(run_id, options["connection"]) for run_id in run_ids]
        for run in tqdm(
            [run for run in found if run], unit=" runs", disable=self.speaks_json or not sys.stderr.isatty()
        ):
            try:
                edit = edits.record(run=run, patch=patch, actor=actor, door=Edit.Door.COMMAND, reason=options["reason"])
            except (InvalidMetadata, InvalidId, IllegalChange, UnknownConnection) as error:
                self._refuse(run.upstream_id, str(error))
            else:
                self._tell(run, edits.bring_to_an_end(edit, until=time.monotonic() + options["wait"]))

    def _find(self, run_id: str, alias: str | None) -> Run | None:
        runs = Run.objects.select_related("thread").filter(upstream_id=run_id)
        if alias is not None:
            runs = runs.filter(connection=conf.connection(alias).alias)
        match list(runs):
            case [run]:
                return run
            case []:
                self._refuse(run_id, "no such run is mirrored here, so nothing was done for it.")
            case several:
                names = ", ".join(run.connection for run in several)
                self._refuse(run_id, f"several connections have this run: name one with --connection ({names}).")
        return None

    def _refuse(self, run_id: str, why: str) -> None:
        self.say(f"{run_id}: {why}", is_fine=False, run=run_id, connection=None, edit=None, status=None, detail=why)

    def _tell(self, run: Run, edit: Edit) -> None:
        self.say(
            f"{run.upstream_id}: {edit.get_status_display().lower()}. {edit.detail}".strip(),
            is_fine=edit.status == EditStatus.APPLIED,
            run=run.upstream_id,
            connection=run.connection,
            edit=edit.pk,
            status=edit.status,
            detail=edit.detail,
            upstream_request_id=edit.upstream_request_id,
        )
