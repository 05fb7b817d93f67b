"""The page of a plan, and the plan as CSV."""

import csv
import html
import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runsadmin.bulk_patch import BulkPatch
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, BulkEditStatus, Edit, EditStatus, Run
from runsadmin.services import bulk_edits, edits, purging
from runsadmin.services.permissions import Action
from tests.admin.bulk_edit_pages import bulk_edit_url, make_plan, page_text, patch_form, shown_run_ids
from tests.admin.conftest import ClientFor, MakeUser, run_action
from tests.bulk import complete_plan
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


def test_plan_shows_changes_and_sends_nothing(sandbox: Sandbox, six_runs: list[Run], as_alice: Client) -> None:
    Run.objects.filter(upstream_id="run_4").update(missing_since=timezone.now())
    bulk_edit = make_plan(as_alice, patch_form(("team", "set", "red"), canary="2"))

    shown = page_text(as_alice, bulk_edit)

    for text in (
        "Plan: nothing has been sent", "4 Change", "1 Active when planned", "1 Missing upstream",
        "team blue → red", "2 runs are skipped",
        "This changes the first 2 of 4 runs, then pauses", "Change the first 2 runs", "Expires", "moved",
        "None of the runs has changed", "6 runs: all that matched connection:default",
    ):  # fmt: skip
        assert text in shown, text
    assert sandbox.posts() == []


def test_incomplete_plan_updates_without_reload(six_runs: list[Run], alice: User, as_alice: Client) -> None:
    selection = bulk_edits.by_search("metadata.team:blue")
    bulk_edit = bulk_edits.plan(
        selection=selection, patch=BulkPatch({"team": "red"}), actor=alice, source=Edit.Source.ADMIN, reason="moved"
    )

    assert 'hx-trigger="every 1s"' in as_alice.get(bulk_edit_url(bulk_edit)).text
    shown = page_text(as_alice, bulk_edit)
    assert "Planning" in shown
    assert "0 of 6 runs" in shown
    assert "Change 6 runs" not in shown

    complete_plan(bulk_edit)
    assert 'hx-trigger="every' not in as_alice.get(bulk_edit_url(bulk_edit)).text
    assert "Change 5 runs" in page_text(as_alice, bulk_edit)


@pytest.mark.parametrize(("count", "text"), [(1, "1 selected run was purged"), (6, "There are no runs in this plan.")])
def test_purged_runs_are_counted(count: int, text: str, six_runs: list[Run], alice: User, as_alice: Client) -> None:
    bulk_edit = bulk_edits.plan(
        selection=bulk_edits.by_search("metadata.team:blue"), patch=BulkPatch({"team": "red"}), actor=alice,
        source=Edit.Source.ADMIN, reason="moved",
    )  # fmt: skip
    assert "purged" not in page_text(as_alice, bulk_edit)
    purging.purge([run.pk for run in six_runs[:count]])
    complete_plan(bulk_edit)
    assert text in page_text(as_alice, bulk_edit)


def test_automatic_apply_is_announced(six_runs: list[Run], alice: User, as_alice: Client) -> None:
    selection = bulk_edits.by_search("metadata.team:blue")
    patch = BulkPatch({"team": "red"})
    bulk_edit = bulk_edits.plan(
        selection=selection,
        patch=patch,
        actor=alice,
        source=Edit.Source.ADMIN,
        reason="moved",
        apply_when_planned=True,
    )

    assert "alice chose to apply the plan as soon as it is complete" in page_text(as_alice, bulk_edit)


def test_counts_link_to_filtered_edits(six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice)

    assert "?plan_result=active#edits" in as_alice.get(bulk_edit_url(bulk_edit)).text
    assert shown_run_ids(as_alice, bulk_edit_url(bulk_edit) + "?plan_result=active") == ["run_5"]
    assert len(shown_run_ids(as_alice, bulk_edit_url(bulk_edit) + "?plan_result=change")) == 5
    assert "The run was in_progress" in page_text(as_alice, bulk_edit, "?plan_result=active")
    assert len(shown_run_ids(as_alice, bulk_edit_url(bulk_edit) + "?plan_result=nonsense&after=x")) == 6


