"""The pages of edits: the outcome, the actions (resolve, undo, retry, cancel) and the list."""

import datetime as dt

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models import Edit, EditStatus, Run
from runsadmin.services import connections, edits, purging
from runsadmin.services.permissions import Action
from tests.admin.conftest import ClientFor, MakeUser, base_field, metadata_form, run_action, run_url
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db(transaction=True)


def change_url(edit: Edit, name: str = "change") -> str:
    return f"/admin/runsadmin/edit/{edit.pk}/{name}/"


def record(run: Run, actor: User, base: dict[str, object] | None = None, **pairs: str | None) -> Edit:
    return edits.record(
        run=run,
        patch=MetadataPatch.parse(pairs),
        actor=actor,
        source=Edit.Source.ADMIN,
        base=Metadata(base) if base else None,
    )


def test_removed_key_that_remains_is_shown(sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client) -> None:
    sandbox.settings(modify="merge")
    run = mirror_run(metadata={"team": "blue", "old": "x"})

    response = as_alice.post(
        run_url(run, "metadata"), metadata_form(("team", "red"), base=base_field(as_alice, run)), follow=True
    )

    assert Edit.objects.get().status == EditStatus.DIFFERS
    assert "Upstream returned something else" in response.text
    assert "Intended:" in response.text


def test_refusal_by_the_server_is_quoted(sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client) -> None:
    run = mirror_run(metadata={"team": "blue"})
    error = {"error": {"message": "Not on a Sunday.", "type": "invalid_request_error", "param": None, "code": None}}
    sandbox.fault("status", method="POST", status=400, body=error)

    response = as_alice.post(
        run_url(run, "metadata"), metadata_form(("team", "red"), base=base_field(as_alice, run)), follow=True
    )

    assert "Rejected: nothing was changed" in response.text
    assert "Not on a Sunday." in response.text


def test_lost_response_is_shown_as_unknown(sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client) -> None:
    run = mirror_run(metadata={"team": "blue"})
    sandbox.fault("lose", method="POST")

    response = as_alice.post(
        run_url(run, "metadata"), metadata_form(("team", "red"), base=base_field(as_alice, run)), follow=True
    )

    assert "Outcome unknown" in response.text
    assert 'hx-trigger="every 2s"' in response.text
    assert "Applied" not in response.text

    edit = edits.reconcile(Edit.objects.get())
    response = as_alice.get(change_url(edit))
    assert "Applied" in response.text
    assert 'hx-trigger="every' not in response.text


@pytest.mark.parametrize(
    ("wait_reason", "shown_wait"),
    [("", "a worker to claim it"), ("retry", "its next attempt"), ("active_run", "the run to end")],
)
def test_pending_edit_shows_what_it_waits_for(
    mirror_run: MakeRun, alice: User, as_alice: Client, wait_reason: str, shown_wait: str
) -> None:
    edit = record(mirror_run(), alice, team="red")
    Edit.objects.filter(pk=edit.pk).update(wait_reason=wait_reason)

    shown = as_alice.get(change_url(edit)).text

    assert shown_wait in shown
    assert "Nothing has changed upstream so far" in shown


@pytest.fixture
def conflict(sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client) -> Edit:
    """Alice's edit of `team` and `env`. Another client has changed `team` since she opened the form."""
    run = mirror_run(metadata={"team": "blue", "env": "dev"})
    base = base_field(as_alice, run)
    sandbox.set_metadata(run.upstream_id, {"team": "green", "env": "dev", "new": "1"})
    as_alice.post(run_url(run, "metadata"), metadata_form(("team", "red"), ("env", "prod"), base=base, reason="moved"))
    edit = Edit.objects.get()
    assert edit.status == EditStatus.CONFLICT
    return edit


def test_conflict_shows_base_theirs_and_mine(conflict: Edit, as_alice: Client) -> None:
    shown = as_alice.get(change_url(conflict)).text

    for value in ("When the edit was made", "blue", "green", "red", "Theirs", "Mine", "moved"):
        assert value in shown


