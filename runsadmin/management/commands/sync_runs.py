"""`manage.py sync_runs`: reads runs into the mirror in the foreground, without a worker."""

import time
from typing import Any

from django.core.management.base import CommandParser

from runsadmin import conf
from runsadmin.management.base import ReportingCommand, actor_of, add_actor
from runsadmin.models import Sync, SyncStatus, Thread
from runsadmin.models.sync import UNFINISHED
from runsadmin.services import syncs
from runsadmin.text import counted

ERRORS_SHOWN = 20


class Command(ReportingCommand):
    help = (
        "Reads the runs of the tracked threads into the mirror: new and active ones, or all with --full. "
        "Continues a sync of the same kind that is already queued or running."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--connection", metavar="ALIAS", help="Sync this connection only. Default: all of them.")
        parser.add_argument("--full", action="store_true", help="Read all runs: only this finds changes to ended runs.")
        parser.add_argument("--thread", metavar="ID", help="Read this thread only.")
        add_actor(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        aliases = list(conf.upstreams()) if options["connection"] is None else [options["connection"]]
        self.try_connections(aliases)
        kind = Sync.Kind.FULL if options["full"] else Sync.Kind.INCREMENTAL
        actor = None if options["actor"] is None else actor_of(options["actor"])
        if options["thread"] is None:
            pending = [syncs.start(connection=alias, kind=kind, actor=actor) for alias in aliases]
        else:
            threads = Thread.objects.filter(connection__in=aliases, upstream_id=options["thread"])
            if not threads:
                self.fail(f"The thread {options['thread']!r} is not tracked. Track it with `manage.py track_threads`.")
            pending = [syncs.start(connection=t.connection, kind=kind, actor=actor, thread=t) for t in threads]
        for sync in pending:
            self._finish(sync)

    def _finish(self, sync: Sync) -> None:
        """Runs the sync until it ends or waits for something that only a user can fix."""
        with self.progress_bar(desc=sync.connection, total=sync.threads_total, unit=" threads") as bar:
            while sync.status in UNFINISHED:
                before = sync
                sync = syncs.run(sync, until=time.monotonic() + 0.5)
                bar.total = sync.threads_total
                bar.set_postfix(runs=sync.runs_seen, refresh=False)
                bar.update(sync.threads_done - bar.n)
                if sync.claim_token is not None:  # Another process is running it: show its progress.
                    time.sleep(0.5)
                elif sync.status == SyncStatus.PAUSED or (sync.detail and sync.pages == before.pages):
                    break
        self._report(sync)

    def _report(self, sync: Sync) -> None:
        for error in sync.errors.select_related("thread").order_by("pk")[:ERRORS_SHOWN]:
            where = "" if error.thread is None else f"{error.thread.upstream_id}: "
            self.stderr.write(f"{where}{error.message}")
        if sync.errors_count > ERRORS_SHOWN:
            self.stderr.write(f"… and {sync.errors_count - ERRORS_SHOWN} more: see sync {sync.pk}.")
        message = (
            f"{sync.connection}: {sync.get_status_display().lower()}. {sync.threads_done:,} of "
            f"{counted(sync.threads_total, 'thread')}, {counted(sync.runs_seen, 'run')} read, "
            f"{sync.runs_created:,} new, {sync.runs_updated:,} changed, {counted(sync.errors_count, 'error')}."
        )
        shown = (
            "id", "connection", "kind", "status", "detail", "threads_total", "threads_done", "runs_seen",
            "runs_created", "runs_updated", "errors_count",
        )  # fmt: skip
        self.report(
            f"{message} {sync.detail}".strip(),
            is_success=sync.status == SyncStatus.COMPLETED,
            errors=max(sync.errors_count, 1),
            **{name: getattr(sync, name) for name in shown},
        )
