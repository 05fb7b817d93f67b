"""One edit: recorded, pushed, reconciled, retried, taken back, undone.

An edit is a row before it is a request. No transaction is open while the network is waited for, and every change of
an edit's status is a conditional UPDATE that needs the claim's token: whoever lost the claim changes nothing.
"""

import datetime as dt
import logging
import random
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event

from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from runsadmin import conf, tracing
from runsadmin.errors import (
    Busy,
    Held,
    IllegalChange,
    InvalidMetadata,
    NotFound,
    NotSent,
    OutcomeUnknown,
    Problem,
    Rejected,
    RunActive,
    UpstreamError,
)
from runsadmin.metadata import Conflict, Metadata, MetadataPatch, merge3
from runsadmin.models import Edit, EditStatus, Run
from runsadmin.models.edit import IN_FLIGHT, EditQuerySet
from runsadmin.models.run import LOCKED
from runsadmin.services import clock, connections, permissions, runs
from runsadmin.services.runs import Seen
from runsadmin.upstream.client import check_id
from runsadmin.upstream.records import RunRecord

logger = logging.getLogger(__name__)

# A look older than this is repeated before the POST: it bounds the gap in which somebody else's write can be lost.
LOOK_LASTS = dt.timedelta(seconds=2)
# How much longer a claim lasts than the two requests that it is for.
CLAIM_SLACK = dt.timedelta(seconds=4)
FIRST_BACKOFF, LAST_BACKOFF = 1.0, 300.0
# How often a locked run or a held connection is looked at again.
WAIT_FOR_RUN = dt.timedelta(seconds=5)
WAIT_FOR_CONNECTION = dt.timedelta(seconds=10)
# How many edits one round of settling takes up at most.
BATCH = 500
# The first look after a lost answer, and the longest pause between two.
FIRST_RECONCILE, LAST_RECONCILE = 1.0, 60.0


# --- Recording ---------------------------------------------------------------------------------------------------


def record(
    *,
    run: Run,
    patch: MetadataPatch,
    actor: User,
    door: Edit.Door,
    base: Metadata | None = None,
    reason: str = "",
    request_id: str = "",
    undoes: Edit | None = None,
    resolves: Edit | None = None,
) -> Edit:
    """Writes the intent down. Nothing is sent yet.

    `base` is what the actor saw: with it, a key changed since by somebody else is a conflict.
    Raises NotAllowed, InvalidMetadata, InvalidId, UnknownConnection, IllegalChange: then there is no row.
    """
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    conf.connection(run.connection)
    check_id(run.upstream_id)
    check_id(run.thread.upstream_id)
    if not patch:
        nothing = Problem(None, "nothing_to_change", "This changes nothing: name a pair to set or remove.")
        raise InvalidMetadata([nothing])
    if len(reason) > 500 or "\0" in reason:
        raise InvalidMetadata([Problem(None, "invalid_reason", "A reason has at most 500 characters, and no U+0000.")])
    patch.check(run.metadata if base is None else base)
    if connections.state(run.connection).hold == connections.Hold.RETIRED:
        raise IllegalChange(
            f"The service behind the connection {run.connection!r} is gone: its runs can be read but no longer edited."
        )
    return Edit.objects.create(
        run=run,
        patch=patch,
        actor=actor,
        door=door,
        base=base,
        reason=reason,
        request_id=request_id,
        undoes=undoes,
        resolves=resolves,
        # Whoever recorded it pushes it first. Should that process die, the background takes over then.
        next_attempt_at=clock.now() + dt.timedelta(seconds=conf.push_wait()),
    )


# --- Pushing -----------------------------------------------------------------------------------------------------


def push_within(edit: Edit, seconds: float | None = None) -> Edit:
    """Pushes for somebody who waits, at most `seconds`. What is not settled by then goes on in the background.

    Call it after the commit of the edit. Returns the edit as it is then.
    """
    _step(edit, "recorded")
    pushed = _pushers.submit(_push_and_close, edit)
    wait([pushed], conf.push_wait() if seconds is None else seconds)
    return _reload(edit)  # Whatever happened there, the row tells.


_pushers = ThreadPoolExecutor(max_workers=16, thread_name_prefix="push")


def _push_and_close(edit: Edit) -> None:
    try:
        push(edit, person=True)
    finally:
        connection.close()


