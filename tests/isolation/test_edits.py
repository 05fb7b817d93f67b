"""An edit, a row of a plan or an export that cannot be processed ends with its reason, and the others go on."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from runsadmin.bulk_patch import BulkPatch
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, Edit, EditStatus, Export, ExportFormat, Run, SharedText
from runsadmin.services import bulk_edits, edits, exports
from runsadmin.services.bulk_edits import planning
from runsadmin.services.edits import refusals
from runsadmin.services.edits.batch import coordinator
from runsadmin.services.exports import NewExport
from runsadmin.services.run_search import RunSearch
from tests.bulk import processing_edits
from tests.conftest import Connect, MakeRun
from tests.isolation.conftest import Lines, Refuse
from tests.sandbox_client import Sandbox
from tests.services.bulk_edit import apply, plan
from tests.services.single_edit import process_due
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def due(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> list[Edit]:
    """Eight due edits, of eight runs in two threads."""
    made = [mirror_run(id=f"run_{n}", thread_id=f"thread_{n % 2}", metadata={"team": "blue"}) for n in range(8)]
    patch = MetadataPatch({"team": "red"})
    recorded = [edits.record(run=run, patch=patch, actor=alice, source=Edit.Source.API) for run in made]
    Edit.objects.update(next_attempt_at=timezone.now())
    return recorded


def statuses() -> dict[str, int]:
    return Counter(Edit.objects.values_list("status", flat=True))


@pytest.mark.parametrize("push", [lambda edit: process_due(), edits.push], ids=["batch", "single"])
def test_refused_mirror_row_ends_the_edit(
    push: Callable[[Edit], object], due: list[Edit], sandbox: Sandbox, refuse: Refuse, log_lines: Lines
) -> None:
    """Upstream has the change, so the edit is applied. Only its run could not be mirrored."""
    refuse("runsadmin_run", "NEW.upstream_id = 'run_3'", "UPDATE")
    push(due[3])
    edit = Edit.objects.get(pk=due[3].pk)
    assert (edit.status, edit.http_status) == (EditStatus.APPLIED, 200)
    assert "could not be stored in the mirror" in edit.detail
    assert len(sandbox.posts("run_3")) == 1
    assert len(log_lines()) < 60
    process_due()
    assert statuses() == {"applied": 8}
    assert Run.objects.get(upstream_id="run_3").metadata == {"team": "blue"}
    assert Run.objects.get(upstream_id="run_4").metadata == {"team": "red"}


def test_refused_edit_row_ends_alone(due: list[Edit], refuse: Refuse, settings: Settings, log_lines: Lines) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 2
    refuse("runsadmin_edit", f"NEW.id = {due[3].pk} AND NEW.before IS NOT NULL", "UPDATE")
    process_due()
    assert statuses() == {"applied": 7, "pending": 1}
    Edit.objects.filter(status="pending").update(next_attempt_at=timezone.now())
    process_due()
    assert statuses() == {"applied": 7, "failed": 1}
    assert "internal error" in Edit.objects.get(pk=due[3].pk).detail
    assert len(log_lines()) < 150


@pytest.mark.parametrize("step", ["_process_list", "_process_fetch_error", "_process_reach"])
def test_error_of_a_step_stops_no_batch(
    step: str, due: list[Edit], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every edit is released, so the batch ends, and a later attempt succeeds."""
    if step != "_process_list":
        sandbox.fault("status", status=404, times=None, path="/runs")

    def fail(*args: object, **options: object) -> None:
        raise RecursionError("too deep")

    with monkeypatch.context() as patched:
        patched.setattr(coordinator.Coordinator, step, fail)
        process_due()
    assert not Edit.objects.exclude(claim_token=None).exists()
    sandbox.clear_faults()

    def are_applied() -> bool:
        Edit.objects.filter(status="pending").update(next_attempt_at=timezone.now())
        process_due()
        return statuses() == {"applied": 8}

    until(are_applied)
    assert len(sandbox.posts()) == 8


