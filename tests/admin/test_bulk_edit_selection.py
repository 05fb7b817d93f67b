"""Which runs a bulk edit covers: what the run list offers, and how long a selection is kept."""

import datetime as dt
import time

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.http import urlencode

from runsadmin.admin import run_selection
from runsadmin.models import BulkEdit, DraftSelection, Run
from runsadmin.services import bulk_edits, marked_runs
from runsadmin.services.bulk_edits import selecting
from runsadmin.services.permissions import Action
from tests.admin.bulk_edit_pages import (
    ADD,
    LIST,
    RED_FORM,
    make_plan,
    page_text,
    select_across,
    select_all,
    shown_run_ids,
)
from tests.admin.conftest import ClientFor, MakeUser, run_list_action, run_url
from tests.conftest import Connect, MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


def test_list_offers_permitted_actions(six_runs: list[Run], as_alice: Client, as_carol: Client) -> None:
    shown = as_alice.get(LIST + "?q=status:completed").text

    assert shown.count('name="_selected_action"') == 4 + 1  # A checkbox for each run, and a hidden field.
    for action in ("edit_metadata", "refresh", "export"):
        assert f'value="{action}"' in shown
    assert "All that match" in shown
    for action in ("edit_metadata", "refresh"):
        assert f'value="{action}"' not in as_carol.get(LIST).text


def test_selection_excludes_later_matches(six_runs: list[Run], mirror_run: MakeRun, as_alice: Client) -> None:
    url = select_all(as_alice, "q=status:completed")
    mirror_run(id="run_later", status="completed", metadata={"team": "blue"})

    form = as_alice.get(url).text
    assert "Edit the metadata of 4 runs" in form
    assert "status:completed" in form
    assert as_alice.post(url, RED_FORM).status_code == 302
    assert BulkEdit.objects.get().selected == 4


