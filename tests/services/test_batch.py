"""A batch: one edit's error leaves the others alone, and stopping is prompt."""

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable
from threading import Event, Thread, current_thread
from types import ModuleType

import pytest
from django.contrib.auth.models import User
from django.db import connection
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
    """Twelve due edits, of twelve runs of two threads."""
    some = [mirror_run(thread_id=f"thread_{n % 2}", metadata={"team": "blue"}) for n in range(12)]
    patch = MetadataPatch({"team": "red"})
    recorded = [edits.record(run=run, patch=patch, actor=alice, source=Edit.Source.COMMAND) for run in some]
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
    def failing(*args: P.args, **kwargs: P.kwargs) -> R:
        if fails(*args, **kwargs):
            raise RuntimeError("our own error")
        return function(*args, **kwargs)

    return failing


@pytest.mark.parametrize(
    ("module", "step"), [(deciding, "decide_write"), (gateway, "write_run"), (classifying, "write_response")]
)
def test_own_error_spares_other_edits(
    module: ModuleType, step: str, sandbox: Sandbox, due: list[Edit], monkeypatch: pytest.MonkeyPatch
) -> None:
    unlucky = due[3]
    run_id_of: dict[str, Callable[..., str]] = {
        "decide_write": lambda claim, *_, **__: claim.edit.run.upstream_id,
        "write_run": lambda _, run_id, *__, **___: run_id,
        "write_response": lambda intent, *_: intent.claim.edit.run.upstream_id,
    }
    broken = failing(
        getattr(module, step), lambda *args, **named: run_id_of[step](*args, **named) == unlucky.run.upstream_id
    )
    with monkeypatch.context() as patched:
        patched.setattr(module, step, broken)
        process_due()
    assert counts()[EditStatus.APPLIED] == 11
    unlucky.refresh_from_db()
    assert (unlucky.attempts, unlucky.claim_token) == (1, None)
    assert unlucky.status == (EditStatus.UNKNOWN if step == "write_response" else EditStatus.PENDING), (
        "Only what was sent is unknown."
    )
    if step == "write_response":
        # The settling time is over.
        Edit.objects.filter(pk=unlucky.pk).update(sent_at=timezone.now() - dt.timedelta(minutes=1))

    def are_applied() -> bool:
        make_due()
        process_due()
        return counts() == {EditStatus.APPLIED: 12}

    until(are_applied)
    assert len(sandbox.posts(unlucky.run.upstream_id)) == 1