@pytest.mark.parametrize(
    ("choice", "team"),
    [
        ({"0-take": "mine"}, "red"),
        ({"0-take": "other", "0-other": "gold"}, "gold"),
        ({"0-take": "theirs"}, "green"),
    ],
)
def test_resolution_is_a_new_edit(
    sandbox: Sandbox, conflict: Edit, as_alice: Client, choice: dict[str, str], team: str
) -> None:
    response = as_alice.post(change_url(conflict, "resolve"), choice, follow=True)

    new = Edit.objects.get(resolves=conflict)
    assert response.redirect_chain == [(change_url(new), 302)]
    assert new.status == EditStatus.APPLIED
    assert sandbox.metadata(conflict.run.upstream_id) == {"team": team, "env": "prod", "new": "1"}
    shown = as_alice.get(change_url(conflict)).text
    assert "resolved by" in shown
    assert "Resolve the conflict" not in shown


def test_invalid_resolution_keeps_the_input(conflict: Edit, as_alice: Client) -> None:
    form = {"0-take": "other", "0-other": "x" * 513, "reason": "mine"}

    response = as_alice.post(change_url(conflict, "resolve"), form)

    assert response.status_code == 422
    assert "at most 512" in response.text
    assert "x" * 513 in response.text
    assert not Edit.objects.filter(resolves=conflict).exists()


def test_every_key_needs_a_choice(conflict: Edit, as_alice: Client) -> None:
    response = as_alice.post(change_url(conflict, "resolve"), {})

    assert response.status_code == 422
    assert "Choose a value" in response.text


def test_viewer_sees_conflict_without_buttons(conflict: Edit, as_carol: Client) -> None:
    assert "Resolve the conflict" not in as_carol.get(change_url(conflict)).text
    assert as_carol.post(change_url(conflict, "resolve"), {"0-take": "mine"}).status_code == 403


def test_undo_is_previewed_and_applied(sandbox: Sandbox, mirror_run: MakeRun, alice: User, as_alice: Client) -> None:
    run = mirror_run(metadata={"team": "blue"})
    edit = edits.push(record(run, alice, team="red", ticket="1"))

    shown = as_alice.get(change_url(edit)).text
    assert "After the undo" in shown

    response = run_action(as_alice, edit, "undo", {"reason": "a mistake"}, follow=True)
    assert "Applied" in response.text
    assert sandbox.metadata(run.upstream_id) == {"team": "blue"}
    assert Edit.objects.get(undoes=edit).reason == "a mistake"
    assert "undone by" in as_alice.get(change_url(edit)).text


def test_failed_edit_is_retried(sandbox: Sandbox, mirror_run: MakeRun, alice: User, as_alice: Client) -> None:
    edit = record(mirror_run(), alice, team="red")
    Edit.objects.filter(pk=edit.pk).update(status="failed", finished_at=timezone.now())

    response = run_action(as_alice, edit, "retry", follow=True)

    assert "Applied" in response.text


def test_pending_edit_is_cancelled(mirror_run: MakeRun, alice: User, as_alice: Client) -> None:
    edit = record(mirror_run(), alice, team="red")

    response = run_action(as_alice, edit, "cancel", follow=True)

    assert "It was cancelled before it was sent" in response.text


def test_impossible_action_is_refused(mirror_run: MakeRun, alice: User, as_alice: Client) -> None:
    edit = edits.push(record(mirror_run(), alice, team="red"))

    for response in (
        run_action(as_alice, edit, "retry", follow=True),
        run_action(as_alice, edit, "cancel", follow=True),
        as_alice.post(change_url(edit, "resolve"), {"0-take": "mine"}, follow=True),
    ):
        assert "Only" in response.text
    assert Edit.objects.count() == 1


@pytest.mark.parametrize("name", ["undo", "retry", "cancel", "resolve", "nonsense"])
def test_viewer_is_refused_every_action(mirror_run: MakeRun, alice: User, as_carol: Client, name: str) -> None:
    edit = edits.push(record(mirror_run(), alice, team="red"))

    if name == "resolve":
        assert as_carol.post(change_url(edit, name)).status_code == 403
    elif name == "nonsense":
        assert "No action selected" in run_action(as_carol, edit, name, follow=True).text
    else:
        refused = run_action(as_carol, edit, name)
        assert refused.status_code == 403
        assert "runsadmin.change_run" in refused.text
    shown = as_carol.get(change_url(edit))
    assert shown.status_code == 200
    assert "Undo" not in shown.text
    assert Edit.objects.count() == 1


