"""Version 0.1.0 starts with new migrations: a database of an older version cannot be migrated."""

from django.core.management.base import CommandError
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


def refuse(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Raises CommandError if the tables of an older version exist, before anything is changed."""
    connection = schema_editor.connection
    if "runsadmin_run" in connection.introspection.table_names():
        raise CommandError(
            "This database was created by a version before 0.1.0, and its tables cannot be migrated. Nothing was "
            "changed. Keep it if you need its log of edits; set DATABASE_URL to a new, empty database, run `migrate` "
            "and `createsuperuser` there, add the tracked threads again (`track_threads`), and sync (`sync_runs "
            "--full`)."
        )
