"""Backups during a bulk edit. Later, each is restored and released, while upstream has newer values."""

import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from loadtests import log_checks
from loadtests.environment import Environment
from loadtests.processes import Process, Worker, run_command
from loadtests.report import Counts
from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, Run
from runsadmin.models.edit import ENDED, UNSETTLED
from runsadmin.services import backups, bulk_edits, edits
from tests.faults.writer import KEY, writing
from tests.waiting import until

E = Edit.Status
# For each backup, one single edit is sent after it, one gets a newer value from another client, and one does neither.
SENT_LATER, CHANGED_LATER, NOT_SENT = range(3)
OUTSIDE_RUNS = 100  # Runs to which another client keeps writing.
# The bulk edit is paused when this share of its edits is sent, so that some are not sent before a restore.
SENT_SHARE = 0.8
# Held workers must send nothing for this many seconds. They look for due edits every 0.3 s.
WATCHED_WHILE_HELD = 1.5


@dataclass
class BackupsReport(Counts):
    edits: int = 0
    backups: int = 0
    backups_with_edits_in_flight: int = 0
    longest_backup_in_seconds: float = 0.0
    seconds_to_apply: float = 0.0
    edits_unsettled_in_backups: int = 0
    edits_in_flight_in_backups: int = 0
    runs_with_newer_values: int = 0
    restores: int = 0
    writes_before_the_restores: int = 0
    writes_after_releases: int = 0
    outcomes_after_releases: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    no_unsound_backup: int = 0
    no_write_before_a_release: int = 0
    no_edit_without_an_outcome: int = 0
    no_run_written_twice: int = 0
    no_newer_value_overwritten: int = 0
    no_released_edit_that_was_not_sent: int = 0
    no_post_without_a_fetch_before_it: int = 0
    no_outside_pair_lost_outside_the_race_window: int = 0
    no_run_whose_mirror_differs_from_upstream: int = 0


