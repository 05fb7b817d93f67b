"""The site uses recognizable secrets, and none of them may appear in its responses, logs or database."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.contrib.auth.models import User
from django.db import connection

from runsadmin.models import Edit, Sync, Thread
from runsadmin.services import syncs, tokens
from tests.database import bytes_of
from tests.engine.conftest import url_of_the_test_database
from tests.sandbox_client import Sandbox, make_run
from tests.security.conftest import Site
from tests.waiting import until

KEY = "canary-upstream-key-4c9f1e"
SECRET_KEY = "canary-secret-key-77aa20-" + "x" * 40
PASSWORD = "canary-password-b00b1e"
WRONG_PASSWORD = "canary-wrong-password-5ee9"
DATABASE_PASSWORD = "canary-database-password-91d3"

FAULTS: list[dict[str, Any]] = [
    {"kind": "status", "status": 401, "method": "GET", "body": {"error": {"message": f"Incorrect API key: {KEY}"}}},
    {"kind": "status", "status": 400, "method": "POST", "body": {"error": {"message": f"Not with {KEY}!"}}},
    {"kind": "status", "status": 500, "method": "POST", "body": f"headers={{'Authorization': 'Bearer {KEY}'}}"},
    {"kind": "status", "status": 503, "method": "GET", "body": KEY},
    {"kind": "hang", "method": "GET"},
    {"kind": "garbage", "method": "POST"},
    {"kind": "cut_halfway", "method": "POST"},
    {"kind": "redirect", "method": "GET", "to": "http://127.0.0.1:9/elsewhere"},
]  # fmt: skip


class MissingTable:
    """Renames a table during the block, so that every use of it ends in a traceback."""

    def __init__(self, table: str) -> None:
        self.table = table

    def __enter__(self) -> None:
        self._rename(self.table, f"{self.table}_away")

    def __exit__(self, *_: object) -> None:
        self._rename(f"{self.table}_away", self.table)

    def _rename(self, old: str, new: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


def dump() -> Iterator[str]:
    """Every row of every table; on SQLite also the bytes of the files, including deleted rows."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            yield repr((table, cursor.fetchall()))
    if connection.vendor == "sqlite":
        file = Path(connection.settings_dict["NAME"])
        yield bytes_of(*file.parent.glob(f"{file.name}*")).decode("latin-1")


def full_text(response: requests.Response) -> str:
    return "\n".join([response.url, repr(response.headers), response.text, *map(repr, response.history)])


