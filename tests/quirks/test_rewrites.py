"""Servers that change the metadata that they receive: the first change of an untouched key pauses a bulk edit."""

import time
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from runsadmin.bulk_patch import BulkPatch
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus, Run
from runsadmin.services import bulk_edits, edits
from tests.api.conftest import ApiOf
from tests.bulk import complete_plan, push_until_settled
from tests.conftest import Connect
from tests.fake_upstream import FakeUpstream, Json, Request, Response
from tests.management.conftest import Manage
from tests.quirks.conftest import push
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db(transaction=True)

type Rewrite = Callable[[Json], Json]
type Mirror = Callable[..., list[Run]]

METADATA = {
    "ticket": "OPS-1 ",
    "Owner": "lee",
    "note": "",
    "n": 5,
    "name": "Ren\u0065\u0301",
    "html": "a & b",
    "long": "x" * 300,
}
RUNS, CONCURRENCY = 24, 4


def each_value(change: Callable[[Any], Any]) -> Rewrite:
    return lambda metadata: {key: change(value) for key, value in metadata.items()}


def each_text(change: Callable[[str], Any]) -> Rewrite:
    return each_value(lambda value: change(value) if isinstance(value, str) else value)


# How the server changes metadata, and an untouched key that it changes or adds.
CASES = [
    pytest.param(each_text(lambda value: f'"{value}"'), "ticket", id="quotes"),
    pytest.param(each_text(str.strip), "ticket", id="trims"),
    pytest.param(lambda metadata: {key.lower(): value for key, value in metadata.items()}, "Owner", id="lower-keys"),
    pytest.param(lambda metadata: metadata | {"_updated_at": str(time.time())}, "_updated_at", id="adds-a-key"),
    pytest.param(lambda metadata: {k: v for k, v in metadata.items() if v != ""}, "note", id="drops-empty"),
    pytest.param(each_text(lambda value: value or None), "note", id="empty-to-null"),
    pytest.param(each_value(str), "n", id="numbers-to-text"),
    pytest.param(each_text(lambda value: value[:256]), "long", id="truncates"),
    pytest.param(each_text(lambda value: unicodedata.normalize("NFC", value)), "name", id="normalizes"),
    pytest.param(each_text(lambda value: value.replace("&", "&amp;")), "html", id="escapes"),
    pytest.param(lambda metadata: {"triage": metadata["triage"]}, "ticket", id="keeps-one-key"),
]

REWRITES: dict[str, Rewrite] = {str(case.id): case.values[0] for case in CASES}  # type: ignore[misc]


def use_rewrite(upstream: FakeUpstream, rewrite: Rewrite, *, seconds: float = 0.0) -> None:
    """Makes the server rewrite the metadata of every write, and respond only after this many seconds."""

    def respond(request: Request) -> Response | None:
        if not request.is_write:
            return None
        time.sleep(seconds)
        with upstream.lock:
            run = upstream.runs[request.parts[-1]]
            run["metadata"] = rewrite(request.json["metadata"])
            return Response(200, dict(run))

    upstream.override(respond)


@pytest.fixture
def runs(mirror_runs: Mirror, connect: Connect) -> list[Run]:
    """24 runs in two threads."""
    connect(CONCURRENCY=CONCURRENCY)
    return mirror_runs(
        *(make_run(id=f"run_{n:02}", thread_id=f"thread_{n % 2}", metadata=dict(METADATA)) for n in range(RUNS))
    )


def apply_bulk_edit(runs: list[Run], actor: User, **options: Any) -> BulkEdit:
    selection = bulk_edits.by_ids([run.upstream_id for run in runs])
    patch = BulkPatch({"triage": "done"})
    planned = complete_plan(
        bulk_edits.plan(
            selection=selection, patch=patch, actor=actor, source=Edit.Source.ADMIN, reason="triage", **options
        )
    )
    return bulk_edits.apply(bulk_edit=planned, actor=actor)


def count_differing(bulk_edit: BulkEdit) -> int:
    return bulk_edit.edits.filter(status=EditStatus.DIFFERS).count()


