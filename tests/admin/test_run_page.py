"""The page of one run: every field is readable, and only the metadata can be changed."""

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runsadmin import lenient_json
from runsadmin.admin.layout import DETAILS, TASK
from runsadmin.models import Edit, Run
from runsadmin.run_format import FIELDS
from tests.admin.conftest import ClientFor, MakeUser, run_action, run_url
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db


def test_every_field_is_shown_once() -> None:
    shown = [name for _, names in TASK + DETAILS for name in names]

    assert sorted([*shown, "metadata"]) == sorted(FIELDS)


def test_every_documented_value_is_shown(mirror_run: MakeRun, as_carol: Client) -> None:
    run = mirror_run(
        instructions="You are a tutor.\nBe kind.", tools=[{"type": "code_interpreter"}], temperature=0.7,
        tool_resources={"code_interpreter": {"file_ids": ["file-a1", "file-b2"]}}, metadata={"user_id": "u-17"},
        last_error={"code": "rate_limit_exceeded", "message": "Slower, please."}, status="failed",
        truncation_strategy={"type": "last_messages", "last_messages": 7}, max_prompt_tokens=4711,
    )  # fmt: skip

    shown = as_carol.get(run_url(run)).text

    for value in (
        "You are a tutor.\nBe kind.", "code_interpreter", "0.7", "file-a1", "file-b2", "tool_resources",
        "user_id", "u-17", "Slower, please.", "last_messages", "4711", "120", "8 s", "UTC", run.upstream_id,
        str(run.thread), "Shown as of",
    ):  # fmt: skip
        assert value in shown, value


def test_unencodable_text_can_be_shown(mirror_run: MakeRun, as_alice: Client) -> None:
    run = mirror_run()
    odd = {"metadata": {"half": "a\ud800b", "\ud83d": "x", "nul": "a\0b"}, "instructions": "\udfff", "more": "\ud800"}
    Run.objects.update(raw=lenient_json.dumps(run.data | odd))

    for url in (run_url(run), run_url(run, "metadata"), "/admin/runsadmin/run/"):
        assert as_alice.get(url).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": None},
        {"metadata": "text"},
        {"usage": [1]},
        {"usage": {"prompt_tokens": {"deep": 1}}},
        {"tools": None},
        {"tools": ["x", 5]},
        {"instructions": {"a": 1}},
        {"model": 5},
        {"status": "brand_new"},
        {"created_at": "never"},
    ],
)
def test_undocumented_values_can_be_shown(mirror_run: MakeRun, as_alice: Client, fields: dict[str, Any]) -> None:
    run = mirror_run(**fields)

    assert as_alice.get(run_url(run)).status_code == 200
    assert as_alice.get(run_url(run, "metadata")).status_code == 200


def test_missing_and_outdated_runs_are_marked(mirror_run: MakeRun, as_carol: Client) -> None:
    run = mirror_run()
    Run.objects.update(missing_since=timezone.now() - dt.timedelta(days=3), needs_refresh_since=timezone.now())

    shown = as_carol.get(run_url(run)).text

    assert "Upstream no longer has this run" in shown
    assert "3 days ago" in shown
    assert "A worker will refresh the run soon" in shown


@pytest.mark.django_db(transaction=True)
def test_refresh_fetches_the_run(sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client) -> None:
    run = mirror_run(metadata={"team": "blue"})
    assert "Refreshed. No changes." in run_action(as_alice, run, "refresh", follow=True).text
    sandbox.set_metadata(run.upstream_id, {"team": "green"})

    assert "green" in run_action(as_alice, run, "refresh", follow=True).text


@pytest.mark.django_db(transaction=True)
def test_refresh_shows_the_servers_error(sandbox: Sandbox, mirror_run: MakeRun, as_alice: Client) -> None:
    run = mirror_run()
    mirror_run(thread_id="thread_other")
    sandbox.fault("status", status=503, body={"error": {"message": "Try again later."}}, times=None)
    assert "Try again later." in run_action(as_alice, run, "refresh", follow=True).text

    sandbox.clear_faults()
    sandbox.delete_run(run.upstream_id)
    shown = run_action(as_alice, run, "refresh", follow=True).text
    assert "Upstream no longer has this run" in shown


def test_run_cannot_be_added_or_deleted(mirror_run: MakeRun, as_alice: Client) -> None:
    run = mirror_run()

    for url in (run_url(run), run_url(run, "delete"), "/admin/runsadmin/run/add/"):
        assert as_alice.post(url, {"status": "failed"}).status_code == 403
    assert "Save" not in as_alice.get(run_url(run)).text
    assert Run.objects.get().status == "completed"
    assert as_alice.get("/admin/runsadmin/run/999/change/").status_code == 404
    assert as_alice.get("/admin/runsadmin/run/nonsense/change/").status_code == 404


def test_every_post_needs_permission(
    mirror_run: MakeRun, as_carol: Client, client_for: ClientFor, make_user: MakeUser
) -> None:
    run = mirror_run()
    thread, without_permissions = run.thread, client_for(make_user())
    posts = [
        run_url(run, "metadata"), "/admin/runsadmin/thread/add/",
        "/admin/runsadmin/connectionstate/default/switch/", "/admin/knox/authtoken/add/",
    ]  # fmt: skip
    fields = {"kind": "full", "connection": "default", "thread_ids": "thread_z", "on": "1"}

    for client in (as_carol, without_permissions):
        for url in posts:
            assert client.post(url, fields).status_code == 403, url
        for row, action in (
            (run, "refresh"), (run, "edit_metadata"), (thread, "stop_tracking"), (thread, "track_again"),
            (thread, "full_sync"), (thread, "sync_new_runs"),
        ):  # fmt: skip
            assert run_action(client, row, action).status_code == 403, action
        assert client.post("/admin/runsadmin/sync/start/", fields).status_code == 403
    assert not Edit.objects.exists()
    for url in (run_url(run), "/admin/runsadmin/run/", "/admin/runsadmin/edit/", "/admin/runsadmin/sync/"):
        assert without_permissions.get(url).status_code == 403
        assert as_carol.get(url).status_code == 200
