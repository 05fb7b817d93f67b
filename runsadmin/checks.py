"""System checks for configurations that would lose data or leak a key. docs/operations.md lists them."""

import ipaddress
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import DEFAULT_DB_ALIAS

from runsadmin import conf
from runsadmin.services import schema
from runsadmin.upstream import configuration


@register(Tags.security)
def check_keys_travel_encrypted(**kwargs: object) -> Iterable[CheckMessage]:
    for alias, connection in conf.connections().items():
        parts = urlsplit(connection.url)
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            yield checks.Warning(
                f"The connection {alias!r} sends its key to another machine without encryption.",
                hint="Use an https URL in its RUNSADMIN_UPSTREAM_…URL.",
                id="runsadmin.W001",
            )


@register(Tags.compatibility)
def check_azure_identity_is_installed(**kwargs: object) -> Iterable[CheckMessage]:
    for alias, connection in conf.connections().items():
        if connection.auth == "azure-identity" and (find_spec("azure") is None or find_spec("azure.identity") is None):
            yield Error(
                f"The connection {alias!r} signs in with azure-identity, but that package is not installed.",
                hint="Run `pip install azure-identity` in the environment of runsadmin.",
                id="runsadmin.E002",
            )


@register(Tags.compatibility)
def check_connections_can_be_called(**kwargs: object) -> Iterable[CheckMessage]:
    ids = {"API_KEY": "runsadmin.E005", "URL": "runsadmin.E007"}
    for connection in conf.connections().values():
        for error in configuration.errors(connection):
            yield Error(error.message, hint=error.hint, id=ids.get(error.option, "runsadmin.E006"))


@register(Tags.compatibility)  # Not Tags.database: Django runs those checks only if a command names the database.
def check_sqlite_waits_for_its_lock(**kwargs: object) -> Iterable[CheckMessage]:
    database = settings.DATABASES["default"]
    options = database.get("OPTIONS", {})
    is_sqlite = database["ENGINE"].endswith("sqlite3")
    if is_sqlite and (options.get("transaction_mode") != "IMMEDIATE" or options.get("timeout", 5) < 20):
        yield Error(
            "SQLite is not configured for several processes: writes would fail with 'database is locked'.",
            hint="Set transaction_mode to IMMEDIATE and timeout to at least 20 seconds in the OPTIONS of the database.",
            id="runsadmin.E003",
        )


@register(Tags.compatibility)
def check_tasks_share_the_database(**kwargs: object) -> Iterable[CheckMessage]:
    if settings.TASKS["default"]["BACKEND"] != "django_tasks_db.DatabaseBackend":
        yield Error(
            "The background tasks are not stored in the database, so they are not committed together with their rows.",
            hint="Set TASKS['default']['BACKEND'] to 'django_tasks_db.DatabaseBackend'.",
            id="runsadmin.E004",
        )


# Only with --deploy: `migrate` first runs all other checks of the database, so this one would always stop it.
@register(Tags.database, deploy=True)
def check_migrations_are_applied(databases: Sequence[str] | None = None, **kwargs: object) -> Iterable[CheckMessage]:
    if DEFAULT_DB_ALIAS in (databases or ()) and (difference := schema.difference()).unapplied:
        yield Error(difference.message, id="runsadmin.E008")


@register(Tags.database)
def check_database_is_not_newer(databases: Sequence[str] | None = None, **kwargs: object) -> Iterable[CheckMessage]:
    if DEFAULT_DB_ALIAS in (databases or ()) and (difference := schema.difference()).unknown:
        yield Error(difference.message, id="runsadmin.E009")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
