"""Bulk edits in the admin: runs are chosen, a plan is made and read, applied, followed, and undone."""

import csv
import datetime as dt
import html
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.http import urlencode
from django_tasks_db.models import DBTaskResult
from pytest_django import Settings

from runsadmin import tasks
from runsadmin.admin import id_search, run_selection
from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import InvalidSearch
from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models import BulkEdit, BulkEditStatus, DraftSelection, Edit, EditStatus, Run
from runsadmin.services import bulk_edits, connections, edits, run_search, runs
from runsadmin.services.bulk_edits import drafts
from runsadmin.services.edits.claims import claim_due
from runsadmin.services.permissions import Action
from tests.admin.conftest import MakeRun, MakeUser, SignIn, page, press, run_on_list
from tests.bulk import push_until_settled, whole
from tests.conftest import Connect
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/runsadmin/run/"
ADD = "/admin/runsadmin/bulkedit/add/"
S, E = BulkEditStatus, EditStatus


def url(bulk_edit: BulkEdit, name: str = "change") -> str:
    return f"/admin/runsadmin/bulkedit/{bulk_edit.pk}/{name}/"


def typed(*rows: tuple[str, str, str], reason: str = "moved", **more: str) -> dict[str, object]:
    """The form as a browser posts it: for each row its key, what becomes of it, and its value."""
    keys, whats, values = ([row[part] for row in rows] for part in range(3))
    return {"key": keys, "what": whats, "value": values, "reason": reason, **more}


RED = typed(("team", "set", "red"))


def select_across(client: Client, query: str = "", action: str = "edit_metadata", *, follow: bool = False) -> Any:
    return run_on_list(client, f"{LIST}?{query}", action, [], follow=follow, select_across="1")


def select_all(client: Client, query: str = "") -> str:
    """Selects all runs that match. Returns the address of the form in which they are planned."""
    address: str = select_across(client, query).headers["Location"]
    assert address.startswith(f"{ADD}?selection="), address
    return address


def planned(client: Client, form: dict[str, object] = RED, query: str = "", **more: Any) -> BulkEdit:
    response = client.post(select_all(client, query), {**form, **more})
    assert response.status_code == 302, re.findall(r'role="alert">([^<]+)', response.text)
    bulk_edit = BulkEdit.objects.latest("pk")
    assert response.headers["Location"] == url(bulk_edit)
    return bulk_edit


def text_of(client: Client, bulk_edit: BulkEdit, query: str = "") -> str:
    """What the page says, as text."""
    shown = client.get(url(bulk_edit) + query)
    assert shown.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", shown.text)).split())


def runs_shown(client: Client, address: str) -> list[str]:
    return re.findall(r'class="ra-id" href="/admin/runsadmin/run/\d+/change/">([^<]+)<', client.get(address).text)


@pytest.fixture
def team(mirrored: Callable[..., Run]) -> list[Run]:
    """Six runs of two threads; the last is active, and the one before it failed."""
    status = {4: "failed", 5: "in_progress"}
    return [
        mirrored(
            id=f"run_{n}", thread_id=f"thread_{n % 2}", metadata={"team": "blue", "n": str(n)},
            status=status.get(n, "completed"), created_at=1_700_000_000 + n,
        )
        for n in range(6)
    ]  # fmt: skip


def test_list_offers_permitted_actions(team: list[Run], as_alice: Client, as_carol: Client) -> None:
    shown = as_alice.get(LIST + "?status=completed").text

    assert shown.count('name="_selected_action"') == 4 + 1
    for action in ("edit_metadata", "refresh", "download_csv"):
        assert f'value="{action}"' in shown
    assert "All that match" in shown
    for action in ("edit_metadata", "refresh"):
        assert f'value="{action}"' not in as_carol.get(LIST).text


def test_all_that_match_are_frozen(team: list[Run], mirrored: MakeRun, as_alice: Client) -> None:
    address = select_all(as_alice, "status=completed")
    mirrored(id="run_later", status="completed", metadata={"team": "blue"})

    form = as_alice.get(address).text
    assert "Edit the metadata of 4 runs" in form
    assert "status:completed" in form
    assert as_alice.post(address, RED).status_code == 302
    assert BulkEdit.objects.get().selected == 4


