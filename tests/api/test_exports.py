"""Exports through the REST API: sent as they are read, or as files that workers write."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from runsadmin.errors import ExportStopped
from runsadmin.models import Edit, Export, ExportFormat, ExportStatus, Run, SavedView
from runsadmin.models.export import SLOTS
from runsadmin.services import exports, views
from runsadmin.services.exports import NewExport
from runsadmin.services.run_search import RunSearch
from tests.api.conftest import Api, ApiOf, problem
from tests.conftest import MakeRun

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def runs(mirror_run: MakeRun) -> list[Run]:
    return [mirror_run(id=f"run_{n}", metadata={"team": "blue" if n else "", "n": str(n)}) for n in range(3)]


@pytest.fixture(autouse=True)
def folder(settings: Settings, tmp_path: Path) -> Path:
    settings.RUNSADMIN_EXPORT_FOLDER = str(tmp_path)
    return tmp_path


def listed(client: Api) -> Any:
    return client.get("exports/").json()["results"]


def test_matching_runs_are_sent(runs: list[Run], api: ApiOf, carol: User) -> None:
    response = api(carol).get("runs/export/?format=csv&q=metadata.team:blue&columns=id,metadata.n", Accept="text/csv")
    content = response.getvalue()
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert content == b'"id","metadata.n"\r\n"run_2","2"\r\n"run_1","1"\r\n'
    url = response.headers["Link"].partition(">")[0].removeprefix("<")
    record = api(carol).get(url).json()
    assert (record["status"], record["rows"], record["size"]) == ("completed", 2, len(content))
    assert (record["is_file"], record["source"], record["actor"]) == (False, "api", "carol")
    assert (record["manifest"]["search"], record["manifest"]["runs"]) == ("metadata.team:blue", 2)
    assert response.headers["Content-Disposition"] == f'attachment; filename="runs-{record["id"]}.csv"'
    assert Export.objects.get().slot is None


def test_json_lines_are_the_runs(runs: list[Run], api: ApiOf, carol: User) -> None:
    sent = api(carol).get("runs/export/?format=jsonl&status=completed").getvalue()
    shown = [run for run in api(carol).get("runs/").json()["results"] if run.pop("mirror")]
    assert [json.loads(line) for line in sent.splitlines()] == shown


def test_view_gives_search_and_columns(runs: list[Run], api: ApiOf, carol: User) -> None:
    views.save(view=SavedView(name="Blue", query="metadata.team:blue", columns="metadata.n,id"), actor=carol)
    sent = api(carol).get("runs/export/?format=csv&view=blue").getvalue()
    assert sent == b'"metadata.n","id"\r\n"2","run_2"\r\n"1","run_1"\r\n'
    assert api(carol).get("runs/export/?format=csv&view=blue&columns=id").getvalue().startswith(b'"id"\r\n')
    assert api(carol).get("runs/export/?format=jsonl&view=blue").getvalue().count(b"\n") == 2


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("format=csv&q=color:red", "invalid-search"),
        ("format=csv&columns=statsu", "invalid-request"),
        ("format=jsonl&columns=id", "invalid-columns"),
        ("format=xlsx", "invalid-request"),
        ("format=csv&page_size=10", "invalid-request"),
        ("", "invalid-request"),
    ],
)
def test_invalid_export_is_refused(api: ApiOf, carol: User, query: str, name: str) -> None:
    data = problem(api(carol).get(f"runs/export/?{query}", Accept="text/csv"), 400, name)
    if "statsu" in query:
        assert "Did you mean status?" in data["detail"]
    assert not Export.objects.exists()


def test_slow_search_is_refused_before_it_is_sent(
    runs: list[Run], api: ApiOf, carol: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runsadmin.services.search_time_limit.SECONDS", 0.0)
    problem(api(carol).get("runs/export/?format=csv&q=status:completed"), 400, "invalid-search")
    assert not Export.objects.exists()


def test_parquet_needs_its_package(api: ApiOf, carol: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("runsadmin.services.exports.formats.find_spec", lambda name: None)
    data = problem(api(carol).get("runs/export/?format=parquet"), 400, "format-unavailable")
    assert "pip install pyarrow" in data["detail"]


def test_third_export_has_to_wait(runs: list[Run], api: ApiOf, alice: User, carol: User) -> None:
    new = NewExport(actor=alice, source=Edit.Source.ADMIN, format=ExportFormat.CSV, search=RunSearch.parse(""))
    sent = [exports.send(new) for _ in range(SLOTS)]
    response = api(carol).get("runs/export/?format=csv")
    assert "request a file" in problem(response, 429, "too-many-exports")["detail"]
    assert response.headers["Retry-After"] == "30"
    next(sent[0])
    sent[0].close()
    assert Export.objects.get(pk=sent[0].export.pk).status == ExportStatus.CANCELLED
    response = api(carol).get("runs/export/?format=csv")
    assert response.status_code == 200
    assert api(carol).get("runs/export/?format=csv").status_code == 429
    response.close()
    Export.objects.filter(pk=sent[1].export.pk).update(claimed_until=timezone.now())  # As if its process had died.
    for _ in range(2):
        response = api(carol).get("runs/export/?format=csv")
        assert response.status_code == 200
    with pytest.raises(ExportStopped):
        sent[1].keep_slot()
    assert Export.objects.get(pk=sent[1].export.pk).status == ExportStatus.FAILED


def test_run_named_export_is_found(mirror_run: MakeRun, api: ApiOf, carol: User) -> None:
    mirror_run(id="export")
    assert api(carol).get("runs/export/").json()["id"] == "export"
    assert b"export" in api(carol).get("runs/export/?format=csv").getvalue()


def test_worker_writes_a_file(runs: list[Run], api: ApiOf, carol: User, alice: User, folder: Path) -> None:
    client = api(carol)
    response = client.post("exports/", {"q": "metadata.team:blue", "format": "csv", "columns": "id"})
    export, url = response.json(), response.headers["Location"]
    assert (response.status_code, export["status"], export["file_url"]) == (202, "queued", None)
    problem(client.get(f"{url}file/"), 409, "illegal-change")
    assert exports.claim_waiting() == [export["id"]]
    assert exports.claim_waiting() == []
    exports.write(Export.objects.get())
    export = client.get(url).json()
    assert (export["status"], export["rows"], export["manifest"]["runs"]) == ("completed", 2, 2)
    file = client.get(export["file_url"])
    assert file.getvalue() == b'"id"\r\n"run_2"\r\n"run_1"\r\n'
    assert file.headers["Content-Length"] == str(export["size"])
    assert (len(listed(client)), listed(api(alice))) == (1, [])
    problem(api(alice).get(url), 404, "not-found")
    problem(client.post(f"{url}cancel/"), 409, "illegal-change")
    for path in folder.iterdir():
        path.unlink()
    problem(client.get(export["file_url"]), 410, "file-gone")


def test_queued_export_is_cancelled(runs: list[Run], api: ApiOf, carol: User) -> None:
    url = api(carol).post("exports/", {"format": "jsonl"}).headers["Location"]
    assert api(carol).post(f"{url}cancel/").json()["status"] == "cancelled"
    assert exports.claim_waiting() == []
