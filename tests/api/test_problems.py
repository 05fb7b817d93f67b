"""Every error is a problem with a documented `type`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from runsadmin.api.problems import ProblemType
from runsadmin.models import Run
from runsadmin.services import edits
from tests.api.conftest import ApiOf, problem

pytestmark = pytest.mark.django_db

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "rest-api.md"


def test_problem_types_are_documented() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", DOCUMENTATION.read_text(), re.MULTILINE)
    assert {(int(status), name) for status, name in rows} == {
        (kind.status, kind.uri.rpartition(":")[2]) for kind in ProblemType
    }


@pytest.mark.parametrize("path", ["", "nothing/", "runs", "edits/x/", "edits/1/steal/", "runs/a%0Ab/", "RUNS/"])
def test_unknown_url_is_a_problem(path: str, api: ApiOf, alice: User) -> None:
    data = problem(api(alice).get(path), 404, "not-found")
    assert "/api/v1/schema/" in data["detail"]


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("GET", "runs/x/", "The mirror has no run with this id."),
        ("GET", "threads/x/", "The mirror has no thread with this id."),
        ("GET", "edits/7/", "There is no edit 7."),
        ("POST", "edits/7/cancel/", "There is no edit 7."),
        ("GET", "bulk-edits/7/", "There is no bulk edit 7."),
        ("GET", "bulk-edits/7/edits/?status=failed", "There is no bulk edit 7."),
        ("GET", "exports/7/file/", "There is no export 7."),
        ("GET", "syncs/7/", "There is no sync 7."),
        ("DELETE", "views/x/", "There is no view 'x', or it is private."),
    ],
)
def test_missing_row_is_named(method: str, path: str, detail: str, api: ApiOf, alice: User) -> None:
    assert problem(api(alice).call(method, path), 404, "not-found")["detail"] == detail


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("runs/?sort=x", "-created_at, created_at, "),
        ("runs/export/?format=x", "csv, jsonl, parquet"),
        ("edits/?status=x", "planned, pending, "),
        ("bulk-edits/?status=x", "planning, planned, "),
        ("syncs/?kind=x", "incremental, full"),
        ("syncs/?status=x", "queued, running, "),
        ("exports/?status=x", "queued, "),
    ],
)
def test_choices_are_listed(path: str, known: str, api: ApiOf, alice: User) -> None:
    assert (
        f'"x" is not a valid choice. Use one of: {known}'
        in problem(api(alice).get(path), 400, "invalid-request")["detail"]
    )


def test_date_formats_are_listed(api: ApiOf, alice: User) -> None:
    client = api(alice)
    assert "such as 2026-01-31 or" in problem(client.get("runs/?created_after=x"), 400, "invalid-request")["detail"]
    assert client.get("runs/?created_after=2026-01-31").status_code == 200


@pytest.mark.parametrize(("method", "path"), [("DELETE", "runs/"), ("PUT", "runs/a/"), ("OPTIONS", "runs/")])
def test_unknown_method_is_a_405(method: str, path: str, api: ApiOf, alice: User) -> None:
    response = api(alice).call(method, path)
    problem(response, 405, "method-not-allowed")
    assert "GET" in response["Allow"]
    assert "OPTIONS" not in response["Allow"]


def test_unsupported_accept_is_a_406(api: ApiOf, alice: User) -> None:
    problem(api(alice).get("runs/", Accept="text/html"), 406, "not-acceptable")
    assert api(alice).get("runs/", Accept="application/*, text/html;q=0.5").status_code == 200


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_unsupported_media_type_is_a_415(media_type: str, api: ApiOf, alice: User) -> None:
    problem(api(alice).call("POST", "threads/", b"thread_id=a", media_type), 415, "unsupported-media-type")


def test_oversized_body_is_a_413(api: ApiOf, alice: User, settings: Settings) -> None:
    body = b'{"thread_id": "' + b"a" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE + b'"}'
    problem(api(alice).call("POST", "threads/", body), 413, "body-too-large")


def test_unknown_host_is_a_400(api: ApiOf, alice: User) -> None:
    problem(api(alice).get("runs/", Host="elsewhere.example"), 400, "bad-request")


def test_internal_error_reveals_nothing(
    mirror_run: Callable[..., Run], api: ApiOf, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror_run(id="run_a")

    def fail(**_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(edits, "record", fail)
    response = api(alice).patch("runs/run_a/", {"metadata": {"a": "b"}})
    problem(response, 500, "internal-error")
    assert b"secret" not in response.content


def test_admin_errors_are_pages(api: ApiOf, alice: User) -> None:
    assert api(alice).get("/admin/nothing/")["Content-Type"].startswith("text/html")
