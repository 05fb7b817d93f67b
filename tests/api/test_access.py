"""Authentication and permissions, for every operation."""

import datetime as dt
import re
from collections.abc import Callable

import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.test import Client
from knox.models import AuthToken
from pytest_django import Settings

from runsadmin.api.urls import router
from runsadmin.api.viewsets.strict import StrictViewSet
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, Edit, EditStatus, Run, Sync, Thread
from runsadmin.services import edits, tokens
from tests.api.conftest import JSON, Api, ApiOf, problem
from tests.bulk import make_bulk_edit
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db

READS = [
    "runs/", "runs/run_a/", "edits/", "edits/1/", "bulk-edits/", "bulk-edits/1/", "bulk-edits/1/edits/", "threads/",
    "threads/thread_a/", "syncs/", "syncs/1/", "views/", "views/v/", "schema/",
]  # fmt: skip
WRITES: list[tuple[str, str, object]] = [
    ("PATCH", "runs/run_a/", {"metadata": {"team": "red"}}),
    ("POST", "runs/run_a/refresh/", None),
    ("POST", "edits/{applied}/undo/", None),
    ("POST", "edits/{pending}/cancel/", None),
    ("POST", "edits/{failed}/retry/", None),
    ("POST", "edits/{conflict}/resolve/", {"metadata": {"team": "red"}}),
    ("POST", "bulk-edits/", {"run_ids": ["run_a"], "set": {"team": "red"}, "reason": "moved"}),
    ("POST", "bulk-edits/{planned}/apply/", None),
    ("POST", "bulk-edits/{planned}/cancel/", None),
    ("POST", "bulk-edits/{queued}/pause/", None),
    ("POST", "bulk-edits/{queued}/cancel/", None),
    ("POST", "bulk-edits/{paused}/resume/", None),
    ("POST", "bulk-edits/{completed}/retry/", None),
    ("POST", "bulk-edits/{completed}/undo/", {"reason": "a slip"}),
    ("POST", "threads/", {"thread_id": "thread_new"}),
    ("DELETE", "threads/thread_a/", None),
    ("POST", "syncs/", {}),
]


@pytest.fixture
def ids_by_status(mirror_run: Callable[..., Run], alice: User) -> dict[str, int]:
    """The ids of edits in four statuses and of bulk edits in four other statuses."""
    mirror_run(id="run_z", thread_id="thread_a", metadata={"team": "blue"})
    run = mirror_run(id="run_a", thread_id="thread_a", metadata={"team": "blue"})

    def make_edit(status: EditStatus, **fields: object) -> int:
        edit = edits.record(run=run, patch=MetadataPatch({"team": "red"}), actor=alice, source=Edit.Source.ADMIN)
        Edit.objects.filter(pk=edit.pk).update(status=status, **fields)
        return edit.pk

    now = dt.datetime.now(dt.UTC)
    return {
        "applied": make_edit(EditStatus.APPLIED, finished_at=now, before={}, after={"team": "red"}),
        "failed": make_edit(EditStatus.FAILED, finished_at=now),
        "conflict": make_edit(EditStatus.CONFLICT, finished_at=now, base={}, before={"team": "blue"}),
        "pending": make_edit(EditStatus.PENDING),
        **{
            status: make_bulk_edit("run_z", status, alice).pk for status in ("planned", "queued", "paused", "completed")
        },
    }


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_viewer_cannot_write(
    method: str, path: str, body: object, sandbox: Sandbox, ids_by_status: dict[str, int], api: ApiOf, carol: User
) -> None:
    before = list(Edit.objects.order_by("pk").values()), list(BulkEdit.objects.order_by("pk").values())
    sandbox.clear_log()

    data = problem(api(carol).call(method, path.format(**ids_by_status), body), 403, "not-allowed")

    assert "The account 'carol' may not" in data["detail"]
    assert (list(Edit.objects.order_by("pk").values()), list(BulkEdit.objects.order_by("pk").values())) == before
    assert (Thread.objects.get().tracked, Sync.objects.count()) == (True, 0)
    assert sandbox.log() == []


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_writes_show_only_what_one_may_view(
    method: str, path: str, body: object, sandbox: Sandbox, ids_by_status: dict[str, int], api: ApiOf, alice: User
) -> None:
    alice.user_permissions.remove(*Permission.objects.filter(codename__startswith="view_"))
    before = list(Edit.objects.order_by("pk").values()), list(BulkEdit.objects.order_by("pk").values())
    sandbox.clear_log()

    data = problem(api(alice).call(method, path.format(**ids_by_status), body), 403, "not-allowed")

    assert "may not view" in data["detail"]
    assert (list(Edit.objects.order_by("pk").values()), list(BulkEdit.objects.order_by("pk").values())) == before
    assert sandbox.log() == []