@pytest.mark.parametrize(("rewrite", "key"), CASES)
def test_first_rewrite_pauses_bulk_edit(
    rewrite: Rewrite, key: str, upstream: FakeUpstream, runs: list[Run], alice: User
) -> None:
    use_rewrite(upstream, rewrite, seconds=0.02)
    bulk_edit = push_until_settled(apply_bulk_edit(runs, alice))

    assert bulk_edit.status == BulkEditStatus.PAUSED
    assert "keys that the edit did not touch" in bulk_edit.detail
    assert key in bulk_edit.detail
    assert "resume" in bulk_edit.detail
    # Nothing was sent except the writes that were in flight when the first response was processed.
    assert len(upstream.writes) <= 2 * CONCURRENCY
    assert count_differing(bulk_edit) == len(upstream.writes), "Each write in flight has its own outcome."
    assert bulk_edit.edits.filter(status=EditStatus.PENDING).count() == RUNS - len(upstream.writes)
    edit = bulk_edit.edits.filter(status=EditStatus.DIFFERS).first()
    assert edit is not None
    assert key in edit.detail


@pytest.mark.parametrize(("rewrite", "key"), CASES[:3])
def test_resuming_accepts_rewrites(
    rewrite: Rewrite, key: str, upstream: FakeUpstream, runs: list[Run], alice: User, bob: User
) -> None:
    use_rewrite(upstream, rewrite)
    bulk_edit = push_until_settled(apply_bulk_edit(runs, alice))
    bulk_edits.resume(bulk_edit=bulk_edit, actor=bob)
    bulk_edit = push_until_settled(bulk_edit)

    assert (bulk_edit.status, count_differing(bulk_edit)) == (BulkEditStatus.COMPLETED, RUNS)
    assert bulk_edit.accepts_rewrites
    assert len(upstream.writes) == RUNS


@pytest.mark.parametrize(
    "rewrite",
    [
        pytest.param(lambda metadata: metadata, id="as-sent"),
        pytest.param(lambda metadata: dict(reversed(metadata.items())), id="reorders"),
        pytest.param(lambda metadata: metadata | {"_none": None}, id="null-for-absent"),
    ],
)
def test_equal_values_are_not_a_rewrite(rewrite: Rewrite, upstream: FakeUpstream, runs: list[Run], alice: User) -> None:
    use_rewrite(upstream, rewrite)
    bulk_edit = push_until_settled(apply_bulk_edit(runs, alice))
    assert (bulk_edit.status, bulk_edit.edits.filter(status=EditStatus.APPLIED).count()) == (
        BulkEditStatus.COMPLETED,
        RUNS,
    )


def test_rewritten_touched_key_does_not_pause(upstream: FakeUpstream, runs: list[Run], alice: User) -> None:
    use_rewrite(upstream, lambda metadata: metadata | {"triage": "DONE"})
    bulk_edit = push_until_settled(apply_bulk_edit(runs, alice))
    assert (bulk_edit.status, count_differing(bulk_edit)) == (BulkEditStatus.COMPLETED, RUNS)
    assert "values other than those sent for triage" in bulk_edit.edits.all()[0].detail


def test_canary_pauses_at_first_rewrite(upstream: FakeUpstream, runs: list[Run], alice: User) -> None:
    use_rewrite(upstream, REWRITES["trims"])
    bulk_edit = push_until_settled(apply_bulk_edit(runs, alice, canary=2))
    assert bulk_edit.status == BulkEditStatus.PAUSED
    assert "keys that the edit did not touch" in bulk_edit.detail
    assert len(upstream.writes) <= 2


def test_first_rewrite_pauses_an_undo(upstream: FakeUpstream, runs: list[Run], alice: User) -> None:
    bulk_edit = push_until_settled(apply_bulk_edit(runs, alice))
    upstream.log.clear()
    use_rewrite(upstream, REWRITES["quotes"], seconds=0.02)
    undo = complete_plan(
        bulk_edits.plan_undo(bulk_edit=bulk_edit, actor=alice, source=Edit.Source.ADMIN, reason="back")
    )
    undo = push_until_settled(bulk_edits.apply(bulk_edit=undo, actor=alice))
    assert undo.status == BulkEditStatus.PAUSED
    assert "ticket" in undo.detail
    assert len(upstream.writes) <= 2 * CONCURRENCY


