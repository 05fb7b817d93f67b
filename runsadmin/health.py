"""The health checks for load balancers and supervisors. They need no sign-in."""

from functools import lru_cache

from django.db import Error as AnyDatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from runsadmin.engine import heartbeat

# In seconds. Workers beat every 2 s and count as dead after 10 s.
MAX_BEAT_AGE = 10


def missing_part() -> str:
    """The first part that is missing: `database`, `migrations` or `worker`. Empty if nothing is missing."""
    try:
        if not _is_migrated(frozenset(MigrationRecorder(connection).applied_migrations())):
            return "migrations"
        age = heartbeat.beat_age()
    except AnyDatabaseError:
        return "database"
    return "" if age is not None and age < MAX_BEAT_AGE else "worker"


@lru_cache(maxsize=1)  # Loading the migrations is slow. Repeat it only after more have been applied.
def _is_migrated(applied: frozenset[tuple[str, str]]) -> bool:
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())
