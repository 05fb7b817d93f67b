"""`manage.py release_restored`: shows what waits to be released after a restore, and releases it."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandParser

from runsadmin import conf
from runsadmin.errors import InvalidTransition
from runsadmin.management.base import ReportingCommand, actor_of, add_actor
from runsadmin.services import connections, edits
from runsadmin.text import counted


class Command(ReportingCommand):
    help = (
        "Releases connections and edits after a restore: until then, nothing is sent on these connections, and the "
        "edits from the backup wait. Without arguments, lists what waits. Bulk edits from the backup are paused: "
        "resume them instead."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("edits", metavar="EDIT", type=int, nargs="*", help="The number of an edit to release.")
        parser.add_argument("--connection", metavar="ALIAS", help="Release this connection, but none of its edits.")
        parser.add_argument("--all", action="store_true", help="Release all connections, and all waiting edits.")
        add_actor(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if not (options["all"] or options["connection"] or options["edits"]):
            self._list()
            return
        actor = actor_of(options["actor"])
        for pk in options["edits"]:
            self._release(pk, actor)
        if alias := options["connection"]:
            connections.release_restored(alias, actor=actor)
            self.report(f"{alias}: released.", connection=alias)
        for alias in conf.upstreams() if options["all"] else ():
            count = edits.release_all(connection=alias, actor=actor)
            self.report(f"{alias}: released, with {counted(count, 'edit')}.", connection=alias, released_edits=count)

    def _list(self) -> None:
        held = connections.held().filter(restored_from__isnull=False)
        waiting = edits.that_await_release()
        if not (held or waiting.exists()):
            self.report("Nothing waits to be released.")
        for row in held:
            self.report(f"{row.alias}: {connections.why_held(row)}", connection=row.alias, made_at=row.restored_from)
        for edit in waiting.iterator(chunk_size=500):
            status = edit.get_status_display().lower()
            self.report(
                f"Edit {edit.pk} of {edit.run.upstream_id}, by {edit.actor.get_username()}: {status}.",
                edit=edit.pk, run=edit.run.upstream_id, connection=edit.run.connection, status=edit.status,
            )  # fmt: skip

    def _release(self, pk: int, actor: User) -> None:
        edit = edits.that_await_release().filter(pk=pk).first()
        try:
            if edit is None:
                raise InvalidTransition("no edit with this number waits to be released.")
            edits.release(edit=edit, actor=actor)
        except InvalidTransition as error:
            self.report(f"Edit {pk}: {error}", is_success=False)
        else:
            self.report(f"Edit {pk}: released.", edit=pk)
