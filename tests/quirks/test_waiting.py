"""Servers that make edits wait: every page shows the reason and the end of the wait, and every wait has an end."""

import datetime as dt
import html
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, Edit, EditStatus, Run
from runsadmin.services import bulk_edits, edits
from tests.api.conftest import ApiOf
from tests.bulk import complete_plan
from tests.fake_upstream import CUT, FakeUpstream, Request, Response, error_response
from tests.management.conftest import Manage
from tests.quirks.conftest import process_due, push, push_or_process, record
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db(transaction=True)

type Mirror = Callable[..., list[Run]]


def refuses(*statuses: str) -> Callable[[FakeUpstream], None]:
    """Returns a function that makes the server refuse to modify runs in these statuses."""

    def prepare(upstream: FakeUpstream) -> None:
        def respond(request: Request) -> Response | None:
            status = upstream.runs[request.parts[-1]]["status"] if request.is_write else ""
            return error_response(400, f"Cannot update run with status '{status}'.") if status in statuses else None

        upstream.override(respond)

    return prepare


def responds(response: Response, method: str = "GET", *, everywhere: bool = False) -> Callable[[FakeUpstream], None]:
    """Returns a function that makes the server give this response for the edited run or, if `everywhere`, for all."""

    def applies_to(request: Request) -> bool:
        is_run = len(request.parts) == 4 and request.parts[1] != "thread_other"
        return request.method == method and (everywhere or is_run)

    def prepare(upstream: FakeUpstream) -> None:
        upstream.override(lambda request: response if applies_to(request) else None)

    return prepare


def unix_time(time: dt.datetime) -> int:
    return int(time.timestamp())


def ago(**period: float) -> dt.datetime:
    return timezone.now() - dt.timedelta(**period)


def from_now(**period: float) -> dt.datetime:
    return timezone.now() + dt.timedelta(**period)


# --- What is shown

ACTIVE = {"status": "in_progress", "expires_at": unix_time(from_now(minutes=10))}
REFUSES_ALL = responds(error_response(401, "no"), everywhere=True)
QUEUED = ACTIVE | {"status": "queued"}
WAITS = [
    pytest.param(ACTIVE, refuses("in_progress"), "the run to end (it is in_progress)", True, id="active"),
    pytest.param(QUEUED, refuses("queued"), "the run to end (it is queued)", True, id="queued"),
    pytest.param({}, responds(Response(503, "")), "its next attempt: 1 of 8 have failed", True, id="503"),
    pytest.param({}, REFUSES_ALL, "the connection default to be released", False, id="401"),
    pytest.param({}, responds(CUT, "POST"), "a fetch that shows whether the write happened", True, id="cut"),
]


@pytest.mark.parametrize(("fields", "prepare", "reason", "has_end"), WAITS)
def test_every_page_shows_reason_and_end(
    fields: dict[str, Any], prepare: Callable[[FakeUpstream], None], reason: str, has_end: bool,
    upstream: FakeUpstream, mirror_runs: Mirror, alice: User, client: Client, api: ApiOf, manage: Manage,
) -> None:  # fmt: skip
    _, run = mirror_runs(make_run(thread_id="thread_other"), make_run(metadata={"a": "1"}, **fields))
    prepare(upstream)

    response = api(alice).patch(f"runs/{run.upstream_id}/", {"metadata": {"triage": "done"}})

    assert response.status_code == 202
    edit = Edit.objects.get()
    for data in (response.json()["mirror"]["edit"], api(alice).get(f"edits/{edit.pk}/").json()):
        assert reason in data["waits_for"]
        assert (data["waits_until"] is not None) == has_end
        assert data["next_attempt_at"] is not None
    assert reason in api(alice).get("edits/").json()["results"][0]["waits_for"]
    assert reason in api(alice).get("runs/").json()["results"][0]["mirror"]["edit"]["waits_for"]

    client.force_login(alice)
    for page in (f"run/{run.pk}/change/", "edit/", f"edit/{edit.pk}/change/"):
        shown = page_text(client, page)
        assert f"Waits for {reason}" in shown, page
        assert ("at the latest" in shown) == has_end, page

    output = manage("edit_metadata", run.upstream_id, "--set", "b=2", "--actor", "alice", "--wait", "0")
    assert output.code == 1
    assert reason in output.err


