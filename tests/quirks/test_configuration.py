"""Settings that cannot be sent are reported at startup, and never sent or shown."""

import traceback

import pytest
from django.contrib.auth.models import User
from django.core.checks import ERROR, run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from project.wsgi import check_settings
from runsadmin import conf
from runsadmin.errors import ConnectionHeld
from runsadmin.models import ConnectionState, Edit, Run
from runsadmin.services import connections, probes
from runsadmin.upstream.client import Client
from tests.conftest import CaptureLog, Connect
from tests.fake_upstream import FakeUpstream
from tests.quirks.conftest import process_due, push, record, sync

SECRET = "s3cretABC"
KEYS = {
    "curly quotes": f"“{SECRET}”",
    "one curly quote": f"{SECRET}’",
    "line break inside": f"{SECRET}\nX-Other: 1",
    "carriage return": f"{SECRET}\r{SECRET}",
    "line break at the end": f"{SECRET}\n",
    "space before": f" {SECRET}",
    "space after": f"{SECRET} ",
    "tab": f"{SECRET}\tx",
    "NUL": f"{SECRET}\0",
    "escape": f"{SECRET}\x1b",
    "delete": f"{SECRET}\x7f",
    "non-breaking space": f"{SECRET}\xa0{SECRET}",
    "zero-width space": f"{SECRET}\u200b",
    "BOM": f"\ufeff{SECRET}",
    "accent": f"{SECRET}é",
    "Cyrillic letter": f"{SECRET}а",
    "ellipsis": f"{SECRET}…",
    "emoji": f"{SECRET}🔑",
    "half an emoji": f"{SECRET}\ud83d",
    "quotes": f'"{SECRET}"',
    "apostrophes": f"'{SECRET}'",
    "Bearer": f"Bearer {SECRET}",
    "bearer": f"bearer {SECRET}",
    "Bearer alone": "Bearer",
    "Token": f"Token {SECRET}",
    "Basic": f"Basic {SECRET}",
    "Bearer and a colon": f"Bearer: {SECRET}",
    "header": f"Authorization: Bearer {SECRET}",
    "api-key header": f"api-key: {SECRET}",
    "variable": f"OPENAI_API_KEY={SECRET}",
}
VALID_KEYS = ["sk-proj-abc_DEF.123", "a b", "tokenish", "Bearerer", "key/with+base64==", "bearer-like", "{$%&}", "x:y"]
URLS = {
    "threads": "https://up.example/v1/threads",
    "a thread": "https://up.example/v1/threads/thread_abc/runs",
    "another call": "https://up.example/v1/chat/completions",
    "assistants": "https://up.example/v1/assistants",
    "space": "https://up.example/v1 beta",
    "accent": "https://up.example/é",
    "zero-width space": "https://up.example/v1\u200b",
}


def errors() -> list[tuple[str | None, str]]:
    return [
        (check.id, check.msg)
        for check in run_checks()
        if (check.id or "").startswith("runsadmin.") and check.level >= ERROR
    ]


def full_traceback(error: BaseException) -> str:
    """Everything that a traceback could show, including suppressed causes."""
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        lines += [*traceback.format_exception(cause, chain=False), repr(cause.args)]
        cause = cause.__cause__ or cause.__context__
    return "\n".join(lines)


@pytest.mark.django_db
@pytest.mark.parametrize("auth", ["bearer", "api-key"])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_invalid_key_is_refused_at_startup(connect: Connect, key: str, auth: str) -> None:
    connect(API_KEY=key, AUTH=auth)
    ((check_id, message),) = errors()
    assert check_id == "runsadmin.E005"
    assert "RUNSADMIN_UPSTREAM_API_KEY" in message
    with pytest.raises(SystemCheckError) as caught:
        call_command("check")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", [f"“{SECRET}”", f"Bearer {SECRET}"])
def test_web_process_refuses_to_start(connect: Connect, key: str) -> None:
    check_settings()
    connect(API_KEY=key)
    with pytest.raises(SystemCheckError, match="RUNSADMIN_UPSTREAM_API_KEY") as caught:
        check_settings()
    assert SECRET not in full_traceback(caught.value)


@pytest.mark.django_db
def test_error_names_the_setting_of_its_alias(connect: Connect) -> None:
    connect("eu", API_KEY="Bearer x")
    ((_, message),) = errors()
    assert "RUNSADMIN_UPSTREAM_EU_API_KEY" in message