def test_list_shows_who_why_and_what(mirror_run: MakeRun, alice: User, as_carol: Client) -> None:
    run = mirror_run(metadata={"team": "blue"})
    edit = record(run, alice, {"team": "blue"}, team="red")
    Edit.objects.filter(pk=edit.pk).update(reason="moved", created_at=timezone.now() - dt.timedelta(hours=2))

    shown = as_carol.get("/admin/runsadmin/edit/").text

    for value in ("alice", "moved", "Pending", run.upstream_id, "2 h ago", "blue", "red"):
        assert value in shown


def test_list_filters_by_status_actor_and_run(mirror_run: MakeRun, alice: User, bob: User, as_alice: Client) -> None:
    runs = [mirror_run(), mirror_run()]
    mine, theirs = record(runs[0], alice, team="red"), edits.push(record(runs[1], bob, team="red"))

    def listed(query: str) -> set[int]:
        shown = as_alice.get(f"/admin/runsadmin/edit/?{query}").text
        return {edit.pk for edit in (mine, theirs) if change_url(edit) in shown}

    assert listed("") == {mine.pk, theirs.pk}
    assert listed("by=me") == {mine.pk}
    shown = as_alice.get("/admin/runsadmin/edit/").text
    assert 'href="?by=bob"' in shown
    assert listed("by=bob") == {theirs.pk}
    assert listed("by=nobody") == set()
    assert listed("status=applied") == {theirs.pk}
    assert listed(f"run={runs[0].pk}") == {mine.pk}
    assert listed(f"q={runs[1].upstream_id}") == {theirs.pk}


def test_hold_is_shown_and_released(
    mirror_run: MakeRun, alice: User, as_alice: Client, client_for: ClientFor, make_user: MakeUser
) -> None:
    run = mirror_run()
    connections.hold("default", connections.Hold.CREDENTIALS, "The server returned 401.")
    edit = record(run, alice, {}, team="red")
    Edit.objects.filter(pk=edit.pk).update(wait_reason=Edit.WaitReason.RETRY, attempts=1)
    operator = client_for(make_user(Action.HOLD, Action.VIEW_SYNCS))

    for url in ("/admin/", "/admin/runsadmin/run/", run_url(run), run_url(run, "metadata"), "/admin/runsadmin/edit/"):
        assert "The server returned 401." in as_alice.get(url).text
    assert "Next attempt:" not in as_alice.get(change_url(edit)).text
    switch_url = "/admin/runsadmin/connectionstate/default/switch/"
    assert as_alice.post(switch_url, {"on": "0"}).status_code == 403
    assert connections.is_held("default")
    assert "is released" in operator.post(switch_url, {"on": "0"}, follow=True).text
    assert not connections.is_held("default")
    assert "Next attempt:" in as_alice.get(change_url(edit)).text
    assert "is held: nothing is sent" in operator.post(switch_url, {"on": "1"}, follow=True).text
    assert Run.objects.get().metadata == {}


