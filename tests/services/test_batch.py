"""Batches: an error affects only its edit, and a batch stops promptly."""

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable
from threading import Event, Thread, current_thread
from types import ModuleType

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Q
from django.utils import timezone
from pytest_django import Settings

from runsadmin.metadata import MetadataPatch
from runsadmin.models import Edit, EditStatus, Run
from runsadmin.models.edit import UNSETTLED
from runsadmin.services import edits, gateway, probes
from runsadmin.services.edits import claims, classifying, deciding, storing
from tests.bulk import processing_edits, sending_edits
from tests.conftest import Connect
from tests.sandbox_client import Sandbox
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def due(sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User) -> list[Edit]:
    """Twelve due edits, of twelve runs in two threads."""
    runs = [mirror_run(thread_id=f"thread_{n % 2}", metadata={"team": "blue"}) for n in range(12)]
    patch = MetadataPatch({"team": "red"})
    recorded = [edits.record(run=run, patch=patch, actor=alice, source=Edit.Source.COMMAND) for run in runs]
    make_due()
    sandbox.clear_log()
    return recorded


def make_due() -> None:
    Edit.objects.filter(status__in=UNSETTLED).update(next_attempt_at=timezone.now())


def process_due(seconds: float = 30) -> int:
    return edits.process_due(until=time.monotonic() + seconds)


def counts() -> dict[str, int]:
    return Counter(Edit.objects.values_list("status", flat=True))