def test_count_is_capped(team: list[Run], as_alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "(4)" in as_alice.get(f"{LIST}count/?status=completed").text
    monkeypatch.setattr(run_selection, "COUNTED", 3)

    assert "(3+)" in as_alice.get(f"{LIST}count/").text


def test_draft_belongs_to_its_actor(team: list[Run], as_alice: Client, as_bob: Client) -> None:
    address = select_all(as_alice)

    for other in (address, f"{ADD}?selection=999", f"{ADD}?selection=x", ADD):
        assert as_bob.get(other).headers["Location"] == LIST
        assert as_bob.post(other, RED).headers["Location"] == LIST
    assert not BulkEdit.objects.exists()


def test_drafts_are_deleted_after_a_day(team: list[Run], as_alice: Client) -> None:
    select_all(as_alice)
    DraftSelection.objects.update(created_at=timezone.now() - drafts.LIFETIME - dt.timedelta(minutes=1))

    select_all(as_alice)
    assert DraftSelection.objects.count() == 1


@pytest.mark.parametrize(
    "query",
    ["", "status=failed", "q=run_3", "q=thread_1", "thread={thread}", "status=completed&q=thread_0", "created=hour"],
)
def test_plan_covers_what_the_list_shows(team: list[Run], as_alice: Client, query: str) -> None:
    query = query.format(thread=team[0].thread_id)
    shown = runs_shown(as_alice, f"{LIST}?{query}")

    if not shown:
        assert "No run matches" in select_across(as_alice, query, follow=True).text
        return
    bulk_edit = planned(as_alice, query=query)
    assert sorted(bulk_edit.edits.values_list("run__upstream_id", flat=True)) == sorted(shown)


@pytest.mark.parametrize(
    ("query", "search"),
    [
        ("", "connection:default"),
        ("status=failed", "status:failed"),
        ("thread={thread}&assistant_id=asst_1", "thread:thread_0 assistant:asst_1"),
        ("created=hour", "created:>=20"),
        ("model=my+%22own%22+%5Cmodel", 'model:"my \\"own\\" \\\\model"'),
    ],
)
def test_filters_are_kept_as_a_search(
    team: list[Run], mirrored: MakeRun, as_alice: Client, query: str, search: str
) -> None:
    mirrored(
        id="run_now", thread_id="thread_0", assistant_id="asst_1", model='my "own" \\model',
        created_at=int(time.time()) - 60,
    )  # fmt: skip

    bulk_edit = planned(as_alice, query=query.format(thread=team[0].thread_id))

    assert bulk_edit.query.startswith(search)
    found = set(bulk_edits.by_search(bulk_edit.query).keys)
    assert found == set(bulk_edit.edits.values_list("run", flat=True))


@pytest.mark.parametrize(
    ("query", "words"),
    [("q=run_&status=completed", "id run_, status Completed"), ("missing=yes", "state Missing upstream")],
)
def test_other_filters_are_kept_in_words(team: list[Run], as_alice: Client, query: str, words: str) -> None:
    Run.objects.filter(upstream_id="run_0").update(missing_since=timezone.now())

    bulk_edit = planned(as_alice, query=query)

    assert bulk_edit.query == f"in words: {words}"
    assert f"all that matched in words: {words}" in text_of(as_alice, bulk_edit)
    with pytest.raises(InvalidSearch):
        run_search.matching(bulk_edit.query)


def test_list_pages_select_nothing(team: list[Run], as_alice: Client) -> None:
    older = f"2023-11-14T22:13:23+00:00,{team[3].pk}"

    assert planned(as_alice, query=urlencode({"status": "completed", "older": older})).selected == 4


def test_ambiguous_id_prefix_is_refused(team: list[Run], as_alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (id_search, run_selection):
        monkeypatch.setattr(module, "MOST", 5)

    assert "More than 5 ids begin with" in as_alice.get(f"{LIST}count/?q=run_").text
    for action in ("edit_metadata", "download_csv"):
        refused = select_across(as_alice, "q=run_", action, follow=True)
        assert "More than 5 ids begin with" in refused.text
    assert not DraftSelection.objects.exists()


def test_ticked_runs_are_planned(team: list[Run], as_alice: Client) -> None:
    keys = [team[0].pk, team[3].pk, 987654]
    response = run_on_list(as_alice, LIST, "edit_metadata", keys)
    address = response.headers["Location"]
    assert "1 ticked row no longer exists here" in as_alice.get(address).text

    as_alice.post(address, RED)
    bulk_edit = BulkEdit.objects.get()
    assert sorted(bulk_edit.edits.values_list("run__upstream_id", flat=True)) == ["run_0", "run_3"]
    assert bulk_edit.query == ""
    shown = text_of(as_alice, bulk_edit)
    assert "987654" in shown
    assert "Not selected" in shown


def test_tick_of_unlisted_run_is_shown(team: list[Run], as_alice: Client) -> None:
    keys = [team[0].pk, team[4].pk]

    shown = run_on_list(as_alice, f"{LIST}?status=completed", "edit_metadata", keys, follow=True).text

    assert "no longer in the filtered list, and still included: run_4" in shown
    assert "Edit the metadata of 2 runs" in shown


def test_one_ticked_run_opens_its_editor(team: list[Run], as_alice: Client) -> None:
    response = run_on_list(as_alice, LIST, "edit_metadata", [team[0].pk])

    assert response.headers["Location"] == page(team[0], "metadata")


def test_ticks_work_without_scripts(team: list[Run], as_alice: Client) -> None:
    fields = {"action": "edit_metadata", "index": "0", "_selected_action": ["", team[0].pk, team[1].pk]}

    assert "Edit the metadata of 2 runs" in as_alice.post(LIST, fields, follow=True).text


def test_thousand_ticks_are_the_limit(team: list[Run], as_alice: Client) -> None:
    thousand = [run.pk for run in team] + list(range(10_000, 10_994))

    assert "selection=" in run_on_list(as_alice, LIST, "edit_metadata", thousand).headers["Location"]
    refused = run_on_list(as_alice, LIST, "edit_metadata", [*thousand, 20_000], follow=True).text
    assert "1,001 rows are ticked, and this action takes at most 1,000." in refused
    refused = run_on_list(as_alice, LIST, "refresh", thousand, follow=True).text
    assert "takes at most 500" in refused
    assert "takes at most 500" in select_across(as_alice, "", "refresh", follow=True).text
    assert not Run.objects.filter(needs_refresh_since__isnull=False).exists()


@pytest.mark.parametrize("keys", ["1,x", "-1", "9" * 30])
def test_invalid_keys_are_refused(team: list[Run], as_alice: Client, keys: str) -> None:
    fields = {"action": "edit_metadata", "index": "0", "_selected_action": keys}

    assert as_alice.post(LIST, fields).status_code == 404
    assert not DraftSelection.objects.exists()


def test_nothing_ticked_is_reported(team: list[Run], as_alice: Client) -> None:
    assert "Nothing is selected" in run_on_list(as_alice, LIST, "edit_metadata", [], follow=True).text


@pytest.mark.parametrize("query", ["nosuch=1", "thread=x", "model=%00", "q=%00", "created=never", "missing=no"])
def test_invalid_filter_is_refused(team: list[Run], as_alice: Client, query: str) -> None:
    assert select_across(as_alice, query).headers["Location"] == f"{LIST}?e=1"
    assert "filter is not valid" in as_alice.get(f"{LIST}count/?{query}").text
    assert not DraftSelection.objects.exists()


def test_one_connection_at_a_time(team: list[Run], as_alice: Client, connect: Connect) -> None:
    connect("eu")
    Run.objects.filter(upstream_id="run_0").update(connection="eu")

    assert "several connections" in select_across(as_alice, "", follow=True).text
    assert not DraftSelection.objects.exists()


def test_planning_needs_its_permission(
    team: list[Run], as_alice: Client, as_carol: Client, make_user: MakeUser, signed_in: SignIn
) -> None:
    address = select_all(as_alice)

    for url_ in (address, ADD):
        assert as_carol.get(url_).status_code == 403
        assert as_carol.post(url_, RED).status_code == 403
    refused = select_across(as_carol, "")
    assert refused.status_code == 403
    assert "runsadmin.add_bulkedit" in refused.text
    only_plans = signed_in(make_user(Action.PLAN_BULK_EDITS))
    assert only_plans.get(f"{LIST}count/").status_code == 403
    assert only_plans.get(address).status_code == 403


def test_refresh_of_many_is_queued(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    keys = [run.pk for run in team]
    sandbox.set_metadata("run_1", {"team": "green"})

    assert "6 runs will be refreshed" in run_on_list(as_alice, LIST, "refresh", keys, follow=True).text
    assert runs.refresh_marked() == 6
    assert Run.objects.get(upstream_id="run_1").metadata == {"team": "green"}


def test_runs_are_downloaded_as_csv(team: list[Run], as_carol: Client) -> None:
    Run.objects.filter(upstream_id="run_1").update(model="=1+1")
    everything = select_across(as_carol, "status=completed", "download_csv")
    ticked = run_on_list(as_carol, LIST, "download_csv", [team[1].pk])

    rows = list(csv.DictReader(everything.getvalue().decode().splitlines(keepends=True)))
    assert [row["id"] for row in rows] == ["run_0", "run_1", "run_2", "run_3"]
    [row] = csv.DictReader(ticked.getvalue().decode().splitlines(keepends=True))
    assert (row["id"], row["model"], row["metadata"]) == ("run_1", "'=1+1", '{"team": "blue", "n": "1"}')


def test_action_asks_before_it_sends(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)

    asked = as_alice.post(url(bulk_edit), {"CHANGE_FORM-action": "apply", "_selected_action": bulk_edit.pk})
    assert f"Apply bulk edit {bulk_edit.pk}?" in asked.text
    assert "This changes the metadata of 5 runs upstream." in asked.text
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == S.PLANNED

    listed = run_on_list(as_alice, "/admin/runsadmin/bulkedit/", "apply", [bulk_edit.pk])
    assert "5 runs upstream" in listed.text
    run_on_list(as_alice, "/admin/runsadmin/bulkedit/", "apply", [bulk_edit.pk], confirmed="1")
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == S.QUEUED


def test_patch_sets_empties_removes_and_renames(team: list[Run], as_alice: Client) -> None:
    form = typed(
        ("team", "set", "{model}, {created:%Y}"), ("note", "empty", ""), ("n", "rename", "number"),
        ("gone", "remove", ""), ("", "set", ""),
    )  # fmt: skip
    bulk_edit = planned(as_alice, form, query="q=run_1")

    assert bulk_edit.set == {"team": "{model}, {created:%Y}", "note": ""}
    assert (bulk_edit.remove, bulk_edit.rename) == (["gone"], {"n": "number"})
    assert bulk_edit.edits.get().patch.as_merge_patch() == {
        "team": "gpt-4o, 2023", "note": "", "n": None, "number": "1",
    }  # fmt: skip
    shown = text_of(as_alice, bulk_edit)
    assert "team blue → gpt-4o, 2023" in shown
    assert "note not there → empty text" in shown
    assert "n 1 → removed" in shown


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("team", "set", ""), "choose “set to empty text” or “remove the pair”"),
        (("team", "remove", "red"), "uses no value"),
        (("team", "empty", "red"), "uses no value"),
        (("", "remove", ""), "Enter the key"),
        (("", "set", "red"), "Enter the key"),
        (("team", "rename", ""), "Enter the new name"),
        (("team", "nonsense", "red"), "Choose what to do with the key"),
        (("team", "set", "{nosuch}"), "is not a field"),
        (("team", "set", "{"), "Single '{'"),
        (("k" * 65, "set", "red"), "at most 64"),
        (("team", "set", "x" * 513), "at most 512"),
        (("n", "rename", "x" * 65), "at most 64"),
    ],
)
def test_row_error_is_beside_its_row(team: list[Run], as_alice: Client, row: tuple[str, str, str], said: str) -> None:
    other = ("other", "set", "<kept> & safe")
    response = as_alice.post(select_all(as_alice, "status=completed"), {**typed(other, row, canary="3", wait="1.5")})

    assert response.status_code == 422
    rows = html.unescape(response.text).split("data-row>")[1:3]
    assert said in rows[1]
    assert 'role="alert"' not in rows[0]
    assert f'value="{row[0]}"' in rows[1]
    assert f">\n{row[2]}<" in rows[1]
    assert ">\n<kept> & safe<" in rows[0]
    for kept in ('value="moved"', 'value="3"', 'value="1.5"'):
        assert kept in response.text
    assert not BulkEdit.objects.exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"reason": " "}, "needs a reason"),
        ({"reason": "x" * 501}, "at most 500"),
        ({"canary": "0"}, "Give a number of runs"),
        ({"canary": "many"}, "Give a number of runs"),
        ({"canary": "9" * 20}, "Give a number of runs"),
        ({"wait": "-1"}, "Give a number of hours"),
        ({"wait": "nan"}, "Give a number of hours"),
        ({"wait": "721"}, "Give a number of hours"),
    ],
)
def test_field_error_is_beside_its_field(team: list[Run], as_alice: Client, more: dict[str, str], said: str) -> None:
    response = as_alice.post(select_all(as_alice, ""), {**RED, **more})

    assert response.status_code == 422
    assert said in response.text
    assert ">\nred<" in response.text
    assert not BulkEdit.objects.exists()