class BackupsLoad:
    def __init__(
        self, environment: Environment, *, edits: int, count: int, workers: int, latency: int, seed: int = 1
    ) -> None:
        """`latency` is that of the sandbox, in milliseconds."""
        self.environment = environment
        self.count = count
        self.workers = workers
        self.random = Random(seed)
        runs = environment.make_runs(edits + 3 * count, per_thread=50)
        self.bulk, self.single = runs[:edits], runs[edits:]
        environment.sandbox.settings(latency_ms=latency)
        self.newer: dict[str, str] = {}
        self.report = BackupsReport(edits=edits, backups=count)

    def run(self) -> BackupsReport:
        began = time.monotonic()
        files = self._back_up_during_a_bulk_edit()
        self.report.writes_before_the_restores = self._writes()
        for number, file in enumerate(files):
            self._change_upstream(number)
            self._restore(number, file)
        self._count_results()
        self.report.seconds = time.monotonic() - began
        return self.report

    # --- the backups

    def _back_up_during_a_bulk_edit(self) -> list[Path]:
        alice = self.environment.alice
        planned = bulk_edits.plan(
            selection=bulk_edits.by_ids([run.upstream_id for run in self.bulk]), patch=BulkPatch({"team": "red"}),
            actor=alice, source=Edit.Source.ADMIN, reason="load test", canary=int(SENT_SHARE * len(self.bulk)),
        )  # fmt: skip
        bulk_edit = bulk_edits.continue_planning(planned, until=float("inf"))
        workers = self._start_workers()
        outside = self.random.sample([run.upstream_id for run in self.bulk], min(OUTSIDE_RUNS, len(self.bulk) // 2))
        with writing(self.environment.sandbox, *outside, pause=0.2):
            applied = time.monotonic()
            bulk_edits.apply(bulk_edit=bulk_edit, actor=alice)
            files = [self._back_up(bulk_edit, number) for number in range(self.count)]
            until(lambda: BulkEdit.objects.filter(status=BulkEditStatus.PAUSED).exists(), seconds=600)
            self.report.seconds_to_apply = time.monotonic() - applied
        self._stop(workers)
        return files

    def _back_up(self, bulk_edit: BulkEdit, number: int) -> Path:
        share = SENT_SHARE * (number + 0.5) / (self.count + 1)
        until(lambda: bulk_edit.edits.filter(status__in=ENDED).count() >= share * len(self.bulk), seconds=600)
        later = [self._record_for_later(run) for run in self._single(number)]
        file, began = self.environment.folder / f"backup-{number}", time.monotonic()
        process = Process(
            run_command, "manage.py", "backup", str(file),
            variables=self.environment.variables, log=self.environment.log("backup"),
        )  # fmt: skip
        self.environment.processes.append(process)
        process.wait(600)
        self.report.no_unsound_backup += process.exit_code != 0
        took = time.monotonic() - began
        self.report.longest_backup_in_seconds = max(self.report.longest_backup_in_seconds, took)
        pushed = edits.push(later[SENT_LATER])
        assert pushed.status == E.APPLIED, pushed.detail
        return file

    def _single(self, number: int) -> list[Run]:
        return self.single[3 * number : 3 * number + 3]

    def _record_for_later(self, run: Run) -> Edit:
        """Records an edit without a base, which no worker sends yet."""
        edit = self.environment.record(run, "red")
        Edit.objects.filter(pk=edit.pk).update(next_attempt_at=None)
        return edit

    # --- the restores

    def _change_upstream(self, number: int) -> None:
        """Another client changes what some edits of this backup touch: in some runs before they were sent, in others
        after."""
        changed = [self._single(number)[CHANGED_LATER], *self.random.sample(self.bulk, max(1, len(self.bulk) // 100))]
        for run in changed:
            value = f"violet-{number}"
            self.environment.sandbox.add_pairs(run.upstream_id, {"team": value})
            self.newer[run.upstream_id] = value

    def _restore(self, number: int, file: Path) -> None:
        """Restores in this process, since it has the database open."""
        report, alice = self.report, self.environment.alice
        backups.restore(file)
        report.restores += 1
        waiting = Edit.objects.filter(status__in=UNSETTLED)
        in_flight = waiting.filter(status=E.UNKNOWN).count()
        report.edits_unsettled_in_backups += waiting.count()
        report.edits_in_flight_in_backups += in_flight
        report.backups_with_edits_in_flight += in_flight > 0
        released = set(waiting.values_list("pk", flat=True))
        before = self._writes()

        workers = self._start_workers()
        time.sleep(WATCHED_WHILE_HELD)
        report.no_write_before_a_release += self._writes() - before
        edits.release_all(connection="default", actor=alice)
        for paused in BulkEdit.objects.filter(status=BulkEditStatus.PAUSED):
            bulk_edits.resume(bulk_edit=paused, actor=alice)
        self.environment.end_pauses()
        until(lambda: not waiting.exists(), seconds=600)
        self._stop(workers)

        ended = Edit.objects.filter(pk__in=released)
        report.outcomes_after_releases.update(ended.values_list("status", flat=True))
        report.no_edit_without_an_outcome += Edit.objects.exclude(status__in=ENDED).count()
        report.writes_after_releases += self._writes() - before
        not_sent = ended.get(run__upstream_id=self._single(number)[NOT_SENT].upstream_id)
        report.no_released_edit_that_was_not_sent += not_sent.status != E.APPLIED

    def _start_workers(self) -> list[Worker]:
        return [self.environment.worker() for _ in range(self.workers)]

    def _stop(self, workers: list[Worker]) -> None:
        for worker in workers:
            worker.send(signal.SIGTERM)
        for worker in workers:
            worker.wait(60)

    # --- the results

    def _writes(self) -> int:
        return len(log_checks.writes(self.environment.events))

    def _count_results(self) -> None:
        report, events, upstream = self.report, self.environment.events, self.environment.sandbox.runs()
        report.runs_with_newer_values = len(self.newer)
        written = Counter(event.run for event in log_checks.writes(events))
        report.no_run_written_twice = sum(count > 1 for count in written.values())
        report.no_newer_value_overwritten = sum(
            upstream[run_id]["metadata"]["team"] != value for run_id, value in self.newer.items()
        )
        report.no_post_without_a_fetch_before_it = len(log_checks.repeated(events))
        report.no_outside_pair_lost_outside_the_race_window = len(log_checks.lost(events))
        worker = self.environment.worker()
        self.environment.wait_for_sync(self.environment.start_full_sync())
        self._stop([worker])
        report.no_run_whose_mirror_differs_from_upstream = len(self.environment.differences(ignoring=KEY))
