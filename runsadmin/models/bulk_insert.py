"""Inserts many rows without model instances and without the ORM's SQL, which would take most of the time of a sync."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import BooleanField, DateTimeField, Field, ForeignKey, IntegerField, Model

# The driver stores the values of these fields as they are. Django's own preparation would return them unchanged, or
# wrap them to mark their types, which COPY does not need.
_STORED_UNPREPARED = (BooleanField, ForeignKey, IntegerField)


def insert_rows(model: type[Model], rows: Sequence[Mapping[str, object]]) -> None:
    """Inserts rows that all set the same fields. Other fields get their defaults. Sends no signals.

    Times must be aware.
    """
    if not rows:
        return
    # `django.db.connection` is a proxy, which would look up the connection for every value.
    connection = connections[DEFAULT_DB_ALIAS]
    columns = dict(_columns(model, rows))
    quoted = [connection.ops.quote_name(name) for name in (model._meta.db_table, *columns)]
    target = f"{quoted[0]} ({', '.join(quoted[1:])})"
    prepared = zip(*columns.values(), strict=True)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with connection.wrap_database_errors, cursor.copy(f"COPY {target} FROM STDIN") as copy:
                for row in prepared:
                    copy.write_row(row)
        else:
            places = ", ".join(["%s"] * len(columns))
            cursor.executemany(f"INSERT INTO {target} VALUES ({places})", list(prepared))  # noqa: S608 - our own names.


def reserve_ids(model: type[Model], count: int) -> Sequence[int]:
    """Primary keys for new rows, in ascending order. On SQLite, they are reserved until the end of the transaction."""
    connection = connections[DEFAULT_DB_ALIAS]
    table, column = model._meta.db_table, model._meta.pk.column
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)", [table, column, count]
            )
            return sorted(id for (id,) in cursor.fetchall())
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
        last = cursor.fetchone()
    first = last[0] + 1 if last else 1
    return range(first, first + count)


def _columns(model: type[Model], rows: Sequence[Mapping[str, object]]) -> Iterator[tuple[str, list[Any]]]:
    """The values of each column, as the database stores them."""
    for field in model._meta.concrete_fields:
        if field.attname in rows[0]:
            yield str(field.column), _prepared(field, [row[field.attname] for row in rows])
        elif not field.primary_key:
            yield str(field.column), _prepared(field, [field.get_default()]) * len(rows)


def _prepared(field: "Field[Any, Any]", values: list[object]) -> list[Any]:
    if isinstance(field, _STORED_UNPREPARED):
        return values
    connection = connections[DEFAULT_DB_ALIAS]
    if connection.vendor == "postgresql" and isinstance(field, DateTimeField):
        # As text: psycopg takes more than ten times as long for a time, and would format the same one for every row.
        prepared = {value: None if value is None else str(value) for value in set(values)}
    else:
        prepared = {value: field.get_db_prep_save(value, connection) for value in set(values)}
    # Values that rows share are prepared once.
    return [prepared[value] for value in values]