def push(edit: Edit, *, person: bool = False, due: bool = False) -> Edit:
    """Claims the edit, looks, merges, sends, and stores what became of it. Returns the edit as it is then.

    With `due`, only when its next attempt is due. An edit that cannot be claimed now is left as it is: others of its
    run come first, or somebody else is at it.
    """
    claim = _claim(edit, due=due)
    if claim is None:
        return _reload(edit)
    with _tracing(claim.edit):
        _step(claim.edit, "claimed")
        try:
            _push(claim, person=person)
        except Exception:
            # Whatever it was: the row tells. Nothing of it is left to chance.
            logger.exception("Pushing edit %s ended in an error of our own.", edit.pk)
            _broke(claim)
            raise
    return _reload(edit)


@dataclass(frozen=True)
class _Claim:
    """The right to push or reconcile one edit, until the time that stands in its row."""

    edit: Edit
    token: uuid.UUID

    @property
    def row(self) -> EditQuerySet:
        return Edit.objects.filter(pk=self.edit.pk, claim_token=self.token)


def _claim(edit: Edit, *, due: bool) -> _Claim | None:
    """A conditional UPDATE: the oldest unsettled edit of a run, and only while none of that run is in flight."""
    token, now = uuid.uuid4(), clock.now()
    earlier = Edit.objects.filter(run=OuterRef("run")).filter(
        Q(status__in=IN_FLIGHT) | Q(status=EditStatus.PENDING, pk__lt=OuterRef("pk"))
    )
    free = Edit.objects.filter(~Exists(earlier), pk=edit.pk, status=EditStatus.PENDING)
    if due:
        free = free.filter(next_attempt_at__lte=now)
    until = now + 2 * dt.timedelta(seconds=_timeout(edit)) + CLAIM_SLACK
    try:
        claimed = free.update(status=EditStatus.SENDING, claim_token=token, claimed_until=until)
    except IntegrityError:  # Another process claimed another edit of this run between our condition and our write.
        return None
    if not claimed:
        return None
    return _Claim(_reload(edit), token)


def _push(claim: _Claim, *, person: bool) -> None:
    edit, run = claim.edit, claim.edit.run
    if not permissions.may(edit.actor, permissions.Action.EDIT_METADATA):
        return _end(
            claim, EditStatus.REJECTED, f"The account {edit.actor.get_username()!r} may no longer edit metadata."
        )
    if connections.is_held(run.connection):
        return _wait(claim, Edit.Waiting.HELD, "The connection is held.", WAIT_FOR_CONNECTION)

    try:
        # Both places at once: the POST has to follow the look at once.
        connections.wait_for_places(run.connection, 2, person=person)
        seen = runs.look(run)
    except UpstreamError as error:
        return _look_failed(claim, error)
    looked = time.monotonic()
    _step(claim.edit, "looked")

    now = seen.answer.value
    if now.status in LOCKED and edit.waiting == Edit.Waiting.ACTIVE_RUN:
        runs.store_one(run, seen)
        return _wait(claim, Edit.Waiting.ACTIVE_RUN, f"The run is still {now.status}.", WAIT_FOR_RUN)
    merge = merge3(base=now.metadata if edit.base is None else edit.base, theirs=now.metadata, patch=edit.patch)
    if merge.conflicts:
        keys = ", ".join(conflict.key for conflict in merge.conflicts)
        return _end(claim, EditStatus.CONFLICT, f"Somebody else changed since: {keys}.", seen, before=now.metadata)
    try:
        edit.patch.check(now.metadata)
    except InvalidMetadata as error:
        return _end(claim, EditStatus.REJECTED, str(error), seen, before=now.metadata)
    if merge.result == now.metadata:
        return _end(
            claim, EditStatus.APPLIED, "Upstream had it already.", seen,
            before=now.metadata, intended=merge.result, after=now.metadata,
        )  # fmt: skip

    # Committed ahead of the POST: whatever happens from here on, a later look can tell what became of it.
    began = clock.now()
    may_post = claim.row.filter(
        status=EditStatus.SENDING, claimed_until__gte=began + dt.timedelta(seconds=_timeout(edit))
    ).update(before=now.metadata, intended=merge.result, sent_at=began)
    if not may_post:
        return _give_back(claim.row)
    _step(claim.edit, "intended")
    _post(claim, merge.result, looked)


