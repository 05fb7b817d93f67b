"""One bulk edit of many runs, in trouble: workers are killed, or the upstream refuses, fails and loses answers.

Somebody else writes to a few hundred of the runs all the time. In the end everything is counted, and what must be
nothing has to be.
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

from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, Run
from runsadmin.models.edit import ENDED
from runsadmin.services import bulk_edits, runs
from tests.crashes import judge
from tests.crashes.processes import Worker
from tests.crashes.report import Report
from tests.crashes.scene import Scene
from tests.faults.writer import KEY, Writer, writing
from tests.sandbox_client import Json
from tests.waiting import until

E = Edit.Status
PATCH = BulkPatch({"team": "red"}, ["ticket"])
WRITTEN = 300  # Runs that somebody else writes to all the time,
CHANGED = 300  # and runs that are changed before the undo: half of them upstream only.
LATENCY = 20  # Milliseconds that the sandbox takes.

# How soon after a restart work has to go on, and how much an edit may ask of the upstream, refusals apart.
GOES_ON_WITHIN = 15.0
CALLS_WITH_SHARED_LOOKS, CALLS_OF_LONE_RUNS = 1.3, 2.3


@dataclass
class FloodReport(Report):
    seconds_to_plan: float = 0.0
    seconds_to_apply: float = 0.0


@dataclass
class KillsReport(FloodReport):
    edits_claimed_by_those_who_were_killed: int = 0
    edits_that_ever_were_unknown: int = 0
    longest_time_from_a_restart_to_the_next_outcome: float = 0.0
    seconds_to_undo: float = 0.0
    undo: dict[str, int] = field(default_factory=dict)
    runs_changed_before_the_undo: int = 0
    no_restart_after_which_nothing_went_on_in_time: int = 0
    no_unknown_edit_that_nobody_died_with: int = 0
    no_run_that_is_not_back: int = 0
    no_changed_run_that_was_not_told: int = 0
    no_run_told_as_changed_that_was_not: int = 0


@dataclass
class FaultsReport(FloodReport):
    calls: dict[str, int] = field(default_factory=dict)
    calls_per_edit_but_the_refused: float = 0.0
    allowed_per_edit: float = 0.0
    no_edit_that_was_not_applied: int = 0
    no_call_too_many: int = 0


class Flood:
    def __init__(
        self, scene: Scene, *, edits: int, per_thread: int, workers: int, hurried: bool, seed: int | None = None
    ) -> None:
        self.scene = scene
        self.hurried = hurried
        self.per_thread = per_thread
        self.random = random.Random(seed)
        self.ids = [run.upstream_id for run in scene.make_runs(edits, per_thread=per_thread)]
        self.earlier = {run_id: run["metadata"] for run_id, run in scene.sandbox.runs().items()}
        self.workers = [self._worker() for _ in range(workers)]
        scene.sandbox.settings(latency_ms=LATENCY)

    def _worker(self) -> Worker:
        return self.scene.worker(hurried=self.hurried)

    def _somebody_else(self) -> AbstractContextManager[Writer]:
        return writing(self.scene.sandbox, *self.random.sample(self.ids, min(WRITTEN, len(self.ids) // 2)), pause=1)

    # --- the bulk edit

    def _plan(self, report: FloodReport) -> BulkEdit:
        began = time.monotonic()
        selection = bulk_edits.by_search("metadata.team:blue")
        planned = bulk_edits.plan(
            selection=selection, patch=PATCH, actor=self.scene.alice, source=Edit.Source.ADMIN, reason="a flood"
        )
        self._wait_until(planned, BulkEditStatus.PLANNED)
        report.seconds_to_plan = time.monotonic() - began
        return planned

    def _wait_until(self, bulk_edit: BulkEdit, status: BulkEditStatus) -> None:
        until(
            lambda: BulkEdit.objects.filter(pk=bulk_edit.pk, status=status).exists(), seconds=600 + len(self.ids) / 10
        )

    def _apply(self, bulk_edit: BulkEdit) -> float:
        bulk_edits.apply(bulk_edit=bulk_edit, actor=self.scene.alice)
        return time.monotonic()

    def _complete(self, bulk_edit: BulkEdit, began: float) -> float:
        self._wait_until(bulk_edit, BulkEditStatus.COMPLETED)
        return time.monotonic() - began

    # --- under kills

    def under_kills(self, kills: int) -> KillsReport:
        report, began = KillsReport(), time.monotonic()
        bulk_edit = self._plan(report)
        with noting_unknown() as unknown:
            with self._somebody_else():
                applied = self._apply(bulk_edit)
                claimed: set[int] = set()
                for number in range(1, kills + 1):
                    self._wait_for_share(bulk_edit, number / (kills + 1))
                    claimed |= self._kill(bulk_edit, report)
                report.seconds_to_apply = self._complete(bulk_edit, applied)
            report.edits_claimed_by_those_who_were_killed = len(claimed)
            report.edits_that_ever_were_unknown = len(unknown())
            report.no_unknown_edit_that_nobody_died_with = len(unknown() - claimed)
        report.judge(self.scene)
        self._undo(bulk_edit, report)
        report.seconds = time.monotonic() - began
        return report

    def _wait_for_share(self, bulk_edit: BulkEdit, share: float) -> None:
        until(lambda: ended(bulk_edit) >= share * len(self.ids), seconds=600 + len(self.ids) / 10)
        time.sleep(self.random.uniform(0, 0.3))

    def _kill(self, bulk_edit: BulkEdit, report: KillsReport) -> set[int]:
        """One of the workers. Returns the edits that it had in its hands."""
        place = self.random.randrange(len(self.workers))
        left = until(lambda: self._caught(self.workers[place]))
        self.workers[place].kill()
        before = ended(bulk_edit)
        self.workers[place] = self._worker()
        restarted = time.monotonic()
        report.kills["worker"] += 1
        report.restarts += 1
        until(lambda: ended(bulk_edit) > before, seconds=60)
        took = time.monotonic() - restarted
        report.no_restart_after_which_nothing_went_on_in_time += took > GOES_ON_WITHIN
        longest = max(report.longest_time_from_a_restart_to_the_next_outcome, took)
        report.longest_time_from_a_restart_to_the_next_outcome = longest
        if len(self.workers) == 1:
            return set(left)
        time.sleep(2)  # The others bring on what they have in their hands.
        return {pk for pk, token in sending().items() if left.get(pk) == token}

    def _caught(self, worker: Worker) -> dict[int, UUID | None]:
        """It stands still, with these edits under way. It goes on where there are none."""
        worker.stop()
        if not (under_way := sending()):
            worker.wake()
        return under_way

    # --- undo

    def _undo(self, bulk_edit: BulkEdit, report: KillsReport) -> None:
        changed = self._change()
        report.runs_changed_before_the_undo = len(changed)
        began = time.monotonic()
        undo = bulk_edits.plan_undo(
            bulk_edit=bulk_edit, actor=self.scene.alice, source=Edit.Source.ADMIN, reason="a mistake"
        )
        with self._somebody_else():
            self._wait_until(undo, BulkEditStatus.PLANNED)
            self._apply(undo)
            report.seconds_to_undo = self._complete(undo, began)
        report.undo = told_of(undo)
        upstream = self.scene.sandbox.runs()
        expected = {run_id: pairs | changed.get(run_id, {}) for run_id, pairs in self.earlier.items()}
        report.no_run_that_is_not_back = sum(
            without_writer(upstream[run_id]["metadata"]) != without_writer(pairs) for run_id, pairs in expected.items()
        )
        told = set(undo.edits.filter(detail__icontains="since").values_list("run__upstream_id", flat=True).iterator())
        report.no_changed_run_that_was_not_told = len(changed.keys() - told)
        report.no_run_told_as_changed_that_was_not = len(told - changed.keys())
        events = self.scene.events
        report.no_post_without_a_look_in_between = len(judge.repeated(events))
        report.no_writers_pair_lost_outside_the_gap = len(judge.lost(events))
        report.no_run_whose_mirror_differs_from_upstream += len(self.scene.differing(apart_from=KEY))

    def _change(self) -> dict[str, Json]:
        """Somebody else changes one or both of the pairs that were touched; the mirror is told of every other run."""
        some = self.random.sample(self.ids, min(CHANGED, len(self.ids) // 5))
        changed: dict[str, Json] = {}
        for number, run_id in enumerate(some):
            changed[run_id] = {"team": "violet"} if number % 4 < 2 else {"team": "violet", "ticket": "theirs"}
            self.scene.sandbox.add_pairs(run_id, changed[run_id])
            if number % 2:
                run = Run.objects.select_related("thread").get(upstream_id=run_id)
                runs.refresh(run=run, actor=self.scene.alice)
        return changed

    # --- under faults

    def under_faults(self) -> FaultsReport:
        """One request in ten is refused for now, one in twenty fails (half of those are kept), one in fifty is lost."""
        report, began = FaultsReport(), time.monotonic()
        bulk_edit = self._plan(report)
        sandbox = self.scene.sandbox
        sandbox.clear_log()
        sandbox.fault("status", status=429, headers={"retry-after-ms": "200"}, times=None, probability=0.1)
        # Each is asked only where those before it did not strike.
        sandbox.fault("status", status=500, keep=True, times=None, probability=0.025 / 0.9)
        sandbox.fault("status", status=500, times=None, probability=0.025 / 0.875)
        sandbox.fault("lose", times=None, probability=0.02 / 0.85)
        with self._somebody_else():
            report.seconds_to_apply = self._complete(bulk_edit, self._apply(bulk_edit))
        log = sandbox.log()
        sandbox.clear_faults()
        report.calls = dict(Counter(kind_of(call) for call in log))
        let_in = len(log) - report.calls.get("refused", 0)
        report.calls_per_edit_but_the_refused = let_in / len(self.ids)
        report.allowed_per_edit = CALLS_WITH_SHARED_LOOKS if self.per_thread > 1 else CALLS_OF_LONE_RUNS
        report.no_call_too_many = max(0, ceil(let_in - report.allowed_per_edit * len(self.ids)))
        report.no_edit_that_was_not_applied = bulk_edit.edits.exclude(status=E.APPLIED).count()
        report.judge(self.scene)
        report.seconds = time.monotonic() - began
        return report


def sending() -> dict[int, UUID | None]:
    """The edits that somebody has in his hands, and by which claim."""
    return dict(Edit.objects.filter(status=E.SENDING).values_list("pk", "claim_token"))


def ended(bulk_edit: BulkEdit) -> int:
    return bulk_edit.edits.filter(status__in=ENDED).count()


def told_of(bulk_edit: BulkEdit) -> dict[str, int]:
    return dict(Counter(bulk_edit.edits.values_list("status", flat=True)))


def without_writer(metadata: Json) -> Json:
    return {key: value for key, value in metadata.items() if key != KEY}


def kind_of(call: Json) -> str:
    if call["status"] == 429:
        return "refused"
    if call["method"] == "POST":
        return "writes"
    return "lists" if call["path"].endswith("/runs") else "looks"


@contextmanager
def noting_unknown() -> Iterator[Callable[[], set[int]]]:
    """The database itself notes every edit that is unknown for however short a time."""
    note = "INSERT INTO ever_unknown VALUES (NEW.id);"
    when = "AFTER UPDATE ON runsadmin_edit FOR EACH ROW WHEN (NEW.status = 'unknown')"
    if connection.vendor == "sqlite":
        begin = [f"CREATE TRIGGER note_unknown {when} BEGIN {note} END"]
        end = ["DROP TRIGGER note_unknown"]
    else:
        body = f"$$ BEGIN {note} RETURN NULL; END $$ LANGUAGE plpgsql"
        begin = [
            f"CREATE FUNCTION note_unknown() RETURNS trigger AS {body}",
            f"CREATE TRIGGER note_unknown {when} EXECUTE FUNCTION note_unknown()",
        ]
        end = ["DROP FUNCTION note_unknown CASCADE"]

    def noted() -> set[int]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT edit FROM ever_unknown")
            return {edit for (edit,) in cursor.fetchall()}

    _execute("CREATE TABLE ever_unknown (edit bigint)", *begin)
    try:
        yield noted
    finally:
        _execute(*end, "DROP TABLE ever_unknown")


def _execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
