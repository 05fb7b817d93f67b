"""Empties the tables after tests that commit.

Django truncates all tables and creates the permissions again, which takes longer than most tests.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.test import TransactionTestCase

# What `migrate` fills.
KEPT = [model._meta.db_table for model in (ContentType, Permission, Group, Group.permissions.through)]

type Rows = list[list[tuple[Any, ...]]]


def kept_rows() -> Rows:
    with connection.cursor() as cursor:
        return [cursor.execute(f'SELECT * FROM "{table}" ORDER BY id').fetchall() for table in KEPT]


@contextmanager
def emptied_quickly(kept: Rows) -> Iterator[None]:
    """If a test changed the rows that are kept, Django empties the database in its own way."""
    empty_all = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]

    def empty(case: TransactionTestCase) -> None:
        nonlocal kept
        if kept_rows() == kept:
            _empty_other_tables()
        else:
            empty_all(case)
            kept = kept_rows()

    with patch.object(TransactionTestCase, "_fixture_teardown", empty):
        yield


def _empty_other_tables() -> None:
    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    with transaction.atomic(), connection.cursor() as cursor:
        for table in tables.difference(KEPT):
            cursor.execute(f'DELETE FROM "{table}"')
