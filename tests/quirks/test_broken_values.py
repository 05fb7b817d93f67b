"""Servers whose JSON has invalid or unreadable values: the rest of the run is still read and shown."""

import json
from collections.abc import Callable

import orjson
import pytest
from django.contrib.auth.models import User
from django.test import Client

from runsadmin.bulk_patch import BulkPatch
from runsadmin.errors import InvalidMetadata
from runsadmin.models import BulkEditStatus, Edit, Run, Thread
from runsadmin.services import bulk_edits
from tests.api.conftest import ApiOf
from tests.bulk import complete_plan
from tests.fake_upstream import FakeUpstream, Json, Request, Response, list_response
from tests.quirks.conftest import push, record, sync
from tests.sandbox_client import make_run

# What the server writes instead of a value.
BROKEN = {
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "1e400": b"1e400",
    "-1e400": b"-1e400",
    "1e400 and a long integer": b"[1e400, %d]" % 2**70,
    "70 digits": b"1" * 70,
    "70 digits, negative": b"-" + b"1" * 70,
    "5,000 digits": b"1" * 5000,
    "unsigned 64 bits + 1": b"%d" % 2**64,
    "signed 64 bits - 1": b"%d" % (-(2**63) - 1),
    "nested NaN": b'{"a": [[NaN]]}',
    "invalid byte": b'"caf\xff"',
    "undeclared Latin-1": b'"caf\xe9"',
    "truncated UTF-8": b'"caf\xc3"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "CESU-8": b'"\xed\xa0\xbd\xed\xb8\x80"',
    "invalid byte in a name": b'{"caf\xe9": 1}',
    "2,000 nested arrays": b"[" * 2000 + b"]" * 2000,
    "2,000 nested objects": b'{"a":' * 2000 + b"1" + b"}" * 2000,
    "nested 50,000 deep": b"[" * 50_000 + b"]" * 50_000,
}
broken = pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN)
# One broken value for each way in which broken values are stored.
STORED_DIFFERENTLY = (
    "NaN", "1e400 and a long integer", "nested NaN", "invalid byte in a name", "2,000 nested arrays",
    "2,000 nested objects",
)  # fmt: skip
stored_differently = pytest.mark.parametrize(
    "value", [BROKEN[name] for name in STORED_DIFFERENTLY], ids=STORED_DIFFERENTLY
)

# Unusual values that can be read.
READABLE = {
    "64 bits": (b"18446744073709551615", 2**64 - 1),
    "half a surrogate pair": (rb'"\ud83d"', "\ud83d"),
    "U+0000": (rb'"\u0000"', "\0"),
    "line break in text": (b'"a\nb"', "a\nb"),
    "surrogate and number": (rb'["\ud83d", 1.5]', ["\ud83d", 1.5]),
    "nested 100 deep": (b"[" * 100 + b"]" * 100, json.loads("[" * 100 + "]" * 100)),
    "small exponent": (b"1e-400", 0.0),
    "23 digits in text": (b'"12345678901234567890123"', "12345678901234567890123"),
}


@pytest.fixture
def serve(upstream: FakeUpstream, db: None) -> Callable[..., list[Run]]:
    """Syncs runs of one thread from a server that writes this value for each "@" in its JSON."""

    def serve(value: bytes, *runs: Json, content_type: str = "application/json", prefix: bytes = b"") -> list[Run]:
        def override(request: Request) -> Response | None:
            response = list_response(list(runs)) if request.is_list else upstream.default(request)
            content = prefix + response.content.replace(b'"@"', value)
            return Response(response.status, content, {"Content-Type": content_type})

        upstream.put(*runs)
        upstream.override(override)
        thread = Thread.objects.create(connection="default", upstream_id=runs[0]["thread_id"])
        sync(thread)
        mirrored = {run.upstream_id: run for run in Run.objects.select_related("thread")}
        return [mirrored[run["id"]] for run in runs]

    return serve


type Serve = Callable[..., list[Run]]


def assert_valid_json(text: str) -> None:
    """orjson accepts only valid JSON, without constants such as NaN."""
    orjson.loads(text)


@broken
def test_broken_value_is_unknown(value: bytes, serve: Serve, alice: User, api: ApiOf) -> None:
    good, bad = make_run(metadata={"a": "b"}), make_run(metadata={"a": "b"}, seed="@", instructions="Be brief.")
    runs = serve(value, good, bad)
    assert [run.metadata for run in runs] == [{"a": "b"}, {"a": "b"}]
    for run in runs:
        assert_valid_json(run.raw)
    shown = {run["id"]: run for run in api(alice).get("runs/").json()["results"]}
    assert shown[good["id"]]["instructions"] == good["instructions"]
    assert shown[bad["id"]]["instructions"] == "Be brief."
    assert not _has_value(shown[bad["id"]]["seed"])


def _has_value(value: object) -> bool:
    """Whether there is a value in place of the unreadable one."""
    while isinstance(value, dict | list) and len(value) == 1:
        (value,) = value.values() if isinstance(value, dict) else value
    return value not in (None, [], [None, None])


@broken
def test_column_with_broken_value_is_unknown(value: bytes, serve: Serve) -> None:
    (run,) = serve(value, make_run(created_at="@", started_at="@", model="@", usage={"total_tokens": "@"}))
    assert (run.created_at_is_known, run.started_at, run.total_tokens) == (False, None, None)
    assert_valid_json(Run.objects.get().raw)