def test_edits_are_paged_both_ways(six_runs: list[Run], as_alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runsadmin.admin.bulk_edits.EDITS_SHOWN", 2)
    bulk_edit = make_plan(as_alice)
    run_ids = list(
        bulk_edit.edits.filter(plan_result="change").order_by("pk").values_list("run__upstream_id", flat=True)
    )

    def page_link(query: str, label: str) -> str | None:
        found = re.search(rf'href="(\?[^"#]*)#edits">[^<]*{label}', as_alice.get(bulk_edit_url(bulk_edit) + query).text)
        return html.unescape(found[1]) if found else None

    queries = ["?plan_result=change"]
    while (query := page_link(queries[-1], "Next")) is not None:
        queries.append(query)
    pages = [shown_run_ids(as_alice, bulk_edit_url(bulk_edit) + query) for query in queries]
    assert pages == [run_ids[:2], run_ids[2:4], run_ids[4:]]
    second = page_link(queries[2], "Previous") or ""
    assert shown_run_ids(as_alice, bulk_edit_url(bulk_edit) + second) == run_ids[2:4]
    first = page_link(second, "Previous") or ""
    assert shown_run_ids(as_alice, bulk_edit_url(bulk_edit) + first) == run_ids[:2]
    assert page_link(first, "Previous") is None
    assert page_link(first, "Next") is not None


def test_values_of_a_plan_are_links(six_runs: list[Run], as_alice: Client) -> None:
    shown = as_alice.get(bulk_edit_url(make_plan(as_alice))).text
    assert 'href="/admin/runsadmin/run/?q=metadata.team%3Ared"' in shown


def test_runs_changed_later_are_counted(sandbox: Sandbox, six_runs: list[Run], as_alice: Client, alice: User) -> None:
    bulk_edit = make_plan(as_alice)
    edits.push(
        edits.record(run=six_runs[0], patch=MetadataPatch.parse({"x": "1"}), actor=alice, source=Edit.Source.ADMIN)
    )

    assert "1 run has changed since the plan was made" in page_text(as_alice, bulk_edit)


def test_colleague_can_apply_the_plan(
    six_runs: list[Run], as_alice: Client, make_user: MakeUser, client_for: ClientFor
) -> None:
    bulk_edit = make_plan(as_alice)
    planner = client_for(make_user(Action.VIEW_BULK_EDITS, Action.PLAN_BULK_EDITS))
    applier = client_for(
        make_user(Action.VIEW_BULK_EDITS, Action.APPLY_BULK_EDITS, Action.EDIT_METADATA, username="dora")
    )

    assert "runsadmin.apply_bulkedit" in page_text(planner, bulk_edit)
    assert "Change 5 runs" not in page_text(planner, bulk_edit)
    assert run_action(planner, bulk_edit, "apply").status_code == 403
    assert "Change 5 runs" in page_text(applier, bulk_edit)
    assert run_action(applier, bulk_edit, "apply").status_code == 302
    bulk_edit.refresh_from_db()
    assert bulk_edit.applied_by is not None
    assert bulk_edit.applied_by.get_username() == "dora"


@pytest.mark.parametrize("name", ["apply", "pause", "resume", "cancel", "retry", "undo"])
def test_viewer_sees_plan_without_buttons(six_runs: list[Run], as_alice: Client, as_carol: Client, name: str) -> None:
    bulk_edit = make_plan(as_alice)

    assert "team blue → red" in page_text(as_carol, bulk_edit)
    assert run_action(as_carol, bulk_edit, name, {"reason": "x"}).status_code == 403
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == BulkEditStatus.PLANNED


def test_links_need_permission(
    six_runs: list[Run], as_alice: Client, client_for: ClientFor, make_user: MakeUser
) -> None:
    bulk_edit = make_plan(as_alice)

    shown = client_for(make_user(Action.VIEW_BULK_EDITS)).get(bulk_edit_url(bulk_edit)).text
    assert "run_0" in shown
    for other in ("/admin/runsadmin/run/", "/admin/runsadmin/edit/"):
        assert other in as_alice.get(bulk_edit_url(bulk_edit)).text
        assert other not in shown


def test_expired_plan_cannot_be_applied(six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice)
    BulkEdit.objects.update(expires_at=timezone.now())

    shown = page_text(as_alice, bulk_edit)
    assert "The plan has expired" in shown
    assert "Change 5 runs" not in shown
    assert "Only a complete plan that has not expired" in run_action(as_alice, bulk_edit, "apply", follow=True).text
    assert "can no longer be applied" in page_text(as_alice, bulk_edit)
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == BulkEditStatus.EXPIRED


def test_plan_without_changes_has_no_apply_button(six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice, patch_form(("team", "set", "blue")))

    shown = page_text(as_alice, bulk_edit)
    assert "There is nothing to apply" in shown
    assert "6 Nothing to do" in shown


def test_plan_is_discarded(six_runs: list[Run], as_alice: Client) -> None:
    bulk_edit = make_plan(as_alice)

    response = run_action(as_alice, bulk_edit, "cancel", follow=True)

    assert "Discard plan" not in response.text
    assert "alice cancelled it" in response.text
    assert not bulk_edit.edits.filter(status=EditStatus.PLANNED).exists()


def csv_rows(client: Client, bulk_edit: BulkEdit, query: str = "") -> list[dict[str, str]]:
    response = client.get(bulk_edit_url(bulk_edit, "csv") + query)
    assert response.streaming
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(response.getvalue().decode().splitlines(keepends=True)))


