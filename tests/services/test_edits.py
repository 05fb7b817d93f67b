"""Single edits, from recording to the outcome, against the sandbox."""

import datetime as dt
import uuid

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from runsadmin.errors import InvalidMetadata, InvalidTransition, NotAllowed, UnknownConnection
from runsadmin.metadata import MetadataPatch
from runsadmin.models import ConnectionState, Edit, Run, Thread
from runsadmin.services import connections, edits, probes
from runsadmin.services.edits import deciding
from tests.conftest import Connect, MakeRun
from tests.sandbox_client import Sandbox
from tests.services.single_edit import make_due, mirrored_metadata, process_due, record
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


# --- Recording


def test_recording_sends_nothing(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    edit = record(run, alice, reason="moved")
    assert (edit.status, edit.actor, edit.reason) == (Edit.Status.PENDING, alice, "moved")
    assert sandbox.posts() == []


def test_limits_apply_before_recording(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={f"k{number}": "v" for number in range(16)})
    with pytest.raises(InvalidMetadata, match="17 pairs"):
        record(run, alice)
    with pytest.raises(InvalidMetadata, match="changes nothing"):
        record(run, alice, MetadataPatch())
    with pytest.raises(InvalidMetadata, match="reason"):
        record(run, alice, reason="x" * 501)
    assert not Edit.objects.exists()


def test_viewer_records_nothing(mirror_run: MakeRun, carol: User) -> None:
    run = mirror_run()
    with pytest.raises(NotAllowed, match=r"runsadmin\.change_run"):
        record(run, carol)
    assert not Edit.objects.exists()


def test_unconfigured_connection_is_refused(mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run()
    Run.objects.update(connection="gone")
    run.refresh_from_db()
    with pytest.raises(UnknownConnection, match="gone"):
        record(run, alice)


def test_retired_connection_is_read_only(mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run()
    connections.hold("default", ConnectionState.Hold.RETIRED, "")
    with pytest.raises(InvalidTransition, match="gone"):
        record(run, alice)


# --- Pushing


def test_edit_reaches_upstream_and_mirror(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue", "ticket": "OPS-1"})
    edit = edits.push(record(run, alice))

    assert edit.status == Edit.Status.APPLIED
    assert sandbox.metadata(run.upstream_id) == {"team": "red", "ticket": "OPS-1"} == mirrored_metadata(run)
    assert edit.before == {"team": "blue", "ticket": "OPS-1"}
    assert edit.after == {"team": "red", "ticket": "OPS-1"}
    (post,) = sandbox.posts(run.upstream_id)
    assert edit.upstream_request_id == post["request_id"] != ""
    assert edit.finished_at is not None
    assert edit.claim_token is None
    assert dict(run.pairs.values_list("key", "value")) == {"team": "red", "ticket": "OPS-1"}


def test_edit_can_remove_keys(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue", "ticket": "OPS-1"})
    edits.push(record(run, alice, MetadataPatch(remove=frozenset({"ticket"}))))
    assert sandbox.metadata(run.upstream_id) == {"team": "blue"} == mirrored_metadata(run)


def test_no_change_needs_no_post(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "red"})
    edit = edits.push(record(run, alice))
    assert edit.status == Edit.Status.APPLIED
    assert sandbox.posts() == []


def test_pair_added_upstream_survives(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    edit = record(run, alice)
    sandbox.set_metadata(run.upstream_id, {"team": "blue", "added": "meanwhile"})
    assert edits.push(edit).status == Edit.Status.APPLIED
    assert sandbox.metadata(run.upstream_id) == {"team": "red", "added": "meanwhile"} == mirrored_metadata(run)


def test_edits_of_different_keys_survive(sandbox: Sandbox, mirror_run: MakeRun, alice: User, bob: User) -> None:
    run = mirror_run(metadata={"team": "blue", "env": "dev"})
    first = record(run, alice, base=run.metadata)
    second = record(run, bob, MetadataPatch({"env": "prod"}), base=run.metadata)
    assert [edits.push(edit).status for edit in (first, second)] == [Edit.Status.APPLIED] * 2
    assert sandbox.metadata(run.upstream_id) == {"team": "red", "env": "prod"} == mirrored_metadata(run)


def test_edits_of_one_key_conflict(sandbox: Sandbox, mirror_run: MakeRun, alice: User, bob: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    first = record(run, alice, base=run.metadata)
    second = record(run, bob, MetadataPatch({"team": "green"}), base=run.metadata)
    edits.push(first)
    second = edits.push(second)
    assert second.status == Edit.Status.CONFLICT
    (conflict,) = edits.conflicts(second)
    assert (conflict.key, conflict.base, conflict.theirs, conflict.ours) == ("team", "blue", "red", "green")
    assert sandbox.metadata(run.upstream_id) == {"team": "red"}


def test_upstream_change_conflicts(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    edit = record(run, alice, base=run.metadata)
    sandbox.set_metadata(run.upstream_id, {"team": "green"})
    edit = edits.push(edit)
    assert edit.status == Edit.Status.CONFLICT
    assert mirrored_metadata(run) == {"team": "green"}
    assert sandbox.posts() == []


def test_edits_of_one_run_keep_their_order(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    first, second = record(run, alice), record(run, alice, MetadataPatch({"team": "green"}))
    assert edits.push(second).status == Edit.Status.PENDING
    assert edits.push(first).status == Edit.Status.APPLIED
    assert edits.push(second).status == Edit.Status.APPLIED
    assert sandbox.metadata(run.upstream_id) == {"team": "green"}


def test_claimed_edit_is_not_pushed(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    edit = record(mirror_run(), alice)
    sandbox.clear_log()
    Edit.objects.update(
        status=Edit.Status.SENDING, claim_token=uuid.uuid4(), claimed_until=timezone.now() + dt.timedelta(minutes=1)
    )
    assert edits.push(edit).status == Edit.Status.SENDING
    assert sandbox.log() == []


def test_permission_is_checked_at_the_claim(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    edit = record(run, alice)
    alice.user_permissions.clear()
    edit = edits.push(edit)
    assert edit.status == Edit.Status.REJECTED
    assert "may no longer" in edit.detail
    assert sandbox.posts() == []


def test_inactive_account_edits_nothing(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    edit = record(mirror_run(), alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert edits.push(edit).status == Edit.Status.REJECTED


def test_edit_differs_if_removed_key_remains(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    sandbox.settings(modify="merge")
    run = mirror_run(metadata={"team": "blue", "env": "dev"})
    edit = edits.push(record(run, alice, MetadataPatch({"team": "red"}, frozenset({"env"}))))
    assert edit.status == Edit.Status.DIFFERS
    assert (edit.intended, edit.after) == ({"team": "red"}, {"team": "red", "env": "dev"})
    assert mirrored_metadata(run) == {"team": "red", "env": "dev"}


def test_merged_map_over_limit_is_rejected(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={})
    edit = record(run, alice)
    sandbox.set_metadata(run.upstream_id, {f"k{number}": "v" for number in range(16)})
    edit = edits.push(edit)
    assert edit.status == Edit.Status.REJECTED
    assert "17 pairs" in edit.detail
    assert sandbox.posts() == []


def test_refusal_keeps_the_servers_message(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run()
    sandbox.fault("status", method="POST", status=400, body={"error": {"message": "Not on a Sunday."}})
    edit = edits.push(record(run, alice))
    assert (edit.status, edit.detail, edit.http_status) == (Edit.Status.REJECTED, "Not on a Sunday.", 400)


def test_missing_run_is_rejected_and_marked(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    mirror_run(thread_id="thread_other")
    run = mirror_run()
    sandbox.delete_run(run.upstream_id)
    edit = edits.push(record(run, alice))
    assert edit.status == Edit.Status.REJECTED
    run.refresh_from_db()
    assert run.missing_since is not None


def test_404_for_everything_rejects_nothing(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    mirror_run(thread_id="thread_other")
    run = mirror_run(metadata={"team": "blue"})
    sandbox.settings(not_found_for_all=True)
    edit = edits.push(record(run, alice))
    assert (edit.status, edit.wait_reason) == (Edit.Status.PENDING, Edit.WaitReason.HELD)
    assert [state.hold for state in connections.held()] == [ConnectionState.Hold.NOT_FOUND]
    run.refresh_from_db()
    assert run.missing_since is None

    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert connections.held().get().hold == ConnectionState.Hold.RETIRED


def test_thread_that_cannot_be_probed_holds_nothing(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    Thread.objects.create(connection="default", upstream_id="mirrored/../before ids were checked")
    run = mirror_run()
    sandbox.settings(not_found_for_all=True)
    assert edits.push(record(run, alice)).status == Edit.Status.REJECTED
    assert not connections.held()


def test_bad_key_holds_until_corrected(sandbox: Sandbox, mirror_run: MakeRun, alice: User, connect: Connect) -> None:
    run = mirror_run(metadata={"team": "blue"})
    connect(API_KEY="wrong")
    edit = edits.push(record(run, alice))
    assert (edit.status, edit.wait_reason) == (Edit.Status.PENDING, Edit.WaitReason.HELD)
    assert connections.held().get().hold == ConnectionState.Hold.CREDENTIALS
    make_due(edit)
    assert process_due() == 0

    connect(API_KEY=sandbox.key)
    ConnectionState.objects.update(next_probe_at=timezone.now())
    probes.probe_held()
    assert process_due() == 1
    assert sandbox.metadata(run.upstream_id) == {"team": "red"}


def test_hold_setting_stops_all_sending(sandbox: Sandbox, mirror_run: MakeRun, alice: User, settings: Settings) -> None:
    run = mirror_run()
    sandbox.clear_log()
    settings.RUNSADMIN_HOLD = True
    edit = edits.push(record(run, alice))
    assert (edit.status, edit.wait_reason) == (Edit.Status.PENDING, Edit.WaitReason.HELD)
    assert sandbox.log() == []


def test_held_connection_sends_nothing(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run()
    sandbox.clear_log()
    connections.hold("default", ConnectionState.Hold.OPERATOR, "Maintenance.")
    edit = edits.push(record(run, alice))
    assert (edit.status, edit.wait_reason) == (Edit.Status.PENDING, Edit.WaitReason.HELD)
    assert sandbox.log() == []


def test_failed_fetch_is_retried(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    sandbox.fault("status", method="GET", status=500)
    edit = edits.push(record(run, alice))
    assert (edit.status, edit.wait_reason, edit.attempts) == (Edit.Status.PENDING, Edit.WaitReason.RETRY, 1)
    assert sandbox.posts() == []
    make_due(edit)
    process_due()
    edit.refresh_from_db()
    assert edit.status == Edit.Status.APPLIED


def test_failed_edit_can_be_retried(sandbox: Sandbox, mirror_run: MakeRun, alice: User, settings: Settings) -> None:
    settings.RUNSADMIN_MAX_ATTEMPTS = 2
    run = mirror_run(metadata={"team": "blue"})
    sandbox.fault("status", method="GET", status=500, times=2)
    edit = edits.push(edits.push(record(run, alice)))
    assert edit.status == Edit.Status.FAILED
    edit = edits.push(edits.retry(edit=edit, actor=alice))
    assert edit.status == Edit.Status.APPLIED


def test_internal_error_counts_as_attempt(
    sandbox: Sandbox,
    mirror_run: MakeRun,
    alice: User,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    settings.RUNSADMIN_MAX_ATTEMPTS = 2
    edit = record(mirror_run(), alice)
    monkeypatch.setattr(deciding, "merge3", fail)
    with pytest.raises(ZeroDivisionError):
        edits.push(edit)
    edit.refresh_from_db()
    assert (edit.status, edit.attempts, edit.claim_token) == (Edit.Status.PENDING, 1, None)
    make_due(edit)
    assert process_due() == 1
    edit.refresh_from_db()
    assert (edit.status, edit.attempts) == (Edit.Status.FAILED, 2)
    assert "an internal error" in edit.detail
    assert sandbox.posts() == []


def test_429_backs_off_for_the_given_time(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run()
    sandbox.fault("status", method="POST", status=429, headers={"Retry-After": "60"})
    edit = edits.push(record(run, alice))
    assert edit.status == Edit.Status.PENDING
    assert edit.next_attempt_at is not None
    assert edit.next_attempt_at > timezone.now() + dt.timedelta(seconds=50)
    not_before = connections.not_before("default")
    assert not_before is not None
    assert not_before > timezone.now() + dt.timedelta(seconds=50)


def test_back_off_counts_no_attempt(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run()
    sandbox.clear_log()
    connections.state("default")
    ConnectionState.objects.update(not_before=timezone.now() + dt.timedelta(minutes=1))
    edit = edits.push(record(run, alice))
    assert (edit.status, edit.wait_reason, edit.attempts) == (Edit.Status.PENDING, Edit.WaitReason.RETRY, 0)
    assert edit.next_attempt_at is not None
    assert edit.next_attempt_at > timezone.now() + dt.timedelta(seconds=50)
    assert sandbox.log() == []


def test_active_run_is_awaited(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(status="in_progress", metadata={"team": "blue"})
    edit = edits.push(record(run, alice))
    assert (edit.status, edit.wait_reason) == (Edit.Status.PENDING, Edit.WaitReason.ACTIVE_RUN)
    edit = edits.push(edit)
    assert (edit.status, len(sandbox.posts())) == (Edit.Status.PENDING, 1)
    sandbox.change_run(run.upstream_id, status="completed")
    assert edits.push(edit).status == Edit.Status.APPLIED
    assert sandbox.metadata(run.upstream_id) == {"team": "red"}


# --- Interactive edits


def test_slow_edit_continues_in_background(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    sandbox.fault("slow_response", method="POST", seconds=1.5)
    edit = edits.push_within(record(run, alice), 0.5)
    assert edit.status == Edit.Status.SENDING
    until(lambda: Edit.objects.exclude(status=Edit.Status.SENDING).exists())
    edit.refresh_from_db()
    assert edit.status == Edit.Status.APPLIED