def test_rewrite_of_the_last_edit_pauses(upstream: FakeUpstream, runs: list[Run], alice: User) -> None:
    use_rewrite(upstream, REWRITES["quotes"])
    bulk_edit = push_until_settled(apply_bulk_edit(runs[:1], alice))
    assert bulk_edit.status == BulkEditStatus.PAUSED
    bulk_edits.resume(bulk_edit=bulk_edit, actor=alice)
    assert push_until_settled(bulk_edit).status == BulkEditStatus.COMPLETED


def test_manual_pause_also_shows_the_rewrite(upstream: FakeUpstream, runs: list[Run], alice: User) -> None:
    """A write in flight at the pause was rewritten. The user who resumes must see that."""
    bulk_edit = apply_bulk_edit(runs, alice)

    def pause_and_rewrite(metadata: Json) -> Json:
        if BulkEdit.objects.get().is_in_progress:
            bulk_edits.pause(bulk_edit=bulk_edit, actor=alice)
        connection.close()
        return metadata | {"ticket": "changed"}

    edit = bulk_edit.edits.all()[0]
    use_rewrite(upstream, pause_and_rewrite)
    edits.push(edit)
    bulk_edit.refresh_from_db()
    assert "keys that the edit did not touch" in bulk_edit.detail
    assert bulk_edits.resume(bulk_edit=bulk_edit, actor=alice).accepts_rewrites


def test_resuming_a_manual_pause_accepts_nothing(upstream: FakeUpstream, runs: list[Run], alice: User) -> None:
    bulk_edit = bulk_edits.pause(bulk_edit=apply_bulk_edit(runs, alice), actor=alice)
    bulk_edits.resume(bulk_edit=bulk_edit, actor=alice)
    use_rewrite(upstream, REWRITES["adds-a-key"])
    assert push_until_settled(bulk_edit).status == BulkEditStatus.PAUSED


def test_single_edit_names_the_keys(upstream: FakeUpstream, run: Run, alice: User, client: Client) -> None:
    use_rewrite(upstream, REWRITES["quotes"])
    edit = push(run, alice)
    assert edit.status == EditStatus.DIFFERS
    assert "does not touch: owner, ticket." in edit.detail
    assert "for triage." in edit.detail
    client.force_login(alice)
    page = client.get(f"/admin/runsadmin/edit/{edit.pk}/change/").text
    assert page.count("This edit does not change this key.") == 2


def test_command_reports_pause_and_fails(upstream: FakeUpstream, runs: list[Run], alice: User, manage: Manage) -> None:
    use_rewrite(upstream, REWRITES["adds-a-key"], seconds=0.02)
    options = ("--set", "triage=done", "--reason", "triage", "--actor", "alice")
    output = manage("edit_metadata", "--where", "connection:default", *options)
    bulk_edit = BulkEdit.objects.get()
    assert output.code == 1
    assert f"Bulk edit {bulk_edit.pk}: paused" in output.err
    assert "keys that the edit did not touch (_updated_at)" in output.err
    assert f"--resume {bulk_edit.pk}" in output.err


def test_page_and_rest_show_the_reason(
    upstream: FakeUpstream, runs: list[Run], alice: User, client: Client, api: ApiOf
) -> None:
    use_rewrite(upstream, REWRITES["adds-a-key"])
    bulk_edit = push_until_settled(apply_bulk_edit(runs, alice))
    client.force_login(alice)
    page = client.get(f"/admin/runsadmin/bulkedit/{bulk_edit.pk}/change/").text
    assert "keys that the edit did not touch (_updated_at)" in page
    assert "Resume" in page
    data = api(alice).get(f"bulk-edits/{bulk_edit.pk}/").json()
    assert (data["status"], data["accepts_rewrites"]) == ("paused", False)
    assert "_updated_at" in data["detail"]