def test_restored_edits_are_shown_and_released(
    mirror_run: MakeRun, alice: User, as_alice: Client, client_for: ClientFor, make_user: MakeUser
) -> None:
    edit = record(mirror_run(metadata={"team": "blue"}), alice, {"team": "blue"}, team="red")
    other = record(mirror_run(), alice, {}, team="red")
    Edit.objects.filter(pk=edit.pk).update(restored_from=timezone.now())
    connections.hold_restored(["default"], timezone.now())
    operator = client_for(make_user(Action.HOLD, Action.VIEW_SYNCS))

    for url in ("/admin/", run_url(edit.run), "/admin/runsadmin/edit/", "/admin/runsadmin/connectionstate/"):
        shown = as_alice.get(url).text
        assert "was restored" in shown
        assert "wait until they are released or cancelled: 1." in shown
        assert "Edits from a backup" not in shown
    page = operator.get("/admin/runsadmin/connectionstate/").text
    assert page.count('name="on" value="restored"') == 2  # In the banner and on the connection.
    assert "Hold…" not in page
    listed = as_alice.get("/admin/runsadmin/edit/?restored=yes").text
    assert change_url(edit) in listed
    assert change_url(other) not in listed
    page = " ".join(as_alice.get(change_url(edit)).text.split())
    assert "Release it to send it, or cancel it" in page
    assert (
        "the connection default to be released (it is held: a backup was restored)"
        in as_alice.get(change_url(other)).text
    )

    switch_url = "/admin/runsadmin/connectionstate/default/switch/"
    assert as_alice.post(switch_url, {"on": "restored"}).status_code == 403
    released = operator.post(switch_url, {"on": "restored"}, follow=True).text
    assert "Edits from the backup wait until they are released or cancelled" in released
    assert not connections.is_held("default")
    assert "Edits from a backup" in operator.get("/admin/runsadmin/connectionstate/").text
    assert "a user to release it" in as_alice.get(change_url(edit)).text
    run_action(as_alice, edit, "release")
    edit.refresh_from_db()
    assert (edit.status, edit.restored_from) == (EditStatus.APPLIED, None)


def test_changes_not_made_are_not_green(mirror_run: MakeRun, alice: User, as_alice: Client) -> None:
    edit = record(mirror_run(metadata={"team": "blue"}), alice, {"team": "blue"}, team="red")
    for status in (EditStatus.CANCELLED, EditStatus.APPLIED):
        Edit.objects.update(status=status, finished_at=timezone.now())
        for url in ("/admin/runsadmin/edit/", change_url(edit)):
            assert ("ra-not-made" in as_alice.get(url).text) == (status == EditStatus.CANCELLED)


def test_restore_without_waiting_edits_names_none(sandbox: Sandbox, client_for: ClientFor, make_user: MakeUser) -> None:
    connections.hold_restored(["default"], timezone.now())
    operator = client_for(make_user(Action.HOLD, Action.VIEW_SYNCS))
    shown = operator.get("/admin/").text
    assert "was restored" in shown
    assert "Waiting edits" not in shown
    released = operator.post("/admin/runsadmin/connectionstate/default/switch/", {"on": "restored"}, follow=True).text
    assert "The connection default is released.<" in released.replace("\n", "").replace(" <", "<")


@pytest.mark.parametrize("status", [EditStatus.APPLIED, EditStatus.CONFLICT, EditStatus.FAILED])
def test_purged_edit_has_a_page(mirror_run: MakeRun, as_alice: Client, alice: User, status: EditStatus) -> None:
    run = mirror_run(metadata={"team": "secret-before"})
    edits.push(record(run, alice, {"team": "secret-before"}, team="secret-after"))
    Edit.objects.update(status=status)
    purging.purge([run.pk])
    edit = Edit.objects.get()
    for url in (change_url(edit), run_url(run), "/admin/runsadmin/edit/", "/admin/runsadmin/run/"):
        page = as_alice.get(url)
        assert page.status_code == 200
        assert "secret" not in page.text
        assert run.upstream_id in page.text
    page = as_alice.get(change_url(edit))
    assert "The values of this edit were purged" in page.text
    assert not [name for name in ("retry", "undo", "resolve") if f"/{name}/" in page.text]
    page = as_alice.get(run_url(run))
    assert "This run was purged." in page.text
    assert "The values were purged." in page.text
    assert "of 16 pairs" not in " ".join(page.text.split())
    assert not [name for name in ("edit_metadata", "refresh") if f'value="{name}"' in page.text]
    assert ">purged<" in as_alice.get("/admin/runsadmin/edit/").text


def test_values_of_an_edit_are_links(mirror_run: MakeRun, as_alice: Client, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    edit = edits.push(record(run, alice, {"team": "blue"}, team="red"))
    for url in ("/admin/runsadmin/edit/", change_url(edit), run_url(run)):
        assert 'href="/admin/runsadmin/run/?q=metadata.team%3Ared"' in as_alice.get(url).text, url
