"""No request gets a 5xx, whatever is in its path, query or body."""

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from pytest_django import Settings

from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, ExportFormat, Run, SavedView, Sync
from runsadmin.services import edits, exports, syncs, tokens
from runsadmin.services.exports import NewExport
from runsadmin.services.run_search import RunSearch
from tests.bulk import make_bulk_edit
from tests.security.odd_requests import (
    TEXTS,
    OddRequest,
    Page,
    admin_patterns,
    filled,
    for_operations,
    for_url,
    read_page,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def row_ids(mirror_run: Callable[..., Run], settings: Settings, tmp_path: Path) -> list[str]:
    """Creates a row of every kind. Returns the ids that occur in URLs."""
    settings.RUNSADMIN_EXPORT_FOLDER = tmp_path
    settings.RUNSADMIN_PUSH_WAIT = 0.1
    root = superuser()
    run = mirror_run(id="run_a", thread_id="thread_a", metadata={"team": "blue"})
    edit = edits.record(run=run, patch=MetadataPatch({"team": "red"}), actor=root, source=Edit.Source.ADMIN)
    bulk_edit = make_bulk_edit("run_a", "planned", root)
    sync = syncs.start(connection="default", kind=Sync.Kind.FULL, actor=root)
    view = SavedView.objects.create(owner=root, name="Blue", slug="blue", query="metadata.team:blue")
    csv = NewExport(actor=root, source=Edit.Source.API, format=ExportFormat.CSV, search=RunSearch.parse(""))
    export = exports.write(exports.request(csv))
    tokens.create(user=root, expires_in=None, name="nightly report")
    others = (Group.objects.create(name="Staff"), tokens.newest_first()[0])
    rows = (run, run.thread, edit, bulk_edit, sync, view, export, root, *others)
    return sorted({str(row.pk) for row in rows} | {"default", "blue", "run_a", "thread_a"})


def superuser() -> User:
    """The account of the requests. Some of them delete, rename or deactivate it."""
    roles = {"is_superuser": True, "is_staff": True, "is_active": True}
    return User.objects.update_or_create(username="root", defaults=roles)[0]


def send(request: OddRequest) -> Any:
    client = Client(raise_request_exception=False)
    client.force_login(superuser(), backend="django.contrib.auth.backends.ModelBackend")
    response = client.generic(request.method, request.url, request.body, request.content_type)
    if response.streaming:
        b"".join(response)
        response.close()
    return response


def crashes(odd: Iterable[OddRequest], every: int) -> tuple[int, list[str]]:
    """Sends a fixed sample of the requests. Returns their number, and those that got a 5xx."""
    sample = [request for request in odd if zlib.crc32(str(request).encode(errors="replace")) % every == 0]
    return len(sample), [f"{request}: {status}" for request in sample if (status := send(request).status_code) >= 500]


def test_no_odd_page_request_crashes(row_ids: list[str], pytestconfig: pytest.Config) -> None:
    every = pytestconfig.getoption("--odd-requests")
    pages: dict[str, Page] = {}
    for pattern in admin_patterns():
        for value in row_ids if "<" in pattern else [""]:
            url = filled(pattern, value)
            shown = send(OddRequest("GET", url))
            assert shown.status_code < 500, url
            if shown.status_code == 200 and "text/html" in shown["Content-Type"]:
                pages[url] = read_page(shown.text)
                break  # The page of one row is enough.
        else:
            pages.setdefault(filled(pattern, "1"), Page())
    assert len(pages) > 60
    assert sum(len(page.forms) for page in pages.values()) > 30

    odd = [request for url, page in pages.items() for request in for_url(url, page)]
    odd += [OddRequest("GET", filled(pattern, text)) for pattern in admin_patterns() for text in TEXTS]
    sent, crashed = crashes(odd, every)

    assert crashed == []
    assert sent * every > 15_000


def test_no_odd_rest_request_crashes(row_ids: list[str], pytestconfig: pytest.Config) -> None:
    every = -(-pytestconfig.getoption("--odd-requests") // 20)  # There are fewer than for the pages.
    sent, crashed = crashes(for_operations(), every)
    assert crashed == []
    assert sent * every > 5_000
