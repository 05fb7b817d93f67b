"""The list of bulk edits, links to them from other pages, hostile values, and bulk edits with many runs."""

import time
from itertools import cycle
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus, Run
from runsadmin.models.bulk_insert import insert_rows, reserve_ids
from tests.admin.bulk_edit_pages import bulk_edit_url, make_plan, patch_form
from tests.admin.conftest import ClientFor, MakeUser, run_url
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db(transaction=True)


def test_list_shows_who_what_and_why(six_runs: list[Run], as_alice: Client, as_carol: Client) -> None:
    form = patch_form(("team", "set", "<i>red"), ("note", "empty", ""), ("n", "rename", "m"), ("old", "remove", ""))
    make_plan(as_alice, form, reason="moved <b>")

    shown = as_carol.get("/admin/runsadmin/bulkedit/").text

    for text in ("Planned", "alice", "&lt;i&gt;red", "empty text", "renamed to", "removed", "moved &lt;b&gt;"):
        assert text in shown, text
    assert "Select runs" not in shown
    assert "alice" not in as_carol.get("/admin/runsadmin/bulkedit/?status=paused").text


def test_other_pages_link_to_bulk_edit(
    six_runs: list[Run], as_alice: Client, client_for: ClientFor, make_user: MakeUser
) -> None:
    bulk_edit = make_plan(as_alice)
    edit = bulk_edit.edits.filter(plan_result="change")[0]

    for url in ("/admin/", f"/admin/runsadmin/edit/{edit.pk}/change/", run_url(edit.run)):
        shown = as_alice.get(url).text
        assert f'href="{bulk_edit_url(bulk_edit)}"' in shown, url
        assert 'href="/admin/runsadmin/bulkedit/"' in shown
    assert "<b>1</b> planned" in " ".join(as_alice.get("/admin/").text.split())
    without_permissions = client_for(make_user())
    assert "bulkedit" not in without_permissions.get("/admin/").text


def test_hostile_metadata_is_escaped(mirror_run: MakeRun, as_alice: Client) -> None:
    hostile = {
        "<script>alert(1)</script>": "<img src=x onerror=alert(2)>",
        "odd": {"a": None},
    }
    mirror_run(metadata=hostile)
    bulk_edit = make_plan(as_alice, patch_form(("<script>alert(1)</script>", "set", "</bdi><script>alert(3)</script>")))

    for shown in (as_alice.get(bulk_edit_url(bulk_edit)).text, as_alice.get("/admin/runsadmin/bulkedit/").text):
        assert "<script>alert" not in shown
        assert "<img src=x" not in shown
        assert "&lt;script&gt;alert(3)" in shown


# --- Large bulk edits


def make_running_bulk_edit(run: Run, actor: User, count: int) -> BulkEdit:
    """A running bulk edit of `count` copies of the run. Half of its edits are pending."""
    now = timezone.now()
    columns = {f.attname: getattr(run, f.attname) for f in Run._meta.concrete_fields if f.name not in ("id", "raw")}
    ids = reserve_ids(Run, count)
    insert_rows(Run, [columns | {"id": id, "upstream_id": f"run_{id}_copy", "raw": run.raw} for id in ids])
    bulk_edit = BulkEdit.objects.create(
        actor=actor, reason="moved", connection="default", query="all runs", selected=count, planned=count,
        set={"team": "red"}, planned_at=now, expires_at=now, status=BulkEditStatus.RUNNING, applied_at=now,
        running_since=now,
    )  # fmt: skip
    base, patch = Metadata({"team": "blue", "n": "1"}), MetadataPatch.parse({"team": "red"})
    outcomes: list[dict[str, Any]] = [
        {"status": EditStatus.PENDING, "plan_result": "change"},
        {"status": EditStatus.PENDING, "plan_result": "change"},
        {"status": EditStatus.APPLIED, "plan_result": "change", "finished_at": now},
        {"status": EditStatus.SKIPPED, "plan_result": "active", "finished_at": now},
    ]
    edits = (
        Edit(run_id=id, bulk_edit=bulk_edit, actor=actor, source=Edit.Source.ADMIN, base=base, patch=patch, **outcome)
        for id, outcome in zip(ids, cycle(outcomes), strict=False)
    )
    Edit.objects.bulk_create(edits, batch_size=1000)
    return bulk_edit


def urls_of(bulk_edit: BulkEdit) -> list[str]:
    middle = bulk_edit.edits.order_by("pk")[bulk_edit.selected // 2].pk
    queries = ("", "?plan_result=active", "?status=pending", f"?after={middle}", f"?status=applied&before={middle}")
    return [bulk_edit_url(bulk_edit) + query for query in queries]


def measure(client: Client, url: str) -> tuple[int, float]:
    """Returns the number of queries and the seconds that a page takes."""
    began = time.perf_counter()
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    seconds = time.perf_counter() - began
    assert not any("OFFSET" in query["sql"] for query in captured.captured_queries)
    return len(captured), seconds


def assert_equally_fast(client: Client, small_url: str, large_url: str) -> None:
    """Compares the fastest of up to five requests to each page, because timings vary on a busy machine."""
    small, large = [], []
    for _ in range(5):
        small.append(measure(client, small_url))
        large.append(measure(client, large_url))
        (small_queries, small_seconds), (large_queries, large_seconds) = min(small), min(large)
        if large_seconds < small_seconds * 3 + 0.05:
            break
    assert large_queries == small_queries, large_url
    assert large_seconds < small_seconds * 3 + 0.05, large_url


@pytest.mark.django_db
def test_large_bulk_edit_has_fast_pages(mirror_run: MakeRun, alice: User, as_carol: Client) -> None:
    run = mirror_run(metadata={"team": "blue", "n": "1"})
    small, large = make_running_bulk_edit(run, alice, 100), make_running_bulk_edit(run, alice, 10_000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    for status in (BulkEditStatus.PLANNED, BulkEditStatus.RUNNING):
        BulkEdit.objects.update(status=status)
        for small_url, large_url in zip(urls_of(small), urls_of(large), strict=True):
            assert_equally_fast(as_carol, small_url, large_url)
