"""A faster way to empty the database after tests that commit, and a safe way to read SQLite's files.

Django's own teardown truncates all tables and creates the permissions again, which takes longer than most tests.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.test import TransactionTestCase

# Tables that `migrate` fills.
KEPT = [model._meta.db_table for model in (ContentType, Permission, Group, Group.permissions.through)]

type Rows = list[list[tuple[Any, ...]]]


def kept_rows() -> Rows:
    with connection.cursor() as cursor:
        return [cursor.execute(f'SELECT * FROM "{table}" ORDER BY id').fetchall() for table in KEPT]


@contextmanager
def fast_teardown(kept: Rows) -> Iterator[None]:
    """Keeps the rows that `migrate` created. If a test changed them, Django's own teardown is used."""
    django_teardown = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]

    def teardown(case: TransactionTestCase) -> None:
        nonlocal kept
        if kept_rows() == kept:
            _empty_other_tables()
        else:
            django_teardown(case)
            kept = kept_rows()

    with patch.object(TransactionTestCase, "_fixture_teardown", teardown):
        yield


def _empty_other_tables() -> None:
    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    with transaction.atomic(), connection.cursor() as cursor:
        for table in tables.difference(KEPT):
            cursor.execute(f'DELETE FROM "{table}"')


def bytes_of(*files: Path) -> bytes:
    """The content of SQLite's files, read by another process.

    Closing one of them in this process would release SQLite's locks. The next process that uses the database would
    then take itself for the only one, and remove the shared memory of this process, which ends with SIGBUS.
    """
    return subprocess.run(["cat", *files], stdout=subprocess.PIPE, check=True).stdout
