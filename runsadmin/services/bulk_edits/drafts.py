"""Stores selections between selecting the runs and planning the bulk edit, so that exactly those are planned."""

import datetime as dt

from django.contrib.auth.models import User

from runsadmin.errors import InvalidSelection
from runsadmin.models import DraftSelection
from runsadmin.services import clock
from runsadmin.services.bulk_edits.selecting import Selection

LIFETIME = dt.timedelta(days=1)


def save_draft(*, selection: Selection, actor: User) -> DraftSelection:
    """Freezes a selection for its actor, and deletes drafts that were not planned in time."""
    DraftSelection.objects.filter(created_at__lt=clock.now() - LIFETIME).delete()
    return DraftSelection.objects.create(
        actor=actor, connection=selection.connection, query=selection.query,
        packed=DraftSelection.pack(selection.keys), not_selected=[list(each) for each in selection.not_selected],
    )  # fmt: skip


def read_draft(*, pk: str, actor: User) -> Selection:
    """Raises InvalidSelection for a draft that no longer exists or belongs to someone else."""
    draft = DraftSelection.objects.filter(pk=pk, actor=actor).first() if pk.isdecimal() and len(pk) < 19 else None
    if draft is None:
        raise InvalidSelection("This selection is no longer available. Select the runs again.")
    return Selection(draft.connection, draft.keys, draft.query, [(id, why) for id, why in draft.not_selected])