@stored_differently
def test_unreadable_metadata_is_not_edited(
    value: bytes, serve: Serve, upstream: FakeUpstream, alice: User, api: ApiOf
) -> None:
    (run,) = serve(value, make_run(metadata={"ticket": "1", "odd": "@"}))
    assert run.metadata["ticket"] == "1"
    with pytest.raises(InvalidMetadata, match=r"'odd'|completely"):
        record(run, alice)
    response = api(alice).patch(f"runs/{run.upstream_id}/", {"metadata": {"triage": "done"}})
    assert response.status_code == 400
    assert "refresh the run" in response.text
    selection, patch = bulk_edits.by_ids([run.upstream_id]), BulkPatch({"triage": "done"})
    plan = complete_plan(
        bulk_edits.plan(selection=selection, patch=patch, actor=alice, source=Edit.Source.ADMIN, reason="r")
    )
    assert (plan.status, [edit.plan_result for edit in plan.edits.all()]) == (
        BulkEditStatus.PLANNED,
        [Edit.PlanResult.METADATA_UNKNOWN],
    )
    assert Edit.objects.filter(bulk_edit=None).count() == 0
    assert upstream.writes == []


@stored_differently
def test_pages_show_a_run_with_broken_values(value: bytes, serve: Serve, alice: User) -> None:
    times = dict.fromkeys(("created_at", "started_at", "completed_at"), "@")
    (run,) = serve(value, make_run(**times, metadata={"odd": "@"}, usage={"total_tokens": "@"}, tools=["@"], seed="@"))
    client = Client()
    client.force_login(alice)
    assert "unknown" in client.get("/admin/runsadmin/run/").text
    page = client.get(f"/admin/runsadmin/run/{run.pk}/change/").text
    assert "cannot be edited here" in page
    assert client.get(f"/admin/runsadmin/run/{run.pk}/metadata/").status_code == 200
    assert "1970" not in page


@pytest.mark.parametrize(("text", "value"), READABLE.values(), ids=READABLE)
def test_unusual_value_is_read(text: bytes, value: object, serve: Serve, alice: User) -> None:
    (run,) = serve(text, make_run(metadata={"ticket": "1", "odd": "@"}, seed="@"))
    assert (run.metadata["odd"], run.data["seed"], run.metadata_state) == (value, value, "")
    assert record(run, alice).pk


ENCODINGS = {
    "UTF-8": ("application/json; charset=utf-8", "utf-8"),
    "UTF-8 with byte order mark": ("application/json", "utf-8-sig"),
    "Latin-1": ("application/json; charset=iso-8859-1", "latin-1"),
    "Windows-1252": ('application/json; charset="Windows-1252"', "cp1252"),
    "UTF-16": ("application/json;charset=UTF-16", "utf-16"),
    "UTF-8 declared as ASCII": ("application/json; charset=us-ascii", "utf-8"),
    "unknown charset": ("application/json; charset=klingon", "utf-8"),
}


@pytest.mark.parametrize(("content_type", "encoding"), ENCODINGS.values(), ids=ENCODINGS)
def test_declared_encoding_is_used(content_type: str, encoding: str, upstream: FakeUpstream, db: None) -> None:
    run = make_run(metadata={"name": "café"})

    def override(request: Request) -> Response:
        text = json.dumps(list_response([run]).body if request.is_list else run, ensure_ascii=False)
        return Response(200, text.encode(encoding), {"Content-Type": content_type})

    upstream.override(override)
    sync(Thread.objects.create(connection="default", upstream_id=run["thread_id"]))
    assert Run.objects.get().metadata == {"name": "café"}


def test_undeclared_utf_16_is_unreadable(upstream: FakeUpstream, db: None) -> None:
    run = make_run()
    upstream.override(lambda _: Response(200, json.dumps(list_response([run]).body).encode("utf-16")))
    done = sync(Thread.objects.create(connection="default", upstream_id=run["thread_id"]))
    assert done.status == done.Status.FAILED
    assert not Run.objects.exists()


def test_rows_of_older_versions_are_readable(serve: Serve, alice: User, api: ApiOf, upstream: FakeUpstream) -> None:
    (run,) = serve(b"1", make_run(metadata={"ticket": "1"}, seed=5))
    Run.objects.update(raw=run.raw.replace('"seed":5', f'"seed":[Infinity,{2**70}]'), in_api_format=False)
    (shown,) = api(alice).get("runs/").json()["results"]
    assert shown["seed"] == [None, None]
    upstream.clear_overrides()
    assert push(run, alice).status == Edit.Status.APPLIED


@broken
def test_unreadable_fetch_writes_nothing(value: bytes, run: Run, upstream: FakeUpstream, alice: User) -> None:
    bad = make_run(id=run.upstream_id, thread_id=run.thread.upstream_id, metadata={"ticket": "1", "odd": "@"})
    content = json.dumps(bad).encode().replace(b'"@"', value)
    upstream.override(lambda request: Response(200, content) if request.is_fetch else None)
    edit = push(run, alice)
    assert edit.status in (Edit.Status.REJECTED, Edit.Status.FAILED, Edit.Status.CONFLICT)
    assert "read" in edit.detail
    assert upstream.writes == []


@pytest.mark.parametrize("value", [b"NaN", b"1e400", b"-Infinity", b'"\xff"', b"1" * 5000])
def test_rest_refuses_broken_values(value: bytes, run: Run, alice: User, api: ApiOf) -> None:
    body = b'{"metadata": {"a": "b"}, "base": {"a": ' + value + b"}}"
    response = api(alice).call("PATCH", f"runs/{run.upstream_id}/", body)
    assert response.status_code == 400
    assert not Edit.objects.exists()
