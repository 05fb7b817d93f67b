"""Servers that make edits wait: each edit shows for what and until when, and no wait is endless."""

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
from tests.quirks.conftest import process_due, push, record
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db(transaction=True)

type Mirror = Callable[..., list[Run]]


def refuses(*statuses: str) -> Callable[[FakeUpstream], None]:
    """A server that refuses to modify runs in these statuses."""

    def prepare(upstream: FakeUpstream) -> None:
        def respond(request: Request) -> Response | None:
            status = upstream.runs[request.parts[-1]]["status"] if request.is_write else ""
            return error_response(400, f"Cannot update run with status '{status}'.") if status in statuses else None

        upstream.override(respond)

    return prepare


def responses(response: Response, method: str = "GET", *, everywhere: bool = False) -> Callable[[FakeUpstream], None]:
    """A server that responds like this; only for the edited run, unless `everywhere`."""

    def is_meant(request: Request) -> bool:
        is_run = len(request.parts) == 4 and request.parts[1] != "thread_other"
        return request.method == method and (everywhere or is_run)

    def prepare(upstream: FakeUpstream) -> None:
        upstream.override(lambda request: response if is_meant(request) else None)

    return prepare


def at(time: dt.datetime) -> int:
    return int(time.timestamp())


def ago(**past: float) -> dt.datetime:
    return timezone.now() - dt.timedelta(**past)


# --- What is shown

NOW_ACTIVE = {"status": "in_progress", "expires_at": at(ago(minutes=-10))}
REFUSES_ALL = responses(error_response(401, "no"), everywhere=True)
QUEUED = NOW_ACTIVE | {"status": "queued"}
WAITS = [
    pytest.param(NOW_ACTIVE, refuses("in_progress"), "the run to end (it is in_progress)", True, id="active"),
    pytest.param(
        NOW_ACTIVE | {"status": "queued"}, refuses("queued"), "the run to end (it is queued)", True, id="queued"
    ),
    pytest.param({}, responses(Response(503, "")), "its next attempt: 1 of 8 have failed", True, id="503"),
    pytest.param(
        {},
        responses(error_response(401, "no"), everywhere=True),
        "the connection default to be released",
        False,
        id="401",
    ),
    pytest.param({}, responses(CUT, "POST"), "a fetch that shows whether the write happened", True, id="cut"),
]


@pytest.mark.parametrize(("fields", "prepare", "what", "has_end"), WAITS)
def test_every_place_shows_reason_and_time(
    fields: dict[str, Any], prepare: Callable[[FakeUpstream], None], what: str, has_end: bool,
    upstream: FakeUpstream, mirror: Mirror, alice: User, client: Client, api: ApiOf, manage: Manage,
) -> None:  # fmt: skip
    _, run = mirror(make_run(thread_id="thread_other"), make_run(metadata={"a": "1"}, **fields))
    prepare(upstream)

    response = api(alice).patch(f"runs/{run.upstream_id}/", {"metadata": {"triage": "done"}})

    assert response.status_code == 202
    edit = Edit.objects.get()
    for data in (response.json()["mirror"]["edit"], api(alice).get(f"edits/{edit.pk}/").json()):
        assert what in data["waits_for"]
        assert (data["waits_until"] is not None) == has_end
        assert data["next_attempt_at"] is not None
    assert what in api(alice).get("edits/").json()["results"][0]["waits_for"]
    assert what in api(alice).get("runs/").json()["results"][0]["mirror"]["edit"]["waits_for"]

    client.force_login(alice)
    for page in (f"run/{run.pk}/change/", "edit/", f"edit/{edit.pk}/change/"):
        shown = words(client, page)
        assert f"Waits for {what}" in shown, page
        assert ("at the latest" in shown) == has_end, page

    output = manage("edit_metadata", run.upstream_id, "--set", "b=2", "--actor", "alice", "--wait", "0")
    assert output.code == 1
    assert (
        f"Waits for an earlier edit of this run (edit {edit.pk}), which waits for {what}" in output.err
        or what in output.err
    )