def page_text(client: Client, page: str) -> str:
    text = re.sub(r"<[^>]+>", "", client.get(f"/admin/runsadmin/{page}").text)
    return html.unescape(re.sub(r"\s+", " ", text))


def test_bulk_edit_shows_the_wait(
    upstream: FakeUpstream, mirror_runs: Mirror, alice: User, client: Client, api: ApiOf
) -> None:
    refuses("in_progress")(upstream)
    bulk_edit = apply_bulk_edit(
        mirror_runs(make_run(**ACTIVE), make_run()), alice, wait_for_active=dt.timedelta(hours=2)
    )
    edits.process_due(until=time.monotonic() + 10)

    client.force_login(alice)
    page = page_text(client, f"bulkedit/{bulk_edit.pk}/change/")
    assert "waiting1 for the run to end; for active runs until" in page
    assert "Waits for the run to end (it is in_progress), until" in page
    data = api(alice).get(f"bulk-edits/{bulk_edit.pk}/").json()
    assert data["waiting"] == {"active_run": 1}
    (edit,) = api(alice).get(f"bulk-edits/{bulk_edit.pk}/edits/?status=pending").json()["results"]
    assert edit["waits_until"] == data["active_until"]


def test_paused_bulk_edit_is_a_reason_to_wait(
    upstream: FakeUpstream, mirror_runs: Mirror, alice: User, api: ApiOf
) -> None:
    bulk_edit = bulk_edits.pause(bulk_edit=apply_bulk_edit(mirror_runs(make_run()), alice), actor=alice)
    (edit,) = api(alice).get(f"bulk-edits/{bulk_edit.pk}/edits/").json()["results"]
    assert edit["waits_for"] == "its paused bulk edit to be resumed"
    assert edit["waits_until"] is None


def test_hold_setting_is_a_reason_to_wait(run: Run, alice: User, settings: Settings) -> None:
    settings.RUNSADMIN_HOLD = True
    edit = push(run, alice)
    assert "RUNSADMIN_HOLD" in edits.waits_of([edit])[edit.pk].what


def test_page_without_waits_needs_no_query(run: Run, alice: User, django_assert_num_queries: Any) -> None:
    edit = push(run, alice)
    with django_assert_num_queries(0):
        assert edits.waits_of([edit] * 50) == {}


def test_many_waits_need_few_queries(
    upstream: FakeUpstream, mirror_runs: Mirror, alice: User, django_assert_max_num_queries: Any
) -> None:
    for run in mirror_runs(*(make_run() for _ in range(12))):
        record(run, alice)
        record(run, alice)
    rows = list(Edit.objects.all())
    with django_assert_max_num_queries(5):
        waits = edits.waits_of(rows)
    assert sum("an earlier edit of this run" in wait.what for wait in waits.values()) == 12


def apply_bulk_edit(runs: list[Run], actor: User, **options: Any) -> BulkEdit:
    selection = bulk_edits.by_ids([run.upstream_id for run in runs])
    patch = BulkPatch({"triage": "done"})
    planned = complete_plan(
        bulk_edits.plan(
            selection=selection, patch=patch, actor=actor, source=Edit.Source.ADMIN, reason="triage", **options
        )
    )
    return bulk_edits.apply(bulk_edit=planned, actor=actor)


# --- An edit after one that waits

FIRST = [
    pytest.param(ACTIVE, refuses("in_progress"), "the run to end", id="active"),
    pytest.param({}, responds(CUT, "POST"), "a fetch that shows", id="unknown"),
    pytest.param({}, responds(Response(503, "", {"Retry-After": "100"})), "its next attempt", id="Retry-After"),
]


