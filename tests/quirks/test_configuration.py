"""Settings that cannot be sent: reported at start, never sent, never shown."""

import io
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

S3 = "s3cretABC"
KEYS = {
    "curly quotes": f"“{S3}”",
    "one curly quote": f"{S3}’",
    "line break inside": f"{S3}\nX-Other: 1",
    "carriage return": f"{S3}\r{S3}",
    "line break at the end": f"{S3}\n",
    "space before": f" {S3}",
    "space after": f"{S3} ",
    "tab": f"{S3}\tx",
    "NUL": f"{S3}\0",
    "escape": f"{S3}\x1b",
    "delete": f"{S3}\x7f",
    "non-breaking space": f"{S3}\xa0{S3}",
    "zero-width space": f"{S3}\u200b",
    "BOM": f"\ufeff{S3}",
    "accent": f"{S3}é",
    "Cyrillic letter": f"{S3}а",
    "ellipsis": f"{S3}…",
    "emoji": f"{S3}🔑",
    "half an emoji": f"{S3}\ud83d",
    "quotes": f'"{S3}"',
    "apostrophes": f"'{S3}'",
    "Bearer": f"Bearer {S3}",
    "bearer": f"bearer {S3}",
    "Bearer alone": "Bearer",
    "Token": f"Token {S3}",
    "Basic": f"Basic {S3}",
    "Bearer and a colon": f"Bearer: {S3}",
    "header": f"Authorization: Bearer {S3}",
    "api-key header": f"api-key: {S3}",
    "variable": f"OPENAI_API_KEY={S3}",
}
GOOD = ["sk-proj-abc_DEF.123", "a b", "tokenish", "Bearerer", "key/with+base64==", "bearer-like", "{$%&}", "x:y"]
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
        (each.id, each.msg) for each in run_checks() if (each.id or "").startswith("runsadmin.") and each.level >= ERROR
    ]


def shown(error: BaseException) -> str:
    """All that a traceback could show of it, suppressed causes included."""
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        lines += [*traceback.format_exception(cause, chain=False), repr(cause.args)]
        cause = cause.__cause__ or cause.__context__
    return "\n".join(lines)


@pytest.mark.django_db
@pytest.mark.parametrize("auth", ["bearer", "api-key"])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_key_is_refused_at_start(connect: Connect, key: str, auth: str) -> None:
    connect(API_KEY=key, AUTH=auth)
    ((check_id, message),) = errors()
    assert check_id == "runsadmin.E005"
    assert "RUNSADMIN_UPSTREAM_API_KEY" in message
    with pytest.raises(SystemCheckError) as caught:
        call_command("check")
    assert S3 not in str(caught.value)


@pytest.mark.parametrize("key", [f"“{S3}”", f"Bearer {S3}"])
def test_web_does_not_start(connect: Connect, key: str) -> None:
    check_settings()
    connect(API_KEY=key)
    with pytest.raises(SystemCheckError, match="RUNSADMIN_UPSTREAM_API_KEY") as caught:
        check_settings()
    assert S3 not in shown(caught.value)


@pytest.mark.django_db
def test_setting_belongs_to_its_alias(connect: Connect) -> None:
    connect("eu", API_KEY="Bearer x")
    ((_, message),) = errors()
    assert "RUNSADMIN_UPSTREAM_EU_API_KEY" in message


@pytest.mark.django_db
@pytest.mark.parametrize("key", GOOD)
def test_good_keys_pass(connect: Connect, key: str) -> None:
    connect(API_KEY=key)
    assert errors() == []


@pytest.mark.django_db
@pytest.mark.parametrize("option", ["ORGANIZATION", "PROJECT", "API_VERSION"])
@pytest.mark.parametrize("value", ["“org”", "org\n", "org\r\nX: 1", " org", "org\u2028", "'org'"])
def test_other_headers(connect: Connect, option: str, value: str) -> None:
    connect(**{option: value})
    ((check_id, message),) = errors()
    assert check_id == "runsadmin.E006"
    assert f"RUNSADMIN_UPSTREAM_{option}" in message


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["api-version=v1", "?v1", "v1&x=y", "v 1"])
def test_more_than_a_version(connect: Connect, value: str) -> None:
    connect(API_VERSION=value)
    assert [check_id for check_id, _ in errors()] == ["runsadmin.E006"]


@pytest.mark.django_db
@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_url_is_refused(connect: Connect, url: str) -> None:
    connect(URL=url)
    ((check_id, message),) = errors()
    assert check_id == "runsadmin.E007"
    assert "RUNSADMIN_UPSTREAM_URL" in message


@pytest.mark.django_db
@pytest.mark.parametrize(
    "url", ["https://up.example", "https://up.example/api/v1", "https://threads.example/v1", "https://r.example/openai"]
)
def test_good_urls_pass(connect: Connect, url: str) -> None:
    connect(URL=url)
    assert errors() == []


@pytest.mark.parametrize("auth", ["bearer", "api-key"])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_nothing_is_sent(
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
        assert S3 not in shown(caught.value) + log.getvalue()
    assert upstream.log == []


@pytest.mark.parametrize("option", ["ORGANIZATION", "PROJECT", "API_VERSION", "URL"])
def test_other_settings_send_nothing(upstream: FakeUpstream, connect: Connect, option: str) -> None:
    connect(**{option: f"{upstream.url if option == 'URL' else ''}“x”\n"})
    with pytest.raises(ConnectionHeld, match=f"RUNSADMIN_UPSTREAM_{option}"):
        Client(conf.connection("default")).modify_run("thread_a", "run_a", {"a": "b"})
    assert upstream.log == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("key", [f"“{S3}”", f"Bearer {S3}", f"{S3}\nx"], ids=["quotes", "Bearer", "line break"])
def test_edits_wait(
    upstream: FakeUpstream, run: Run, alice: User, connect: Connect, capture_log: CaptureLog, key: str
) -> None:
    log: io.StringIO = capture_log("line")
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
    assert S3 not in log.getvalue() + edit.detail + hold.hold_detail

    connect(API_KEY="corrected")
    ConnectionState.objects.update(next_probe_at=hold.held_since)
    probes.probe_held()
    process_due()
    assert upstream.metadata(run.upstream_id)["triage"] == "done"