def words(client: Client, page: str) -> str:
    text = re.sub(r"<[^>]+>", "", client.get(f"/admin/runsadmin/{page}").text)
    return html.unescape(re.sub(r"\s+", " ", text))


def test_bulk_edit_shows_the_wait(
    upstream: FakeUpstream, mirror: Mirror, alice: User, client: Client, api: ApiOf
) -> None:
    refuses("in_progress")(upstream)
    bulk_edit = applied(mirror(make_run(**NOW_ACTIVE), make_run()), alice, wait_for_active=dt.timedelta(hours=2))
    edits.process_due(until=time.monotonic() + 10)

    client.force_login(alice)
    page = words(client, f"bulkedit/{bulk_edit.pk}/change/")
    assert "waiting1 for the run to end; for active runs until" in page
    assert "Waits for the run to end (it is in_progress), until" in page
    data = api(alice).get(f"bulk-edits/{bulk_edit.pk}/").json()
    assert data["waiting"] == {"active_run": 1}
    (edit,) = api(alice).get(f"bulk-edits/{bulk_edit.pk}/edits/?status=pending").json()["results"]
    assert edit["waits_until"] == data["active_until"]


def test_paused_bulk_edit_is_a_reason(upstream: FakeUpstream, mirror: Mirror, alice: User, api: ApiOf) -> None:
    bulk_edit = bulk_edits.pause(bulk_edit=applied(mirror(make_run()), alice), actor=alice)
    (edit,) = api(alice).get(f"bulk-edits/{bulk_edit.pk}/edits/").json()["results"]
    assert edit["waits_for"] == "its paused bulk edit to be resumed"
    assert edit["waits_until"] is None


def test_hold_setting_is_a_reason(run: Run, alice: User, settings: Settings) -> None:
    settings.RUNSADMIN_HOLD = True
    edit = push(run, alice)
    assert "RUNSADMIN_HOLD" in edits.waits_of([edit])[edit.pk].what


def test_page_without_waits_asks_nothing(run: Run, alice: User, django_assert_num_queries: Any) -> None:
    edit = push(run, alice)
    with django_assert_num_queries(0):
        assert edits.waits_of([edit] * 50) == {}


def test_many_waits_take_few_queries(
    upstream: FakeUpstream, mirror: Mirror, alice: User, django_assert_max_num_queries: Any
) -> None:
    for run in mirror(*(make_run() for _ in range(12))):
        record(run, alice)
        record(run, alice)
    rows = list(Edit.objects.all())
    with django_assert_max_num_queries(5):
        waits = edits.waits_of(rows)
    assert sum("an earlier edit of this run" in wait.what for wait in waits.values()) == 12


def applied(runs: list[Run], actor: User, **options: Any) -> BulkEdit:
    selection = bulk_edits.by_ids([run.upstream_id for run in runs])
    patch = BulkPatch({"triage": "done"})
    planned = complete_plan(
        bulk_edits.plan(
            selection=selection, patch=patch, actor=actor, source=Edit.Source.ADMIN, reason="triage", **options
        )
    )
    return bulk_edits.apply(bulk_edit=planned, actor=actor)


# --- Behind an edit that waits

FIRST = [
    pytest.param(NOW_ACTIVE, refuses("in_progress"), "the run to end", id="active"),
    pytest.param({}, responses(CUT, "POST"), "a fetch that shows", id="unknown"),
    pytest.param({}, responses(Response(503, "", {"Retry-After": "100"})), "its next attempt", id="Retry-After"),
]