@pytest.mark.parametrize(("fields", "prepare", "reason"), FIRST)
def test_later_edit_shows_what_the_first_waits_for(
    fields: dict[str, Any], prepare: Callable[[FakeUpstream], None], reason: str,
    upstream: FakeUpstream, mirror_runs: Mirror, alice: User, api: ApiOf,
) -> None:  # fmt: skip
    """The response comes at once, with the reason, because the first edit is not due in time."""
    _, run = mirror_runs(make_run(thread_id="thread_other"), make_run(**fields))
    prepare(upstream)
    first = push(run, alice)
    Edit.objects.filter(pk=first.pk).update(next_attempt_at=timezone.now() + dt.timedelta(seconds=100))
    began = time.monotonic()
    response = api(alice).patch(f"runs/{run.upstream_id}/", {"metadata": {"triage": "done"}})
    assert response.status_code == 202
    assert time.monotonic() - began < 5
    waits_for = response.json()["mirror"]["edit"]["waits_for"]
    assert waits_for.startswith(f"an earlier edit of this run (edit {first.pk}), which waits for {reason}")


# --- The end of a wait

STUCK = [
    pytest.param({"status": "in_progress", "expires_at": unix_time(ago(hours=1))}, id="expired"),
    pytest.param({"status": "queued", "expires_at": unix_time(ago(hours=1))}, id="queued"),
    pytest.param({"status": "in_progress", "expires_at": None}, id="no-expiry"),
    pytest.param({"status": "in_progress", "expires_at": 0}, id="expired-in-1970"),
    pytest.param({"status": "in_progress", "expires_at": "soon"}, id="expiry-unreadable"),
]


def mirror_stuck_run(upstream: FakeUpstream, mirror_runs: Mirror, fields: dict[str, Any]) -> Run:
    (run,) = mirror_runs(make_run(**fields))
    refuses("in_progress", "queued")(upstream)
    return run


@pytest.mark.parametrize("fields", STUCK)
@pytest.mark.parametrize("background", [True, False], ids=["background", "pushed"])
def test_edit_of_a_stuck_run_fails(
    background: bool,
    fields: dict[str, Any],
    upstream: FakeUpstream,
    mirror_runs: Mirror,
    alice: User,
    settings: Settings,
) -> None:
    run = mirror_stuck_run(upstream, mirror_runs, fields)
    settings.RUNSADMIN_ACTIVE_RUN_WAIT = 900
    edit = push(run, alice)
    assert (edit.status, edit.wait_reason) == (EditStatus.PENDING, "active_run")
    assert edit.waiting_since is not None

    push_or_process(edit, background=background)
    edit.refresh_from_db()
    assert edit.status == EditStatus.PENDING

    Edit.objects.update(waiting_since=ago(seconds=901))
    push_or_process(edit, background=background)
    edit.refresh_from_db()
    assert edit.status == EditStatus.FAILED
    assert fields["status"] in edit.detail
    assert "has waited for it to end since 20" in edit.detail
    assert "Retry" in edit.detail
    assert len(upstream.writes) == 1, "Only the first attempt is sent; later ones only fetch the run."

    upstream.runs[run.upstream_id]["status"] = "completed"
    assert edits.push(edits.retry(edit=edit, actor=alice)).status == EditStatus.APPLIED


def test_wait_lasts_past_the_expiry(upstream: FakeUpstream, mirror_runs: Mirror, alice: User) -> None:
    """An edit waits until fifteen minutes after its run expires."""
    run = mirror_stuck_run(upstream, mirror_runs, {"status": "in_progress", "expires_at": unix_time(from_now(hours=1))})
    edit = push(run, alice)
    Edit.objects.update(waiting_since=ago(minutes=50))
    process_due()
    edit.refresh_from_db()
    assert edit.status == EditStatus.PENDING
    end = edits.waits_of([edit])[edit.pk].until
    assert end is not None
    assert dt.timedelta(minutes=74) < end - timezone.now() < dt.timedelta(minutes=76)


@pytest.mark.parametrize("expires_at", [253402300799, unix_time(from_now(days=400))], ids=["year-9999", "next-year"])
def test_wait_ends_even_if_run_never_expires(
    expires_at: int, upstream: FakeUpstream, mirror_runs: Mirror, alice: User
) -> None:
    edit = push(mirror_stuck_run(upstream, mirror_runs, {"status": "in_progress", "expires_at": expires_at}), alice)
    assert edit.status == EditStatus.PENDING
    end = edits.waits_of([edit])[edit.pk].until
    assert end is not None
    assert end - timezone.now() < dt.timedelta(days=31)


