"""Bulk edits on the other pages: the list, links to them, hostile values, and many edits."""

import time

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models import BulkEdit, Edit, Run
from tests.admin.bulk_edit_pages import E, S, planned, typed, url
from tests.admin.conftest import MakeUser, SignIn, page
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db(transaction=True)


def test_list_shows_who_what_and_why(team: list[Run], as_alice: Client, as_carol: Client) -> None:
    form = typed(("team", "set", "<i>red"), ("note", "empty", ""), ("n", "rename", "m"), ("old", "remove", ""))
    planned(as_alice, form, reason="moved <b>")

    shown = as_carol.get("/admin/runsadmin/bulkedit/").text

    for text in ("Planned", "alice", "&lt;i&gt;red", "empty text", "renamed to", "removed", "moved &lt;b&gt;"):
        assert text in shown, text
    assert "Select runs" not in shown
    assert "alice" not in as_carol.get("/admin/runsadmin/bulkedit/?status=paused").text


def test_other_pages_link_to_bulk_edit(
    team: list[Run], as_alice: Client, signed_in: SignIn, make_user: MakeUser
) -> None:
    bulk_edit = planned(as_alice)
    edit = bulk_edit.edits.filter(plan_result="change")[0]

    for where in ("/admin/", f"/admin/runsadmin/edit/{edit.pk}/change/", page(edit.run)):
        shown = as_alice.get(where).text
        assert f'href="{url(bulk_edit)}"' in shown, where
        assert 'href="/admin/runsadmin/bulkedit/"' in shown
    assert "<b>1</b> planned" in " ".join(as_alice.get("/admin/").text.split())
    nobody = signed_in(make_user()).get("/admin/").text
    assert "bulkedit" not in nobody


def test_hostile_metadata_is_escaped(mirrored: MakeRun, as_alice: Client) -> None:
    hostile = {
        "<script>alert(1)</script>": "<img src=x onerror=alert(2)>",
        "odd": {"a": None},
    }
    mirrored(metadata=hostile)
    bulk_edit = planned(as_alice, typed(("<script>alert(1)</script>", "set", "</bdi><script>alert(3)</script>")))

    for shown in (as_alice.get(url(bulk_edit)).text, as_alice.get("/admin/runsadmin/bulkedit/").text):
        assert "<script>alert" not in shown
        assert "<img src=x" not in shown
        assert "&lt;script&gt;alert(3)" in shown


# --- The size of a bulk edit


def fill(run: Run, actor: User, count: int) -> BulkEdit:
    """A running bulk edit of this many runs: most are pending, some applied, some skipped."""
    now = timezone.now()
    columns = {f.attname: getattr(run, f.attname) for f in Run._meta.concrete_fields if f.name not in ("id", "raw")}
    runs = Run.objects.bulk_create(
        (Run(**columns | {"upstream_id": f"run_{count}_{n:06d}"}, raw=run.raw) for n in range(count)), batch_size=1000
    )
    bulk_edit = BulkEdit.objects.create(
        actor=actor, reason="moved", connection="default", query="all runs", selected=count, planned=count,
        set={"team": "red"}, planned_at=now, expires_at=now, status=S.RUNNING, applied_at=now, running_since=now,
    )  # fmt: skip
    base, patch = Metadata({"team": "blue", "n": "1"}), MetadataPatch.parse({"team": "red"})
    kinds = [(E.PENDING, "change"), (E.PENDING, "change"), (E.APPLIED, "change"), (E.SKIPPED, "active")]
    Edit.objects.bulk_create(
        (
            Edit(
                run=each, bulk_edit=bulk_edit, actor=actor, source=Edit.Source.ADMIN, base=base, patch=patch,
                status=status, plan_result=plan_result, finished_at=now if status in (E.APPLIED, E.SKIPPED) else None,
            )
            for n, each in enumerate(runs)
            for status, plan_result in [kinds[n % 4]]
        ),
        batch_size=1000,
    )  # fmt: skip
    return bulk_edit


def pages_of(bulk_edit: BulkEdit) -> list[str]:
    middle = bulk_edit.edits.order_by("pk")[bulk_edit.selected // 2].pk
    queries = ("", "?plan_result=active", "?status=pending", f"?after={middle}", f"?status=applied&before={middle}")
    return [url(bulk_edit) + query for query in queries]


def cost(client: Client, address: str) -> tuple[int, float]:
    """The number of queries, and the seconds."""
    began = time.perf_counter()
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    took = time.perf_counter() - began
    assert not any("OFFSET" in query["sql"] for query in captured.captured_queries)
    return len(captured), took


@pytest.mark.django_db
def test_query_count_is_independent_of_size(mirrored: MakeRun, alice: User, as_carol: Client) -> None:
    run = mirrored(metadata={"team": "blue", "n": "1"})
    few, many = fill(run, alice, 100), fill(run, alice, 10_000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    for status in (S.PLANNED, S.RUNNING):
        BulkEdit.objects.update(status=status)
        for of_few, of_many in zip(pages_of(few), pages_of(many), strict=True):
            costs = []
            for _ in range(5):  # Timings vary on a busy machine.
                costs.append((cost(as_carol, of_few), cost(as_carol, of_many)))
                (queries_of_few, took_of_few), (queries, took) = (min(each) for each in zip(*costs, strict=True))
                if took < took_of_few * 3 + 0.05:
                    break
            assert queries == queries_of_few, (status, of_many)
            assert took < took_of_few * 3 + 0.05, (status, of_many, took_of_few, took)
