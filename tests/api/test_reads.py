"""Reads of the REST API write nothing, wait for no writer, and link to adjacent pages."""

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from knox.models import AuthToken
from pytest_django import Settings

from runsadmin.api.schema_views import document
from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, ExportFormat, Run, SavedView, Sync, TokenDetails
from runsadmin.services import api_rate, edits, exports, syncs, tokens
from runsadmin.services.exports import NewExport
from runsadmin.services.run_search import RunSearch
from tests.api.conftest import Api, ApiOf
from tests.bulk import make_bulk_edit
from tests.faults.database_faults import LockedFile, ReadOnly

pytestmark = pytest.mark.django_db(transaction=True)

LISTS = [
    "runs/",
    "edits/",
    "bulk-edits/",
    "bulk-edits/{bulk_edit}/edits/",
    "threads/",
    "syncs/",
    "metadata-keys/",
    "metadata-keys/team/values/",
    "views/",
    "exports/",
]
READS = [
    *LISTS,
    "runs/run_a/",
    "edits/{edit}/",
    "bulk-edits/{bulk_edit}/",
    "threads/thread_a/",
    "syncs/{sync}/",
    "views/blue/",
    "exports/{export}/",
    "exports/{export}/file/",
]
SEARCHES = ["runs/?q=status:failed OR metadata.team:b*", "runs/?status=completed&page_size=1", "runs/?view=blue"]
FAULTS = [LockedFile, ReadOnly] if connection.vendor == "sqlite" else [ReadOnly]


@pytest.fixture
def paths(
    store: Callable[..., Run], alice: User, carol: User, settings: Settings, tmp_path: Path
) -> Callable[[list[str]], list[str]]:
    """Fills the ids of rows into paths. The rows wait for something, so that showing them takes the most queries."""
    run = store(id="run_a", thread_id="thread_a", metadata={"team": "blue"})
    store(id="run_b", thread_id="thread_b", status="queued", metadata={"team": "blue"})
    for value in "ab":
        edit = edits.record(run=run, patch=MetadataPatch({"team": value}), actor=alice, source=Edit.Source.API)
    SavedView.objects.create(owner=alice, name="Blue", slug="blue", query="metadata.team:blue", is_shared=True)
    settings.RUNSADMIN_EXPORT_FOLDER = tmp_path
    csv = NewExport(actor=carol, source=Edit.Source.API, format=ExportFormat.CSV, search=RunSearch.parse(""))
    ids = {
        "edit": edit.pk,
        "export": exports.write(exports.request(csv)).pk,
        "bulk_edit": make_bulk_edit("run_b", "paused", alice).pk,
        "sync": syncs.start(connection="default", kind=Sync.Kind.FULL, actor=alice).pk,
    }
    return lambda names: [name.format(**ids) for name in names]


@pytest.fixture(autouse=True)
def rate_limit(settings: Settings, tmp_path: Path) -> Iterator[None]:
    """Requests are counted: this must not write to the database either."""
    settings.RUNSADMIN_API_REQUESTS_PER_MINUTE = 1000
    settings.RUNSADMIN_API_RATE_FILE = tmp_path / "api-rate.sqlite3"
    yield
    while api_rate._files:
        api_rate._files.popitem()[1].close()


def test_every_read_is_tested() -> None:
    reads = {path: methods["get"] for path, methods in document()["paths"].items() if "get" in methods}
    assert {path for path, read in reads.items() if "Link" in str(read["responses"]["200"])} == _described(reads, LISTS)
    # `schema/` reads no row, and `runs/export/` writes one: its slot.
    assert reads.keys() - _described(reads, READS) == {"/api/v1/schema/", "/api/v1/runs/export/"}


def _described(templates: Iterable[str], paths: Iterable[str]) -> set[str]:
    """The templates, such as `/api/v1/runs/{run_id}/`, that describe at least one of these paths."""
    patterns = {template: re.sub(r"{\w+}", "[^/]+", template) for template in templates}
    return {
        template
        for template, pattern in patterns.items()
        if any(re.fullmatch(pattern, f"/api/v1/{path}") for path in paths)
    }