def test_repeated_own_error_ends(due: list[Edit], monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 2
    unlucky = due[3]
    monkeypatch.setattr(
        deciding, "decide_write", failing(deciding.decide_write, lambda claim, *_, **__: claim.edit.pk == unlucky.pk)
    )
    process_due()
    make_due()
    process_due()
    assert counts() == {EditStatus.APPLIED: 11, EditStatus.FAILED: 1}
    unlucky.refresh_from_db()
    assert "internal error" in unlucky.detail


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


def test_429_for_one_pauses_all(sandbox: Sandbox, due: list[Edit], connect: Connect) -> None:
    connect(CONCURRENCY=2)
    sandbox.settings(latency_ms=30)
    sandbox.fault("status", status=429, headers={"retry-after-ms": "700"}, method="POST")
    process_due()
    assert counts() == {EditStatus.APPLIED: 12}
    log = sandbox.log()
    refused_at = next(call["received_at"] for call in log if call["status"] == 429)
    early = [call for call in log if refused_at < call["at"] < refused_at + 0.65]
    assert len(early) <= 2, "All leave the server alone: no more came than were on their way."
    assert len([call for call in log if call["method"] == "POST"]) == 13
    assert len([call for call in log if call["method"] == "GET"]) <= 6, "A fresh fetch is still good afterwards."
    assert set(Edit.objects.values_list("attempts", flat=True)) == {0}, "It was sent again, after the same fetch."


def test_second_429_is_fetched_again(sandbox: Sandbox, due: list[Edit], connect: Connect) -> None:
    unlucky = due[3].run.upstream_id
    sandbox.fault("status", status=429, headers={"retry-after-ms": "200"}, method="POST", path=unlucky, times=2)
    process_due()
    make_due()
    process_due()
    assert counts() == {EditStatus.APPLIED: 12}
    assert sorted(Edit.objects.values_list("attempts", flat=True)) == [0] * 11 + [1], "It counts for the one only."
    assert (len(sandbox.posts(unlucky)), len(sandbox.gets(unlucky))) == (3, 1)


def test_long_429_is_fetched_again(sandbox: Sandbox, due: list[Edit]) -> None:
    sandbox.fault("status", status=429, headers={"retry-after-ms": "2500"}, method="POST")
    process_due()
    make_due()
    process_due()
    assert counts() == {EditStatus.APPLIED: 12}
    posts = sandbox.posts()
    refused = next(post for post in posts if post["status"] == 429)
    (sent,) = (post for post in posts if post["path"] == refused["path"] and post is not refused)
    allowed = refused["received_at"] + 2.4
    assert [fetch for fetch in sandbox.gets() if allowed <= fetch["at"] <= sent["at"]], "It was fetched in between."
    assert max(Edit.objects.values_list("attempts", flat=True)) == 1


def test_long_back_off_ends_the_batch(sandbox: Sandbox, due: list[Edit], connect: Connect) -> None:
    connect(CONCURRENCY=1)
    assert edits.has_backlog()
    sandbox.fault("status", status=429, headers={"retry-after": "60"}, method="GET", path="thread_0/runs$")
    began = time.monotonic()
    process_due()
    assert time.monotonic() - began < 15, "It waits neither for that minute nor for its own half."
    assert EditStatus.SENDING not in counts()
    asked = len(sandbox.log())
    make_due()
    assert process_due() == 0
    assert len(sandbox.log()) == asked
    assert not edits.has_backlog(), "A second worker would be of no use."


def test_failed_list_is_shared_again(sandbox: Sandbox, due: list[Edit]) -> None:
    sandbox.fault("status", status=500, method="GET", path="thread_0/runs$")
    until(lambda: process_due() == 0 and counts() == {EditStatus.APPLIED: 12})
    assert [call["path"].endswith("/runs") for call in sandbox.gets()] == [True] * 3


def test_lost_claim_sends_nothing(sandbox: Sandbox, due: list[Edit], monkeypatch: pytest.MonkeyPatch) -> None:
    thief = "f" * 32

    def stolen(*args: object, **kwargs: object) -> object:
        Edit.objects.filter(pk=due[3].pk).update(claim_token=thief)
        return write_intents(*args, **kwargs)  # type: ignore[arg-type]

    write_intents = storing.write_intents
    monkeypatch.setattr(storing, "write_intents", stolen)
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
    began = sorted(request["at"] for request in sandbox.log())
    ended = sorted(request["received_at"] for request in sandbox.log())
    assert max(sum(b <= at for b in began) - sum(e <= at for e in ended) for at in began) == 2


def test_slow_server_makes_no_stale_fetch(
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

    with processing_edits() as working:
        while not working.done():
            edits.release_expired()
            time.sleep(0.1)
    assert counts() == {EditStatus.APPLIED: 12}
    assert not Edit.objects.exclude(detail="").exists(), "None of them was ever interrupted."


def test_lease_ends_after_seconds(due: list[Edit]) -> None:
    began = timezone.now()
    taken = claims.claim_due("default", 5)
    edits.release_expired()
    assert counts() == {EditStatus.SENDING: 5, EditStatus.PENDING: 7}
    left = [claim.edit.claimed_until for claim in taken if claim.edit.claimed_until is not None]
    assert len(left) == 5
    assert min(left) - began > dt.timedelta(seconds=4)
    assert max(left) - timezone.now() < dt.timedelta(seconds=7)


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
    gone = [mirror_run(thread_id="thread_0", metadata={"team": "blue"}) for _ in range(32)]
    mirror_run(thread_id="thread_1")
    for run in gone:
        edits.record(run=run, patch=MetadataPatch({"team": "red"}), actor=alice, source=Edit.Source.COMMAND)
        sandbox.delete_run(run.upstream_id)
    make_due()
    sandbox.clear_log()
    connect(CONCURRENCY=8)  # All 32 are claimed at once.
    sandbox.settings(latency_ms=100)
    monkeypatch.setattr(claims, "LEASE", dt.timedelta(seconds=2))  # A probe for each run would take longer.

    with processing_edits() as working:
        while not working.done():
            assert not Edit.objects.filter(claimed_until__lt=timezone.now()).exists(), "No lease expires."
            assert EditStatus.UNKNOWN not in counts()
            time.sleep(0.05)
    assert counts() == {EditStatus.REJECTED: 32}
    assert Run.objects.filter(missing_since=None).count() == 1
    fetched = {run.upstream_id for run in gone}
    probes_sent = [request["path"] for request in sandbox.log() if request["path"].rsplit("/", 1)[-1] not in fetched]
    assert len(sandbox.log()) - len(probes_sent) == 32
    assert len(probes_sent) <= 2, probes_sent


def test_coordinator_calls_nothing(sandbox: Sandbox, due: list[Edit], monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.delete_run(due[0].run.upstream_id)
    callers: set[str] = set()

    def spied[**P, R](function: Callable[P, R]) -> Callable[P, R]:
        def spied(*args: P.args, **kwargs: P.kwargs) -> R:
            callers.add(current_thread().name.split("-")[0])
            return function(*args, **kwargs)

        return spied

    for name in ("fetch_run", "fetch_page", "write_run", "probe"):
        monkeypatch.setattr(gateway, name, spied(getattr(gateway, name)))
    process_due()
    assert counts() == {EditStatus.APPLIED: 11, EditStatus.REJECTED: 1}
    assert callers == {"upstream"}


def test_probe_of_several_targets_ends(
    sandbox: Sandbox, mirror_run: Callable[..., Run], alice: User, connect: Connect
) -> None:
    """A probe must not wait for a slot between its requests: idle threads may hold all of them."""
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
