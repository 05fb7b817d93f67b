"""An archive is read-only: nothing is recorded, held, probed or scheduled for it, and every entry point says why."""

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.utils import timezone

from runsadmin import conf
from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import ReadOnlyConnection
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, ConnectionState, Edit, Run, Sync, Thread
from runsadmin.services import bulk_edits, connections, edits, runs, syncs, threads, tokens
from runsadmin.services.permissions import Action
from runsadmin.templatetags.links import change_url, list_url
from tests.archive import ALIAS, add_archive, archived_run
from tests.conftest import Connect, MakeRun
from tests.management.conftest import Manage, manage

__all__ = ["manage"]

MESSAGE = "The connection 'old' is an archive"
RED = MetadataPatch({"team": "red"})


@pytest.fixture
def run(connect: Connect, db: None) -> Run:
    add_archive(connect)
    return archived_run(id="run_a", thread_id="thread_a", metadata={"team": "blue"})


@pytest.fixture
def unchanged(run: Run) -> Iterator[None]:
    """Asserts that the test writes nothing."""

    def rows() -> dict[type[Model], list[Any]]:
        return {
            model: list(model._default_manager.order_by("pk").values())
            for model in apps.get_app_config("runsadmin").get_models()
        }

    before = rows()
    yield
    assert rows() == before


def plan(**selected: Any) -> Callable[[Run, User], object]:
    def call(run: Run, actor: User) -> object:
        selection = bulk_edits.by_ids([run.upstream_id]) if not selected else bulk_edits.by_search(**selected)
        return bulk_edits.plan(
            selection=selection,
            patch=BulkPatch({"team": "red"}, (), {}),
            actor=actor,
            source=Edit.Source.API,
            reason="r",
        )

    return call


REFUSED: dict[str, Callable[[Run, User], object]] = {
    "edit": lambda run, actor: edits.record(run=run, patch=RED, actor=actor, source=Edit.Source.API),
    "plan by ids": plan(),
    "plan by search": plan(query="metadata.team:blue"),
    "refresh": lambda run, actor: runs.refresh(run=run, actor=actor),
    "mark for refresh": lambda run, actor: runs.mark_for_refresh(runs=[run], actor=actor),
    "sync": lambda run, actor: syncs.start(connection=ALIAS, kind=Sync.Kind.FULL, actor=actor),
    "sync a thread": lambda run, actor: syncs.start(
        connection=ALIAS, kind=Sync.Kind.FULL, actor=actor, thread=run.thread
    ),
    "track": lambda run, actor: threads.track(connection=ALIAS, thread_ids=["thread_a", "thread_b"], actor=actor),
    "list threads": lambda run, actor: threads.listed_upstream(connection=ALIAS),
    "hold": lambda run, actor: connections.set_hold(ALIAS, on=True, actor=actor),
}


@pytest.mark.parametrize("name", REFUSED)
def test_services_refuse_archives(name: str, run: Run, unchanged: None, make_user: Callable[..., User]) -> None:
    actor = make_user(*Action)
    with pytest.raises(ReadOnlyConnection, match=MESSAGE):
        REFUSED[name](run, actor)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "runs/run_a/", {"metadata": {"team": "red"}}),
        ("POST", "runs/run_a/refresh/", None),
        ("POST", "bulk-edits/", {"q": "metadata.team:blue", "set": {"team": "red"}, "reason": "r"}),
        ("POST", "bulk-edits/", {"run_ids": ["run_a"], "set": {"team": "red"}, "reason": "r"}),
        ("POST", "syncs/", {"connection": ALIAS}),
        ("POST", "threads/", {"connection": ALIAS, "thread_id": "thread_b"}),
    ],
)
def test_rest_api_refuses_archives(run: Run, alice: User, method: str, path: str, body: Any) -> None:
    token = tokens.create(user=alice, expires_in=dt.timedelta(hours=1))
    url, headers = f"/api/v1/{path}", {"Authorization": f"Token {token}"}
    response = Client(headers=headers).generic(
        method, url, b"" if body is None else json.dumps(body), "application/json"
    )
    assert (response.status_code, response.json()["type"]) == (409, "urn:runsadmin:problem:read-only-connection")
    assert MESSAGE in response.json()["detail"]
    assert (Edit.objects.count(), BulkEdit.objects.count(), Sync.objects.count()) == (0, 0, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["edit_metadata", "run_a", "--set", "team=red"],
        ["edit_metadata", "--where", "metadata.team:blue", "--set", "team=red", "--reason", "r"],
        ["sync_runs", "--connection", ALIAS],
        ["track_threads", "thread_b", "--connection", ALIAS],
        ["track_threads", "--listed", "--connection", ALIAS],
    ],
)
def test_commands_refuse_archives(
    run: Run, unchanged: None, manage: Manage, admin_user: User, arguments: list[str]
) -> None:
    output = manage(*arguments)
    assert output.code == 1
    assert MESSAGE in output.err