def written(queries: CaptureQueriesContext) -> list[str]:
    """The statements that write, and savepoints, which show that a view opens a transaction."""
    return [query["sql"] for query in queries if re.search(r"\b(INSERT|UPDATE|DELETE|SAVEPOINT)\b", query["sql"])]


def test_read_in_a_session_writes_nothing(paths: Callable[[list[str]], list[str]], carol: User) -> None:
    browser = Client()
    browser.force_login(carol, backend="django.contrib.auth.backends.ModelBackend")
    for path in paths(READS):
        with CaptureQueriesContext(connection) as queries:
            response = browser.get(f"/api/v1/{path}")
            response.close()
            assert response.status_code == 200
        assert written(queries) == []


def test_read_writes_nothing(paths: Callable[[list[str]], list[str]], api: ApiOf, carol: User) -> None:
    client = api(carol)
    client.get("schema/")  # Records that the token was used today.
    expired = tokens.create(user=carol, expires_in=dt.timedelta(days=1))
    AuthToken.objects.filter(token_key=expired[:15]).update(expiry=timezone.now())
    for path in paths([*READS, *SEARCHES, "schema/", "nothing/"]):
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == (404 if path == "nothing/" else 200)
            assert Api(expired).get(path).status_code == 401
        assert written(queries) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_read_needs_no_writable_database(
    fault: Any, paths: Callable[[list[str]], list[str]], api: ApiOf, carol: User
) -> None:
    client, unavailable = api(carol), fault()
    unavailable.begin()
    try:
        assert {client.get(path).status_code for path in paths([*READS, *SEARCHES])} == {200}
    finally:
        unavailable.end()


def test_last_use_is_written_once_a_day(alice: User) -> None:
    client = Api(tokens.create(user=alice, expires_in=None))
    writes = []
    for day in (24, 24, 25):
        with time_machine.travel(dt.datetime(2026, 12, day, 12, tzinfo=dt.UTC)):
            with CaptureQueriesContext(connection) as queries:
                client.get("schema/")
            writes.append(len([sql for sql in written(queries) if "SAVEPOINT" not in sql]))
            assert TokenDetails.objects.get().last_used_on == dt.date(2026, 12, day)
    assert writes[1] == 0
    assert writes[2] == 1


def test_expired_tokens_are_deleted(alice: User, bob: User) -> None:
    kept = [tokens.create(user=user, expires_in=dt.timedelta(days=1)) for user in (alice, bob)]
    kept.append(tokens.create(user=bob, expires_in=None))
    tokens.create(user=alice, expires_in=-dt.timedelta(seconds=1))
    assert tokens.delete_expired() == 1
    assert AuthToken.objects.count() == 3
    assert [Api(token).get("schema/").status_code for token in kept] == [200, 200, 200]


def links_of(response: Any) -> dict[str, str]:
    """The targets of the Link header, as parsed by requests, which knows nothing about this project."""
    parsed = requests.utils.parse_header_links(response.headers.get("Link", ""))
    return {link["rel"]: link["url"] for link in parsed}


def test_lists_link_to_adjacent_pages(store: Callable[..., Run], api: ApiOf, carol: User) -> None:
    for number in range(3):
        store(model='odd, "name"; rel=next>', created_at=1_700_000_000 + number)
    client, url, seen = api(carol), "runs/?page_size=1&model=odd%2C+%22name%22%3B+rel%3Dnext%3E", []
    while url:
        response = client.get(url)
        body = response.json()
        links = links_of(response)
        assert (links.get("next"), links.get("prev")) == (body["next"], body["previous"])
        assert set(links) <= {"next", "prev"}
        assert re.fullmatch(r"[!-~ ]*", response.headers.get("Link", ""))
        seen.append(set(links))
        url = body["next"]
    assert seen == [{"next"}, {"next", "prev"}, {"prev"}]


def test_single_page_has_no_link(paths: Callable[[list[str]], list[str]], api: ApiOf, carol: User) -> None:
    responses = [api(carol).get(path) for path in paths(LISTS)]
    assert {(response.status_code, "Link" in response.headers) for response in responses} == {(200, False)}
