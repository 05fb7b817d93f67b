"""A request can be traced by its id: in the logs of all processes, in the response and in the edit."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runsadmin import log_context
from runsadmin.models import Edit
from runsadmin.services import tokens
from tests.admin.conftest import base_field, metadata_form, run_action, run_url
from tests.conftest import CaptureLog, json_lines
from tests.security.conftest import Site
from tests.waiting import until


@pytest.mark.django_db(transaction=True)
def test_request_id_reaches_edit_and_logs(capture_log: CaptureLog, alice: User, mirror_run: Any) -> None:
    mirror_run(id="run_a", metadata={})
    log = capture_log("json")
    token = tokens.create(user=alice, expires_in=None)

    response = Client().patch(
        "/api/v1/runs/run_a/", {"metadata": {"team": "red"}}, "application/json",
        headers={"Authorization": f"Token {token}", "X-Request-ID": "job-7"},
    )  # fmt: skip

    edit = Edit.objects.get()
    assert (response["X-Request-ID"], edit.request_id) == ("job-7", "job-7")
    lines = [line for line in json_lines(log.getvalue()) if line.get("request_id") == "job-7"]
    steps = [line["step"] for line in lines if line.get("edit") == edit.pk and "step" in line]
    # Most of these steps run in a different thread from the request.
    assert steps == ["recorded", "claimed", "fetched", "intended", "responded", "stored"]
    assert {line["user"] for line in lines} == {"alice"}
    assert (lines[-1]["event"], lines[-1]["status_code"]) == ("PATCH /api/v1/runs/run_a/", 200)


@pytest.mark.django_db(transaction=True)
def test_admin_requests_are_traced_too(capture_log: CaptureLog, alice: User, mirror_run: Any) -> None:
    run = mirror_run(id="run_a", metadata={"team": "blue"})
    log = capture_log("json")
    client = Client(headers={"X-Request-ID": "from-a-proxy"})
    client.force_login(alice)
    form = metadata_form(("team", "red"), base=base_field(client, run))

    response = client.post(run_url(run, "metadata"), form)
    run_action(client, Edit.objects.get(), "undo")

    assert response["X-Request-ID"] == "from-a-proxy"
    assert [edit.request_id for edit in Edit.objects.all()] == ["from-a-proxy"] * 2
    assert {line["user"] for line in json_lines(log.getvalue()) if "request_id" in line} == {"alice"}


@pytest.mark.django_db(transaction=True)
def test_worker_logs_the_request_id_of_the_edit(
    make_site: Callable[..., Site], alice: User, mirror_run: Any, sandbox: Any
) -> None:
    mirror_run(id="run_a", metadata={})
    sandbox.fault("status", status=503, method="GET", headers={"Retry-After": "0"})
    Client().patch(
        "/api/v1/runs/run_a/", {"metadata": {"team": "red"}}, "application/json",
        headers={"Authorization": f"Token {tokens.create(user=alice, expires_in=None)}", "X-Request-ID": "job-7"},
    )  # fmt: skip
    assert Edit.objects.get().status == "pending"

    site = make_site(LOG_LEVEL="DEBUG", LOG_FORMAT="json")
    site.start_worker()
    until(lambda: Edit.objects.get().status == "applied")
    until(lambda: "stored" in site.log("worker"))

    lines = [line for line in json_lines(site.log("worker")) if line.get("request_id") == "job-7"]
    assert "stored" in [line.get("step") for line in lines]
    assert {(line["edit"], line["user"]) for line in lines} == {(Edit.objects.get().pk, "alice")}


@pytest.mark.django_db
@pytest.mark.parametrize("url", ["/admin/runsadmin/run/", "/api/v1/runs/"])
def test_refused_request_logs_no_traceback(capture_log: CaptureLog, make_user: Callable[..., User], url: str) -> None:
    client, log = Client(), capture_log("line")
    client.force_login(make_user())

    assert client.get(url).status_code == 403

    refused = [line for line in log.getvalue().splitlines() if "Forbidden" in line]
    assert len(refused) == 1
    assert "Traceback" not in log.getvalue()


def test_next_request_has_its_own_context(capture_log: CaptureLog) -> None:
    log_context.begin_request("first")
    log_context.set_user("alice")
    log_context.begin_request("second")
    log = capture_log("json")
    logging.getLogger("x").warning("hello")
    (line,) = json_lines(log.getvalue())
    assert (line["request_id"], "user" in line) == ("second", False)


def test_json_log_has_one_object_per_line(capture_log: CaptureLog) -> None:
    log = capture_log("json")
    try:
        raise ValueError("a\nb")
    except ValueError:
        logging.getLogger("x").exception("%s", "forged\n{}", extra={"step": object(), "request": "secret"})
    (line,) = json_lines(log.getvalue())
    assert len(log.getvalue().splitlines()) == 1
    assert line["event"] == "forged\n{}"
    assert "ValueError" in line["exception"]
    assert "request" not in line


def test_log_lines_cannot_be_forged(capture_log: CaptureLog) -> None:
    log = capture_log("line")
    forged = "held\n2026-11-23T00:00:00Z INFO django: all is well\r\x1b[2K\u2028"
    try:
        raise ValueError(forged)
    except ValueError:
        logging.getLogger("x").exception("Connection %s", forged)
    first, *rest = log.getvalue().splitlines()
    assert "\\n2026" in first
    assert "\\x1b" in first
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize("name", ["line", "json"])
def test_tracebacks_show_no_variables(capture_log: CaptureLog, name: str) -> None:
    log = capture_log(name)

    def fail() -> None:
        password = "-".join(["canary", "value"])
        raise ValueError(len(password))

    try:
        fail()
    except ValueError:
        logging.getLogger("x").exception("It failed.")
    assert "Traceback" in log.getvalue()
    assert "canary-value" not in log.getvalue()