def test_pages_say_that_it_is_an_archive(run: Run, client: Client, make_user: Callable[..., User]) -> None:
    client.force_login(make_user(*Action))
    page, thread_page = client.get(change_url(run)).text, client.get(change_url(run.thread)).text
    assert "is an archive: its runs can be read" in page
    assert "Edit metadata" not in page
    assert "Refresh" not in page
    assert "is an archive: its runs can be read" in thread_page
    assert "Full sync" not in thread_page
    assert client.get(change_url(run, "metadata")).headers["Location"] == change_url(run)
    held = client.get(list_url(ConnectionState)).text
    assert (held.count("Archive"), held.count("Hold…")) == (1, 1)
    assert f'name="connection" value="{ALIAS}"' not in client.get(list_url(Sync)).text


@pytest.mark.parametrize("action", ["edit_metadata", "refresh"])
def test_list_refuses_ticked_runs(run: Run, client: Client, alice: User, action: str) -> None:
    other = archived_run(thread_id="thread_a")
    client.force_login(alice)
    data = {"action": action, "index": "0", "_selected_action": f"{run.pk},{other.pk}"}
    assert MESSAGE in client.post(list_url(Run), data, follow=True).text.replace("&#x27;", "'")


def test_nothing_is_scheduled(run: Run, connect: Connect) -> None:
    Thread.objects.update(tracked=True)
    ConnectionState.objects.create(alias=ALIAS, hold=ConnectionState.Hold.UNREACHABLE, held_since=timezone.now())
    assert ALIAS not in connections.available_aliases()
    assert syncs.start_due() == []
    assert not connections.held()


def test_edits_of_a_new_archive_wait(run: Run, connect: Connect, alice: User) -> None:
    connect(ALIAS, KIND="upstream")
    pending = edits.record(run=run, patch=RED, actor=alice, source=Edit.Source.API)
    failed = Edit.objects.create(run=run, patch=RED, actor=alice, source=Edit.Source.API)
    Edit.objects.filter(pk=failed.pk).update(status=Edit.Status.FAILED, finished_at=timezone.now())
    add_archive(connect)
    edits.process_due(until=time.monotonic() + 1)
    assert edits.push_within(pending, 0.2).status == Edit.Status.PENDING
    assert "configured with an upstream" in str(edits.waits_of([pending])[pending.pk])
    assert edits.permitted_actions(pending, alice) == {edits.EditAction.CANCEL}
    with pytest.raises(ReadOnlyConnection):
        edits.retry(edit=failed, actor=alice)


def test_sole_upstream_is_the_default(connect: Connect) -> None:
    add_archive(connect)
    assert (conf.default_upstream(), conf.default_connection()) == ("default", None)


def test_other_runs_are_edited(run: Run, mirror_run: MakeRun, manage: Manage, admin_user: User) -> None:
    live = mirror_run(id="run_live", metadata={"team": "blue"})
    output = manage("edit_metadata", "run_a", "run_live", "--set", "team=red")
    assert (output.code, MESSAGE in output.err) == (1, True)
    assert Run.objects.get(pk=live.pk).metadata == {"team": "red"}
    assert Run.objects.get(pk=run.pk).metadata == {"team": "blue"}


def test_plan_of_a_new_archive_is_kept(run: Run, connect: Connect, alice: User) -> None:
    connect(ALIAS, KIND="upstream")
    selection = bulk_edits.by_ids([run.upstream_id])
    planned = bulk_edits.plan(
        selection=selection, patch=BulkPatch({"team": "red"}, (), {}), actor=alice, source=Edit.Source.API, reason="r",
        apply_when_planned=True,
    )  # fmt: skip
    add_archive(connect)
    planned = bulk_edits.continue_planning(planned, until=time.monotonic() + 5)
    assert planned.status == BulkEdit.Status.PLANNED
    assert planned.detail.startswith(f"The plan was not applied: {MESSAGE}")
    assert bulk_edits.possible_actions(planned) == {bulk_edits.BulkEditAction.CANCEL}
    with pytest.raises(ReadOnlyConnection):
        bulk_edits.apply(bulk_edit=planned, actor=alice)
