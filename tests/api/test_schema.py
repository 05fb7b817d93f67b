"""The OpenAPI document is valid, and every response conforms to it."""

import copy
import datetime as dt
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import Permission, User
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pytest_django import Settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.generation.case import Case
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from project.wsgi import application
from runsadmin.api.schema_views import document
from runsadmin.metadata import MetadataPatch
from runsadmin.models import BulkEdit, Edit, EditStatus, Export, Run, SavedView, Sync, Thread
from runsadmin.services import edits, tokens
from tests.api.conftest import ApiOf
from tests.bulk import make_bulk_edit

pytestmark = pytest.mark.django_db(transaction=True)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]

# Any 4xx counts as a rejection of invalid data; by default, 413 and others do not.
CONFIG = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}}})


def read_completely(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The application, as a server calls it: it reads the response and closes it."""
    response: Any = application(environ, start_response)
    try:
        return [b"".join(response)]
    finally:
        response.close()


schema = schemathesis.openapi.from_dict(document(), config=CONFIG)
schema.app = read_completely
OPERATIONS: dict[str, APIOperation[Any, Any, Any, Any]] = {
    operation.definition.raw["operationId"]: operation
    for operation in (result.ok() for result in schema.get_all_operations())  # type: ignore[union-attr]
}


def test_document_is_valid_openapi(api: ApiOf, carol: User) -> None:
    data = api(carol).get("schema/").json()
    assert data["openapi"] == "3.1.0"
    validate_schema(data)  # type: ignore[no-untyped-call]
    for component in data["components"]["schemas"].values():
        Draft202012Validator.check_schema(component)


def test_operations_are_described() -> None:
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert re.fullmatch("[a-z]+(_[a-z]+)+", operation["operationId"])
            assert all(parameter["description"] for parameter in operation.get("parameters", ())), (method, path)


def test_fields_have_type_and_description() -> None:
    for name, component in document()["components"]["schemas"].items():
        for field, schema in component.get("properties", {}).items():
            assert schema.keys() & {"type", "allOf", "oneOf"}, (name, field)
            assert schema.get("description") or field == "results", (name, field)


@pytest.mark.parametrize(
    ("name", "valid", "invalid"),
    [
        ("PlanBulkEditBody", {"q": "a"}, [{}, {"q": "a", "run_ids": ["b"]}, {"q": ""}, {"run_ids": []}]),
        ("TrackThreadsBody", {"thread_id": "a"}, [{}, {"thread_id": "a", "thread_ids": ["b"]}, {"thread_ids": []}]),
    ],
)
def test_one_of_two_fields_is_required(name: str, valid: dict[str, Any], invalid: list[dict[str, Any]]) -> None:
    reason = {"reason": "r"} if name == "PlanBulkEditBody" else {}
    components = document()["components"]
    validator = Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})
    assert validator.is_valid(valid | reason)
    assert [body for body in invalid if validator.is_valid(body | reason)] == []


def test_examples_fit_their_schemas() -> None:
    root = {"components": document()["components"]}
    for path, operations in document()["paths"].items():
        for operation in operations.values():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for content in [content for body in bodies for content in body.get("content", {}).values()]:
                examples = content.get("examples", {})
                assert examples or path == "/api/v1/schema/", (path, operation["operationId"])
                for example in examples.values():
                    Draft202012Validator(content["schema"] | root).validate(example["value"])


def test_operations_declare_problems() -> None:
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            assert {"400", "401", "403", "406"} <= operation["responses"].keys()
            if "{" in path:
                assert "404" in operation["responses"], (method, path)
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)


def test_docs_page_needs_no_other_host(api: ApiOf, carol: User) -> None:
    page = api(carol).get("docs/").content.decode()
    assert re.findall(r"<script(?! src=)", page) == []
    assert re.findall(r'(?:src|href)="(?!/)', page) == []


def test_docs_page_redirects_to_sign_in(api: ApiOf) -> None:
    response = api().get("docs/")
    assert (response.status_code, response["Location"]) == (302, "/admin/login/?next=/api/v1/docs/")


type RestoreRows = Callable[[], dict[str, list[Any]]]


@pytest.fixture
def restore_rows(mirror_run: Callable[..., Run], alice: User, settings: Settings, tmp_path: Path) -> RestoreRows:
    """Restores rows with which every operation can succeed. Returns the ids for each parameter."""
    settings.RUNSADMIN_EXPORT_FOLDER = str(tmp_path)
    settings.RUNSADMIN_PUSH_WAIT = 1
    run = mirror_run(id="run_a", thread_id="thread_a", metadata={"team": "blue"})
    queued = mirror_run(id="run_b", thread_id="thread_b", status="queued")
    now = dt.datetime.now(dt.UTC)
    states: dict[EditStatus, dict[str, Any]] = {
        EditStatus.APPLIED: {"finished_at": now, "before": {}, "after": {"team": "blue"}},
        EditStatus.FAILED: {"finished_at": now},
        EditStatus.CONFLICT: {"finished_at": now, "base": {}, "before": {"team": "blue"}},
        EditStatus.PENDING: {"finished_at": None},
    }
    patch = MetadataPatch({"team": "red"})
    edit_ids = {
        status: edits.record(
            run=queued if status == EditStatus.PENDING else run, patch=patch, actor=alice, source=Edit.Source.ADMIN
        ).pk
        for status in states
    }
    restored = edits.record(run=queued, patch=patch, actor=alice, source=Edit.Source.ADMIN)
    Edit.objects.filter(pk=restored.pk).update(restored_from=now)
    sync = Sync.objects.create(connection="default", kind="full", actor=alice)
    for status, values in states.items():
        Edit.objects.filter(pk=edit_ids[status]).update(status=status, **values)
    mirror_run(id="run_z", thread_id="thread_b", metadata={"team": "blue"})
    bulk_edit_ids = [
        make_bulk_edit("run_z", status, alice).pk for status in ("planned", "queued", "paused", "completed")
    ]
    all_edits, all_bulk_edits = list(Edit.objects.all()), list(BulkEdit.objects.all())

    def rows() -> list[object]:
        return [*Edit.objects.order_by("pk").values_list(), *BulkEdit.objects.order_by("pk").values_list()]

    original_rows = rows()

    def restore_rows() -> dict[str, list[Any]]:
        if rows() != original_rows:
            Edit.objects.exclude(pk__in=[edit.pk for edit in all_edits]).delete()
            BulkEdit.objects.filter(undoes__isnull=False).delete()
            BulkEdit.objects.exclude(pk__in=bulk_edit_ids).delete()
            for row in (*all_bulk_edits, *all_edits):
                row.save()
        Thread.objects.filter(tracked=False).update(tracked=True)
        SavedView.objects.all().delete()
        SavedView.objects.create(owner=alice, name="v", slug="v")
        return {
            "run_id": ["run_a", "run_b"],
            "thread_id": ["thread_a"],
            "edit": [*edit_ids.values(), restored.pk],
            "bulk_edit": bulk_edit_ids,
            "sync": [sync.pk],
            "export": make_exports(alice, tmp_path),
            "key": ["team", ""],
            "slug": ["v"],
        }

    return restore_rows


def make_exports(alice: User, folder: Path) -> list[int]:
    """A queued export, and one with a file."""
    Export.objects.all().delete()
    fields: dict[str, Any] = {"actor": alice, "source": "api", "format": "csv", "columns": "id", "is_file": True}
    (folder / "runs.csv").write_text("id\r\n")
    completed = Export(**fields, status="completed", file="runs.csv", size=4, manifest={"runs": 0})
    for pk, export in enumerate([Export(**fields), completed], start=1001):
        export.pk = pk
        export.save()
    return [1001, 1002]


def with_path(case: Case[Any], parameters: dict[str, Any]) -> Case[Any]:
    case.path_parameters = dict(parameters)
    return case


def with_existing_names(case: Case[Any]) -> Case[Any]:
    """Replaces random names with existing ones: otherwise nearly every example would be rejected."""
    query, body = case.query or {}, case.body if isinstance(case.body, dict) else {}
    for part in (query, body):
        if "connection" in part:
            part["connection"] = "default"
        if "tz" in part:
            part["tz"] = "Europe/Berlin"
    if case.operation.path == "/api/v1/runs/export/":
        query = case.query = {"format": "csv"} | query
    query.pop("cursor", None)
    query.pop("view", None)
    case.headers.pop("If-Match", None)
    if "run_ids" in body:
        body["run_ids"] = ["run_a", "run_z", "run_x"]
        body.pop("q", None)
    if "q" in query or "q" in body:
        (query if "q" in query else body)["q"] = "status:completed"
    if "thread_ids" in body:
        body["thread_ids"] = ["thread_a", "thread_c"]
        body.pop("thread_id", None)
    if "thread_id" in body:
        body["thread_id"] = "thread_a"
    return case


def documented_bodies(operation: APIOperation[Any, Any, Any, Any]) -> list[dict[str, Any]]:
    """The examples of the request body in the document."""
    content = operation.definition.raw.get("requestBody", {}).get("content", {})
    return [
        {"media_type": media_type, "body": example["value"]}
        for media_type, described in content.items()
        for example in described["examples"].values()
    ] or [{}]


@pytest.mark.parametrize("name", OPERATIONS)
def test_responses_match_the_document(
    name: str, restore_rows: RestoreRows, alice: User, pytestconfig: pytest.Config
) -> None:
    operation = OPERATIONS[name]
    ids = restore_rows()
    ids["id"] = ids[next((kind for kind in ("sync", "bulk_edit", "export") if kind in name), "edit")]
    names = re.findall(r"{(\w+)}", operation.path)
    parameters: list[dict[str, Any]] = [{name: value} for name in names for value in ids[name]] or [{}]
    alice.user_permissions.add(Permission.objects.get(codename="change_connectionstate"))
    token = tokens.create(user=alice, expires_in=None)
    statuses: Counter[int] = Counter()
    rejections: Counter[str] = Counter()

    def check_response(case: Case[Any]) -> None:
        if operation.method != "get":
            restore_rows()
        response = case.call(headers={"Authorization": f"Token {token}", "Accept-Encoding": "identity"})
        statuses[response.status_code] += 1
        if response.status_code == 409:
            rejections[response.json()["detail"]] += 1
        case.validate_response(response, checks=CHECKS)

    for path in parameters:
        for body in documented_bodies(operation):
            check_response(with_existing_names(with_path(operation.Case(**copy.deepcopy(body)), path)))
    assert any(200 <= status < 300 for status in statuses), (statuses, rejections)

    valid, invalid = operation.as_strategy(), operation.as_strategy(GenerationMode.NEGATIVE)
    with_real_ids = st.builds(with_path, valid, st.sampled_from(parameters))
    cases = [with_real_ids.map(with_existing_names), with_real_ids, valid, invalid]
    examples = pytestconfig.getoption("schema_examples")

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=st.one_of(cases))
    def check_random_request(case: Case[Any]) -> None:
        check_response(case)

    check_random_request()
    assert statuses.total() >= examples