def _post(claim: _Claim, intended: Metadata, looked: float) -> None:
    run = claim.edit.run
    client = connections.client(run.connection)
    gap = dt.timedelta(seconds=time.monotonic() - looked)
    if gap > LOOK_LASTS:
        return _wait(claim, Edit.Waiting.RETRY, "The look was too old to be relied on.", dt.timedelta())
    # From here on this process may stand still, or be slow to connect. The claim was asked to last for the timeouts.
    send_by = looked + min(LOOK_LASTS.total_seconds(), _timeout(claim.edit))
    try:
        seen = runs.see(lambda: client.modify_run(run.thread.upstream_id, run.upstream_id, intended, send_by=send_by))
    except UpstreamError as error:
        _step(claim.edit, "answered")
        connections.judge(run.connection, error)
        return _post_failed(claim, error)
    _step(claim.edit, "answered")
    after = seen.answer.value.metadata
    if after == intended:
        _end(claim, EditStatus.APPLIED, "", seen, after=after, gap=gap)
    else:
        _end(
            claim,
            EditStatus.DIFFERS,
            "Upstream answered with other metadata than was sent.",
            seen,
            after=after,
            gap=gap,
        )


def _look_failed(claim: _Claim, error: UpstreamError) -> None:
    """Nothing was sent."""
    match error:
        case NotFound():
            _not_found(claim, error)
        case Held():
            _wait(claim, Edit.Waiting.HELD, f"The credentials are refused: {error}", WAIT_FOR_CONNECTION, error)
        case Rejected():
            _end(claim, EditStatus.REJECTED, str(error), error=error)
        case Busy():
            _wait(claim, Edit.Waiting.RETRY, str(error), dt.timedelta(seconds=error.retry_after or 0))
        case _:
            _try_later(claim, error)


def _post_failed(claim: _Claim, error: UpstreamError) -> None:
    match error:
        case NotFound():
            _not_found(claim, error)
        case Held():
            _wait(claim, Edit.Waiting.HELD, f"The credentials are refused: {error}", WAIT_FOR_CONNECTION, error)
        case RunActive():
            _wait(claim, Edit.Waiting.ACTIVE_RUN, str(error), WAIT_FOR_RUN, error)
        case NotSent():
            _try_later(claim, error)
        case OutcomeUnknown():
            _lost(claim, error)
        case _:
            _end(claim, EditStatus.REJECTED, str(error), error=error)


def _not_found(claim: _Claim, error: NotFound) -> None:
    try:
        is_missing = runs.tell_missing(claim.edit.run, error)
    except UpstreamError as probe_error:
        return _try_later(claim, probe_error)
    if is_missing:
        _end(claim, EditStatus.REJECTED, f"Upstream no longer has this run: {error}", error=error)
    else:
        _wait(claim, Edit.Waiting.HELD, f"Everything answers 404: {error}", WAIT_FOR_CONNECTION, error)


# --- Outcomes ----------------------------------------------------------------------------------------------------


def _end(
    claim: _Claim,
    status: EditStatus,
    detail: str,
    seen: Seen[RunRecord] | None = None,
    *,
    error: UpstreamError | None = None,
    **values: object,
) -> None:
    """Stores the outcome and the Run that told it, together."""
    now = clock.now()
    with transaction.atomic(durable=True):
        ended = claim.row.change_to(
            status,
            detail=detail,
            finished_at=now,
            claim_token=None,
            claimed_until=None,
            next_attempt_at=None,
            waiting="",
            **_told_by(seen, error),
            **values,
        )
        if seen is not None:  # True whoever holds the claim.
            runs.store_one(claim.edit.run, seen)
    _step(claim.edit, "stored")
    if not ended:
        logger.warning("Edit %s was claimed by somebody else before its outcome was stored.", claim.edit.pk)


def _wait(
    claim: _Claim,
    waiting: Edit.Waiting,
    detail: str,
    pause: dt.timedelta,
    error: UpstreamError | None = None,
    **values: object,
) -> None:
    """Nothing was sent: back to pending."""
    claim.row.change_to(
        EditStatus.PENDING,
        detail=detail,
        waiting=waiting,
        next_attempt_at=clock.now() + pause,
        claim_token=None,
        claimed_until=None,
        before=None,
        intended=None,
        sent_at=None,
        **_told_by(None, error),
        **values,
    )