def test_csv_lists_changes_and_skipped_runs(six_runs: list[Run], as_alice: Client, as_carol: Client) -> None:
    form = patch_form(("team", "remove", ""), ("note", "empty", ""), ("n", "set", "7"))
    bulk_edit = make_plan(as_alice, form)

    rows = csv_rows(as_carol, bulk_edit)
    changes = [row for row in rows if row["run"] == "run_1"]
    assert [(row["key"], row["change"], row["before"], row["after"]) for row in changes] == [
        ("team", "removed", "blue", ""), ("n", "changed", "1", "7"), ("note", "added", "", ""),
    ]  # fmt: skip
    assert [row["plan"] for row in rows if row["run"] == "run_5"] == ["Active when planned"]
    assert {row["run"] for row in csv_rows(as_carol, bulk_edit, "?plan_result=active")} == {"run_5"}


@pytest.mark.parametrize("formula", ["=1+1", "+A1", "-A1", "@SUM(1)", "\tx"])
def test_csv_cells_are_not_formulas(mirror_run: MakeRun, as_alice: Client, formula: str) -> None:
    mirror_run(id="run_a", metadata={formula: formula})
    bulk_edit = make_plan(as_alice, patch_form((formula, "set", f"{formula}!")))

    [row] = csv_rows(as_alice, bulk_edit)
    assert [row[name] for name in ("key", "before", "after")] == [f"'{formula}", f"'{formula}", f"'{formula}!"]


def test_csv_covers_all_chunks(six_runs: list[Run], as_alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runsadmin.admin.csv_export.CHUNK", 2)

    assert len({row["run"] for row in csv_rows(as_alice, make_plan(as_alice))}) == 6


def test_csv_needs_view_permission(
    six_runs: list[Run], as_alice: Client, make_user: MakeUser, client_for: ClientFor
) -> None:
    assert client_for(make_user()).get(bulk_edit_url(make_plan(as_alice), "csv")).status_code == 403
