"""Text that can be neither stored nor sent: it is replaced if a server sends it, and refused if a user does."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runsadmin.models import ConnectionState, Edit, Run, Sync, Thread
from tests.api.conftest import ApiOf
from tests.fake_upstream import FakeUpstream, Json, Response, list_response
from tests.management.conftest import Manage
from tests.quirks.conftest import push, sync
from tests.sandbox_client import make_run

type Mirror = Callable[..., list[Run]]

UNSTORABLE = {
    "surrogates in the wrong order": "\ude00\ud83d",
    "U+0000 and single surrogates": "a\0b\ud83dc\udfff",
}
unstorable = pytest.mark.parametrize("text", UNSTORABLE.values(), ids=UNSTORABLE)
# For tests that pass only if every character is replaced.
ALL = "".join(UNSTORABLE.values())


def error_response(status: int, message: str) -> Response:
    return Response(status, {"error": {"message": f"No: {message}!", "code": message}}, {"x-request-id": "req\xff"})


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500])
def test_sync_recovers_from_an_unstorable_error(
    status: int, run: Run, upstream: FakeUpstream, alice: User, api: ApiOf
) -> None:
    upstream.override(lambda request: error_response(status, ALL) if request.is_list else None)
    first = sync(run.thread)
    upstream.clear_overrides()
    ConnectionState.objects.all().delete()  # Otherwise the connection would still be held or back off.
    Sync.objects.filter(pk=first.pk).update(status=Sync.Status.CANCELLED)
    assert sync(run.thread).status == Sync.Status.COMPLETED
    assert api(alice).get(f"syncs/{first.pk}/").status_code == 200
    client = Client()
    client.force_login(alice)
    assert client.get(f"/admin/runsadmin/sync/{first.pk}/change/").status_code == 200


@pytest.mark.parametrize("status", [400, 401, 403, 422, 429, 500])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unstorable_error_of_an_edit_is_shown(
    method: str, status: int, run: Run, upstream: FakeUpstream, alice: User, api: ApiOf
) -> None:
    upstream.override(
        lambda request: error_response(status, ALL) if request.method == method and len(request.parts) == 4 else None
    )
    edit = push(run, alice)
    edit.refresh_from_db()
    assert edit.detail.encode()
    assert api(alice).get(f"edits/{edit.pk}/").status_code == 200
    client = Client()
    client.force_login(alice)
    for page in (f"edit/{edit.pk}/change/", f"run/{run.pk}/change/", ""):
        assert client.get(f"/admin/runsadmin/{page}").status_code == 200


FIELDS: dict[str, Callable[[str], Json]] = {
    "model": lambda text: {"model": text},
    "assistant": lambda text: {"assistant_id": text},
    "status": lambda text: {"status": text},
    "error code": lambda text: {"last_error": {"code": text, "message": text}},
    "key of metadata": lambda text: {"metadata": {text: "x"}},
    "value of metadata": lambda text: {"metadata": {"x": text}},
    "instructions": lambda text: {"instructions": text},
    "unknown field": lambda text: {text: text},
}


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_unstorable_field_of_a_run_is_shown(
    fields: Callable[[str], Json], mirror_runs: Mirror, alice: User, api: ApiOf
) -> None:
    (run,) = mirror_runs(make_run(**fields(ALL)))
    assert api(alice).get(f"runs/{run.upstream_id}/").status_code == 200
    client = Client()
    client.force_login(alice)
    for page in ("", f"{run.pk}/change/", f"{run.pk}/metadata/"):
        assert client.get(f"/admin/runsadmin/run/{page}").status_code == 200


def test_edit_keeps_unstorable_metadata(mirror_runs: Mirror, upstream: FakeUpstream, alice: User) -> None:
    (run,) = mirror_runs(make_run(metadata={"ticket": ALL, ALL: "x"}))
    assert push(run, alice).status == Edit.Status.APPLIED
    assert upstream.metadata(run.upstream_id) == {"ticket": ALL, ALL: "x", "triage": "done"}


ITEMS: dict[str, Callable[[str], Any]] = {
    "id": lambda text: {"id": f"run_{text}"},
    "thread": lambda text: {"thread_id": f"thread_{text}"},
    "not a run": lambda text: {"id": 5, "object": text},
}


@unstorable
@pytest.mark.parametrize("fields", ITEMS.values(), ids=ITEMS)
def test_unstorable_item_of_a_list_is_reported(
    fields: Callable[[str], Json], text: str, upstream: FakeUpstream, db: None, alice: User, api: ApiOf
) -> None:
    good, bad = make_run(), make_run() | fields(text)
    upstream.override(lambda request: list_response([bad, good]) if request.is_list else Response(200, good))
    done = sync(Thread.objects.create(connection="default", upstream_id=good["thread_id"]))
    assert Run.objects.get().upstream_id == good["id"]
    assert done.errors_count
    assert all(error.message.encode() for error in done.errors.all())
    assert api(alice).get(f"syncs/{done.pk}/").status_code == 200


REQUESTS: dict[str, Callable[[str], tuple[str, str, Json | None]]] = {
    "reason": lambda text: ("PATCH", "runs/{id}/", {"metadata": {"a": "b"}, "reason": text}),
    "key": lambda text: ("PATCH", "runs/{id}/", {"metadata": {text: "b"}}),
    "value": lambda text: ("PATCH", "runs/{id}/", {"metadata": {"a": text}}),
    "name of a field": lambda text: ("PATCH", "runs/{id}/", {"metadata": {"a": "b"}, text: 1}),
    "search": lambda text: ("POST", "bulk-edits/", {"q": f"status:{text}", "set": {"a": "b"}, "reason": "r"}),
    "template": lambda text: ("POST", "bulk-edits/", {"q": "status:completed", "set": {"a": text}, "reason": "r"}),
    "format": lambda text: (
        "POST", "bulk-edits/", {"q": "status:completed", "set": {"a": f"{{created:{text}}}"}, "reason": "r"}
    ),
    "key to remove": lambda text: ("POST", "bulk-edits/", {"q": "status:completed", "remove": [text], "reason": "r"}),
    "ids": lambda text: ("POST", "bulk-edits/", {"run_ids": [text], "set": {"a": "b"}, "reason": "r"}),
    "reason of a bulk edit": lambda text: (
        "POST", "bulk-edits/", {"q": "status:completed", "set": {"a": "b"}, "reason": text}
    ),
    "thread": lambda text: ("POST", "threads/", {"thread_id": text}),
    "thread to sync": lambda text: ("POST", "syncs/", {"thread_id": text}),
    "connection": lambda text: ("POST", "syncs/", {"connection": text}),
    "kind": lambda text: ("POST", "syncs/", {"kind": text}),
}  # fmt: skip


@unstorable
@pytest.mark.parametrize("request_of", REQUESTS.values(), ids=REQUESTS)
def test_rest_refuses_unstorable_text(
    request_of: Callable[[str], tuple[str, str, Json | None]], text: str, run: Run, alice: User, api: ApiOf
) -> None:
    method, path, body = request_of(text)
    response = api(alice).call(method, path.format(id=run.upstream_id), json.dumps(body).encode())
    assert 400 <= response.status_code < 500, response.text
    assert response.json()["detail"]
    assert not Edit.objects.exists()


@pytest.mark.parametrize(
    "path",
    [
        "runs/?q=%00", "runs/?q=status:%00", "runs/?model=%00", "runs/?thread_id=%00", "runs/%00/", "runs/%ed%a0%bd/",
        "edits/?run=%00", "edits/?actor=%00", "threads/%00/", "syncs/?connection=%00", "runs/?cursor=%00",
        "views/%00/", "views/%ed%a0%bd/", "runs/?view=%00",
    ],
)  # fmt: skip
def test_rest_query_causes_no_server_error(path: str, run: Run, alice: User, api: ApiOf) -> None:
    assert api(alice).get(path).status_code < 500


@pytest.mark.parametrize(
    "path",
    [
        "run/?q=%00", "run/?q=%ed%a0%bd", "run/?model=%00", "run/?thread=%00", "run/?assistant_id=%00", "edit/?q=%00",
        "thread/?q=%00", "run/?metadata=%00", "run/?status=%00", "run/%00/change/", "edit/?actor=%00",
        "run/?view=%00", "savedview/%00/change/", "savedview/?tz=%00", "connectionstate/%00/change/",
        "/admin/auth/user/?email=%00", "/admin/knox/authtoken/%00/delete/",
    ],
)  # fmt: skip
def test_admin_query_causes_no_server_error(path: str, run: Run) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    assert client.get(urljoin("/admin/runsadmin/", path)).status_code < 500


@pytest.mark.parametrize("name", ["a\0b", "a\udcffb"])
def test_sign_in_causes_no_server_error(name: str, db: None) -> None:
    response = Client().post("/admin/login/", {"username": name.encode(errors="surrogateescape"), "password": "x"})
    assert response.status_code < 500


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "run": lambda text: ["edit_metadata", text, "--set", "a=b"],
    "key": lambda text: ["edit_metadata", "{id}", "--set", f"{text}=b"],
    "value": lambda text: ["edit_metadata", "{id}", "--set", f"a={text}"],
    "key to remove": lambda text: ["edit_metadata", "{id}", "--remove", text],
    "reason": lambda text: ["edit_metadata", "{id}", "--set", "a=b", "--reason", text],
    "actor": lambda text: ["edit_metadata", "{id}", "--set", "a=b", "--actor", text],
    "connection": lambda text: ["edit_metadata", "{id}", "--set", "a=b", "--connection", text],
    "search": lambda text: ["edit_metadata", "--where", text, "--set", "a=b", "--reason", "r"],
    "thread": lambda text: ["track_threads", text],
    "thread to sync": lambda text: ["sync_runs", "--thread", text],
}


@pytest.mark.parametrize("text", ["x\udcff", "\ud83d"], ids=["invalid byte", "lone surrogate"])
@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_command_refuses_unstorable_text(
    arguments: Callable[[str], list[str]], text: str, run: Run, alice: User, manage: Manage
) -> None:
    command = [argument.replace("{id}", run.upstream_id) for argument in arguments(text)]
    if "--actor" not in command:
        command += ["--actor", "alice"]
    output = manage(*command)
    assert output.code != 0
    assert output.err
    output.out.encode()  # Standard output cannot write lone surrogates; standard error escapes them.
    assert not Edit.objects.exists()
