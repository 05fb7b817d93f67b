"""The pages of bulk edits, through Django's test client."""

import html
import re
from typing import Any

from django.test import Client

from runsadmin.models import BulkEdit
from tests.admin.conftest import run_list_action
from tests.form_rows import form_rows

LIST = "/admin/runsadmin/run/"
ADD = "/admin/runsadmin/bulkedit/add/"


def bulk_edit_url(bulk_edit: BulkEdit, name: str = "change") -> str:
    return f"/admin/runsadmin/bulkedit/{bulk_edit.pk}/{name}/"


def patch_form(*rows: tuple[str, str, str], reason: str = "moved", **more: str) -> dict[str, object]:
    """The form data of a bulk edit. Each row is a key, an operation and a value."""
    fields = form_rows(*({"key": key, "what": what, "value": value} for key, what, value in rows))
    return {**fields, "reason": reason, **more}


RED_FORM = patch_form(("team", "set", "red"))


def select_across(client: Client, query: str = "", action: str = "edit_metadata", *, follow: bool = False) -> Any:
    """Runs an action on all runs that match the query."""
    return run_list_action(client, f"{LIST}?{query}", action, [], follow=follow, select_across="1")


def select_all(client: Client, query: str = "") -> str:
    """Selects all runs that match. Returns the URL of the form that plans a bulk edit of them."""
    url: str = select_across(client, query).headers["Location"]
    assert url.startswith(f"{ADD}?selection="), url
    return url


def make_plan(client: Client, form: dict[str, object] = RED_FORM, query: str = "", **more: Any) -> BulkEdit:
    response = client.post(select_all(client, query), {**form, **more})
    assert response.status_code == 302, re.findall(r'role="alert">([^<]+)', response.text)
    bulk_edit = BulkEdit.objects.latest("pk")
    assert response.headers["Location"] == bulk_edit_url(bulk_edit)
    return bulk_edit


def page_text(client: Client, bulk_edit: BulkEdit, query: str = "") -> str:
    """The page of a bulk edit as plain text."""
    response = client.get(bulk_edit_url(bulk_edit) + query)
    assert response.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.text)).split())


def shown_run_ids(client: Client, url: str) -> list[str]:
    return re.findall(r'class="ra-id" href="[/a-z]*\d+/change/[^"]*">([^<]+)<', client.get(url).text)