def test_planning_needs_permission_to_view_runs(mirror_run: Callable[..., Run], api: ApiOf, alice: User) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    alice.user_permissions.remove(Permission.objects.get(codename="view_run"))
    query = {"query": "metadata.team:blue", "set": {"team": "red"}, "reason": "moved"}

    data = problem(api(alice).call("POST", "bulk-edits/", query), 403, "not-allowed")

    assert "runsadmin.view_run" in data["detail"]
    assert not BulkEdit.objects.exists()


@pytest.mark.django_db(transaction=True)  # Another thread pushes the edit.
@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_editor_need_not_be_superuser(
    method: str,
    path: str,
    body: object,
    sandbox: Sandbox,
    ids_by_status: dict[str, int],
    api: ApiOf,
    alice: User,
    settings: Settings,
) -> None:
    settings.RUNSADMIN_PUSH_WAIT = 0.5
    response = api(alice).call(method, path.format(**ids_by_status), body)
    # Actions on edits may return a 409, because other edits of the run are in progress.
    allowed = (200, 202) if path.startswith("bulk-edits/") else (200, 201, 202, 204, 409)
    assert response.status_code in allowed, response.json()


def test_user_without_permissions_sees_nothing(api: ApiOf, make_user: Callable[..., User]) -> None:
    client = api(make_user())
    for path in READS:
        if path != "schema/":
            problem(client.get(path), 403, "not-allowed")


def test_every_action_needs_a_permission() -> None:
    for _, viewset, _ in router.registry:
        routed = {action for route in router.get_routes(viewset) for action in route.mapping.values()}
        actions = {action for action in routed if hasattr(viewset, action)}
        assert issubclass(viewset, StrictViewSet)
        assert viewset.required_permissions.keys() == actions


def assert_unauthenticated(client: Api) -> None:
    """Asserts that every operation returns a 401 that explains how to get a token."""
    for method, path, body in [*(("GET", path, None) for path in READS), *WRITES, ("GET", "nothing/here/", None)]:
        response = client.call(method, re.sub("{.*?}", "1", path), body)
        assert "create_token" in problem(response, 401, "not-authenticated")["detail"]
        assert response["WWW-Authenticate"] == "Token"


def test_missing_token_is_a_401(api: ApiOf) -> None:
    assert_unauthenticated(api())


def test_expired_token_is_refused(alice: User) -> None:
    client = Api(tokens.create(user=alice, expires_in=dt.timedelta(minutes=1)))
    assert client.get("runs/").status_code == 200
    with time_machine.travel(dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1, seconds=1)):
        assert_unauthenticated(client)


def test_revoked_token_is_refused(alice: User) -> None:
    client = Api(tokens.create(user=alice, expires_in=None))
    assert client.get("runs/").status_code == 200
    AuthToken.objects.all().delete()
    assert_unauthenticated(client)


def test_token_of_inactive_account_is_refused(alice: User) -> None:
    client = Api(tokens.create(user=alice, expires_in=None))
    alice.is_active = False
    alice.save()
    assert_unauthenticated(client)


@pytest.mark.parametrize(
    "garble",
    [
        lambda token: token[:-1],
        lambda token: token + "0",
        lambda token: token[:20] + "x" + token[21:],
        lambda token: token.upper(),
        lambda token: token[:32] + " " + token[32:],
        lambda token: token[:15] + "\xff" * 49,
        lambda token: token[:15] + "\0" * 49,
        lambda token: "",
        lambda token: "0" * 100_000,
    ],
)
def test_garbled_token_is_refused(garble: Callable[[str], str], alice: User) -> None:
    token = tokens.create(user=alice, expires_in=None)
    response = Client(raise_request_exception=False).get("/api/v1/runs/", HTTP_AUTHORIZATION=f"Token {garble(token)}")
    problem(response, 401, "not-authenticated")


def test_tokens_are_stored_hashed(alice: User) -> None:
    token = tokens.create(user=alice, expires_in=None)
    stored = str(alice.auth_token_set.values().get())  # type: ignore[attr-defined]
    assert token not in stored


def test_unknown_scheme_is_refused(alice: User) -> None:
    token = tokens.create(user=alice, expires_in=None)
    response = Client().get("/api/v1/runs/", headers={"Authorization": f"Bearer {token}"})
    problem(response, 401, "not-authenticated")


@pytest.mark.django_db(transaction=True)
def test_session_write_needs_csrf_token(sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User) -> None:
    mirror_run(id="run_a")
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    assert browser.get("/api/v1/runs/").status_code == 200

    body = b'{"metadata": {"team": "red"}}'
    response = browser.patch("/api/v1/runs/run_a/", body, JSON)
    assert "CSRF" in problem(response, 403, "not-allowed")["detail"]
    assert not Edit.objects.exists()

    browser.get("/api/v1/docs/")
    script = browser.get("/api/v1/docs/?script=").content.decode()
    csrf = script.split('headers["X-CSRFTOKEN"] = "')[1].split('"')[0]
    response = browser.patch("/api/v1/runs/run_a/", body, JSON, headers={"X-CSRFToken": csrf})
    assert response.status_code == 200