@pytest.mark.django_db
@pytest.mark.parametrize("key", VALID_KEYS)
def test_valid_keys_pass(connect: Connect, key: str) -> None:
    connect(API_KEY=key)
    assert errors() == []


@pytest.mark.django_db
@pytest.mark.parametrize("option", ["ORGANIZATION", "PROJECT", "API_VERSION"])
@pytest.mark.parametrize("value", ["“org”", "org\n", "org\r\nX: 1", " org", "org\u2028", "'org'"])
def test_invalid_header_is_refused(connect: Connect, option: str, value: str) -> None:
    connect(**{option: value})
    ((check_id, message),) = errors()
    assert check_id == "runsadmin.E006"
    assert f"RUNSADMIN_UPSTREAM_{option}" in message


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["api-version=v1", "?v1", "v1&x=y", "v 1"])
def test_invalid_api_version_is_refused(connect: Connect, value: str) -> None:
    connect(API_VERSION=value)
    assert [check_id for check_id, _ in errors()] == ["runsadmin.E006"]


@pytest.mark.django_db
@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_invalid_url_is_refused(connect: Connect, url: str) -> None:
    connect(URL=url)
    ((check_id, message),) = errors()
    assert check_id == "runsadmin.E007"
    assert "RUNSADMIN_UPSTREAM_URL" in message


@pytest.mark.django_db
@pytest.mark.parametrize(
    "url", ["https://up.example", "https://up.example/api/v1", "https://threads.example/v1", "https://r.example/openai"]
)
def test_valid_urls_pass(connect: Connect, url: str) -> None:
    connect(URL=url)
    assert errors() == []


@pytest.mark.parametrize("auth", ["bearer", "api-key"])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_invalid_key_is_never_sent(
    upstream: FakeUpstream, connect: Connect, capture_log: CaptureLog, key: str, auth: str
) -> None:
    log = capture_log("line")
    connect(API_KEY=key, AUTH=auth)
    client = Client(conf.connection("default"))
    for call in (
        client.retrieve_thread,
        client.list_runs,
        lambda thread: client.modify_run(thread, "run_a", {"a": "b"}),
    ):
        with pytest.raises(ConnectionHeld) as caught:
            call("thread_a")
        assert "RUNSADMIN_UPSTREAM_API_KEY" in str(caught.value)
        assert SECRET not in full_traceback(caught.value) + log.getvalue()
    assert upstream.log == []


@pytest.mark.parametrize("option", ["ORGANIZATION", "PROJECT", "API_VERSION", "URL"])
def test_other_invalid_settings_are_never_sent(upstream: FakeUpstream, connect: Connect, option: str) -> None:
    connect(**{option: f"{upstream.url if option == 'URL' else ''}“x”\n"})
    with pytest.raises(ConnectionHeld, match=f"RUNSADMIN_UPSTREAM_{option}"):
        Client(conf.connection("default")).modify_run("thread_a", "run_a", {"a": "b"})
    assert upstream.log == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "key", [f"“{SECRET}”", f"Bearer {SECRET}", f"{SECRET}\nx"], ids=["quotes", "Bearer", "line break"]
)
def test_edits_wait_for_a_valid_key(
    upstream: FakeUpstream, run: Run, alice: User, connect: Connect, capture_log: CaptureLog, key: str
) -> None:
    log = capture_log("line")
    connect(API_KEY=key)
    edit = push(run, alice)
    assert (edit.status, edit.wait_reason, edit.attempts) == (Edit.Status.PENDING, Edit.WaitReason.HELD, 0)
    hold = connections.held().get()
    assert (hold.hold, upstream.writes) == (ConnectionState.Hold.CREDENTIALS, [])
    assert "RUNSADMIN_UPSTREAM_API_KEY" in hold.hold_detail
    connections.release("default")
    record(run, alice, {"b": "c"})
    process_due()
    connections.release("default")
    assert sync(run.thread).status not in ("completed", "failed")
    assert "Traceback" not in log.getvalue()
    assert SECRET not in log.getvalue() + edit.detail + hold.hold_detail

    connect(API_KEY="corrected")
    ConnectionState.objects.update(next_probe_at=hold.held_since)
    probes.probe_held()
    process_due()
    assert upstream.metadata(run.upstream_id)["triage"] == "done"
