"""Pages and responses have a maximum size, whatever is stored."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runsadmin import lenient_json
from runsadmin.api import pagination
from runsadmin.metadata import MAX_REMOVED_BYTES, Metadata, MetadataPatch
from runsadmin.models import BulkEdit, Edit, Run
from runsadmin.services import edits, tokens
from tests.admin.conftest import run_url
from tests.api.conftest import Api, problem
from tests.bulk import make_bulk_edit

pytestmark = pytest.mark.django_db
MEGABYTE = 1024 * 1024


def api(user: User) -> Api:
    return Api(tokens.create(user=user, expires_in=None))


def long_keys(size: int) -> dict[str, None]:
    """Keys to remove that have this many bytes in all."""
    return {f"{number:08}": None for number in range(size // 8)}


def nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize("size", [MAX_REMOVED_BYTES + 8, 900_000])
def test_too_many_keys_to_remove_are_refused(mirror_run: Callable[..., Run], alice: User, size: int) -> None:
    mirror_run(id="run_a", metadata={"team": "blue"})
    keys = long_keys(size)

    for method, path, body in (
        ("PATCH", "runs/run_a/", {"metadata": keys}),
        ("POST", "bulk-edits/", {"run_ids": ["run_a"], "remove": list(keys), "reason": "tidying"}),
    ):
        data = problem(api(alice).call(method, path, body), 400, "invalid-metadata")
        assert "at most 65,536 are allowed in one edit" in str(data)
    assert not Edit.objects.exists()


def test_pages_of_long_edits_are_bounded(mirror_run: Callable[..., Run], client: Client) -> None:
    root = User.objects.create_superuser("root")
    run = mirror_run(id="run_a", metadata={"team": "blue"})
    patch = MetadataPatch.parse(long_keys(MAX_REMOVED_BYTES))
    bulk_edit = make_bulk_edit("run_a", "planned", root)
    BulkEdit.objects.update(remove=sorted(patch.remove))
    for _ in range(30):
        edit = edits.record(run=run, patch=patch, base=run.metadata, actor=root, source=Edit.Source.API)
    before = Metadata(dict.fromkeys(patch.remove, "value"))
    Edit.objects.update(
        bulk_edit=bulk_edit, status="applied", finished_at=timezone.now(), before=before, intended=Metadata(),
        after=Metadata(),
    )  # fmt: skip
    client.force_login(root)

    for url in (
        "/admin/", "/admin/runsadmin/edit/", f"/admin/runsadmin/edit/{edit.pk}/change/", run_url(run),
        f"/admin/runsadmin/bulkedit/{bulk_edit.pk}/change/",
    ):  # fmt: skip
        shown = client.get(url)
        assert len(shown.content) < 2 * MEGABYTE, url
    assert "8,092 more keys" in shown.text
    assert len(api(root).get("edits/?page_size=500").content) < 9 * MEGABYTE


@pytest.mark.parametrize(
    "fields",
    [
        {"extra": nested(190, [1] * 100_000)},
        {f"extra{number}": nested(190, [1] * 1000) for number in range(1000)},
        {"instructions": "x\"'<&" * 500_000},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": ["<" * 100] * 10}}] * 5000},
        {"metadata": {"k" * 100 + str(number): "<" * 1000 for number in range(3000)}},
        {"usage": {f"count{number}": nested(100, number) for number in range(3000)}},
        {"last_error": {"code": "c" * MEGABYTE, "message": "m" * MEGABYTE}},
        {"model": "m" * MEGABYTE, "assistant_id": "a" * MEGABYTE, "created_at": "c" * MEGABYTE},
    ],
)
def test_page_of_a_long_run_is_bounded(mirror_run: Callable[..., Run], client: Client, fields: dict[str, Any]) -> None:
    run = mirror_run(metadata={"team": "blue"})
    Run.objects.update(raw=lenient_json.dumps(run.data | fields))
    client.force_login(User.objects.create_superuser("root"))

    shown = client.get(run_url(run))

    assert len(shown.content) < 4 * MEGABYTE
    assert "This run is too long for a page" in shown.text
    whole = client.get(run_url(run, "json"))
    assert whole["Content-Type"] == "application/json"
    assert json.loads(whole.content) == json.loads(lenient_json.dumps(run.data | fields))


def test_ordinary_run_is_shown_whole(mirror_run: Callable[..., Run], client: Client) -> None:
    run = mirror_run(instructions="x" * 50_000, metadata={f"key{number}": "v" * 512 for number in range(16)})
    Run.objects.update(raw=lenient_json.dumps(run.data | {f"extra{number}": number for number in range(90)}))
    client.force_login(User.objects.create_superuser("root"))

    shown = client.get(run_url(run)).text

    assert "too long" not in shown
    assert "extra89" in shown
    assert "x" * 50_000 in shown
    assert shown.count("v" * 512) >= 16


@pytest.mark.parametrize("sort", ["-created_at", "created_at", "-total_tokens"])
def test_rest_pages_are_bounded(
    mirror_run: Callable[..., Run], carol: User, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    monkeypatch.setattr(pagination, "MAX_PAGE_BYTES", 300_000)
    ids = [mirror_run(instructions="x" * 100_000, created_at=1_700_000_000 + number).upstream_id for number in range(8)]
    client = api(carol)

    pages, url = [], f"runs/?page_size=7&sort={sort}"
    while url:
        response = client.get(url)
        assert len(response.content) < 310_000
        pages.append([run["id"] for run in response.json()["results"]])
        url, last = response.json()["next"], response.json()
    assert [len(page) for page in pages] == [2, 2, 2, 2]
    assert sorted(id for page in pages for id in page) == sorted(ids)

    backward, url = [pages[-1]], last["previous"]
    while url:
        body = client.get(url).json()
        backward.append([run["id"] for run in body["results"]])
        url = body["previous"]
    assert [page for page in reversed(backward) if page] == pages


def test_single_long_run_is_a_page(
    mirror_run: Callable[..., Run], carol: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "MAX_PAGE_BYTES", 1000)
    for number in range(2):
        mirror_run(instructions="x" * 100_000, created_at=1_700_000_000 + number)

    first = api(carol).get("runs/").json()

    assert len(first["results"]) == 1
    assert len(api(carol).get(first["next"]).json()["results"]) == 1
