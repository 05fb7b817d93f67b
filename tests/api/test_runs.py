"""Runs in the REST API: in upstream's format, in pages, and without counts."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runsadmin.api.serializers.runs import RunSerializer
from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, Run
from runsadmin.run_format import FIELDS
from runsadmin.services import edits
from tests.api.conftest import Api, ApiOf, problem
from tests.sandbox_client import Sandbox

pytestmark = pytest.mark.django_db

# The example of "Modify run" in the vendor's API reference.
DOCUMENTED_RUN = {
    "id": "run_abc123",
    "object": "thread.run",
    "created_at": 1699075072,
    "assistant_id": "asst_abc123",
    "thread_id": "thread_abc123",
    "status": "completed",
    "started_at": 1699075072,
    "expires_at": None,
    "cancelled_at": None,
    "failed_at": None,
    "completed_at": 1699075073,
    "last_error": None,
    "model": "gpt-4o",
    "instructions": None,
    "incomplete_details": None,
    "tools": [{"type": "code_interpreter"}],
    "tool_resources": {"code_interpreter": {"file_ids": ["file-abc123", "file-abc456"]}},
    "metadata": {"user_id": "user_abc123"},
    "usage": {"prompt_tokens": 123, "completion_tokens": 456, "total_tokens": 579},
    "temperature": 1.0,
    "top_p": 1.0,
    "max_prompt_tokens": 1000,
    "max_completion_tokens": 1000,
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "response_format": "auto",
    "tool_choice": "auto",
    "parallel_tool_calls": True,
}


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.json()
    return [run["id"] for run in response.json()["results"]]


# --- One run


def test_documented_run_is_unchanged(mirror_run: Callable[..., Run], sandbox: Sandbox, api: ApiOf, carol: User) -> None:
    sandbox.put_runs([DOCUMENTED_RUN])
    mirror_run(**DOCUMENTED_RUN)

    one = api(carol).get("runs/run_abc123/").json()
    (listed,) = api(carol).get("runs/").json()["results"]

    assert one == listed
    # The documented example lacks one of the documented fields.
    assert one.pop("required_action") is None
    mirror = one.pop("mirror")
    assert one == DOCUMENTED_RUN
    assert mirror | {"as_of": ""} == {
        "connection": "default",
        "as_of": "",
        "missing_since": None,
        "url": "http://testserver/api/v1/runs/run_abc123/",
        "edit": None,
    }


def test_documented_fields_are_in_schema() -> None:
    assert set(RunSerializer().fields) == {*FIELDS, "mirror"}


def test_other_fields_are_passed_on(store: Callable[..., Run], api: ApiOf, carol: User) -> None:
    store(id="run_a", file_ids=["file_1"], updated_at="soon", metadata={"n": 1, "half": "\ud83d"}, usage=None)
    data = api(carol).get("runs/run_a/").json()
    assert (data["file_ids"], data["updated_at"]) == (["file_1"], "soon")
    assert data["metadata"] == {"n": 1, "half": "\ud83d"}


def test_times_are_unix_seconds(store: Callable[..., Run], api: ApiOf, carol: User) -> None:
    store(id="run_a", created_at=1700000000123, started_at=1700000001.5)
    data = api(carol).get("runs/run_a/").json()
    assert (data["created_at"], data["started_at"]) == (1700000000, 1700000001)


def test_if_none_match_is_a_304(store: Callable[..., Run], api: ApiOf, carol: User) -> None:
    run = store(id="run_a")
    client = api(carol)
    first = client.get("runs/run_a/")
    assert first["ETag"] == run.etag
    assert not first["ETag"].startswith("W/")

    for etags in (run.etag, f'"other", {run.etag}', f"W/{run.etag}", "*"):
        again = client.get("runs/run_a/", If_None_Match=etags)
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", run.etag)
    assert client.get("runs/run_a/", If_None_Match='"other"').status_code == 200


def test_compression_keeps_strong_etag(store: Callable[..., Run], api: ApiOf, carol: User) -> None:
    run = store(id="run_a", instructions="many words " * 100)
    assert api(carol).get("runs/run_a/", Accept_Encoding="gzip, br")["ETag"] == run.etag


def test_ambiguous_run_id_is_a_409(
    store: Callable[..., Run], connect: Callable[..., None], api: ApiOf, carol: User
) -> None:
    connect("eu")
    store(id="run_a")
    store("eu", id="run_a")
    client = api(carol)

    assert "default, eu" in problem(client.get("runs/run_a/"), 409, "ambiguous-id")["detail"]
    data = client.get("runs/run_a/?connection=eu").json()
    assert data["mirror"]["connection"] == "eu"
    assert client.get(data["mirror"]["url"]).json() == data
    assert problem(client.get("runs/run_a/?connection=us"), 400, "unknown-connection")["detail"] == (
        "There is no connection 'us'. Use one of: default, eu."
    )
    problem(client.get("runs/run_b/?connection=eu"), 404, "not-found")


def test_removed_connection_can_be_read(store: Callable[..., Run], api: ApiOf, carol: User) -> None:
    store(id="run_a", thread_id="thread_a")
    store("old", id="run_a", thread_id="thread_a")  # It is not configured.
    client = api(carol)

    assert client.get("runs/run_a/").json()["mirror"]["connection"] == "default"
    assert client.get("runs/run_a/?connection=old").json()["mirror"]["connection"] == "old"
    assert client.get("threads/thread_a/?connection=old").json()["connection"] == "old"
    (listed,) = client.get("runs/?connection=old").json()["results"]
    for run in (listed, *client.get("runs/").json()["results"]):
        assert client.get(run["mirror"]["url"]).json() == run
    problem(client.get("runs/run_a/?connection=us"), 400, "unknown-connection")
    problem(client.get("runs/run_a/?connection=%00"), 400, "unknown-connection")


@pytest.mark.parametrize("odd", ["run/a", "run a?b#c", "run%2Fa", "ключ", "refresh"])
def test_any_id_has_a_working_url(odd: str, store: Callable[..., Run], api: ApiOf, carol: User) -> None:
    store(id=odd)
    (listed,) = api(carol).get("runs/").json()["results"]
    assert api(carol).get(listed["mirror"]["url"]).json()["id"] == odd


@pytest.mark.parametrize("path", ["runs/run_x/", "runs/a%00b/", "runs/%ff/", "edits/0/", f"edits/{2**64}/", "syncs/9/"])
def test_unknown_id_is_a_404(path: str, api: ApiOf, carol: User) -> None:
    problem(api(carol).get(path), 404, "not-found")


# --- Lists


def test_pages_show_every_run_once(store: Callable[..., Run], api: ApiOf, carol: User) -> None:
    # Seven runs have the same time, so the time alone does not identify a position in the list.
    times = [1700000000 + min(n, 5) for n in range(12)]
    newest_first = [
        run.upstream_id for run in sorted((store(created_at=time) for time in times), key=lambda run: -run.pk)
    ]
    client = api(carol)

    pages, url = [], "runs/?page_size=5"
    while url:
        response = client.get(url)
        pages.append(ids(response))
        last, url = response, response.json()["next"]
    assert [len(page) for page in pages] == [5, 5, 2]
    assert [run_id for page in pages for run_id in page] == newest_first

    previous = []
    while last.json()["previous"]:
        last = client.get(last.json()["previous"])
        previous.append(ids(last))
    assert previous == [pages[1], pages[0]]


def test_full_last_page_has_no_next(store: Callable[..., Run], api: ApiOf, carol: User) -> None:
    for _ in range(4):
        store()
    first = api(carol).get("runs/?page_size=2").json()
    second = api(carol).get(first["next"]).json()
    assert (first["previous"], second["next"]) == (None, None)


def test_links_keep_the_filters(store: Callable[..., Run], api: ApiOf, carol: User) -> None:
    for _ in range(3):
        store(status="failed")
        store(status="completed")
    first = api(carol).get("runs/?status=failed&page_size=2")
    assert len(ids(api(carol).get(first.json()["next"]))) == 1


@pytest.fixture
def found(store: Callable[..., Run], connect: Callable[..., None], api: ApiOf, carol: User) -> Callable[..., list[str]]:
    """Returns a function that returns the ids that a query finds among three runs."""
    connect("eu")
    store(id="run_a", status="failed", model="gpt-4o", assistant_id="asst_1", thread_id="thread_1", created_at=1000)
    store(id="run_b", status="completed", model="gpt-4o", assistant_id="asst_2", thread_id="thread_2", created_at=2000)
    store("eu", id="run_c", status="odd", model="o3", assistant_id="asst_2", thread_id="thread_1", created_at=3000)
    client = api(carol)
    return lambda query: ids(client.get(f"runs/?{query}"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["run_c", "run_b", "run_a"]),
        ("connection=default", ["run_b", "run_a"]),
        ("status=failed", ["run_a"]),
        ("status=odd", ["run_c"]),
        ("status=unused", []),
        ("model=gpt-4o", ["run_b", "run_a"]),
        ("assistant_id=asst_2", ["run_c", "run_b"]),
        ("thread_id=thread_1", ["run_c", "run_a"]),
        ("thread_id=thread_1&connection=eu", ["run_c"]),
        ("thread_id=thread_x", []),
        ("created_after=1970-01-01T00:33:20Z", ["run_c", "run_b"]),
        ("created_before=1970-01-01T00:33:20Z", ["run_a"]),
        ("created_after=1970-01-01T02:33:20%2B02:00&created_before=1970-01-01T00:40:00", ["run_b"]),
        ("created_after=1970-01-02", []),
        ("model=gpt-4o&status=completed", ["run_b"]),
    ],
)
def test_filters_find_runs(query: str, expected: list[str], found: Callable[..., list[str]]) -> None:
    assert found(query) == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("view=mine", "view"),
        ("offset=3", "offset"),
        ("format=json", "format"),
        ("status=a&status=b", "status"),
        ("status=", "status"),
        ("status=a%00b", "status"),
        ("model=" + "x" * 257, "model"),
        ("page_size=0", "page_size"),
        ("page_size=501", "page_size"),
        ("page_size=many", "page_size"),
        ("created_after=yesterday", "created_after"),
        ("created_after=0001-01-01T00:00:00%2B14:00", "created_after"),
        ("cursor=x", "cursor"),
        ("cursor=W10=", "cursor"),
        ("cursor=WzEsIm4iLDNd", "cursor"),
    ],
)
def test_invalid_parameter_is_named(query: str, field: str, api: ApiOf, carol: User) -> None:
    data = problem(api(carol).get(f"runs/?{query}"), 400, "invalid-request")
    assert [error["field"] for error in data["errors"]] == [field]


def test_unknown_parameter_is_explained(api: ApiOf, carol: User) -> None:
    data = problem(api(carol).get("runs/?limit=5"), 400, "invalid-request")
    assert data["detail"] == (
        "limit: Unknown parameter. Known: cursor, page_size, q, view, tz, connection, status, model, "
        "assistant_id, thread_id, created_after, created_before, sort."
    )
    assert data["errors"][0]["code"] == "unknown_parameter"


def test_cursor_of_another_list_is_a_400(store: Callable[..., Run], api: ApiOf, carol: User, alice: User) -> None:
    for _ in range(2):
        run = store()
        edits.record(run=run, patch=MetadataPatch({"a": "b"}), actor=alice, source=Edit.Source.API)
    cursor = api(carol).get("edits/?page_size=1").json()["next"].split("?")[1]
    problem(api(carol).get(f"runs/?{cursor}"), 400, "invalid-request")


def test_runs_have_their_latest_edit(store: Callable[..., Run], api: ApiOf, carol: User, alice: User) -> None:
    run, _ = store(), store()
    for value in "abc":
        latest = edits.record(run=run, patch=MetadataPatch({"k": value}), actor=alice, source=Edit.Source.API)
    newest, oldest = api(carol).get("runs/").json()["results"]
    assert newest["mirror"]["edit"] is None
    assert oldest["mirror"]["edit"]["id"] == latest.pk


def queries_of(client: Api, path: str) -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        assert client.get(path).status_code == 200
    return [query["sql"] for query in queries]


def test_query_count_is_independent_of_size(store: Callable[..., Run], api: ApiOf, carol: User, alice: User) -> None:
    client = api(carol)
    client.get("schema/")  # Records that the token was used today.

    def make_edited_runs(count: int) -> None:
        for number in range(count):
            run = store(thread_id=f"thread_{number}")
            edits.record(run=run, patch=MetadataPatch({"a": "b"}), actor=alice, source=Edit.Source.API)

    make_edited_runs(2)
    counts = {path: len(queries_of(client, path)) for path in ("runs/", "edits/", "threads/")}
    make_edited_runs(20)
    for path, count in counts.items():
        queries = queries_of(client, path)
        assert len(queries) == count
        assert not any("COUNT(" in query for query in queries)