def test_retry_starts_a_new_wait(upstream: FakeUpstream, mirror_runs: Mirror, alice: User, settings: Settings) -> None:
    settings.RUNSADMIN_ACTIVE_RUN_WAIT = 900
    edit = push(mirror_stuck_run(upstream, mirror_runs, {"status": "in_progress", "expires_at": None}), alice)
    Edit.objects.update(waiting_since=ago(hours=1))
    assert edits.push(edit).status == EditStatus.FAILED
    edit = edits.push(edits.retry(edit=edit, actor=alice))
    assert (edit.status, edit.wait_reason) == (EditStatus.PENDING, "active_run")


# --- How often the run is fetched


@pytest.mark.parametrize(
    ("waited", "minimum", "maximum"), [(0, 4, 6), (60, 14, 16), (200, 49, 51), (800, 59, 61)], ids="{}".format
)
def test_fetches_of_an_active_run_back_off(
    waited: int,
    minimum: float,
    maximum: float,
    upstream: FakeUpstream,
    mirror_runs: Mirror,
    alice: User,
    settings: Settings,
) -> None:
    settings.RUNSADMIN_ACTIVE_RUN_WAIT = 900
    edit = push(mirror_stuck_run(upstream, mirror_runs, {"status": "in_progress", "expires_at": None}), alice)
    Edit.objects.update(waiting_since=ago(seconds=waited))
    edit = edits.push(edit)
    assert edit.next_attempt_at is not None
    assert minimum < (edit.next_attempt_at - timezone.now()).total_seconds() < maximum


def test_run_is_fetched_at_the_end_of_the_wait(
    upstream: FakeUpstream, mirror_runs: Mirror, alice: User, settings: Settings
) -> None:
    settings.RUNSADMIN_ACTIVE_RUN_WAIT = 900
    edit = push(mirror_stuck_run(upstream, mirror_runs, {"status": "in_progress", "expires_at": None}), alice)
    Edit.objects.update(waiting_since=ago(seconds=880))
    edit = edits.push(edit)
    assert edit.next_attempt_at is not None
    assert (edit.next_attempt_at - timezone.now()).total_seconds() < 21


# --- Plans


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_plan_suggests_waiting_for_active_runs(
    status: str, upstream: FakeUpstream, mirror_runs: Mirror, alice: User, client: Client
) -> None:
    """Planning does not ask upstream, so the detail does not say that upstream refuses the edit."""
    (run,) = mirror_runs(make_run(status=status))
    selection = bulk_edits.by_ids([run.upstream_id])
    plan = complete_plan(
        bulk_edits.plan(
            selection=selection, patch=BulkPatch({"a": "1"}), actor=alice, source=Edit.Source.ADMIN, reason="r"
        )
    )
    edit = plan.edits.get()
    assert edit.get_plan_result_display() == "Active when planned"
    for text in (status, "when this was planned", "waits for active runs", "wait_for_active", "--wait-for-active"):
        assert text in edit.detail
    assert "refuse" not in edit.detail
    client.force_login(alice)
    assert "Active when planned" in page_text(client, f"bulkedit/{plan.pk}/change/")


@pytest.mark.parametrize("status", ["queued", "in_progress", "requires_action"])
def test_edit_of_modifiable_active_run_is_applied(
    status: str, upstream: FakeUpstream, mirror_runs: Mirror, alice: User
) -> None:
    (run,) = mirror_runs(make_run(status=status))
    assert push(run, alice).status == EditStatus.APPLIED


def test_failed_edit_suggests_waiting(upstream: FakeUpstream, mirror_runs: Mirror, alice: User) -> None:
    (run,) = mirror_runs(make_run())
    bulk_edit = apply_bulk_edit([run], alice)
    upstream.runs[run.upstream_id]["status"] = "in_progress"
    refuses("in_progress")(upstream)
    edits.process_due(until=time.monotonic() + 10)
    edit = bulk_edit.edits.get()
    assert edit.status == EditStatus.FAILED
    for text in ("in_progress", "waits for active runs", "Retry"):
        assert text in edit.detail
