"""Runs a bulk edit in the foreground: plans it, shows the plan and pushes it, with or without a worker."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event
from types import FrameType

from django.contrib.auth.models import User

from runsadmin.errors import InvalidTransition
from runsadmin.management.base import ReportingCommand
from runsadmin.metadata import Metadata, differing_keys
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus
from runsadmin.services import bulk_edits, connections, edits, probes
from runsadmin.templatetags.links import change_url
from runsadmin.text import counted

Status = BulkEditStatus

DIFFS_SHOWN = 5
ERRORS_SHOWN = 20
# Seconds between updates of the progress bar; Ctrl-C takes effect at once.
STEP = 2.0
PAUSE = 0.2

_UNSUCCESSFUL = (EditStatus.CONFLICT, EditStatus.REJECTED, EditStatus.FAILED, EditStatus.DIFFERS)


@contextmanager
def stopped_by_signals() -> Iterator[Event]:
    """Sets the event on the first Ctrl-C or SIGTERM; the second one ends the program."""
    stopping = Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class BulkEditRunner:
    """Runs bulk edits and reports through a command, which counts the errors for its exit code."""

    def __init__(self, command: ReportingCommand, actor: User, stopping: Event) -> None:
        self.command = command
        self.actor = actor
        self.stopping = stopping

    def run(self, bulk_edit: BulkEdit, *, dry_run: bool = False, until: float = float("inf")) -> None:
        """Continues the bulk edit until it ends or pauses, or `time.monotonic()` reaches `until`."""
        if dry_run and bulk_edit.apply_when_planned and bulk_edit.status == Status.PLANNING:
            self.command.fail(
                f"{_label(bulk_edit)} will be applied as soon as it is planned, so it cannot be a dry run. Nothing was "
                "done."
            )
        if bulk_edit.status == Status.PLANNING:
            bulk_edit = self._plan(bulk_edit)
        if bulk_edit.status == Status.PLANNED:
            changes = self._show(bulk_edit)
            if dry_run and not changes:
                return self.command.report("Nothing was sent, and there is nothing to apply.")
            if dry_run:
                return self.command.report(
                    f"Nothing was sent. `manage.py edit_metadata --resume {bulk_edit.pk}` applies the plan, until "
                    f"{bulk_edit.expires_at:%Y-%m-%d %H:%M} UTC. To apply or cancel it in the admin: "
                    f"{change_url(bulk_edit)}"
                )
            bulk_edit = bulk_edits.apply(bulk_edit=bulk_edit, actor=self.actor)
        elif dry_run or bulk_edit.has_ended:
            state = bulk_edit.get_status_display().lower()
            self.command.fail(f"{_label(bulk_edit)} is {state}: nothing was done. {bulk_edit.detail}".strip())
        elif bulk_edit.status == Status.PAUSED:
            bulk_edit = bulk_edits.resume(bulk_edit=bulk_edit, actor=self.actor)
        self._report(self._push(bulk_edit, until))

    def _plan(self, bulk_edit: BulkEdit) -> BulkEdit:
        with self.command.progress_bar(desc="planning", total=bulk_edit.selected, unit=" runs") as bar:
            while bulk_edit.status == Status.PLANNING and not self.stopping.is_set():
                planned = bulk_edit.planned
                until = time.monotonic() + STEP
                bulk_edit = bulk_edits.continue_planning(bulk_edit, until=until, stopping=self.stopping)
                bar.update(bulk_edit.planned - bar.n)
                if bulk_edit.planned == planned:  # A worker is continuing the plan.
                    self.stopping.wait(PAUSE)
        # A bulk edit that has been applied in the meantime must be paused instead.
        if self.stopping.is_set() and not bulk_edit.is_in_progress:
            self.command.fail(f"Stopped; nothing was sent. {_resume_hint(bulk_edit)}")
        return bulk_edit

    def _show(self, bulk_edit: BulkEdit) -> int:
        """Reports a plan. Returns how many runs it would change."""
        plan_results = bulk_edits.progress(bulk_edit).plan_results
        counts = ", ".join(
            f"{Edit.PlanResult(name).label.lower()} {count:,}" for name, count in sorted(plan_results.items())
        )
        self.command.report(
            f"{_label(bulk_edit)}: {counted(bulk_edit.selected, 'run')} of {bulk_edit.connection}: {counts}.",
            bulk_edit=bulk_edit.pk,
            status=bulk_edit.status,
            connection=bulk_edit.connection,
            selected=bulk_edit.selected,
            plan_results=plan_results,
            expires_at=bulk_edit.expires_at,
            page=change_url(bulk_edit),
        )
        changes = bulk_edit.edits.filter(plan_result=Edit.PlanResult.CHANGE).select_related("run").defer("run__raw")
        for edit in changes.order_by("pk")[:DIFFS_SHOWN]:
            before = edit.base or Metadata()
            after = edit.patch.apply(before)
            self.command.report(
                f"  {edit.run.upstream_id}: {_changes(before, after)}",
                run=edit.run.upstream_id,
                plan_result=edit.plan_result,
                before=dict(before),
                after=dict(after),
            )
        count = plan_results.get(Edit.PlanResult.CHANGE, 0)
        if (more := count - DIFFS_SHOWN) > 0:
            self.command.report(f"  … and {more:,} more: {change_url(bulk_edit)}")
        return count

    def _push(self, bulk_edit: BulkEdit, until: float) -> BulkEdit:
        self.command.try_connections([bulk_edit.connection])
        total = bulk_edits.progress(bulk_edit).total
        with self.command.progress_bar(desc="pushing", total=total, unit=" runs") as bar:
            while bulk_edit.is_in_progress and not self.stopping.is_set() and (now := time.monotonic()) < until:
                processed = edits.process_due(until=min(until, now + STEP), stopping=self.stopping)
                bulk_edits.advance_statuses()
                bulk_edit = BulkEdit.objects.get(pk=bulk_edit.pk)
                bar.update(bulk_edits.progress(bulk_edit).ended - bar.n)
                if connections.is_held(bulk_edit.connection):
                    if not connections.is_unreachable(bulk_edit.connection):
                        break
                    probes.probe_held()
                if not processed and bulk_edit.is_in_progress:
                    self.stopping.wait(PAUSE)
        if self.stopping.is_set():
            with suppress(InvalidTransition):  # The bulk edit has ended in the meantime.
                bulk_edit = bulk_edits.pause(bulk_edit=bulk_edit, actor=self.actor)
        return bulk_edit

    def _report(self, bulk_edit: BulkEdit) -> None:
        progress = bulk_edits.progress(bulk_edit)
        statuses = progress.statuses
        unsuccessful = bulk_edit.edits.filter(status__in=_UNSUCCESSFUL)
        ordered = unsuccessful.select_related("run").defer("run__raw").order_by("pk")
        shown = ordered if self.command.as_json else ordered[:ERRORS_SHOWN]
        for edit in shown.iterator():
            self.command.report_edit(edit)
        if (more := progress.count(*_UNSUCCESSFUL) - ERRORS_SHOWN) > 0 and not self.command.as_json:
            self.command.warn(f"… and {more:,} more: {change_url(bulk_edit)}", more)
        counts = ", ".join(f"{EditStatus(name).label.lower()} {count:,}" for name, count in sorted(statuses.items()))
        message = f"{_label(bulk_edit)}: {bulk_edit.get_status_display().lower()}: {counts}. {bulk_edit.detail}".strip()
        if not bulk_edit.has_ended:
            message = f"{message} {self._unfinished_reason(bulk_edit)}"
        was_interrupted = self.stopping.is_set() and not bulk_edit.has_ended
        needs_attention = was_interrupted or bulk_edit.is_paused_for_rewrites
        self.command.report(
            message,
            is_success=bulk_edit.status in (Status.COMPLETED, Status.PAUSED) and not needs_attention,
            errors=0 if self.command.errors_count else 1,
            bulk_edit=bulk_edit.pk,
            status=bulk_edit.status,
            statuses=statuses,
            detail=bulk_edit.detail,
            page=change_url(bulk_edit),
        )

    def _unfinished_reason(self, bulk_edit: BulkEdit) -> str:
        why = ""
        if bulk_edit.is_in_progress:
            why = f"{connections.hold_reason(bulk_edit.connection) or 'A worker continues it.'} "
            if waiting := bulk_edits.waiting_in_words(bulk_edit):
                end = bulk_edit.active_until
                until = f" (active runs until {end:%Y-%m-%d %H:%M:%S} UTC)" if end else ""
                why = f"Waiting: {waiting}{until}. {why}"
        return f"{why}{_resume_hint(bulk_edit)}"


def _label(bulk_edit: BulkEdit) -> str:
    return f"Bulk edit {bulk_edit.pk}"


def _resume_hint(bulk_edit: BulkEdit) -> str:
    return f"`manage.py edit_metadata --resume {bulk_edit.pk}` continues it."


def _changes(before: Metadata, after: Metadata) -> str:
    keys = differing_keys(before, after)
    return ", ".join(f"{key}: {before.get(key, '(none)')} → {after.get(key, '(removed)')}" for key in keys)
