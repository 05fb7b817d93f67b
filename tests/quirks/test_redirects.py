"""Servers that redirect: the key is not sent to the target, and the message names the setting to check."""

import time
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from runsadmin import conf
from runsadmin.errors import UpstreamError
from runsadmin.models import ConnectionState, Edit, EditStatus, Run
from runsadmin.services import connections, probes
from runsadmin.upstream.client import Client
from tests.conftest import Connect
from tests.fake_upstream import FakeUpstream, Request, Response
from tests.quirks.conftest import process_due, push, record, sync

pytestmark = pytest.mark.django_db(transaction=True)

STATUSES = [301, 302, 303, 307, 308]

LOCATIONS = {
    "another host": ("https://moved.example/v1/threads", "https://moved.example"),
    "another port": ("https://moved.example:8443/v1", "https://moved.example:8443"),
    "user and query": ("https://lee:s3cret@moved.example/x?token=s3cret#s3cret", "https://moved.example"),
    "no scheme": ("//moved.example/v1", "http://moved.example"),
    "a login page": ("/login?next=s3cret", "another path of http://127.0.0.1:"),
    "relative": ("runs/", "another path of http://127.0.0.1:"),
    "empty": ("", "an address that it does not name"),
    "not an address": ("https://[s3cret/v1", "an address that cannot be read"),
    "mail": ("mailto:s3cret@moved.example", "an address that cannot be read"),
    "control characters": ("https://moved.example\x1b[31m/v1", "an address that cannot be read"),
    "a very long host": (f"https://{'a' * 5000}.example/", "an address that cannot be read"),
}


def redirect(
    status: int, location: str = "https://moved.example/v1", method: str = ""
) -> Callable[[Request], Response | None]:
    def respond(request: Request) -> Response | None:
        return Response(status, b"", {"Location": location}) if method in ("", request.method) else None

    return respond


def current_hold() -> ConnectionState:
    return connections.held().get()


@pytest.mark.parametrize("status", STATUSES)
def test_redirected_fetch_holds_the_connection(upstream: FakeUpstream, run: Run, alice: User, status: int) -> None:
    upstream.override(redirect(status))
    edit = push(run, alice)
    assert (edit.status, edit.wait_reason, edit.attempts) == (EditStatus.PENDING, Edit.WaitReason.HELD, 0)
    assert (current_hold().hold, upstream.writes) == (ConnectionState.Hold.REDIRECTED, [])
    assert current_hold().hold_detail == "The server redirects to https://moved.example. Check RUNSADMIN_UPSTREAM_URL."
    assert edit.detail == current_hold().hold_detail


@pytest.mark.parametrize("status", [307, 308])
def test_redirected_write_holds_the_connection(upstream: FakeUpstream, run: Run, alice: User, status: int) -> None:
    upstream.override(redirect(status, method="POST"))
    edit = push(run, alice)
    assert (edit.status, edit.wait_reason) == (EditStatus.PENDING, Edit.WaitReason.HELD)
    assert current_hold().hold == ConnectionState.Hold.REDIRECTED
    assert len(upstream.writes) == 1


@pytest.mark.parametrize("status", [301, 302, 303])
def test_possibly_done_write_is_unknown(
    upstream: FakeUpstream, run: Run, alice: User, connect: Connect, settings: Settings, status: int
) -> None:
    connect(CONNECT_TIMEOUT=0.3, READ_TIMEOUT=0.5)
    settings.RUNSADMIN_SETTLING_TIME = 0.1
    upstream.override(redirect(status, method="POST"))
    edit = push(run, alice)
    assert (edit.status, current_hold().hold) == (EditStatus.UNKNOWN, ConnectionState.Hold.REDIRECTED)
    process_due()
    assert len(upstream.writes) == 1

    upstream.clear_overrides()
    connections.release("default")
    time.sleep(1)  # The write can no longer arrive after the read timeout and the settling time.
    process_due(times=3)
    edit.refresh_from_db()
    assert edit.status == EditStatus.APPLIED
    assert upstream.metadata(run.upstream_id) == {"ticket": "1", "owner": "lee", "triage": "done"}


@pytest.mark.parametrize("status", STATUSES)
def test_redirected_batch_holds_the_connection(upstream: FakeUpstream, run: Run, alice: User, status: int) -> None:
    edit = record(run, alice)
    upstream.override(redirect(status, method="POST"))
    process_due()
    edit.refresh_from_db()
    assert edit.status == (EditStatus.UNKNOWN if status in (301, 302, 303) else EditStatus.PENDING)
    assert current_hold().hold == ConnectionState.Hold.REDIRECTED


@pytest.mark.parametrize("status", STATUSES)
def test_redirected_sync_waits(upstream: FakeUpstream, run: Run, status: int) -> None:
    upstream.override(redirect(status))
    synced = sync(run.thread)
    assert synced.status not in ("completed", "failed")
    assert current_hold().hold == ConnectionState.Hold.REDIRECTED


@pytest.mark.parametrize(("location", "shown"), LOCATIONS.values(), ids=LOCATIONS)
def test_target_is_shown_without_secrets(upstream: FakeUpstream, run: Run, location: str, shown: str) -> None:
    upstream.override(redirect(302, location))
    with pytest.raises(UpstreamError) as caught:
        Client(conf.connection("default")).retrieve_run(run.thread.upstream_id, run.upstream_id)
    message = str(caught.value)
    assert message.startswith(f"The server redirects to {shown}")
    assert message.endswith("Check RUNSADMIN_UPSTREAM_URL.")
    assert "s3cret" not in message
    assert len(message) <= 400
    assert message.isprintable()


def test_message_names_the_setting_of_the_alias(upstream: FakeUpstream, connect: Connect, db: None) -> None:
    connect("eu", URL=upstream.url)
    upstream.override(redirect(301))
    with pytest.raises(UpstreamError, match=r"Check RUNSADMIN_UPSTREAM_EU_URL\.$"):
        Client(conf.connection("eu")).retrieve_thread("thread_a")


def test_probe_releases_only_without_redirect(upstream: FakeUpstream, run: Run, alice: User) -> None:
    upstream.override(redirect(302))
    push(run, alice)
    ConnectionState.objects.update(next_probe_at=current_hold().held_since)
    probes.probe_held()
    assert current_hold().hold == ConnectionState.Hold.REDIRECTED

    upstream.clear_overrides()
    ConnectionState.objects.update(next_probe_at=current_hold().held_since)
    probes.probe_held()
    assert not connections.held()
    process_due()
    assert upstream.metadata(run.upstream_id)["triage"] == "done"