@pytest.mark.django_db(transaction=True)
def test_secrets_appear_nowhere(make_site: Callable[..., Site], sandbox: Sandbox) -> None:
    root = User.objects.create_superuser("root", password=PASSWORD)
    token = tokens.create(user=root, expires_in=None)
    sandbox.settings(api_key=KEY)
    sandbox.put_runs(
        [make_run(id=f"run_{n}", thread_id="thread_a", metadata={"team": "blue"}) for n in range(len(FAULTS) + 2)]
    )
    Thread.objects.create(connection="default", upstream_id="thread_a")
    site = make_site(
        SECRET_KEY=SECRET_KEY, DATABASE_URL=database_url(), RUNSADMIN_UPSTREAM_API_KEY=KEY, LOG_LEVEL="DEBUG",
        RUNSADMIN_UPSTREAM_READ_TIMEOUT="0.5", RUNSADMIN_PUSH_WAIT="3",
        RUNSADMIN_DEMO_TOKEN=token, RUNSADMIN_DEMO_PASSWORD=PASSWORD,
    )  # fmt: skip
    site.start_web()
    site.start_worker()
    responses: list[requests.Response] = []

    def record(response: requests.Response, **_: Any) -> None:
        responses.append(response)

    browser = site.browser()
    browser.hooks["response"].append(record)
    api = {"Authorization": f"Token {token}"}

    # Wrong and right passwords, wrong tokens, and tokens in the wrong place.
    browser.sign_in("root", WRONG_PASSWORD)
    browser.sign_in("root", PASSWORD)
    for headers in ({"Authorization": f"Token {token}0"}, {"Authorization": f"Bearer {token}"}, {"X-Api-Key": token}):
        requests.get(f"{site.origin}/api/v1/runs/", headers=headers, hooks={"response": record})
    browser.get("/api/v1/runs/", headers=api, params={"token": token})
    browser.post("/api/v1/threads/", data=f'{{"thread_id": 1, "{token[:8]}": [', headers=api)

    # Edits, and every kind of upstream fault.
    syncs.start(connection="default", kind=Sync.Kind.FULL, actor=root)
    until(lambda: Sync.objects.filter(status="completed").exists())
    for n, fault in enumerate(FAULTS):
        sandbox.fault(times=1, **fault)
        browser.patch(f"/api/v1/runs/run_{n}/", json={"metadata": {"team": "red"}}, headers=api)
        browser.post("/admin/runsadmin/connectionstate/default/switch/", {"on": "0", **csrf_field(browser)})
    with MissingTable("runsadmin_metadatapair"):  # Tracebacks in the pusher thread, in the view and in the worker.
        browser.patch("/api/v1/runs/run_8/", json={"metadata": {"team": "red"}}, headers=api)
        browser.post("/api/v1/runs/run_9/refresh/", json={}, headers=api)
        syncs.start(connection="default", kind=Sync.Kind.INCREMENTAL, actor=root)
        sandbox.change_run("run_9", metadata={"team": "changed"})
        browser.get("/admin/login/?next=/admin/")
        until(lambda: "Traceback" in site.log("worker"))
    with MissingTable("runsadmin_syncerror"):
        first = Sync.objects.earliest("pk").pk
        assert browser.get(f"/api/v1/syncs/{first}/", headers=api).status_code == 500
        assert browser.get(f"/admin/runsadmin/sync/{first}/change/").status_code == 500
    until(lambda: not Edit.objects.filter(status="sending").exists())

    # Every page.
    rows = [
        f"{type(row)._meta.model_name}/{row.pk}/change"
        for row in (*Edit.objects.all(), *Sync.objects.all(), *Thread.objects.all())
    ]
    lists = ["run", "edit", "thread", "sync", "connectionstate", "run/1/change", "run/1/metadata", "thread/add"]
    for page in ["", "auth/user/", f"auth/user/{root.pk}/change/", f"auth/user/{root.pk}/password/", "knox/authtoken/",
                 "no/such/page", "password_change/", *(f"runsadmin/{page}/" for page in (*lists, *rows))]:  # fmt: skip
        browser.get(f"/admin/{page}")
    for path in ("runs", "runs/run_0", "edits", "threads", "syncs", "schema", "docs"):
        browser.get(f"/api/v1/{path}/", headers=api | {"Accept": "*/*"})
    browser.get("/readyz")
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in site.pids]
    site.stop()

    assert len(responses) > 60
    assert Edit.objects.exclude(detail="").count() >= 5
    assert "Traceback" in site.log("web")
    places = {
        "response": "\n".join(map(full_text, responses)),
        "web log": site.log("web"),
        "worker log": site.log("worker"),
        "process list": "\n".join(commands),
        "database": "\n".join(dump()),
    }
    found = [
        (name, secret[:24])
        for secret in (KEY, SECRET_KEY, DATABASE_PASSWORD, PASSWORD, WRONG_PASSWORD, token)
        for name, text in places.items()
        for encoded in (secret, base64.b64encode(secret.encode()).decode().rstrip("=")[:-1])
        # The test sends the token in a query, which logs and responses may repeat as part of the URL.
        if encoded in text.replace(f"?token={token}", "")
    ]
    assert found == []


@pytest.mark.django_db(transaction=True)
def test_debug_page_shows_no_secret(make_site: Callable[..., Site]) -> None:
    root = User.objects.create_superuser("root", password=PASSWORD)
    token = tokens.create(user=root, expires_in=None)
    site = make_site(
        SECRET_KEY=SECRET_KEY, DATABASE_URL=database_url(), RUNSADMIN_UPSTREAM_API_KEY=KEY, DEBUG="on",
        RUNSADMIN_DEMO_TOKEN=token, RUNSADMIN_DEMO_PASSWORD=PASSWORD,
    )  # fmt: skip
    site.start_web()
    with MissingTable("runsadmin_thread"):
        page = site.browser().get("/api/v1/threads/", headers={"Authorization": f"Token {token}"})
    assert "RUNSADMIN_CONNECTIONS" in page.text
    assert not [secret for secret in (KEY, SECRET_KEY, DATABASE_PASSWORD, PASSWORD, token) if secret in page.text]


def database_url() -> str:
    """The URL of the test's database. On PostgreSQL it has a password, which the server does not check."""
    return url_of_the_test_database().replace("tests@", f"tests:{DATABASE_PASSWORD}@")


def csrf_field(browser: Any) -> dict[str, str]:
    return {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}