def _try_later(claim: _Claim, error: UpstreamError) -> None:
    attempts = claim.edit.attempts + 1
    if attempts >= conf.max_attempts():
        return _end(claim, EditStatus.FAILED, f"Tried {attempts} times. {error}", error=error, attempts=attempts)
    pause = _backoff(attempts) if error.retry_after is None else error.retry_after
    _wait(claim, Edit.Waiting.RETRY, str(error), dt.timedelta(seconds=pause), error, attempts=attempts)


def _lost(claim: _Claim, error: OutcomeUnknown) -> None:
    claim.row.change_to(
        EditStatus.UNKNOWN,
        detail=f"The answer was lost, so it may have been kept. {error}",
        waiting="",
        next_attempt_at=clock.now() + dt.timedelta(seconds=FIRST_RECONCILE),
        claim_token=None,
        claimed_until=None,
        **_told_by(None, error),
    )


def _broke(claim: _Claim) -> None:
    """Gives a claim back after an error of our own, which counts as an attempt: it must not come back for ever."""
    attempts = claim.edit.attempts + 1
    claim.row.update(attempts=attempts)
    if attempts >= conf.max_attempts():
        unsent = claim.row.filter(intended__isnull=True)
        unsent.change_to(
            EditStatus.FAILED,
            detail=f"Tried {attempts} times. It ended in an error of our own, which the log tells.",
            finished_at=clock.now(),
            claim_token=None,
            claimed_until=None,
            next_attempt_at=None,
            waiting="",
        )
    _give_back(claim.row, dt.timedelta(seconds=_backoff(attempts)))


def _give_back(rows: QuerySet[Edit], pause: dt.timedelta = dt.timedelta(seconds=FIRST_RECONCILE)) -> None:
    """Frees claims that brought no outcome: what may have been sent is unknown, the rest is pending."""
    free = {"claim_token": None, "claimed_until": None, "next_attempt_at": clock.now() + pause}
    sending = rows.filter(status=EditStatus.SENDING)
    sending.filter(intended__isnull=True).update(status=EditStatus.PENDING, **free)
    sending.filter(intended__isnull=False).update(
        status=EditStatus.UNKNOWN, detail="It was interrupted when it may have been sent.", **free
    )
    rows.filter(status=EditStatus.UNKNOWN).update(**free)


def _step(edit: Edit, step: str) -> None:
    logger.debug("Edit %s: %s.", edit.pk, step, extra={"edit": edit.pk, "step": step})


def _tracing(edit: Edit) -> AbstractContextManager[None]:
    return tracing.about_edit(edit.pk, request_id=edit.request_id, username=edit.actor.get_username())


def _told_by(seen: Seen[RunRecord] | None, error: UpstreamError | None) -> dict[str, object]:
    if seen is not None:
        return {"http_status": seen.answer.http_status, "upstream_request_id": seen.answer.request_id}
    if error is not None:
        return {"http_status": error.http_status, "upstream_request_id": error.request_id}
    return {}


def _backoff(attempts: int) -> float:
    return float(min(FIRST_BACKOFF * 2 ** (attempts - 1), LAST_BACKOFF)) * random.uniform(0.5, 1.0)  # noqa: S311


def _timeout(edit: Edit) -> float:
    return conf.connection(edit.run.connection).timeout


def _reload(edit: Edit) -> Edit:
    return Edit.objects.select_related("run__thread", "actor").get(pk=edit.pk)


# --- Reconciling -------------------------------------------------------------------------------------------------


def reconcile(edit: Edit) -> Edit:
    """Looks what became of a write whose answer was lost. Never sends. Returns the edit as it is then."""
    token, now = uuid.uuid4(), clock.now()
    until = now + dt.timedelta(seconds=_timeout(edit)) + CLAIM_SLACK
    free = Edit.objects.filter(Q(claimed_until=None) | Q(claimed_until__lt=now), pk=edit.pk, status=EditStatus.UNKNOWN)
    if free.update(claim_token=token, claimed_until=until):
        claim = _Claim(_reload(edit), token)
        with _tracing(claim.edit):
            _step(claim.edit, "reconciling")
            try:
                _reconcile(claim)
            except Exception:
                logger.exception("Reconciling edit %s ended in an error of our own.", edit.pk)
                _broke(claim)
                raise
    return _reload(edit)