def test_count_is_capped(six_runs: list[Run], as_alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "(4)" in as_alice.get(f"{LIST}count/?q=status:completed").text
    monkeypatch.setattr(run_selection, "COUNT_CAP", 3)

    assert "(3+)" in as_alice.get(f"{LIST}count/").text


def test_draft_belongs_to_its_actor(six_runs: list[Run], as_alice: Client, as_bob: Client) -> None:
    url = select_all(as_alice)

    for form_url in (url, f"{ADD}?selection=999", f"{ADD}?selection=x", ADD):
        assert as_bob.get(form_url).headers["Location"] == LIST
        assert as_bob.post(form_url, RED_FORM).headers["Location"] == LIST
    assert not BulkEdit.objects.exists()


def test_drafts_are_deleted_after_a_day(six_runs: list[Run], as_alice: Client) -> None:
    select_all(as_alice)
    DraftSelection.objects.update(created_at=timezone.now() - selecting.DRAFT_LIFETIME - dt.timedelta(minutes=1))

    select_all(as_alice)
    assert DraftSelection.objects.count() == 1


@pytest.mark.parametrize(
    "query",
    ["", "q=status:failed", "q=run_3", "q=thread_1", "q=status:completed+thread_0", "q=created:>-1h"],
)
def test_plan_has_the_runs_that_the_list_shows(six_runs: list[Run], as_alice: Client, query: str) -> None:
    shown = shown_run_ids(as_alice, f"{LIST}?{query}")

    if not shown:
        assert "No run matches" in select_across(as_alice, query, follow=True).text
        return
    bulk_edit = make_plan(as_alice, query=query)
    assert sorted(bulk_edit.edits.values_list("run__upstream_id", flat=True)) == sorted(shown)


@pytest.mark.parametrize(
    ("query", "search"),
    [
        ("", "connection:default"),
        ("q=status:failed", "status:failed"),
        ("q=model:%22my+%5C%22own%5C%22+%5C%5Cmodel%22", 'model:"my \\"own\\" \\\\model"'),
        ("q=(run_+OR+x)+status:completed", "(run_ OR x) status:completed"),
    ],
)
def test_search_of_the_list_is_saved(
    six_runs: list[Run], mirror_run: MakeRun, as_alice: Client, query: str, search: str
) -> None:
    mirror_run(
        id="run_now", thread_id="thread_0", assistant_id="asst_1", model='my "own" \\model',
        created_at=int(time.time()) - 60,
    )  # fmt: skip

    Run.objects.filter(upstream_id="run_0").update(missing_since=timezone.now())

    bulk_edit = make_plan(as_alice, query=query)

    assert f"all that matched {bulk_edit.query}" in page_text(as_alice, bulk_edit)
    assert bulk_edit.query.startswith(search)
    found = set(bulk_edits.by_search(bulk_edit.query).keys)
    assert found == set(bulk_edit.edits.values_list("run", flat=True))


def test_paging_does_not_narrow_the_selection(six_runs: list[Run], as_alice: Client) -> None:
    older = f"2023-11-14T22:13:23+00:00,{six_runs[3].pk}"

    assert make_plan(as_alice, query=urlencode({"q": "status:completed", "older": older})).selected == 4


def test_invalid_search_selects_nothing(six_runs: list[Run], as_alice: Client) -> None:
    query = "q=status:completed+color:red"

    shown = as_alice.get(f"{LIST}?{query}").text
    assert 'role="alert">At character 18: there is no field &#x27;color&#x27;.' in shown
    assert "status:completed <mark>color:red</mark>" in shown
    assert shown_run_ids(as_alice, f"{LIST}?{query}") == []
    assert "At character 18" in as_alice.get(f"{LIST}count/?{query}").text
    for action in ("edit_metadata", "export"):
        assert "At character 18" in select_across(as_alice, query, action, follow=True).text
    assert not DraftSelection.objects.exists()


def test_ticked_runs_are_planned(six_runs: list[Run], as_alice: Client) -> None:
    keys = [six_runs[0].pk, six_runs[3].pk, 987654]
    response = run_list_action(as_alice, LIST, "edit_metadata", keys)
    url = response.headers["Location"]
    assert "1 selected row no longer exists." in as_alice.get(url).text

    as_alice.post(url, RED_FORM)
    bulk_edit = BulkEdit.objects.get()
    assert sorted(bulk_edit.edits.values_list("run__upstream_id", flat=True)) == ["run_0", "run_3"]
    assert bulk_edit.query == ""
    shown = page_text(as_alice, bulk_edit)
    assert "987654" in shown
    assert "Not selected" in shown


def test_tick_of_unlisted_run_is_shown(six_runs: list[Run], as_alice: Client) -> None:
    keys = [six_runs[0].pk, six_runs[4].pk]

    shown = run_list_action(as_alice, f"{LIST}?q=status:completed", "edit_metadata", keys, follow=True).text

    assert "Selected rows that no longer match the filters are still included: run_4" in shown
    assert "Edit the metadata of 2 runs" in shown


def test_one_ticked_run_opens_its_editor(six_runs: list[Run], as_alice: Client) -> None:
    response = run_list_action(as_alice, LIST, "edit_metadata", [six_runs[0].pk])

    assert response.headers["Location"] == run_url(six_runs[0], "metadata")


def test_ticks_work_without_scripts(six_runs: list[Run], as_alice: Client) -> None:
    fields = {"action": "edit_metadata", "index": "0", "_selected_action": ["", six_runs[0].pk, six_runs[1].pk]}

    assert "Edit the metadata of 2 runs" in as_alice.post(LIST, fields, follow=True).text


def test_thousand_ticks_are_the_limit(six_runs: list[Run], as_alice: Client) -> None:
    thousand = [run.pk for run in six_runs] + list(range(10_000, 10_994))

    assert "selection=" in run_list_action(as_alice, LIST, "edit_metadata", thousand).headers["Location"]
    refused = run_list_action(as_alice, LIST, "edit_metadata", [*thousand, 20_000], follow=True).text
    assert "1,001 rows are selected, but this action is limited to 1,000." in refused
    refused = run_list_action(as_alice, LIST, "refresh", thousand, follow=True).text
    assert "this action is limited to 500" in refused
    assert "This action is limited to 500 rows." in select_across(as_alice, "", "refresh", follow=True).text
    assert not Run.objects.filter(needs_refresh_since__isnull=False).exists()


@pytest.mark.parametrize("keys", ["1,x", "-1", "9" * 30])
def test_invalid_keys_are_refused(six_runs: list[Run], as_alice: Client, keys: str) -> None:
    fields = {"action": "edit_metadata", "index": "0", "_selected_action": keys}

    assert as_alice.post(LIST, fields).status_code == 404
    assert not DraftSelection.objects.exists()


def test_nothing_ticked_is_reported(six_runs: list[Run], as_alice: Client) -> None:
    assert "Nothing is selected" in run_list_action(as_alice, LIST, "edit_metadata", [], follow=True).text


@pytest.mark.parametrize("query", ["nosuch=1", "status=failed", "thread=x"])
def test_unknown_filter_selects_nothing(six_runs: list[Run], as_alice: Client, query: str) -> None:
    assert "There is no filter" in select_across(as_alice, query, follow=True).text
    assert "There is no filter" in as_alice.get(f"{LIST}count/?{query}").text
    assert not DraftSelection.objects.exists()


def test_selection_has_one_connection(six_runs: list[Run], as_alice: Client, connect: Connect) -> None:
    connect("eu")
    Run.objects.filter(upstream_id="run_0").update(connection="eu")

    assert "several connections" in select_across(as_alice, "", follow=True).text
    assert not DraftSelection.objects.exists()


def test_planning_needs_permission(
    six_runs: list[Run], as_alice: Client, as_carol: Client, make_user: MakeUser, client_for: ClientFor
) -> None:
    url = select_all(as_alice)

    for form_url in (url, ADD):
        assert as_carol.get(form_url).status_code == 403
        assert as_carol.post(form_url, RED_FORM).status_code == 403
    refused = select_across(as_carol, "")
    assert refused.status_code == 403
    assert "runsadmin.add_bulkedit" in refused.text
    planner = client_for(make_user(Action.PLAN_BULK_EDITS))
    assert planner.get(f"{LIST}count/").status_code == 403
    assert planner.get(url).status_code == 403


def test_refresh_of_many_is_queued(sandbox: Sandbox, six_runs: list[Run], as_alice: Client) -> None:
    keys = [run.pk for run in six_runs]
    sandbox.set_metadata("run_1", {"team": "green"})

    assert "6 runs will be refreshed" in run_list_action(as_alice, LIST, "refresh", keys, follow=True).text
    assert marked_runs.refresh_all() == 6
    assert Run.objects.get(upstream_id="run_1").metadata == {"team": "green"}
