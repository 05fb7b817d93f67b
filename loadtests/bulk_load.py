"""One bulk edit of many runs while workers are killed, or while upstream rejects requests, fails and loses responses.

Another client keeps writing to a few hundred of the runs.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from math import ceil
from uuid import UUID

from django.db import connection

from loadtests import log_checks
from loadtests.environment import Environment
from loadtests.processes import Worker
from loadtests.report import Report
from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, Run
from runsadmin.models.edit import ENDED
from runsadmin.services import bulk_edits, runs
from tests.faults.writer import KEY, Writer, writing
from tests.sandbox_client import Json
from tests.waiting import until

E = Edit.Status
PATCH = BulkPatch({"team": "red"}, ["ticket"])
WRITTEN = 300  # Runs to which another client keeps writing.
CHANGED = 300  # Runs that are changed before the undo, half of them only upstream.
LATENCY = 20  # The latency of the sandbox, in ms.

# The maximum time from a restart to the next outcome, in seconds.
RESUMES_WITHIN = 15.0
# The maximum number of requests per edit, not counting those that upstream rejects.
CALLS_WITH_SHARED_FETCHES, CALLS_OF_SINGLE_RUNS = 1.3, 2.3


@dataclass
class BulkReport(Report):
    seconds_to_plan: float = 0.0
    seconds_to_apply: float = 0.0


@dataclass
class KillsReport(BulkReport):
    edits_claimed_at_a_kill: int = 0
    edits_that_were_ever_unknown: int = 0
    longest_time_from_restart_to_outcome: float = 0.0
    seconds_to_undo: float = 0.0
    undo: Counter[str] = field(default_factory=Counter)
    runs_changed_before_the_undo: int = 0
    no_restart_that_took_too_long: int = 0
    no_unknown_edit_without_a_kill: int = 0
    no_run_that_was_not_restored: int = 0
    no_changed_run_that_was_not_reported: int = 0
    no_unchanged_run_reported_as_changed: int = 0


@dataclass
class FaultsReport(BulkReport):
    calls: Counter[str] = field(default_factory=Counter)
    calls_per_edit_without_refused: float = 0.0
    allowed_per_edit: float = 0.0
    no_edit_that_was_not_applied: int = 0
    no_call_too_many: int = 0


class BulkLoad:
    def __init__(
        self,
        environment: Environment,
        *,
        edits: int,
        per_thread: int,
        workers: int,
        fast: bool,
        seed: int | None = None,
    ) -> None:
        self.environment = environment
        self.fast = fast
        self.per_thread = per_thread
        self.random = random.Random(seed)
        self.ids = [run.upstream_id for run in environment.make_runs(edits, per_thread=per_thread)]
        self.earlier = {run_id: run["metadata"] for run_id, run in environment.sandbox.runs().items()}
        self.workers = [self._worker() for _ in range(workers)]
        environment.sandbox.settings(latency_ms=LATENCY)

    def _worker(self) -> Worker:
        return self.environment.worker(fast=self.fast)

    def _outside_writer(self) -> AbstractContextManager[Writer]:
        return writing(
            self.environment.sandbox, *self.random.sample(self.ids, min(WRITTEN, len(self.ids) // 2)), pause=1
        )

    # --- the bulk edit

    def _plan(self, report: BulkReport) -> BulkEdit:
        began = time.monotonic()
        selection = bulk_edits.by_search("metadata.team:blue")
        planned = bulk_edits.plan(
            selection=selection, patch=PATCH, actor=self.environment.alice, source=Edit.Source.ADMIN, reason="load test"
        )
        self._wait_until(planned, BulkEditStatus.PLANNED)
        report.seconds_to_plan = time.monotonic() - began
        return planned

    def _wait_until(self, bulk_edit: BulkEdit, status: BulkEditStatus) -> None:
        until(
            lambda: BulkEdit.objects.filter(pk=bulk_edit.pk, status=status).exists(), seconds=600 + len(self.ids) / 10
        )

    def _apply(self, bulk_edit: BulkEdit) -> float:
        bulk_edits.apply(bulk_edit=bulk_edit, actor=self.environment.alice)
        return time.monotonic()

    def _complete(self, bulk_edit: BulkEdit, began: float) -> float:
        self._wait_until(bulk_edit, BulkEditStatus.COMPLETED)
        return time.monotonic() - began

    # --- with kills

    def run_with_kills(self, kills: int) -> KillsReport:
        report, began = KillsReport(), time.monotonic()
        bulk_edit = self._plan(report)
        with recording_unknown() as unknown:
            with self._outside_writer():
                applied = self._apply(bulk_edit)
                claimed: set[int] = set()
                for number in range(1, kills + 1):
                    self._wait_for_share(bulk_edit, number / (kills + 1))
                    claimed |= self._kill(bulk_edit, report)
                report.seconds_to_apply = self._complete(bulk_edit, applied)
            report.edits_claimed_at_a_kill = len(claimed)
            report.edits_that_were_ever_unknown = len(unknown())
            report.no_unknown_edit_without_a_kill = len(unknown() - claimed)
        report.count_results(self.environment)
        self._undo(bulk_edit, report)
        report.seconds = time.monotonic() - began
        return report

    def _wait_for_share(self, bulk_edit: BulkEdit, share: float) -> None:
        until(lambda: ended(bulk_edit) >= share * len(self.ids), seconds=600 + len(self.ids) / 10)
        time.sleep(self.random.uniform(0, 0.3))

    def _kill(self, bulk_edit: BulkEdit, report: KillsReport) -> set[int]:
        """Kills one of the workers. Returns the edits that this worker had claimed."""
        index = self.random.randrange(len(self.workers))
        left = until(lambda: self._suspended_while_sending(self.workers[index]))
        self.workers[index].kill()
        before = ended(bulk_edit)
        self.workers[index] = self._worker()
        restarted = time.monotonic()
        report.kills["worker"] += 1
        report.restarts += 1
        until(lambda: ended(bulk_edit) > before, seconds=60)
        took = time.monotonic() - restarted
        report.no_restart_that_took_too_long += took > RESUMES_WITHIN
        longest = max(report.longest_time_from_restart_to_outcome, took)
        report.longest_time_from_restart_to_outcome = longest
        if len(self.workers) == 1:
            return set(left)
        time.sleep(2)  # The other workers finish what they have claimed.
        return {pk for pk, token in sending().items() if left.get(pk) == token}

    def _suspended_while_sending(self, worker: Worker) -> dict[int, UUID | None]:
        """Suspends the worker and returns the edits being sent. Wakes the worker if there are none."""
        worker.suspend()
        if not (in_flight := sending()):
            worker.wake()
        return in_flight

    # --- undo

    def _undo(self, bulk_edit: BulkEdit, report: KillsReport) -> None:
        changed = self._change_some_runs()
        report.runs_changed_before_the_undo = len(changed)
        began = time.monotonic()
        undo = bulk_edits.plan_undo(
            bulk_edit=bulk_edit, actor=self.environment.alice, source=Edit.Source.ADMIN, reason="undo"
        )
        with self._outside_writer():
            self._wait_until(undo, BulkEditStatus.PLANNED)
            self._apply(undo)
            report.seconds_to_undo = self._complete(undo, began)
        report.undo = outcomes_of(undo)
        upstream = self.environment.sandbox.runs()
        expected = {run_id: pairs | changed.get(run_id, {}) for run_id, pairs in self.earlier.items()}
        report.no_run_that_was_not_restored = sum(
            without_writer(upstream[run_id]["metadata"]) != without_writer(pairs) for run_id, pairs in expected.items()
        )
        reported = set(
            undo.edits.filter(detail__icontains="changed").values_list("run__upstream_id", flat=True).iterator()
        )
        report.no_changed_run_that_was_not_reported = len(changed.keys() - reported)
        report.no_unchanged_run_reported_as_changed = len(reported - changed.keys())
        events = self.environment.events
        report.no_post_without_a_fetch_before_it = len(log_checks.repeated(events))
        report.no_outside_pair_lost_outside_the_race_window = len(log_checks.lost(events))
        report.no_run_whose_mirror_differs_from_upstream += len(self.environment.differences(ignoring=KEY))

    def _change_some_runs(self) -> dict[str, Json]:
        """Another client changes one or both of the edited pairs of some runs. Half of these runs are then mirrored."""
        some = self.random.sample(self.ids, min(CHANGED, len(self.ids) // 5))
        changed: dict[str, Json] = {}
        for number, run_id in enumerate(some):
            changed[run_id] = {"team": "violet"} if number % 4 < 2 else {"team": "violet", "ticket": "theirs"}
            self.environment.sandbox.add_pairs(run_id, changed[run_id])
            if number % 2:
                run = Run.objects.select_related("thread").get(upstream_id=run_id)
                runs.refresh(run=run, actor=self.environment.alice)
        return changed

    # --- with faults

    def run_with_faults(self) -> FaultsReport:
        """10% of the requests get a 429, 5% get a 500 (half of those after the write), and 2% get no response."""
        report, began = FaultsReport(), time.monotonic()
        bulk_edit = self._plan(report)
        sandbox = self.environment.sandbox
        sandbox.clear_log()
        sandbox.fault("status", status=429, headers={"retry-after-ms": "200"}, times=None, probability=0.1)
        # Each fault applies only to requests to which the faults before it did not apply.
        sandbox.fault("status", status=500, keep=True, times=None, probability=0.025 / 0.9)
        sandbox.fault("status", status=500, times=None, probability=0.025 / 0.875)
        sandbox.fault("lose", times=None, probability=0.02 / 0.85)
        with self._outside_writer():
            report.seconds_to_apply = self._complete(bulk_edit, self._apply(bulk_edit))
        log = sandbox.log()
        sandbox.clear_faults()
        report.calls = Counter(kind_of(call) for call in log)
        accepted = len(log) - report.calls.get("refused", 0)
        report.calls_per_edit_without_refused = accepted / len(self.ids)
        report.allowed_per_edit = CALLS_WITH_SHARED_FETCHES if self.per_thread > 1 else CALLS_OF_SINGLE_RUNS
        report.no_call_too_many = max(0, ceil(accepted - report.allowed_per_edit * len(self.ids)))
        report.no_edit_that_was_not_applied = bulk_edit.edits.exclude(status=E.APPLIED).count()
        report.count_results(self.environment)
        report.seconds = time.monotonic() - began
        return report


def sending() -> dict[int, UUID | None]:
    """Returns the edits being sent, each with its claim token."""
    return dict(Edit.objects.filter(status=E.SENDING).values_list("pk", "claim_token"))


def ended(bulk_edit: BulkEdit) -> int:
    return bulk_edit.edits.filter(status__in=ENDED).count()


def outcomes_of(bulk_edit: BulkEdit) -> Counter[str]:
    return Counter(bulk_edit.edits.values_list("status", flat=True))


def without_writer(metadata: Json) -> Json:
    return {key: value for key, value in metadata.items() if key != KEY}


def kind_of(call: Json) -> str:
    if call["status"] == 429:
        return "refused"
    if call["method"] == "POST":
        return "writes"
    return "lists" if call["path"].endswith("/runs") else "fetches"


@contextmanager
def recording_unknown() -> Iterator[Callable[[], set[int]]]:
    """Records every edit that becomes unknown, however briefly, with a database trigger."""
    insert = "INSERT INTO ever_unknown VALUES (NEW.id);"
    when = "AFTER UPDATE ON runsadmin_edit FOR EACH ROW WHEN (NEW.status = 'unknown')"
    if connection.vendor == "sqlite":
        begin = [f"CREATE TRIGGER record_unknown {when} BEGIN {insert} END"]
        end = ["DROP TRIGGER record_unknown"]
    else:
        body = f"$$ BEGIN {insert} RETURN NULL; END $$ LANGUAGE plpgsql"
        begin = [
            f"CREATE FUNCTION record_unknown() RETURNS trigger AS {body}",
            f"CREATE TRIGGER record_unknown {when} EXECUTE FUNCTION record_unknown()",
        ]
        end = ["DROP FUNCTION record_unknown CASCADE"]

    def recorded() -> set[int]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT edit FROM ever_unknown")
            return {edit for (edit,) in cursor.fetchall()}

    _execute("CREATE TABLE ever_unknown (edit bigint)", *begin)
    try:
        yield recorded
    finally:
        _execute(*end, "DROP TABLE ever_unknown")


def _execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