def failing[**P, R](function: Callable[P, R], fails: Callable[P, bool]) -> Callable[P, R]:
    """Wraps the function, so that it raises an error whenever `fails` returns true for its arguments."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if fails(*args, **kwargs):
            raise RuntimeError("our own error")
        return function(*args, **kwargs)

    return call


@pytest.mark.parametrize(
    ("module", "step"), [(deciding, "decide_write"), (gateway, "write_run"), (classifying, "write_response")]
)
def test_internal_error_affects_only_its_edit(
    module: ModuleType, step: str, sandbox: Sandbox, due: list[Edit], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = due[3]
    run_id_of: dict[str, Callable[..., str]] = {  # How each function gets the id of its run.
        "decide_write": lambda claim, *_, **__: claim.edit.run.upstream_id,
        "write_run": lambda _, run_id, *__, **___: run_id,
        "write_response": lambda intent, *_: intent.claim.edit.run.upstream_id,
    }

    def is_of_broken_edit(*args: object, **kwargs: object) -> bool:
        return bool(run_id_of[step](*args, **kwargs) == broken.run.upstream_id)

    with monkeypatch.context() as patched:
        patched.setattr(module, step, failing(getattr(module, step), is_of_broken_edit))
        process_due()
    assert counts()[EditStatus.APPLIED] == 11
    broken.refresh_from_db()
    assert (broken.attempts, broken.claim_token) == (1, None)
    assert broken.status == (EditStatus.UNKNOWN if step == "write_response" else EditStatus.PENDING), (
        "Only an edit that was sent is unknown."
    )
    if step == "write_response":  # Let the settling time pass.
        Edit.objects.filter(pk=broken.pk).update(sent_at=timezone.now() - dt.timedelta(minutes=1))

    def are_applied() -> bool:
        make_due()
        process_due()
        return counts() == {EditStatus.APPLIED: 12}

    until(are_applied)
    assert len(sandbox.posts(broken.run.upstream_id)) == 1


def test_repeated_internal_error_fails_the_edit(
    due: list[Edit], monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 2
    broken = due[3]
    monkeypatch.setattr(
        deciding, "decide_write", failing(deciding.decide_write, lambda claim, *_, **__: claim.edit.pk == broken.pk)
    )
    process_due()
    make_due()
    process_due()
    assert counts() == {EditStatus.APPLIED: 11, EditStatus.FAILED: 1}
    broken.refresh_from_db()
    assert "internal error" in broken.detail


def test_stopping_worker_claims_no_more(sandbox: Sandbox, due: list[Edit], connect: Connect) -> None:
    connect(CONCURRENCY=1)
    sandbox.settings(latency_ms=150)
    stopping = Event()
    with sending_edits(sandbox, stopping):
        stopping.set()
    sent = len(sandbox.posts())
    assert 0 < sent < 12
    assert counts() == {EditStatus.APPLIED: sent, EditStatus.PENDING: 12 - sent}
    assert edits.process_due(until=time.monotonic() + 5, stopping=stopping) == 0
    assert len(sandbox.posts()) == sent


@pytest.mark.parametrize(("kind", "method"), [("delay", "GET"), ("delay", "POST"), ("hang", "GET")])
def test_stopping_worker_sends_nothing_more(
    kind: str, method: str, sandbox: Sandbox, due: list[Edit], connect: Connect
) -> None:
    """With slow fetches, slow writes whose intents are stored, and a failing fetch, which would need a probe."""
    connect(CONCURRENCY=1, READ_TIMEOUT=2)  # It claims four edits, and fetches two lists.
    Edit.objects.filter(pk=due[0].pk).update(detail="It failed before.", wait_reason=Edit.WaitReason.RETRY, attempts=1)
    sandbox.fault(kind, method=method, times=None, **({"seconds": 1.5} if kind == "delay" else {}))
    stopping = Event()
    with processing_edits(stopping):
        until(lambda: any(call["method"] == method for call in sandbox.log()))
        assert counts()[EditStatus.SENDING] == 4
        assert Edit.objects.exclude(intended=None).count() == (0 if method == "GET" else 4)
        stopping.set()
        in_flight = 2 if method == "GET" else 1
        until(lambda: counts()[EditStatus.SENDING] == in_flight, seconds=1)
    sent = sandbox.posts()
    assert (len(sandbox.gets()), len(sent)) == ((1, 0) if method == "GET" else (2, 1))
    unsent = Edit.objects.filter(status=EditStatus.PENDING, intended=None, next_attempt_at__lte=timezone.now())
    assert unsent.count() == 12 - len(sent)
    assert Edit.objects.filter(Q(deaths__gt=0) | Q(attempts__gt=0)).count() == 1
    due[0].refresh_from_db()
    assert due[0].has_ended or (due[0].detail, due[0].wait_reason) == ("It failed before.", Edit.WaitReason.RETRY)
    sandbox.clear_faults()
    process_due()
    assert counts() == {EditStatus.APPLIED: 12}
    assert set(Counter(post["path"] for post in sandbox.posts()).values()) == {1}


def test_slow_edit_ends_after_the_time(sandbox: Sandbox, due: list[Edit], connect: Connect) -> None:
    """Each edit must get past its fetch, even if that takes longer than a task."""
    connect(CONCURRENCY=1)
    sandbox.settings(latency_ms=300)
    process_due(0.1)
    assert sandbox.posts()


def test_429_for_one_edit_slows_down_all(sandbox: Sandbox, due: list[Edit], connect: Connect) -> None:
    connect(CONCURRENCY=2)
    sandbox.settings(latency_ms=30)
    sandbox.fault("status", status=429, headers={"retry-after-ms": "700"}, method="POST")
    process_due()
    assert counts() == {EditStatus.APPLIED: 12}
    log = sandbox.log()
    refused_at = next(call["received_at"] for call in log if call["status"] == 429)
    early = [call for call in log if refused_at < call["at"] < refused_at + 0.65]
    assert len(early) <= 2, "Only requests that were already in flight arrive during the back-off."
    assert len([call for call in log if call["method"] == "POST"]) == 13
    assert len([call for call in log if call["method"] == "GET"]) <= 6, "Fresh fetches are not repeated."
    assert set(Edit.objects.values_list("attempts", flat=True)) == {0}, "Backing off uses no attempt."


def test_second_429_ends_the_attempt(sandbox: Sandbox, due: list[Edit], connect: Connect) -> None:
    run_id = due[3].run.upstream_id
    sandbox.fault("status", status=429, headers={"retry-after-ms": "200"}, method="POST", path=run_id, times=2)
    process_due()
    make_due()
    process_due()
    assert counts() == {EditStatus.APPLIED: 12}
    assert sorted(Edit.objects.values_list("attempts", flat=True)) == [0] * 11 + [1], (
        "Only the refused edit has used an attempt."
    )
    assert (len(sandbox.posts(run_id)), len(sandbox.gets(run_id))) == (3, 1)


def test_run_is_fetched_again_after_a_long_429(sandbox: Sandbox, due: list[Edit]) -> None:
    sandbox.fault("status", status=429, headers={"retry-after-ms": "2500"}, method="POST")
    process_due()
    make_due()
    process_due()
    assert counts() == {EditStatus.APPLIED: 12}
    posts = sandbox.posts()
    refused = next(post for post in posts if post["status"] == 429)
    (sent,) = (post for post in posts if post["path"] == refused["path"] and post is not refused)
    allowed = refused["received_at"] + 2.4
    assert [fetch for fetch in sandbox.gets() if allowed <= fetch["at"] <= sent["at"]], (
        "The run must be fetched again before the second POST."
    )
    assert max(Edit.objects.values_list("attempts", flat=True)) == 1


def test_long_back_off_ends_the_batch(sandbox: Sandbox, due: list[Edit], connect: Connect) -> None:
    connect(CONCURRENCY=1)
    assert edits.has_backlog()
    sandbox.fault("status", status=429, headers={"retry-after": "60"}, method="GET", path="thread_0/runs$")
    began = time.monotonic()
    process_due()
    assert time.monotonic() - began < 15, "The batch must not wait for the back-off to end."
    assert EditStatus.SENDING not in counts()
    request_count = len(sandbox.log())
    make_due()
    assert process_due() == 0
    assert len(sandbox.log()) == request_count
    assert not edits.has_backlog(), "Another worker could not send anything."


def test_failed_list_is_shared_again(sandbox: Sandbox, due: list[Edit]) -> None:
    sandbox.fault("status", status=500, method="GET", path="thread_0/runs$")
    until(lambda: process_due() == 0 and counts() == {EditStatus.APPLIED: 12})
    assert [call["path"].endswith("/runs") for call in sandbox.gets()] == [True] * 3


def test_lost_claim_sends_nothing(sandbox: Sandbox, due: list[Edit], monkeypatch: pytest.MonkeyPatch) -> None:
    write_intents = storing.write_intents

    def lose_a_claim(*args: object, **kwargs: object) -> object:
        Edit.objects.filter(pk=due[3].pk).update(claim_token="f" * 32)
        return write_intents(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(storing, "write_intents", lose_a_claim)
    process_due()
    assert sandbox.posts(due[3].run.upstream_id) == []
    assert counts() == {EditStatus.APPLIED: 11, EditStatus.SENDING: 1}


def test_lost_responses_share_a_list(sandbox: Sandbox, due: list[Edit], settings: Settings) -> None:
    settings.RUNSADMIN_SETTLING_TIME = 0
    sandbox.fault("lose", method="POST", times=None)
    process_due()
    assert counts() == {EditStatus.UNKNOWN: 12}
    sandbox.clear_log()
    make_due()
    process_due()
    assert counts() == {EditStatus.APPLIED: 12}
    assert (len(sandbox.gets()), sandbox.posts()) == (2, [])


def test_concurrency_is_limited(sandbox: Sandbox, due: list[Edit], connect: Connect) -> None:
    connect(CONCURRENCY=2)
    sandbox.settings(latency_ms=50)
    process_due()
    assert counts() == {EditStatus.APPLIED: 12}
    log = sandbox.log()
    in_flight = [sum(other["at"] <= call["at"] < other["received_at"] for other in log) for call in log]
    assert max(in_flight) == 2


def test_slow_server_causes_no_stale_fetch(
    sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User, connect: Connect
) -> None:
    for n in range(8):
        run = mirror_run(thread_id=f"thread_{n}", metadata={"team": "blue"})
        edits.record(run=run, patch=MetadataPatch({"team": "red"}), actor=alice, source=Edit.Source.COMMAND)
    make_due()
    sandbox.clear_log()
    connect(CONCURRENCY=2)
    sandbox.settings(latency_ms=800)
    process_due()
    assert counts() == {EditStatus.APPLIED: 8}
    assert (len(sandbox.gets()), len(sandbox.posts())) == (8, 8)


def test_slow_server_expires_no_lease(
    sandbox: Sandbox, due: list[Edit], connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(READ_TIMEOUT=10)
    monkeypatch.setattr(claims, "LEASE", dt.timedelta(seconds=3.6))
    sandbox.settings(latency_ms=4000)

    with processing_edits() as future:
        while not future.done():
            edits.release_expired()
            time.sleep(0.1)
    assert counts() == {EditStatus.APPLIED: 12}
    assert not Edit.objects.exclude(detail="").exists(), "No edit may be interrupted."


def test_lease_lasts_a_few_seconds(due: list[Edit]) -> None:
    began = timezone.now()
    claimed = claims.claim_due("default", 5)
    edits.release_expired()
    assert counts() == {EditStatus.SENDING: 5, EditStatus.PENDING: 7}
    ends = [claim.edit.claimed_until for claim in claimed if claim.edit.claimed_until is not None]
    assert len(ends) == 5
    assert min(ends) - began > dt.timedelta(seconds=4)
    assert max(ends) - timezone.now() < dt.timedelta(seconds=7)


def test_crashed_probe_blocks_no_edit(sandbox: Sandbox, due: list[Edit], monkeypatch: pytest.MonkeyPatch) -> None:
    for edit in due:
        sandbox.delete_run(edit.run.upstream_id)
    monkeypatch.setattr(probes, "send", failing(probes.send, lambda *_, **__: True))
    process_due(5)
    assert counts() == {EditStatus.PENDING: 12}
    assert not Edit.objects.exclude(claim_token=None).exists()


def test_deleted_runs_of_thread_share_a_probe(
    sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts probe requests: all requests except one fetch per run."""
    deleted = [mirror_run(thread_id="thread_0", metadata={"team": "blue"}) for _ in range(32)]
    mirror_run(thread_id="thread_1")
    for run in deleted:
        edits.record(run=run, patch=MetadataPatch({"team": "red"}), actor=alice, source=Edit.Source.COMMAND)
        sandbox.delete_run(run.upstream_id)
    make_due()
    sandbox.clear_log()
    connect(CONCURRENCY=8)  # All 32 edits are claimed at once.
    sandbox.settings(latency_ms=100)
    monkeypatch.setattr(claims, "LEASE", dt.timedelta(seconds=2))  # A probe for each run would take longer.

    with processing_edits() as future:
        while not future.done():
            assert not Edit.objects.filter(claimed_until__lt=timezone.now()).exists(), "No lease may expire."
            assert EditStatus.UNKNOWN not in counts()
            time.sleep(0.05)
    assert counts() == {EditStatus.REJECTED: 32}
    assert Run.objects.filter(missing_since=None).count() == 1
    fetched = {run.upstream_id for run in deleted}
    probes_sent = [request["path"] for request in sandbox.log() if request["path"].rsplit("/", 1)[-1] not in fetched]
    assert len(sandbox.log()) - len(probes_sent) == 32
    assert len(probes_sent) <= 2, probes_sent


