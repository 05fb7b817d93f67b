"""Lost responses, dead processes and lost claims."""

import datetime as dt
import uuid

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from runsadmin.metadata import Metadata
from runsadmin.models import Edit
from runsadmin.services import edits
from runsadmin.services.edits import claims, pushing, storing
from runsadmin.services.edits.outcomes import Outcome
from tests.conftest import MakeRun
from tests.sandbox_client import Sandbox
from tests.services.single_edit import RED, mirrored_metadata, process_due, record

pytestmark = pytest.mark.django_db(transaction=True)


def test_lost_response_is_reconciled(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    sandbox.fault("lose", method="POST")
    edit = edits.push(record(run, alice))
    assert edit.status == Edit.Status.UNKNOWN

    assert edits.reconcile(edit).status == Edit.Status.APPLIED
    assert len(sandbox.posts()) == 1
    assert mirrored_metadata(run) == {"team": "red"}


def test_no_resend_before_settling_time(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    sandbox.fault("cut_before", method="POST")
    edit = edits.push(record(run, alice))
    assert edits.reconcile(edit).status == Edit.Status.UNKNOWN
    assert len(sandbox.posts()) == 1

    Edit.objects.update(sent_at=timezone.now() - dt.timedelta(minutes=1))  # The settling time has passed.
    edit = edits.reconcile(edit)
    assert (edit.status, edit.before, edit.intended) == (Edit.Status.PENDING, None, None)
    assert edits.push(edit).status == Edit.Status.APPLIED


def test_unknown_conflict_can_be_resolved(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    sandbox.fault("lose", method="POST")
    edit = edits.push(record(run, alice))
    sandbox.set_metadata(run.upstream_id, {"team": "green", "more": "x"})
    edit = edits.reconcile(edit)
    assert edit.status == Edit.Status.CONFLICT
    (conflict,) = edits.conflicts(edit)
    assert (conflict.base, conflict.theirs, conflict.ours) == ("blue", "green", "red")

    resolved = edits.push(edits.resolve(edit=edit, patch=RED, actor=alice, source=Edit.Source.API))
    assert (resolved.status, resolved.resolves) == (Edit.Status.APPLIED, edit)
    assert sandbox.metadata(run.upstream_id) == {"team": "red", "more": "x"}


def test_dead_process_is_recovered(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    long_ago = timezone.now() - dt.timedelta(minutes=5)
    first, second = mirror_run(metadata={"team": "blue"}), mirror_run(metadata={"team": "blue"})
    expired_claim = {"status": Edit.Status.SENDING, "claim_token": uuid.uuid4(), "claimed_until": long_ago}
    not_sent, maybe_sent = record(first, alice), record(second, alice)
    Edit.objects.filter(pk=not_sent.pk).update(**expired_claim)
    Edit.objects.filter(pk=maybe_sent.pk).update(
        **expired_claim, before=Metadata({"team": "blue"}), intended=Metadata({"team": "red"}), sent_at=long_ago
    )
    sandbox.set_metadata(second.upstream_id, {"team": "red"})
    process_due()
    assert [Edit.objects.get(pk=edit.pk).status for edit in (not_sent, maybe_sent)] == ["pending", "unknown"]
    Edit.objects.update(next_attempt_at=long_ago)
    process_due()
    assert [Edit.objects.get(pk=edit.pk).status for edit in (not_sent, maybe_sent)] == ["applied", "applied"]
    assert len(sandbox.posts(first.upstream_id)) == 1
    assert sandbox.posts(second.upstream_id) == []


def test_third_death_fails_the_edit(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    """An edit with which two processes have died is worked on alone, so that only it can be to blame for the third."""
    past = timezone.now() - dt.timedelta(minutes=5)
    recorded = [record(mirror_run(metadata={"team": "blue"}), alice) for _ in range(4)]
    fourth = recorded.pop()
    died = {"status": Edit.Status.SENDING, "claim_token": uuid.uuid4(), "claimed_until": past}
    suspects = Edit.objects.filter(pk__in=[edit.pk for edit in recorded])
    for deaths in (1, 2):
        suspects.update(**died)
        claims.release_expired()
        assert {(edit.status, edit.deaths) for edit in suspects} == {("pending", deaths)}
    Edit.objects.update(next_attempt_at=past)
    assert [claim.edit.pk for claim in claims.claim_due("default", 100)] == [fourth.pk]
    (claim,) = claims.claim_suspect("default")
    deadly = suspects.filter(pk=claim.edit.pk)
    deadly.update(claimed_until=past)
    Edit.objects.filter(pk=fourth.pk).update(status=Edit.Status.PENDING, claim_token=None, claimed_until=None)
    process_due()
    assert deadly.get().status == Edit.Status.FAILED
    assert "3 processes died" in deadly.get().detail
    assert {(edit.status, edit.deaths) for edit in suspects.exclude(pk=claim.edit.pk)} == {("applied", None)}
    assert Edit.objects.get(pk=fourth.pk).status == Edit.Status.APPLIED

    edits.retry(edit=deadly.get(), actor=alice)
    process_due()
    assert deadly.get().status == Edit.Status.APPLIED


def test_deadly_unknown_edits_are_fetched_less_often(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    past = timezone.now() - dt.timedelta(minutes=5)
    sent = {"before": Metadata({"team": "blue"}), "intended": Metadata({"team": "red"}), "sent_at": past}
    pauses = {3: 30, 4: 60, 7: 480, 10: 3600, 1000: 3600}
    for deaths in pauses:
        edit = record(mirror_run(metadata={"team": "blue"}), alice)
        died = {"status": Edit.Status.SENDING, "claim_token": uuid.uuid4(), "claimed_until": past}
        Edit.objects.filter(pk=edit.pk).update(**died, **sent, deaths=deaths - 1)
    began = timezone.now()
    claims.release_expired()
    assert set(Edit.objects.values_list("status", flat=True)) == {Edit.Status.UNKNOWN}
    for edit in Edit.objects.all():
        assert edit.deaths is not None
        assert edit.next_attempt_at is not None
        assert (edit.next_attempt_at - began).total_seconds() == pytest.approx(pauses[edit.deaths], abs=5)


def test_lost_claim_stores_no_outcome(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    claim = claims.claim(record(run, alice))
    assert claim is not None
    Edit.objects.update(claim_token=uuid.uuid4())
    outcome = pushing._attempt(claim, interactive=False, is_trial=False)
    assert outcome is None  # An intent cannot be stored without the claim.
    storing.store([Outcome(claim, Edit.Status.REJECTED, "Too late.")])
    assert sandbox.posts() == []
    assert Edit.objects.get().status == Edit.Status.SENDING


def test_no_post_on_an_expiring_claim(sandbox: Sandbox, mirror_run: MakeRun, alice: User) -> None:
    run = mirror_run(metadata={"team": "blue"})
    claim = claims.claim(record(run, alice))
    assert claim is not None
    Edit.objects.update(claimed_until=timezone.now() + dt.timedelta(seconds=1))
    assert pushing._attempt(claim, interactive=False, is_trial=False) is None
    assert sandbox.posts() == []
    assert Edit.objects.get().status == Edit.Status.PENDING
