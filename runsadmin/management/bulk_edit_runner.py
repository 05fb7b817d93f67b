"""A bulk edit in the foreground: planned, shown and pushed until it has ended, with or without a worker running."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event
from types import FrameType
from typing import Any

from django.contrib.auth.models import User
from django.urls import reverse
from tqdm import tqdm

from runsadmin.errors import InvalidTransition
from runsadmin.management.base import ReportingCommand
from runsadmin.metadata import Metadata
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus
from runsadmin.services import bulk_edits, connections, edits, probes

S = BulkEditStatus

DIFFS_SHOWN = 5
MISTAKES_SHOWN = 20
# Seconds between two looks at how far it is; Ctrl-C is heard at once.
TURN = 2.0
REST = 0.2

_MISTAKES = (EditStatus.CONFLICT, EditStatus.REJECTED, EditStatus.FAILED, EditStatus.DIFFERS)


@contextmanager
def stopped_by_signals() -> Iterator[Event]:
    """Set by the first Ctrl-C or SIGTERM. The second ends the program at once."""
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


class Foreground:
    """What is to be said goes through the command, and its exit code tells whether all went well."""

    def __init__(self, command: ReportingCommand, actor: User, stopping: Event) -> None:
        self.command = command
        self.actor = actor
        self.stopping = stopping

    def go_on(self, bulk_edit: BulkEdit, *, dry_run: bool = False, until: float = float("inf")) -> None:
        """From wherever it stands, until it has ended, or pauses, or `time.monotonic()` reaches `until`."""
        if dry_run and bulk_edit.apply_when_planned and bulk_edit.status == S.PLANNING:
            self.command.give_up(f"{_named(bulk_edit)} is applied as soon as its plan is whole: nothing was done here.")
        if bulk_edit.status == S.PLANNING:
            bulk_edit = self._plan(bulk_edit)
        if bulk_edit.status == S.PLANNED:
            self._show(bulk_edit)
            if dry_run:
                return self._tell_how_to_apply(bulk_edit)
            bulk_edit = bulk_edits.apply(bulk_edit=bulk_edit, actor=self.actor)
        elif dry_run or bulk_edit.has_ended:
            state = bulk_edit.get_status_display().lower()
            self.command.give_up(f"{_named(bulk_edit)} is {state}: nothing was done. {bulk_edit.detail}".strip())
        elif bulk_edit.status == S.PAUSED:
            bulk_edit = bulk_edits.resume(bulk_edit=bulk_edit, actor=self.actor)
        self._tell(self._push(bulk_edit, until))

    def _plan(self, bulk_edit: BulkEdit) -> BulkEdit:
        with self._bar("planning", bulk_edit.selected) as bar:
            while bulk_edit.status == S.PLANNING and not self.stopping.is_set():
                planned = bulk_edit.planned
                until = time.monotonic() + TURN
                bulk_edit = bulk_edits.continue_planning(bulk_edit, until=until, stopping=self.stopping)
                bar.update(bulk_edit.planned - bar.n)
                if bulk_edit.planned == planned:  # A worker is at it.
                    self.stopping.wait(REST)
        if self.stopping.is_set() and not bulk_edit.is_in_progress:  # Or it was applied meanwhile, and is to be paused.
            self.command.give_up(f"Stopped; nothing was sent. {_how_to_go_on(bulk_edit)}")
        return bulk_edit

    def _show(self, bulk_edit: BulkEdit) -> None:
        plan_results = bulk_edits.progress(bulk_edit).plan_results
        counts = ", ".join(
            f"{Edit.PlanResult(name).label.lower()} {count:,}" for name, count in sorted(plan_results.items())
        )
        self.command.say(
            f"{_named(bulk_edit)}: {bulk_edit.selected:,} runs of {bulk_edit.connection}: {counts}.",
            bulk_edit=bulk_edit.pk,
            status=bulk_edit.status,
            connection=bulk_edit.connection,
            selected=bulk_edit.selected,
            plan_results=plan_results,
            expires_at=None if bulk_edit.expires_at is None else bulk_edit.expires_at.isoformat(),
            page=_page(bulk_edit),
        )
        changes = bulk_edit.edits.filter(plan_result=Edit.PlanResult.CHANGE).select_related("run").defer("run__raw")
        for edit in changes.order_by("pk")[:DIFFS_SHOWN]:
            before = edit.base or Metadata()
            after = edit.patch.apply(before)
            self.command.say(
                f"  {edit.run.upstream_id}: {_difference(before, after)}",
                run=edit.run.upstream_id,
                plan_result=edit.plan_result,
                before=dict(before),
                after=dict(after),
            )
        if (more := plan_results.get(Edit.PlanResult.CHANGE, 0) - DIFFS_SHOWN) > 0 and not self.command.speaks_json:
            self.command.say(f"  … and {more:,} more: {_page(bulk_edit)}")

    def _tell_how_to_apply(self, bulk_edit: BulkEdit) -> None:
        if not self.command.speaks_json:
            self.command.say(
                f"Nothing was sent. `manage.py edit_metadata --resume {bulk_edit.pk}` applies the plan until "
                f"{bulk_edit.expires_at:%Y-%m-%d %H:%M} UTC; its page applies or cancels it: {_page(bulk_edit)}"
            )

    def _push(self, bulk_edit: BulkEdit, until: float) -> BulkEdit:
        self.command.try_connections([bulk_edit.connection])
        with self._bar("pushing", bulk_edits.progress(bulk_edit).total) as bar:
            while bulk_edit.is_in_progress and not self.stopping.is_set() and (now := time.monotonic()) < until:
                taken_up = edits.process_due(until=min(until, now + TURN), stopping=self.stopping)
                bulk_edits.advance_statuses()
                bulk_edit = BulkEdit.objects.get(pk=bulk_edit.pk)
                bar.update(bulk_edits.progress(bulk_edit).ended - bar.n)
                if connections.is_held(bulk_edit.connection):
                    if not connections.is_unreachable(bulk_edit.connection):
                        break
                    probes.probe_held()
                if not taken_up and bulk_edit.is_in_progress:
                    self.stopping.wait(REST)
        if self.stopping.is_set():
            with suppress(InvalidTransition):  # It has just ended.
                bulk_edit = bulk_edits.pause(bulk_edit=bulk_edit, actor=self.actor)
        return bulk_edit

    def _tell(self, bulk_edit: BulkEdit) -> None:
        progress = bulk_edits.progress(bulk_edit)
        statuses = progress.statuses
        wrong = bulk_edit.edits.filter(status__in=_MISTAKES).select_related("run").defer("run__raw").order_by("pk")
        shown = wrong if self.command.speaks_json else wrong[:MISTAKES_SHOWN]
        for edit in shown.iterator():
            self.command.say(
                f"{edit.run.upstream_id}: {edit.get_status_display().lower()}. {edit.detail}".strip(),
                is_fine=False,
                run=edit.run.upstream_id,
                connection=bulk_edit.connection,
                edit=edit.pk,
                status=edit.status,
                detail=edit.detail,
                upstream_request_id=edit.upstream_request_id,
            )
        if (more := progress.count(*_MISTAKES) - MISTAKES_SHOWN) > 0 and not self.command.speaks_json:
            self.command.complain(f"… and {more:,} more: {_page(bulk_edit)}", more)
        counts = ", ".join(f"{EditStatus(name).label.lower()} {count:,}" for name, count in sorted(statuses.items()))
        words = f"{_named(bulk_edit)}: {bulk_edit.get_status_display().lower()}: {counts}. {bulk_edit.detail}".strip()
        if not bulk_edit.has_ended:
            words = f"{words} {self._why_not_ended(bulk_edit)}"
        was_stopped = self.stopping.is_set() and not bulk_edit.has_ended
        went_wrong = was_stopped or bulk_edit.is_paused_for_rewrites
        self.command.say(
            words,
            is_fine=bulk_edit.status in (S.COMPLETED, S.PAUSED) and not went_wrong,
            mistakes=0 if self.command.mistakes else 1,
            bulk_edit=bulk_edit.pk,
            status=bulk_edit.status,
            statuses=statuses,
            detail=bulk_edit.detail,
            page=_page(bulk_edit),
        )

    def _why_not_ended(self, bulk_edit: BulkEdit) -> str:
        if bulk_edit.is_in_progress:
            why = connections.hold_reason(bulk_edit.connection) or "A worker goes on with it."
            if waiting := bulk_edits.waiting_in_words(bulk_edit):
                until = f" until {bulk_edit.active_until:%Y-%m-%d %H:%M:%S} UTC" if bulk_edit.active_until else ""
                why = f"Waiting: {waiting}{f' (active runs{until})' if until else ''}. {why}"
            return f"{why} {_how_to_go_on(bulk_edit)}"
        return _how_to_go_on(bulk_edit)

    def _bar(self, doing: str, total: int) -> "tqdm[Any]":
        silent = self.command.speaks_json or not sys.stderr.isatty()
        return tqdm(desc=doing, total=total, unit=" runs", disable=silent)


def _named(bulk_edit: BulkEdit) -> str:
    return f"Bulk edit {bulk_edit.pk}"


def _how_to_go_on(bulk_edit: BulkEdit) -> str:
    return f"`manage.py edit_metadata --resume {bulk_edit.pk}` goes on."


def _page(bulk_edit: BulkEdit) -> str:
    return reverse("admin:runsadmin_bulkedit_change", args=[bulk_edit.pk])


def _difference(before: Metadata, after: Metadata) -> str:
    keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return ", ".join(f"{key}: {before.get(key, '(none)')} → {after.get(key, '(removed)')}" for key in keys)