def test_repeated_key_and_empty_patch_are_errors(team: list[Run], as_alice: Client) -> None:
    twice = typed(("team", "set", "red"), ("team", "set", "green"))
    assert "used more than once" in as_alice.post(select_all(as_alice, ""), {**twice}).text
    both = typed(("team", "set", "red"), ("team", "remove", ""))
    assert "used more than once" in as_alice.post(select_all(as_alice, ""), {**both}).text
    assert "This changes nothing" in as_alice.post(select_all(as_alice, ""), {**typed()}).text
    assert not BulkEdit.objects.exists()


def test_existing_keys_are_suggested(team: list[Run], mirrored: MakeRun, as_alice: Client) -> None:
    mirrored(id="run_x", metadata={"<b>": "1", "zone": "2"})

    offered = re.findall(r'<option value="([^"]*)"></option>', as_alice.get(select_all(as_alice)).text)

    assert offered == ["&lt;b&gt;", "n", "team", "zone"]


def test_plan_shows_changes_and_sends_nothing(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    Run.objects.filter(upstream_id="run_4").update(missing_since=timezone.now())
    bulk_edit = planned(as_alice, typed(("team", "set", "red"), canary="2"))

    shown = text_of(as_alice, bulk_edit)

    for said in (
        "Plan: nothing has been sent", "4 Change", "1 Active when planned", "1 Missing upstream",
        "team blue → red", "2 runs are left out",
        "This changes the first 2 of 4 runs, then pauses", "Change the first 2 runs", "Expires", "moved",
        "None of its runs has changed", "6 runs: all that matched connection:default",
    ):  # fmt: skip
        assert said in shown, said
    assert sandbox.posts() == []


def test_large_plan_updates_without_reload(team: list[Run], alice: User, as_alice: Client) -> None:
    selection = bulk_edits.by_search("metadata.team:blue")
    bulk_edit = bulk_edits.plan(
        selection=selection, patch=BulkPatch({"team": "red"}), actor=alice, source=Edit.Source.ADMIN, reason="moved"
    )

    assert 'hx-trigger="every 1s"' in as_alice.get(url(bulk_edit)).text
    shown = text_of(as_alice, bulk_edit)
    assert "Planning" in shown
    assert "0 of 6 runs" in shown
    assert "Change 6 runs" not in shown

    whole(bulk_edit)
    assert 'hx-trigger="every' not in as_alice.get(url(bulk_edit)).text
    assert "Change 5 runs" in text_of(as_alice, bulk_edit)


def test_apply_when_planned_is_shown(team: list[Run], alice: User, as_alice: Client) -> None:
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

    assert "alice asked to apply the plan as soon as it is complete" in text_of(as_alice, bulk_edit)


def test_counts_link_to_filtered_edits(team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)

    assert "?plan_result=active#edits" in as_alice.get(url(bulk_edit)).text
    assert runs_shown(as_alice, url(bulk_edit) + "?plan_result=active") == ["run_5"]
    assert len(runs_shown(as_alice, url(bulk_edit) + "?plan_result=change")) == 5
    assert "The run was in_progress" in text_of(as_alice, bulk_edit, "?plan_result=active")
    assert len(runs_shown(as_alice, url(bulk_edit) + "?plan_result=nonsense&after=x")) == 6


def test_edits_are_paged_both_ways(team: list[Run], as_alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runsadmin.admin.bulk_edits.EDITS_SHOWN", 2)
    bulk_edit = planned(as_alice)
    everything = list(
        bulk_edit.edits.filter(plan_result="change").order_by("pk").values_list("run__upstream_id", flat=True)
    )

    def beside(query: str, word: str) -> str | None:
        found = re.search(rf'href="(\?[^"#]*)#edits">[^<]*{word}', as_alice.get(url(bulk_edit) + query).text)
        return html.unescape(found[1]) if found else None

    queries = ["?plan_result=change"]
    while (query := beside(queries[-1], "Next")) is not None:
        queries.append(query)
    pages = [runs_shown(as_alice, url(bulk_edit) + query) for query in queries]
    assert pages == [everything[:2], everything[2:4], everything[4:]]
    back = beside(queries[2], "Previous") or ""
    assert runs_shown(as_alice, url(bulk_edit) + back) == everything[2:4]
    first = beside(back, "Previous") or ""
    assert runs_shown(as_alice, url(bulk_edit) + first) == everything[:2]
    assert beside(first, "Previous") is None
    assert beside(first, "Next") is not None


def test_runs_changed_since_are_counted(sandbox: Sandbox, team: list[Run], as_alice: Client, alice: User) -> None:
    bulk_edit = planned(as_alice)
    edits.push(edits.record(run=team[0], patch=MetadataPatch.parse({"x": "1"}), actor=alice, source=Edit.Source.ADMIN))

    assert "1 run has changed since the plan was made" in text_of(as_alice, bulk_edit)


def test_colleague_with_permission_applies(
    team: list[Run], as_alice: Client, make_user: MakeUser, signed_in: SignIn
) -> None:
    bulk_edit = planned(as_alice)
    looker = signed_in(make_user(Action.VIEW_BULK_EDITS, Action.PLAN_BULK_EDITS))
    applier = signed_in(
        make_user(Action.VIEW_BULK_EDITS, Action.APPLY_BULK_EDITS, Action.EDIT_METADATA, username="dora")
    )

    assert "runsadmin.apply_bulkedit" in text_of(looker, bulk_edit)
    assert "Change 5 runs" not in text_of(looker, bulk_edit)
    assert press(looker, bulk_edit, "apply").status_code == 403
    assert "Change 5 runs" in text_of(applier, bulk_edit)
    assert press(applier, bulk_edit, "apply").status_code == 302
    bulk_edit.refresh_from_db()
    assert bulk_edit.applied_by is not None
    assert bulk_edit.applied_by.get_username() == "dora"


@pytest.mark.parametrize("name", ["apply", "pause", "resume", "cancel", "retry", "undo"])
def test_viewer_sees_plan_without_buttons(team: list[Run], as_alice: Client, as_carol: Client, name: str) -> None:
    bulk_edit = planned(as_alice)

    assert "team blue → red" in text_of(as_carol, bulk_edit)
    assert press(as_carol, bulk_edit, name, {"reason": "x"}).status_code == 403
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == S.PLANNED


def test_links_need_their_permission(team: list[Run], as_alice: Client, signed_in: SignIn, make_user: MakeUser) -> None:
    bulk_edit = planned(as_alice)

    shown = signed_in(make_user(Action.VIEW_BULK_EDITS)).get(url(bulk_edit)).text
    assert "run_0" in shown
    for other in ("/admin/runsadmin/run/", "/admin/runsadmin/edit/"):
        assert other in as_alice.get(url(bulk_edit)).text
        assert other not in shown


def test_expired_plan_cannot_be_applied(team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    BulkEdit.objects.update(expires_at=timezone.now())

    shown = text_of(as_alice, bulk_edit)
    assert "The plan has expired" in shown
    assert "Change 5 runs" not in shown
    assert "Only a plan that is whole" in press(as_alice, bulk_edit, "apply", follow=True).text
    assert "can no longer be applied" in text_of(as_alice, bulk_edit)
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == S.EXPIRED


def test_plan_without_changes_has_no_apply(team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice, typed(("team", "set", "blue")))

    shown = text_of(as_alice, bulk_edit)
    assert "There is nothing to apply" in shown
    assert "6 Nothing to do" in shown


def test_plan_is_discarded(team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)

    response = press(as_alice, bulk_edit, "cancel", follow=True)

    assert "Discard plan" not in response.text
    assert "alice cancelled it" in response.text
    assert not bulk_edit.edits.filter(status=E.PLANNED).exists()


def test_nothing_is_done_before_it_is(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    press(as_alice, bulk_edit, "apply")

    shown = text_of(as_alice, bulk_edit)
    assert "Waiting for a worker" in shown
    assert "0 of 5 runs done" in shown
    assert "still open 5 pending" in shown
    for early in ("applied ", "All edits are done"):
        assert early not in shown.split("Outcomes so far")[0].split("Waiting for a worker")[1]
    assert 'hx-trigger="every 1s"' in as_alice.get(url(bulk_edit)).text

    push_until_settled(bulk_edit)
    shown = text_of(as_alice, bulk_edit)
    assert "All edits are done" in shown
    assert "changed 5 applied" in shown
    assert runs_shown(as_alice, url(bulk_edit) + "?status=skipped") == ["run_5"]
    assert 'hx-trigger="every' not in as_alice.get(url(bulk_edit)).text
    for run in team[:5]:
        assert sandbox.metadata(run.upstream_id) == Run.objects.get(pk=run.pk).metadata
        assert sandbox.metadata(run.upstream_id)["team"] == "red"


def test_claimed_edits_are_being_sent(team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    press(as_alice, bulk_edit, "apply")
    bulk_edits.advance_statuses()
    assert "Waiting for a worker" in text_of(as_alice, bulk_edit)

    claim_due("default", 2)
    bulk_edits.advance_statuses()

    shown = text_of(as_alice, bulk_edit)
    assert "Running Being sent" in shown
    assert "still open 3 pending, 2 sending" in shown


def test_pause_shows_edits_in_flight(team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    press(as_alice, bulk_edit, "apply")
    claim_due("default", 2)
    press(as_alice, bulk_edit, "pause")

    assert "2 edits were already being sent" in text_of(as_alice, bulk_edit)
    assert 'hx-trigger="every 1s"' in as_alice.get(url(bulk_edit)).text


def test_pause_and_resume(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    press(as_alice, bulk_edit, "apply")
    press(as_alice, bulk_edit, "pause")
    assert "Nothing more is sent until someone resumes it" in text_of(as_alice, bulk_edit)
    edit = bulk_edit.edits.filter(status=E.PENDING)[0]
    assert (
        "its bulk edit to be resumed, which is paused" in as_alice.get(f"/admin/runsadmin/edit/{edit.pk}/change/").text
    )
    edits.process_due(until=time.monotonic() + 1)
    assert sandbox.posts() == []

    press(as_alice, bulk_edit, "resume")
    assert push_until_settled(bulk_edit).status == S.COMPLETED
    assert len(sandbox.posts()) == 5


def test_canary_pauses_with_a_reason(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice, typed(("team", "set", "red"), canary="2"))
    press(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)

    shown = text_of(as_alice, bulk_edit)
    assert "The first 2 were sent. Check them, then resume or cancel." in shown
    assert "2 of 5 runs done" in shown
    assert len(sandbox.posts()) == 2


def test_cancel_shows_what_was_done(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice, typed(("team", "set", "red"), canary="2"))
    press(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)
    press(as_alice, bulk_edit, "cancel")

    shown = text_of(as_alice, bulk_edit)
    assert "changed 2 applied" in shown
    assert "not changed 3 cancelled unsent" in shown
    assert "still open" not in shown
    assert sum(sandbox.metadata(run.upstream_id)["team"] == "red" for run in team) == 2


def test_failed_edits_are_retried(sandbox: Sandbox, team: list[Run], as_alice: Client, settings: Settings) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 1
    sandbox.fault("status", status=409, times=1, method="POST")
    bulk_edit = planned(as_alice)
    assert "Retry" not in text_of(as_alice, bulk_edit)
    press(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)
    assert "1 failed" in text_of(as_alice, bulk_edit)

    press(as_alice, bulk_edit, "retry")
    push_until_settled(bulk_edit)
    assert "changed 5 applied" in text_of(as_alice, bulk_edit)


def test_undo_needs_reason_and_is_a_plan(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    press(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)
    assert "needs a reason" in press(as_alice, bulk_edit, "undo", follow=True).text

    response = press(as_alice, bulk_edit, "undo", {"reason": "a mistake"})
    undo = BulkEdit.objects.latest("pk")
    assert response.headers["Location"] == url(undo)
    shown = text_of(as_alice, undo)
    for said in ("Undoes bulk edit", "team red → blue", "Change 5 runs", "a mistake"):
        assert said in shown
    assert "undone by" in text_of(as_alice, bulk_edit)
    press(as_alice, undo, "apply")
    push_until_settled(undo)
    assert all(sandbox.metadata(run.upstream_id)["team"] == "blue" for run in team)
    assert "Undo…" in text_of(as_alice, undo)


def test_undo_is_offered_only_after_the_end(sandbox: Sandbox, team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice, typed(("team", "set", "red"), canary="2"))
    press(as_alice, bulk_edit, "apply")
    push_until_settled(bulk_edit)

    assert "Undo…" not in text_of(as_alice, bulk_edit)
    refused = press(as_alice, bulk_edit, "undo", {"reason": "a mistake"}, follow=True).text
    assert "Only a bulk edit that has ended can be undone; this one is paused." in refused
    press(as_alice, bulk_edit, "cancel")
    assert "Undo…" in text_of(as_alice, bulk_edit)


def test_held_connection_is_shown(team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    press(as_alice, bulk_edit, "apply")
    connections.hold("default", connections.Hold.CREDENTIALS, "401")

    assert "The connection default is held, so nothing is sent" in text_of(as_alice, bulk_edit)


def test_impossible_action_is_refused(team: list[Run], as_alice: Client) -> None:
    bulk_edit = planned(as_alice)
    for name in ("pause", "resume", "retry", "undo"):
        assert re.search("Only a|nothing to undo", press(as_alice, bulk_edit, name, {"reason": "x"}, follow=True).text)
    bulk_edit.refresh_from_db()
    assert bulk_edit.status == S.PLANNED


def test_apply_enqueues_the_push(team: list[Run], as_alice: Client) -> None:
    press(as_alice, planned(as_alice), "apply")

    assert DBTaskResult.objects.filter(task_path=tasks.push_edits.module_path).exists()


def csv_rows(client: Client, bulk_edit: BulkEdit, query: str = "") -> list[dict[str, str]]:
    response = client.get(url(bulk_edit, "csv") + query)
    assert response.streaming
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(response.getvalue().decode().splitlines(keepends=True)))


def test_csv_lists_changes_and_skipped_runs(team: list[Run], as_alice: Client, as_carol: Client) -> None:
    form = typed(("team", "remove", ""), ("note", "empty", ""), ("n", "set", "7"))
    bulk_edit = planned(as_alice, form)

    rows = csv_rows(as_carol, bulk_edit)
    of = [row for row in rows if row["run"] == "run_1"]
    assert [(row["key"], row["change"], row["before"], row["after"]) for row in of] == [
        ("team", "removed", "blue", ""), ("n", "changed", "1", "7"), ("note", "added", "", ""),
    ]  # fmt: skip
    assert [row["plan"] for row in rows if row["run"] == "run_5"] == ["Active when planned"]
    assert {row["run"] for row in csv_rows(as_carol, bulk_edit, "?plan_result=active")} == {"run_5"}


@pytest.mark.parametrize("begin", ["=1+1", "+A1", "-A1", "@SUM(1)", "\tx"])
def test_csv_value_is_no_formula(mirrored: MakeRun, as_alice: Client, begin: str) -> None:
    mirrored(id="run_a", metadata={begin: begin})
    bulk_edit = planned(as_alice, typed((begin, "set", f"{begin}!")))

    [row] = csv_rows(as_alice, bulk_edit)
    assert [row[name] for name in ("key", "before", "after")] == [f"'{begin}", f"'{begin}", f"'{begin}!"]


def test_csv_covers_all_chunks(team: list[Run], as_alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runsadmin.admin.csv_export.CHUNK", 2)

    assert len({row["run"] for row in csv_rows(as_alice, planned(as_alice))}) == 6


def test_csv_needs_view_permission(team: list[Run], as_alice: Client, make_user: MakeUser, signed_in: SignIn) -> None:
    assert signed_in(make_user()).get(url(planned(as_alice), "csv")).status_code == 403


def test_list_shows_who_what_and_why(team: list[Run], as_alice: Client, as_carol: Client) -> None:
    form = typed(("team", "set", "<i>red"), ("note", "empty", ""), ("n", "rename", "m"), ("old", "remove", ""))
    planned(as_alice, form, reason="moved <b>")

    shown = as_carol.get("/admin/runsadmin/bulkedit/").text

    for said in ("Planned", "alice", "&lt;i&gt;red", "empty text", "renamed to", "removed", "moved &lt;b&gt;"):
        assert said in shown, said
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
    assert "<b>1</b> planned" in as_alice.get("/admin/").text
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


# --- its size does not matter


def fill(run: Run, actor: User, count: int) -> BulkEdit:
    """A bulk edit that goes on, of this many runs: most are to be sent, some were, some are left out."""
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
    """How many queries it takes, and how many seconds."""
    began = time.perf_counter()
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    took = time.perf_counter() - began
    assert not any("OFFSET" in query["sql"] for query in captured.captured_queries)
    return len(captured), took


@pytest.mark.django_db
def test_query_count_is_independent_of_size(mirrored: MakeRun, alice: User, as_carol: Client) -> None:
    run = mirrored(metadata={"team": "blue", "n": "1"})
    few, many = fill(run, alice, 500), fill(run, alice, 50_000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    for status in (S.PLANNED, S.RUNNING):
        BulkEdit.objects.update(status=status)
        for of_few, of_many in zip(pages_of(few), pages_of(many), strict=True):
            # In turns: what slows the machine down slows both.
            costs = [(cost(as_carol, of_few), cost(as_carol, of_many)) for _ in range(5)]
            (queries_of_few, took_of_few), (queries, took) = (min(each) for each in zip(*costs, strict=True))
            assert queries == queries_of_few, (status, of_many)
            assert took < took_of_few * 3 + 0.05, (status, of_many, took_of_few, took)
