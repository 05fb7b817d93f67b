"""Records an edit: the row that everything else starts from."""

import datetime as dt
from collections.abc import Collection
from typing import NotRequired, TypedDict, Unpack

from django.contrib.auth.models import User
from django.db import transaction

from runsadmin import conf
from runsadmin.errors import InvalidMetadata, InvalidTransition, MetadataError
from runsadmin.ids import check_id
from runsadmin.metadata import Metadata, MetadataPatch, check_is_readable
from runsadmin.models import Edit, EditSource, Run
from runsadmin.models.bulk_edit import MAX_REASON_LENGTH
from runsadmin.services import clock, connections, permissions
from runsadmin.text import is_text


class NewEdit(TypedDict):
    """`base` is what the actor saw. If it is given, a key that someone else has changed since is a conflict."""

    run: Run
    patch: MetadataPatch
    actor: User
    source: EditSource
    base: NotRequired[Metadata | None]
    reason: NotRequired[str]
    request_id: NotRequired[str]
    undoes: NotRequired[Edit | None]
    resolves: NotRequired[Edit | None]
    detail: NotRequired[str]


def record(**values: Unpack[NewEdit]) -> Edit:
    """Writes the edit. Nothing is sent yet.

    If this raises NotAllowed, InvalidMetadata, InvalidId, UnknownConnection, ReadOnlyConnection or
    InvalidTransition, nothing is recorded.
    """
    permissions.require(values["actor"], permissions.Action.EDIT_METADATA)
    run, patch, base = values["run"], values["patch"], values.get("base")
    conf.upstream(run.connection)
    check_id(run.upstream_id)
    check_id(run.thread.upstream_id)
    if not patch:
        nothing = MetadataError(None, "nothing_to_change", "This changes nothing. Name a key to set or remove.")
        raise InvalidMetadata([nothing])
    check_reason(values.get("reason", ""))
    check_is_readable(run.metadata_state, run.metadata)
    patch.check(run.metadata if base is None else base)
    check_not_retired(run.connection)
    # The process that records an edit also pushes it. If that process dies, a worker pushes the edit once it is due.
    due_at = clock.now() + dt.timedelta(seconds=conf.push_wait())
    with transaction.atomic():
        if not lock_runs([run.pk]):
            raise InvalidTransition("The run was purged. If upstream still has it, refresh it, then edit it again.")
        return Edit.objects.create(next_attempt_at=due_at, **values)


def lock_runs(keys: Collection[int]) -> set[int]:
    """Locks runs until the end of the transaction. Returns the primary keys of those that have not been purged.

    A purge locks its runs first. So it either sees the edits that this transaction records, or has ended before.
    """
    rows = Run.objects.select_for_update(no_key=True).filter(pk__in=keys).order_by("pk").values_list("pk", "digest")
    return {pk for pk, digest in rows if digest}


def check_reason(reason: str) -> None:
    """Raises InvalidMetadata."""
    if len(reason) > MAX_REASON_LENGTH or not is_text(reason):
        message = (
            f"A reason can have at most {MAX_REASON_LENGTH} characters, and cannot contain U+0000 or a lone surrogate."
        )
        raise InvalidMetadata([MetadataError(None, "invalid_reason", message)])


def check_not_retired(alias: str) -> None:
    """Raises InvalidTransition."""
    if connections.held().filter(alias=alias, hold=connections.Hold.RETIRED).exists():
        raise InvalidTransition(
            f"The service behind the connection {alias!r} is gone: its runs can be read but no longer edited."
        )
