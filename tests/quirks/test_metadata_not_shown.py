"""Responses that omit a run's metadata. Absent is not empty, so metadata that is not shown must not be deleted."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, Edit, EditStatus, Run, Thread
from runsadmin.services import bulk_edits, connections, runs
from runsadmin.services.edits.batch import list_freshness
from tests.bulk import complete_plan, push_until_settled
from tests.conftest import Connect
from tests.fake_upstream import FakeUpstream, Json, Override, Request, Response, error_response
from tests.quirks.conftest import process_due, push, sync
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db(transaction=True)

METADATA = {"ticket": "1", "owner": "lee"}


def change_runs(upstream: FakeUpstream, change: Callable[[Json], Json], *, kind: str) -> Override:
    """Returns an override that changes the runs in the responses to one kind of request: list, fetch or write."""

    def override(request: Request) -> Response | None:
        if not getattr(request, f"is_{kind}"):
            return None
        response = upstream.default(request)
        if response.status == 200:
            body = response.body
            data = body.get("data")
            response.body = change(body) if data is None else body | {"data": [change(run) for run in data]}
        return response

    return override


def omit_metadata(run: Json) -> Json:
    return {name: value for name, value in run.items() if name != "metadata"}


def shown_as(value: object) -> Callable[[Json], Json]:
    return lambda run: run | {"metadata": value}


def rename_metadata(run: Json) -> Json:
    return omit_metadata(run) | {"metadata_": run["metadata"]}


UNKNOWN: dict[str, Callable[[Json], Json]] = {
    "absent": omit_metadata,
    "JSON text": lambda run: run | {"metadata": '{"ticket": "1"}'},
    "a number": shown_as(7),
    "a list of pairs": shown_as([["ticket", "1"]]),
    "a boolean": shown_as(False),
    "the empty string": shown_as(""),
}


def plan(ids: list[str], actor: User, **pairs: str) -> BulkEdit:
    selection = bulk_edits.by_ids(ids)
    return complete_plan(
        bulk_edits.plan(
            selection=selection, patch=BulkPatch(pairs), actor=actor, source=Edit.Source.ADMIN, reason="Sorting"
        )
    )


def apply(bulk_edit: BulkEdit, actor: User) -> BulkEdit:
    bulk_edits.apply(bulk_edit=bulk_edit, actor=actor)
    return push_until_settled(bulk_edit)


@pytest.mark.parametrize("lists_are_fresh", [True, False], ids=["fresh lists", "unproven lists"])
@pytest.mark.parametrize("change", UNKNOWN.values(), ids=UNKNOWN)
def test_list_without_metadata_deletes_nothing(
    upstream: FakeUpstream,
    mirror_runs: Callable[..., list[Run]],
    alice: User,
    connect: Connect,
    change: Callable[[Json], Json],
    lists_are_fresh: bool,
) -> None:
    connect(LISTS_ARE_FRESH=lists_are_fresh)
    three_runs = mirror_runs(*(make_run(metadata=dict(METADATA)) for _ in range(3)))
    upstream.override(change_runs(upstream, change, kind="list"))
    sync()
    assert [run.metadata for run in Run.objects.all()] == [METADATA] * 3

    done = apply(plan([run.upstream_id for run in three_runs], alice, triage="done"), alice)
    assert done.status == BulkEdit.Status.COMPLETED
    assert [upstream.metadata(run.upstream_id) for run in three_runs] == [METADATA | {"triage": "done"}] * 3

    sync()
    undone = apply(
        complete_plan(bulk_edits.plan_undo(bulk_edit=done, actor=alice, source=Edit.Source.ADMIN, reason="Back")), alice
    )
    assert list(undone.edits.values_list("status", flat=True)) == [EditStatus.APPLIED] * 3
    assert [upstream.metadata(run.upstream_id) for run in three_runs] == [METADATA] * 3


@pytest.mark.parametrize("change", UNKNOWN.values(), ids=UNKNOWN)
def test_fetch_without_metadata_fails_the_edit(
    upstream: FakeUpstream, run: Run, alice: User, change: Callable[[Json], Json]
) -> None:
    upstream.override(change_runs(upstream, change, kind="fetch"))
    edit = push(run, alice)
    assert edit.status == EditStatus.FAILED
    assert "does not show the metadata" in edit.detail
    assert upstream.writes == []
    runs.refresh(run=run, actor=alice)
    assert Run.objects.get(pk=run.pk).metadata == METADATA


KNOWN: dict[str, tuple[Callable[[Json], Json], Json]] = {
    "metadata_": (rename_metadata, METADATA),
    "null": (shown_as(None), {}),
    "PHP's []": (shown_as([]), {}),
}


@pytest.mark.parametrize(("change", "metadata"), KNOWN.values(), ids=KNOWN)
def test_known_variants_of_metadata_are_read(
    upstream: FakeUpstream, run: Run, alice: User, change: Callable[[Json], Json], metadata: Json
) -> None:
    upstream.override(change_runs(upstream, change, kind="fetch"))
    edit = push(run, alice)
    assert (edit.status, edit.before) == (EditStatus.APPLIED, metadata)
    assert upstream.metadata(run.upstream_id) == metadata | {"triage": "done"}


def test_missing_metadata_is_empty_if_configured(
    upstream: FakeUpstream, run: Run, alice: User, connect: Connect
) -> None:
    connect(MISSING_METADATA_IS_EMPTY=True)
    upstream.put(upstream.runs[run.upstream_id] | {"metadata": {}})
    upstream.override(change_runs(upstream, lambda run: run if run["metadata"] else omit_metadata(run), kind="fetch"))
    assert push(run, alice).status == EditStatus.APPLIED
    assert upstream.metadata(run.upstream_id) == {"triage": "done"}


PARTIAL: dict[str, Callable[[Json], Json]] = {
    "id and metadata": lambda run: {"id": run["id"], "metadata": run["metadata"]},
    "with an object": lambda run: {"id": run["id"], "object": "thread.run", "metadata": run["metadata"]},
    "with null fields": lambda run: {"id": run["id"], "thread_id": None, "metadata": run["metadata"]},
    "without times": lambda run: {name: run[name] for name in ("id", "status", "model", "metadata")},
}


@pytest.mark.parametrize("change", PARTIAL.values(), ids=PARTIAL)
def test_partial_run_changes_nothing_else(
    upstream: FakeUpstream, run: Run, alice: User, change: Callable[[Json], Json]
) -> None:
    before = Run.objects.get(pk=run.pk)
    upstream.override(change_runs(upstream, change, kind="write"))
    edit = push(run, alice)
    assert (edit.status, edit.after) == (EditStatus.APPLIED, METADATA | {"triage": "done"})
    after = Run.objects.get(pk=run.pk)
    assert after.metadata == METADATA | {"triage": "done"}
    columns = ("status", "model", "created_at", "started_at", "completed_at", "duration", "total_tokens", "thread_id")
    assert [getattr(after, name) for name in columns] == [getattr(before, name) for name in columns]
    assert after.data == before.data | {"metadata": after.data["metadata"]}


@pytest.mark.parametrize("change", UNKNOWN.values(), ids=UNKNOWN)
def test_write_without_metadata_is_reconciled(
    upstream: FakeUpstream, run: Run, alice: User, change: Callable[[Json], Json]
) -> None:
    upstream.override(change_runs(upstream, change, kind="write"))
    edit = push(run, alice)
    assert edit.status == EditStatus.UNKNOWN
    assert "does not show the metadata" in edit.detail
    process_due()
    edit.refresh_from_db()
    assert (edit.status, len(upstream.writes)) == (EditStatus.APPLIED, 1)


def test_new_run_without_metadata_is_fetched(upstream: FakeUpstream, db: None) -> None:
    upstream.put(make_run(metadata=dict(METADATA), thread_id="thread_new"))
    upstream.override(change_runs(upstream, omit_metadata, kind="list"))
    sync(Thread.objects.create(connection="default", upstream_id="thread_new"))
    assert Run.objects.get().metadata == METADATA


# --- Lists from a replica that lags behind


def lists_before_writes(upstream: FakeUpstream) -> Override:
    """Returns an override with which lists show every run as it was before its first write."""
    original: dict[str, Any] = {}

    def override(request: Request) -> Response | None:
        if request.is_write:
            original.setdefault(request.parts[3], dict(upstream.metadata(request.parts[3])))
            return None
        if not request.is_list:
            return None
        response = upstream.default(request)
        data = [run | {"metadata": original.get(run["id"], run["metadata"])} for run in response.body["data"]]
        response.body = response.body | {"data": data}
        return response

    return override


@pytest.mark.parametrize("lists_are_fresh", [True, False], ids=["fresh lists", "unproven lists"])
def test_stale_list_is_noticed(
    upstream: FakeUpstream, mirror_runs: Callable[..., list[Run]], alice: User, connect: Connect, lists_are_fresh: bool
) -> None:
    connect(LISTS_ARE_FRESH=lists_are_fresh)
    runs = mirror_runs(*(make_run(metadata=dict(METADATA)) for _ in range(60)))
    ids = [run.upstream_id for run in runs]
    upstream.override(lists_before_writes(upstream))
    apply(plan(ids, alice, triage="done"), alice)
    assert [upstream.metadata(id) for id in ids] == [METADATA | {"triage": "done"}] * 60
    if not lists_are_fresh:  # Otherwise one list is read, before any write.
        state = connections.state("default")
        assert state.stale_list_at is not None
        assert "as it was before our write" in state.stale_list_detail
    sync()
    done = apply(plan(ids, alice, triage="again"), alice)
    assert [upstream.metadata(id) for id in ids] == [METADATA | {"triage": "again"}] * 60
    assert set(done.edits.values_list("status", flat=True)) == {EditStatus.APPLIED}


def test_lists_that_show_our_writes_save_fetches(
    upstream: FakeUpstream, mirror_runs: Callable[..., list[Run]], alice: User
) -> None:
    runs = mirror_runs(*(make_run(metadata=dict(METADATA)) for _ in range(150)))
    ids = [run.upstream_id for run in runs]
    apply(plan(ids, alice, triage="done"), alice)
    assert connections.lists_are_fresh("default")
    upstream.log.clear()
    apply(plan(ids, alice, triage="again"), alice)
    assert [upstream.metadata(id) for id in ids] == [METADATA | {"triage": "again"}] * 150
    assert sum(request.is_fetch for request in upstream.requests()) < 75


@pytest.mark.parametrize("response", [None, error_response(404, "No such endpoint.")], ids=["no metadata", "an error"])
def test_useless_lists_are_requested_rarely(
    upstream: FakeUpstream, mirror_runs: Callable[..., list[Run]], alice: User, response: Response | None
) -> None:
    runs = mirror_runs(*(make_run(metadata=dict(METADATA)) for _ in range(150)))
    hide = change_runs(upstream, omit_metadata, kind="list")
    upstream.override(lambda request: (response or hide(request)) if request.is_list else None)
    began = time.monotonic()
    apply(plan([run.upstream_id for run in runs], alice, triage="done"), alice)
    allowed = 1 + (time.monotonic() - began) / list_freshness.PAUSE
    assert 1 <= sum(request.is_list for request in upstream.requests()) <= allowed


def test_unchanged_runs_do_not_prove_fresh_lists(
    upstream: FakeUpstream, mirror_runs: Callable[..., list[Run]], alice: User
) -> None:
    runs = mirror_runs(*(make_run(metadata={"triage": "done"}) for _ in range(40)))
    for run in runs:
        upstream.put(upstream.runs[run.upstream_id] | {"metadata": {"triage": "old"}})
    sync()
    for run in runs:
        upstream.put(upstream.runs[run.upstream_id] | {"metadata": {"triage": "done"}})
    apply(plan([run.upstream_id for run in runs], alice, triage="done"), alice)
    assert upstream.writes == []
    assert not connections.lists_are_fresh("default")