def test_only_pool_threads_call_upstream(sandbox: Sandbox, due: list[Edit], monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.delete_run(due[0].run.upstream_id)
    thread_names: set[str] = set()

    def recording_thread[**P, R](function: Callable[P, R]) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            thread_names.add(current_thread().name.split("-")[0])
            return function(*args, **kwargs)

        return call

    for name in ("fetch_run", "fetch_page", "write_run", "probe"):
        monkeypatch.setattr(gateway, name, recording_thread(getattr(gateway, name)))
    process_due()
    assert counts() == {EditStatus.APPLIED: 11, EditStatus.REJECTED: 1}
    assert thread_names == {"upstream"}


def test_probe_of_several_targets_ends(
    sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User, connect: Connect
) -> None:
    """A probe must not wait for a slot between its requests, because idle threads can hold all of them."""
    connect(CONCURRENCY=2)
    runs = [mirror_run(id=f"run_{name}", thread_id=f"thread_{name}", metadata={}) for name in "ab"]
    patch = MetadataPatch({"team": "red"})
    edit = edits.record(run=runs[0], patch=patch, actor=alice, source=Edit.Source.API)
    make_due()
    sandbox.settings(not_found_for_all=True)

    def work() -> None:
        process_due(1)
        connection.close()

    worker = Thread(target=work, daemon=True)
    worker.start()
    worker.join(20)
    assert not worker.is_alive()
    edit.refresh_from_db()
    assert (edit.status, edit.wait_reason) == (Edit.Status.PENDING, Edit.WaitReason.HELD)