@pytest.mark.parametrize(("fields", "prepare", "what"), FIRST)
def test_edit_behind_a_waiting_one_is_shown(
    fields: dict[str, Any], prepare: Callable[[FakeUpstream], None], what: str,
    upstream: FakeUpstream, mirror: Mirror, alice: User, api: ApiOf,
) -> None:  # fmt: skip
    """At once if the first one is not due in time, and with the reason."""
    _, run = mirror(make_run(thread_id="thread_other"), make_run(**fields))
    prepare(upstream)
    first = push(run, alice)
    Edit.objects.filter(pk=first.pk).update(next_attempt_at=timezone.now() + dt.timedelta(seconds=100))
    began = time.monotonic()
    response = api(alice).patch(f"runs/{run.upstream_id}/", {"metadata": {"triage": "done"}})
    assert response.status_code == 202
    assert time.monotonic() - began < 5
    reason = response.json()["mirror"]["edit"]["waits_for"]
    assert reason.startswith(f"an earlier edit of this run (edit {first.pk}), which waits for {what}")


# --- The end of a wait

STUCK = [
    pytest.param({"status": "in_progress", "expires_at": at(ago(hours=1))}, id="expired"),
    pytest.param({"status": "queued", "expires_at": at(ago(hours=1))}, id="queued"),
    pytest.param({"status": "in_progress", "expires_at": None}, id="no-expiry"),
    pytest.param({"status": "in_progress", "expires_at": 0}, id="expired-in-1970"),
    pytest.param({"status": "in_progress", "expires_at": "soon"}, id="expiry-unreadable"),
]


def stuck(upstream: FakeUpstream, mirror: Mirror, fields: dict[str, Any]) -> Run:
    (run,) = mirror(make_run(**fields))
    refuses("in_progress", "queued")(upstream)
    return run


@pytest.mark.parametrize("fields", STUCK)
@pytest.mark.parametrize("in_background", [True, False], ids=["background", "pushed"])
def test_stuck_run_ends_the_wait(
    in_background: bool, fields: dict[str, Any], upstream: FakeUpstream, mirror: Mirror, alice: User, settings: Settings
) -> None:
    run = stuck(upstream, mirror, fields)
    settings.RUNSADMIN_ACTIVE_RUN_WAIT = 900
    edit = push(run, alice)
    assert (edit.status, edit.wait_reason) == (EditStatus.PENDING, "active_run")
    assert edit.waiting_since is not None

    def later() -> None:
        if in_background:
            process_due()
        else:
            edits.push(edit)
        edit.refresh_from_db()

    later()
    assert edit.status == EditStatus.PENDING
    Edit.objects.update(waiting_since=ago(seconds=901))
    later()
    assert edit.status == EditStatus.FAILED
    assert fields["status"] in edit.detail
    assert "has waited for it to end since 20" in edit.detail
    assert "Retry" in edit.detail
    assert len(upstream.writes) == 1, "Only the first attempt was sent; then the run was fetched."

    upstream.runs[run.upstream_id]["status"] = "completed"
    assert edits.push(edits.retry(edit=edit, actor=alice)).status == EditStatus.APPLIED


def test_wait_lasts_past_the_expiry(upstream: FakeUpstream, mirror: Mirror, alice: User) -> None:
    """A run that may take an hour is waited for as long, and then some."""
    run = stuck(upstream, mirror, {"status": "in_progress", "expires_at": at(ago(hours=-1))})
    edit = push(run, alice)
    Edit.objects.update(waiting_since=ago(minutes=50))
    process_due()
    edit.refresh_from_db()
    assert edit.status == EditStatus.PENDING
    until = edits.waits_of([edit])[edit.pk].until
    assert until is not None
    assert dt.timedelta(minutes=74) < until - timezone.now() < dt.timedelta(minutes=76)


@pytest.mark.parametrize("expires_at", [253402300799, at(ago(days=-400))], ids=["year-9999", "next-year"])
def test_unbelievable_expiry_has_an_end(expires_at: int, upstream: FakeUpstream, mirror: Mirror, alice: User) -> None:
    edit = push(stuck(upstream, mirror, {"status": "in_progress", "expires_at": expires_at}), alice)
    assert edit.status == EditStatus.PENDING
    until = edits.waits_of([edit])[edit.pk].until
    assert until is not None
    assert until - timezone.now() < dt.timedelta(days=31)


