"""Steps of single edits, for several test modules."""

import datetime as dt
import time

from django.contrib.auth.models import User
from django.utils import timezone

from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.models import Edit, Run
from runsadmin.services import edits

RED = MetadataPatch({"team": "red"})


def record(run: Run, actor: User, patch: MetadataPatch = RED, **more: object) -> Edit:
    return edits.record(run=run, patch=patch, actor=actor, source=Edit.Source.API, **more)  # type: ignore[arg-type]


def make_due(edit: Edit) -> None:
    Edit.objects.filter(pk=edit.pk).update(next_attempt_at=timezone.now() - dt.timedelta(seconds=1))


def process_due() -> int:
    return edits.process_due(until=time.monotonic() + 30)


def mirrored_metadata(run: Run) -> Metadata:
    return Run.objects.get(pk=run.pk).metadata
