from typing import Any

from django.apps import AppConfig
from django.contrib.auth.management import create_permissions
from django.db import DEFAULT_DB_ALIAS
from django.db.backends.signals import connection_created
from django.db.backends.sqlite3.base import DatabaseWrapper as SQLite
from django.db.migrations import Migration
from django.db.models.signals import post_migrate


class RunsAdminConfig(AppConfig):
    name = "runsadmin"
    verbose_name = "Runs"

    def ready(self) -> None:
        from runsadmin import checks  # noqa: F401 - importing the module registers the checks.
        from runsadmin.services import database_use

        # Every SQLite has JSON. Django's own test begins a transaction, so it reports a locked database as one without.
        setattr(SQLite.features_class, "supports_json_field", True)  # noqa: B010 - mypy rejects `supports_json_field =`.
        connection_created.connect(database_use.note_connection, dispatch_uid="runsadmin.database_use")

        post_migrate.connect(create_roles, sender=self, dispatch_uid="runsadmin.roles")


def create_roles(
    sender: AppConfig,
    *,
    using: str = DEFAULT_DB_ALIAS,
    plan: list[tuple[Migration, bool]] | None = None,
    **options: Any,
) -> None:
    """Creates the default groups when the tables are created. Later, a site may change and delete the groups."""
    from runsadmin.services import permissions

    is_first = any(
        migration.app_label == sender.label and migration.initial and not is_backwards
        for migration, is_backwards in plan or ()
    )
    if is_first and using == DEFAULT_DB_ALIAS:
        # The roles need the permissions, and Django's own handler may run only after this one.
        create_permissions(sender, verbosity=0, using=using)
        permissions.create_roles()