def test_error_in_refusals_stops_no_batch(due: list[Edit], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.fault("status", status=403, method="POST", path="/run_3$", times=None)

    def fail(*args: object, **options: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(refusals, "evaluate", fail)
    process_due()
    assert statuses() == {"applied": 7, "unknown": 1}


def test_slow_connection_delays_no_other(
    due: list[Edit], sandbox: Sandbox, connect: Connect, copy_to_eu: Callable[[Run], None], alice: User
) -> None:
    """A worker pushes new edits of one connection while another connection does not respond."""
    connect(READ_TIMEOUT=6.0)
    copy_to_eu(due[0].run)
    connect("eu", READ_TIMEOUT=1.0)
    sandbox.fault("hang", path="/run_7$", times=None)
    other = Run.objects.get(connection="eu")
    began = time.monotonic()

    with processing_edits() as processing:
        time.sleep(2)
        edit = edits.record(run=other, patch=MetadataPatch({"note": "x"}), actor=alice, source=Edit.Source.API)
        Edit.objects.filter(pk=edit.pk).update(next_attempt_at=timezone.now())
        until(lambda: Edit.objects.filter(run=other, status="applied").exists(), seconds=4)
        assert not processing.done()
        assert time.monotonic() - began < 6


# --- Plans


def test_bad_row_of_a_plan_is_skipped(
    due: list[Edit], alice: User, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, log_lines: Lines
) -> None:
    process_due()
    template_fields = planning.template_fields

    def fail(run: Run) -> object:
        if run.upstream_id in ("run_3", "run_4"):
            raise OverflowError("too large")
        return template_fields(run)

    monkeypatch.setattr(planning, "template_fields", fail)
    planned = plan(alice, "metadata.team:red")
    assert planned.status == "planned"
    assert bulk_edits.progress(planned).plan_results == {"nothing": 6, "error": 2}
    bad = planned.edits.filter(plan_result="error")
    assert {edit.status for edit in bad} == {"skipped"}
    assert all("OverflowError" in edit.detail for edit in bad)
    assert bad.count() == 2
    assert len(log_lines()) < 50


def test_refused_row_of_a_plan_is_skipped(due: list[Edit], alice: User, sandbox: Sandbox, refuse: Refuse) -> None:
    process_due()
    run = Run.objects.get(upstream_id="run_3")
    refuse("runsadmin_edit", f"NEW.run_id = {run.pk} AND NEW.status = 'planned'")
    planned = plan(alice, "metadata.team:red", patch=BulkPatch({"team": "green"}))
    assert Counter(planned.edits.values_list("status", flat=True)) == {"planned": 7, "skipped": 1}
    assert "could not be stored" in planned.edits.get(status="skipped").detail
    assert apply(planned, alice).status == "completed"
    assert sandbox.metadata("run_4") == {"team": "green"}


def test_plan_that_kills_processes_fails(due: list[Edit], alice: User) -> None:
    selection = bulk_edits.by_search("metadata.team:blue")
    patch = BulkPatch({"team": "green"})
    made = bulk_edits.plan(selection=selection, patch=patch, actor=alice, source=Edit.Source.API, reason="r")
    BulkEdit.objects.update(attempts=3)
    failed = bulk_edits.continue_planning(made, until=float("inf"))
    assert failed.status == "failed"
    assert "3 processes died" in failed.detail
    assert bulk_edits.waiting_plans() == []


# --- Exports


def test_bad_chunk_ends_its_export(
    due: list[Edit], alice: User, settings: Settings, tmp_path: Path, log_lines: Lines
) -> None:
    settings.RUNSADMIN_EXPORT_FOLDER = str(tmp_path)
    Run.objects.filter(upstream_id="run_3").update(raw=b"\x02no-such-text")
    assert not SharedText.objects.filter(pk=0).exists()

    def export(query: str) -> Export:
        search = RunSearch.parse(query)
        new = NewExport(actor=alice, source=Edit.Source.API, format=ExportFormat.JSONL, search=search)
        return exports.write(exports.request(new))

    failed = export("metadata.team:blue")
    assert (failed.status, failed.claim_token) == ("failed", None)
    assert "DoesNotExist" in failed.detail
    assert export("id:run_4").status == "completed"
    assert exports.claim_waiting() == []
    assert list(tmp_path.glob("*.part")) == []
    assert len(log_lines()) < 60