def _reconcile(claim: _Claim) -> None:
    edit, run = claim.edit, claim.edit.run
    if connections.is_held(run.connection):
        return _look_again(claim, "The connection is held.", WAIT_FOR_CONNECTION)
    try:
        connections.wait_for_places(run.connection, 1)
        seen = runs.look(run)
    except NotFound as error:
        try:
            if runs.tell_missing(run, error):
                return _end(claim, EditStatus.REJECTED, f"Upstream no longer has this run: {error}", error=error)
        except UpstreamError:
            pass
        return _look_again(claim, str(error))
    except UpstreamError as error:
        return _look_again(claim, str(error))

    _step(claim.edit, "looked again")
    assert edit.before is not None
    assert edit.intended is not None
    assert edit.sent_at is not None
    before, intended, now = edit.before, edit.intended, seen.answer.value.metadata
    if _agree(now, intended, edit.patch.keys):
        _end(claim, EditStatus.APPLIED, "The answer was lost; a later look found it applied.", seen, after=now)
    elif not _agree(now, before, edit.patch.keys):
        _end(claim, EditStatus.CONFLICT, "The answer was lost; a later look found something else.", seen, after=now)
    elif seen.asked_at < (settled_at := edit.sent_at + dt.timedelta(seconds=_timeout(edit)) + conf.settling_time()):
        _look_again(claim, "The answer was lost, and it may still land.", settled_at - seen.asked_at)
    else:
        _try_later(claim, OutcomeUnknown("The answer was lost; a later look found that nothing of it was kept."))


def _agree(one: Mapping[str, object], other: Mapping[str, object], keys: frozenset[str]) -> bool:
    return all(one.get(key) == other.get(key) for key in keys)


def _look_again(claim: _Claim, detail: str, longest: dt.timedelta = dt.timedelta(seconds=LAST_RECONCILE)) -> None:
    """Still unknown. The pauses grow with the time since it was sent."""
    now = clock.now()
    since = (now - (claim.edit.sent_at or now)).total_seconds()
    pause = min(dt.timedelta(seconds=max(FIRST_RECONCILE, since / 2)), longest)
    claim.row.update(detail=detail, claim_token=None, claimed_until=None, next_attempt_at=now + pause)


# --- Settling in the background ----------------------------------------------------------------------------------


def settle(*, until: float, stopping: Event | None = None) -> int:
    """Brings on every edit whose time has come, until `time.monotonic()` reaches `until`, or until `stopping` is set.

    Returns how many it took up.

    Finds the claims of processes that died, looks after lost answers, and pushes what is due. The rows are the truth:
    calling it twice, late or in two processes at once changes nothing but the time it takes.
    """
    _give_back(Edit.objects.filter(status__in=IN_FLIGHT, claimed_until__lt=clock.now()))
    count = 0
    for edit in (*_due_unknown()[:BATCH], *_due_pending()[:BATCH]):
        if time.monotonic() >= until or (stopping is not None and stopping.is_set()):
            break
        count += 1
        try:
            if edit.status == EditStatus.UNKNOWN:
                reconcile(edit)
            else:
                push(edit, due=True)
        except Exception:  # noqa: BLE001, S112 - it was logged where it happened; the others go on.
            continue
    return count


def _due_unknown() -> QuerySet[Edit]:
    now = clock.now()
    return _on_open_connections().filter(
        Q(claimed_until=None) | Q(claimed_until__lt=now), status=EditStatus.UNKNOWN, next_attempt_at__lte=now
    )


def _due_pending() -> QuerySet[Edit]:
    """Those whose turn it is: the oldest unsettled edit of each run."""
    first = Edit.objects.filter(run=OuterRef("run")).filter(
        Q(status__in=IN_FLIGHT) | Q(status=EditStatus.PENDING, pk__lt=OuterRef("pk"))
    )
    return _on_open_connections().filter(~Exists(first), status=EditStatus.PENDING, next_attempt_at__lte=clock.now())


def _on_open_connections() -> QuerySet[Edit]:
    """Edits whose connection is configured and not held, the longest due first."""
    aliases = connections.open_aliases()
    return (
        Edit.objects.filter(run__connection__in=aliases).select_related("run__thread").order_by("next_attempt_at", "pk")
    )


# --- What people do with edits -----------------------------------------------------------------------------------


