"""Exports in the admin: the form, the download, and the files that workers write."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from runsadmin.models import Export, ExportStatus, Run
from runsadmin.models.export import SLOTS
from runsadmin.services import exports
from runsadmin.templatetags.links import change_url, list_url
from tests.admin.bulk_edit_pages import LIST, select_across
from tests.admin.conftest import ClientFor, MakeUser, run_action, run_list_action

pytestmark = pytest.mark.django_db(transaction=True)

FORM = {"format": "csv", "columns": "id,metadata.n"}


@pytest.fixture(autouse=True)
def folder(settings: Settings, tmp_path: Path) -> Path:
    settings.RUNSADMIN_EXPORT_FOLDER = str(tmp_path)
    return tmp_path


def submit(client: Client, *, into: str = "download", **fields: Any) -> Any:
    return client.post(list_url(Export, "add"), FORM | {"into": into} | fields)


def test_matching_runs_are_downloaded(six_runs: list[Run], as_carol: Client) -> None:
    url = select_across(as_carol, "q=status:completed&columns=id,metadata.n", "export").headers["Location"]
    page = as_carol.get(url).text
    assert "All runs that match <code><bdi>status:completed</bdi></code>" in page
    assert 'value="id,metadata.n"' in page
    response = submit(as_carol, q="status:completed", tz="UTC")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert [line.split(",")[0] for line in response.getvalue().decode().splitlines()] == [
        '"id"', '"run_3"', '"run_2"', '"run_1"', '"run_0"',
    ]  # fmt: skip
    export = Export.objects.get()
    assert (export.status, export.query, export.actor.username) == ("completed", "status:completed", "carol")
    assert "Nothing is known to be missing." not in as_carol.get(change_url(export)).text
    assert "</b> threads that were never read fully" in as_carol.get(change_url(export)).text


def test_ticked_runs_are_downloaded(six_runs: list[Run], as_carol: Client) -> None:
    page = run_list_action(as_carol, LIST, "export", [six_runs[1].pk, six_runs[2].pk]).text
    assert "2 selected runs" in page
    keys = f"{six_runs[2].pk},{six_runs[1].pk}"
    assert f'name="keys" value="{keys}"' in page
    assert submit(as_carol, keys=keys).getvalue() == b'"id","metadata.n"\r\n"run_2","2"\r\n"run_1","1"\r\n'
    assert "Ticked runs" in as_carol.get(list_url(Export)).text
    assert "1 selected run<" in run_action(as_carol, six_runs[0], "export").text.replace("\n", "<")


def test_worker_writes_a_file(six_runs: list[Run], as_carol: Client, as_bob: Client) -> None:
    url = submit(as_carol, into="file", q="status:completed").headers["Location"]
    assert "Waiting for a worker" in as_carol.get(url).text
    exports.write(Export.objects.get())
    page = as_carol.get(url).text
    assert "Download" in page
    response = as_carol.get(f"{url.removesuffix('change/')}file/")
    assert response.getvalue().startswith(b'"id","metadata.n"\r\n"run_3"')
    assert response.headers["Content-Disposition"] == f'attachment; filename="runs-{Export.objects.get().pk}.csv"'
    assert as_bob.get(url).status_code == 404
    assert "No exports yet" in as_bob.get(list_url(Export)).text


def test_missing_file_is_explained(six_runs: list[Run], as_carol: Client, folder: Path) -> None:
    submit(as_carol, into="file")
    export = exports.write(Export.objects.get())
    for path in folder.iterdir():
        path.unlink()
    assert "is not on this machine" in as_carol.get(change_url(export, "file"), follow=True).text


def test_queued_export_is_cancelled(six_runs: list[Run], as_carol: Client) -> None:
    submit(as_carol, into="file")
    export = Export.objects.get()
    run_action(as_carol, export, "cancel")
    assert Export.objects.get().status == ExportStatus.CANCELLED
    assert "can be cancelled; this one is cancelled" in run_action(as_carol, export, "cancel", follow=True).text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"columns": "statsu"}, "Did you mean status?"),
        ({"q": "color:red"}, "there is no field"),
        ({"format": "xlsx"}, "Select a valid choice"),
        ({"keys": "1,x"}, "Enter a valid value"),
        ({"tz": "Nowhere"}, "There is no time zone"),
    ],
)
def test_mistakes_are_shown_in_the_form(as_carol: Client, fields: dict[str, str], message: str) -> None:
    response = submit(as_carol, **fields)
    assert response.status_code == 422
    assert message in response.text
    assert not Export.objects.exists()


def test_third_download_is_offered_as_a_file(six_runs: list[Run], as_carol: Client) -> None:
    sent = [submit(as_carol) for _ in range(SLOTS)]
    refused = submit(as_carol, q="status:completed")
    assert refused.status_code == 429
    assert "request a file, which a worker writes in the background" in refused.text
    assert 'name="q" value="status:completed"' in refused.text
    assert submit(as_carol, into="file").status_code == 302
    sent[0].close()
    assert submit(as_carol).status_code == 200
    for response in sent[1:]:
        response.close()


def test_superuser_sees_all_exports(
    six_runs: list[Run], as_carol: Client, client_for: ClientFor, admin_user: User, make_user: MakeUser
) -> None:
    submit(as_carol, into="file")
    assert "carol" in client_for(admin_user).get(list_url(Export)).text
    assert client_for(make_user()).get(list_url(Export)).status_code == 403
