"""Runs are shown as stored where that is the API's own format, and converted otherwise, with the same result."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runsadmin import lenient_json
from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, Run
from runsadmin.run_format import FIELDS, TIMES
from runsadmin.services import edits
from tests.api.conftest import Api, ApiOf, store_response
from tests.sandbox_client import make_run

pytestmark = pytest.mark.django_db

NOW = 1_700_000_000
SENT = make_run(id="run_a", created_at=NOW)


def strict(content: bytes) -> Any:
    """Parses strict JSON in UTF-8, without repeated keys."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    def no_constant(name: str) -> None:
        raise AssertionError(name)

    return json.loads(content.decode(), object_pairs_hook=unique, parse_constant=no_constant)


def shown(client: Api) -> dict[str, Any]:
    """Returns the only run. Asserts that its own URL returns the same as the list."""
    (run,) = strict(client.get("runs/").content)["results"]
    assert strict(client.get(run["mirror"]["url"]).content) == run
    return dict(run)


def store_body(body: bytes) -> Run:
    Run.objects.all().delete()
    return store_response(lenient_json.read(body))


def assert_both_ways_agree(client: Api, run: Run) -> None:
    """Asserts that a run that is shown as stored would be the same if it were converted."""
    as_stored = shown(client)
    Run.objects.update(in_api_format=False)
    assert as_stored == shown(client)
    assert not run.in_api_format or {**as_stored, "mirror": None} == {**run.data, "mirror": None}


times = st.one_of(
    st.none(),
    st.integers(1, 4_000_000_000),
    st.sampled_from(
        [0, -1, "", False, True, 1.5, "1700000000", "2026-01-01T00:00:00Z", NOW * 1000, 10**11, "soon", []]
    ),
)
texts = st.text(st.characters(codec=None), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
metadata = st.dictionaries(texts, texts | values, max_size=4)
changes = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(TIMES, times), "metadata": metadata, "usage": values, "tools": values, "mirror": values,
        "instructions": texts, "unknown": values,
    },
)  # fmt: skip
removed = st.sets(st.sampled_from([name for name in FIELDS if name != "id"]), max_size=2)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=changes, removed=st.just(set()) | removed)
def test_both_ways_agree_for_odd_runs(changes: Any, removed: set[str], api: ApiOf, carol: User) -> None:
    fields = {name: value for name, value in (SENT | changes).items() if name not in removed}
    run = store_body(json.dumps(fields).encode())
    assert_both_ways_agree(api(carol), run)


@pytest.mark.parametrize(
    "body",
    [
        b'{"unknown":NaN,%b', b'{"unknown":[1e400,-Infinity],%b', b'{"unknown":12345678901234567890123,%b',
        b'{"status":"failed","status":"odd",%b', b'{"unknown":"\xff",%b', b'{"unknown":"\\ud83d",%b',
        b'{"unknown":"line\nbreak",%b', b'\xef\xbb\xbf{"unknown":' + b"[" * 300 + b"]" * 300 + b",%b",
        b'{"mirror":{"url":"http://other.example"},%b', b'{"mirror":null,%b', b'{"}":"}","{":"]}",%b',
    ],
)  # fmt: skip
def test_every_response_is_strict_json(body: bytes, api: ApiOf, carol: User) -> None:
    run = store_body(body.replace(b"%b", json.dumps(SENT).encode()[1:]))
    assert run.in_api_format == (b"mirror" not in body)
    assert_both_ways_agree(api(carol), run)
    assert shown(api(carol))["mirror"]["url"] == "http://testserver/api/v1/runs/run_a/"


@pytest.mark.parametrize(
    "fields",
    [
        {"created_at": None}, {"created_at": str(NOW)}, {"created_at": float(NOW)}, {"started_at": 0},
        {"failed_at": NOW * 1000}, {"expires_at": True}, {"mirror": None},
    ],
)  # fmt: skip
def test_other_formats_are_not_marked(fields: dict[str, Any], store: Callable[..., Run]) -> None:
    assert not store(**fields).in_api_format


@pytest.mark.parametrize("name", FIELDS)
def test_missing_field_is_null(name: str, api: ApiOf, carol: User) -> None:
    body = {key: value for key, value in SENT.items() if key != name} | {"id": "run_a"}
    run = store_response(body)
    assert run.in_api_format == (name == "id")
    assert shown(api(carol))[name] == (SENT["id"] if name == "id" else None)


def test_mark_follows_each_response(store: Callable[..., Run]) -> None:
    sent = {"id": "run_a", "created_at": NOW}
    assert store(**sent).in_api_format
    assert not store(**sent, failed_at="2026-01-01").in_api_format
    assert store(**sent).in_api_format


def test_known_creation_time_stays(store: Callable[..., Run], api: ApiOf, carol: User) -> None:
    store(id="run_a", created_at=NOW)
    store(id="run_a", created_at=None)
    assert shown(api(carol))["created_at"] == NOW


def test_latest_edit_is_shown(store: Callable[..., Run], api: ApiOf, carol: User, alice: User) -> None:
    run = store(created_at=NOW)
    for value in "abc":
        edit = edits.record(run=run, patch=MetadataPatch({"k": value}), actor=alice, source=Edit.Source.API)
    latest = shown(api(carol))["mirror"]["edit"]
    assert (latest["id"], latest["status"]) == (edit.pk, "pending")
    alone = api(carol).get(latest["url"]).json()
    assert latest == {name: alone[name] for name in latest}
    assert_both_ways_agree(api(carol), run)


def test_times_of_the_mirror_are_utc(store: Callable[..., Run], api: ApiOf, carol: User) -> None:
    run = store(created_at=NOW)
    Run.objects.update(missing_since=run.received_at.replace(microsecond=0))
    mirror = shown(api(carol))["mirror"]
    assert mirror["missing_since"] == f"{run.received_at:%Y-%m-%dT%H:%M:%SZ}"
    assert mirror["as_of"] == f"{run.received_at:%Y-%m-%dT%H:%M:%S.%fZ}"