def test_retry_begins_a_new_wait(upstream: FakeUpstream, mirror: Mirror, alice: User, settings: Settings) -> None:
    settings.RUNSADMIN_ACTIVE_RUN_WAIT = 900
    edit = push(stuck(upstream, mirror, {"status": "in_progress", "expires_at": None}), alice)
    Edit.objects.update(waiting_since=ago(hours=1))
    assert edits.push(edit).status == EditStatus.FAILED
    edit = edits.push(edits.retry(edit=edit, actor=alice))
    assert (edit.status, edit.wait_reason) == (EditStatus.PENDING, "active_run")


# --- How often the run is fetched


@pytest.mark.parametrize(
    ("waited", "least", "most"), [(0, 4, 6), (60, 14, 16), (200, 49, 51), (800, 59, 61)], ids="{}".format
)
def test_polls_back_off(
    waited: int, least: float, most: float, upstream: FakeUpstream, mirror: Mirror, alice: User, settings: Settings
) -> None:
    settings.RUNSADMIN_ACTIVE_RUN_WAIT = 900
    edit = push(stuck(upstream, mirror, {"status": "in_progress", "expires_at": None}), alice)
    Edit.objects.update(waiting_since=ago(seconds=waited))
    edit = edits.push(edit)
    assert edit.next_attempt_at is not None
    assert least < (edit.next_attempt_at - timezone.now()).total_seconds() < most


def test_last_poll_is_at_the_end(upstream: FakeUpstream, mirror: Mirror, alice: User, settings: Settings) -> None:
    settings.RUNSADMIN_ACTIVE_RUN_WAIT = 900
    edit = push(stuck(upstream, mirror, {"status": "in_progress", "expires_at": None}), alice)
    Edit.objects.update(waiting_since=ago(seconds=880))
    edit = edits.push(edit)
    assert edit.next_attempt_at is not None
    assert (edit.next_attempt_at - timezone.now()).total_seconds() < 21


# --- Plans


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_plan_names_the_option(
    status: str, upstream: FakeUpstream, mirror: Mirror, alice: User, client: Client
) -> None:
    """Upstream was not asked, so nothing is claimed about it."""
    (run,) = mirror(make_run(status=status))
    selection = bulk_edits.by_ids([run.upstream_id])
    plan = complete_plan(
        bulk_edits.plan(
            selection=selection, patch=BulkPatch({"a": "1"}), actor=alice, source=Edit.Source.ADMIN, reason="r"
        )
    )
    edit = plan.edits.get()
    assert edit.get_plan_result_display() == "Active when planned"
    for word in (status, "when this was planned", "Wait for active runs", "wait_for_active", "--wait-for-active"):
        assert word in edit.detail
    assert "refuse" not in edit.detail
    client.force_login(alice)
    assert "Active when planned" in words(client, f"bulkedit/{plan.pk}/change/")


@pytest.mark.parametrize("status", ["queued", "in_progress", "requires_action"])
def test_server_taking_active_runs_needs_no_wait(
    status: str, upstream: FakeUpstream, mirror: Mirror, alice: User
) -> None:
    (run,) = mirror(make_run(status=status))
    assert push(run, alice).status == EditStatus.APPLIED


def test_activated_run_names_the_option(upstream: FakeUpstream, mirror: Mirror, alice: User) -> None:
    (run,) = mirror(make_run())
    bulk_edit = applied([run], alice)
    upstream.runs[run.upstream_id]["status"] = "in_progress"
    refuses("in_progress")(upstream)
    edits.process_due(until=time.monotonic() + 10)
    edit = bulk_edit.edits.get()
    assert edit.status == EditStatus.FAILED
    for word in ("in_progress", "Wait for active runs", "Retry"):
        assert word in edit.detail
