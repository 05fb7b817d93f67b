"""Whether this process can do its work: asked by whoever balances load or restarts, without signing in."""

from functools import lru_cache

from django.db import Error as AnyDatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from runsadmin.engine import heartbeat

# Seconds. Workers beat every other second, and the others take one for dead after as many.
SILENCE = 10


def lacking() -> str:
    """The name of the first thing that is not there: `database`, `migrations` or `worker`. Empty: all is there."""
    try:
        if not _is_migrated(frozenset(MigrationRecorder(connection).applied_migrations())):
            return "migrations"
        age = heartbeat.beat_age()
    except AnyDatabaseError:
        return "database"
    return "" if age is not None and age < SILENCE else "worker"


@lru_cache(maxsize=1)  # Reading the migrations takes long, and is needed only when others are applied than before.
def _is_migrated(applied: frozenset[tuple[str, str]]) -> bool:
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())