def retry(*, edit: Edit, actor: User) -> Edit:
    """Has a failed edit tried again. Raises NotAllowed, IllegalChange."""
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    moved = Edit.objects.filter(pk=edit.pk, status=EditStatus.FAILED).change_to(
        EditStatus.PENDING,
        detail=f"{actor.get_username()} has it tried again.",
        attempts=0,
        next_attempt_at=clock.now(),
        finished_at=None,
        before=None,
        intended=None,
        sent_at=None,
    )
    return _moved(edit, moved, "Only a failed edit can be tried again")


def cancel(*, edit: Edit, actor: User) -> Edit:
    """Takes an edit back that was not sent yet. Raises NotAllowed, IllegalChange."""
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    moved = Edit.objects.filter(pk=edit.pk).change_to(
        EditStatus.CANCELLED,
        detail=f"{actor.get_username()} took it back before it was sent.",
        finished_at=clock.now(),
        next_attempt_at=None,
        waiting="",
    )
    return _moved(edit, moved, "Only an edit that was not sent yet can be taken back")


def _moved(edit: Edit, moved: int, otherwise: str) -> Edit:
    edit = _reload(edit)
    if not moved:
        raise IllegalChange(f"{otherwise}; this one is {edit.get_status_display().lower()}.")
    return edit


def undo(*, edit: Edit, actor: User, door: Edit.Door = Edit.Door.UNDO, reason: str = "", request_id: str = "") -> Edit:
    """Records the edit that puts back, key by key, what this one changed.

    A key that was changed since is left as it is, and told. With nothing left to put back the new edit is skipped.
    Raises NotAllowed, IllegalChange, and what `record` raises.
    """
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    edit = _reload(edit)
    if not edit.may_be_undone or edit.before is None or edit.after is None:
        raise IllegalChange(
            f"Only an edit that was applied can be undone; this one is {edit.get_status_display().lower()}."
        )
    back = MetadataPatch.between(edit.after, edit.before).only(edit.patch.keys)
    left = frozenset(key for key in back.keys if edit.run.metadata.get(key) != edit.after.get(key))
    patch = back.only(back.keys - left)
    detail = f"Left as they are, since they were changed after the edit: {', '.join(sorted(left))}." if left else ""
    with transaction.atomic():
        if patch:
            new = record(
                run=edit.run, patch=patch, actor=actor, door=door, base=edit.after,
                reason=reason, request_id=request_id, undoes=edit,
            )  # fmt: skip
            Edit.objects.filter(pk=new.pk).update(detail=detail)
        else:
            new = Edit.objects.create(
                run=edit.run, patch=back, actor=actor, door=door, base=edit.after, reason=reason, request_id=request_id,
                undoes=edit, status=EditStatus.SKIPPED, finished_at=clock.now(),
                detail=detail or "There is nothing to undo.",
            )  # fmt: skip
    return _reload(new)


def conflicts(edit: Edit) -> tuple[Conflict, ...]:
    """What was in conflict, per key: base, theirs and ours. Empty for an edit that is not in conflict."""
    if edit.status != EditStatus.CONFLICT:
        return ()
    base, theirs = _conflicting(edit)
    return merge3(base=base, theirs=theirs, patch=edit.patch).conflicts


def _conflicting(edit: Edit) -> tuple[Metadata, Metadata]:
    """The maps that a conflict is between: what we started from, and what somebody else made of it."""
    if edit.after is not None:  # Found after a lost answer: our own look before the POST is the base.
        return edit.before or Metadata(), edit.after
    return edit.base or Metadata(), edit.before or Metadata()


def resolve(
    *, edit: Edit, patch: MetadataPatch, actor: User, door: Edit.Door, reason: str = "", request_id: str = ""
) -> Edit:
    """Records a new edit that settles a conflict, by somebody who saw theirs.

    Raises IllegalChange, and what `record` raises.
    """
    permissions.require(actor, permissions.Action.EDIT_METADATA)
    edit = _reload(edit)
    if edit.status != EditStatus.CONFLICT:
        raise IllegalChange(f"Only a conflict can be resolved; this edit is {edit.get_status_display().lower()}.")
    _, theirs = _conflicting(edit)
    return record(
        run=edit.run, patch=patch, actor=actor, door=door, base=theirs,
        reason=reason or edit.reason, request_id=request_id, resolves=edit,
    )  # fmt: skip
