"""The pages of background tasks: what waits, runs or has failed, and retrying it."""

import html
import re
from datetime import timedelta

import pytest
from django.tasks import TaskResultStatus
from django.test import Client
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from runsadmin import tasks
from runsadmin.services.permissions import Action
from tests.admin.conftest import ClientFor, MakeUser

pytestmark = pytest.mark.django_db

LIST = "/admin/runsadmin/task/"


@pytest.fixture
def failed() -> "DBTaskResult[..., object]":
    task = DBTaskResult.objects.get(pk=tasks.run_sync.enqueue(5).id)
    task.claim("worker-a/3")
    task.set_failed(RuntimeError("<b>the reason</b>"))
    return task


def test_failed_task_is_shown_and_retried(failed: "DBTaskResult[..., object]", as_alice: Client) -> None:
    tasks.find_syncs.enqueue()
    listed = as_alice.get(LIST).text
    assert "run_sync 5" in listed
    assert "find_syncs" in listed
    assert "RuntimeError: &lt;b&gt;the reason&lt;/b&gt;" in listed
    assert "find_syncs" not in as_alice.get(f"{LIST}?status=FAILED").text
    assert "1</b>" in as_alice.get("/admin/").text.partition("Tasks")[2].partition("Recent syncs")[0]

    url = f"{LIST}{failed.pk}/change/"
    assert "worker-a/3" in as_alice.get(url).text
    assert as_alice.post(url, {"CHANGE_FORM-action": "retry"}, follow=True).status_code == 200
    failed.refresh_from_db()
    assert (failed.status, failed.worker_ids) == (TaskResultStatus.READY, [])


def test_waiting_tasks_are_reported(as_alice: Client) -> None:
    tasks.push_edits.enqueue()
    assert "more than two minutes" not in as_alice.get("/admin/").text
    DBTaskResult.objects.update(enqueued_at=timezone.now() - timedelta(minutes=3))
    assert "more than two minutes" in as_alice.get("/admin/").text


def test_tasks_need_permissions(
    failed: "DBTaskResult[..., object]", as_carol: Client, client_for: ClientFor, make_user: MakeUser
) -> None:
    url = f"{LIST}{failed.pk}/change/"
    assert as_carol.get(LIST).status_code == 403
    assert as_carol.get(url).status_code == 403
    client = client_for(make_user(Action.VIEW_TASKS))
    assert client.get(LIST).status_code == client.get(url).status_code == 200
    assert "Retry" not in client.get(url).text
    assert client.post(url, {"CHANGE_FORM-action": "retry"}).status_code == 403
    failed.refresh_from_db()
    assert failed.status == TaskResultStatus.FAILED


@pytest.mark.parametrize("path", ["no-uuid/change/", "?status=x", "?older=x", "?older=2026-01-01T00:00:00~5"])
def test_odd_task_url_causes_no_server_error(path: str, as_alice: Client) -> None:
    assert as_alice.get(f"{LIST}{path}").status_code < 500


def test_tasks_are_paged(as_alice: Client) -> None:
    for _ in range(60):
        tasks.find_syncs.enqueue()
    first = as_alice.get(LIST).text
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    second = as_alice.get(f"{LIST}{html.unescape(older[1])}").text
    assert (first.count("find_syncs"), second.count("find_syncs")) == (50, 10)
