"""The health checks for load balancers and supervisors. They need no sign-in."""

from django.db import Error as AnyDatabaseError

from runsadmin.engine import heartbeat
from runsadmin.models import Edit, Run
from runsadmin.models.edit import UNSETTLED
from runsadmin.services import schema

# In seconds. Workers beat every 2 s and count as dead after 10 s.
MAX_BEAT_AGE = 10


def missing_part() -> str:
    """The first part that is missing: `database`, `migrations`, `version` or `worker`. Empty if nothing is missing.

    `version` means that the database is newer than the code.
    """
    try:
        difference = schema.difference()
        if difference.message:
            return "version" if difference.unknown else "migrations"
        _read_runs_and_edits()
        age = heartbeat.beat_age()
    except AnyDatabaseError:
        return "database"
    return "" if age is not None and age < MAX_BEAT_AGE else "worker"


def _read_runs_and_edits() -> None:
    """Raises django.db.Error if these tables, or the index by which workers find edits, are damaged."""
    for rows in (Run.objects.order_by("-pk"), Edit.objects.order_by("-pk"), Edit.objects.filter(status__in=UNSETTLED)):
        list(rows.values_list("pk", "created_at")[:1])
