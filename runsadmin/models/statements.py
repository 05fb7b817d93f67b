"""Statements that the ORM has no words for: many rows, each with values of its own, in one go."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Field, Model


def update_each(
    model: type[Model],
    rows: Sequence[tuple[Mapping[str, object], Mapping[str, object]]],
    *,
    also: str = "",
    parameters: Sequence[object] = (),
) -> int:
    """Sets values in the rows that have these other values: (what to set, what they have) for each.

    All set the same fields. `also` is a further condition for all of them, with its parameters. Returns how many rows
    were changed. Quicker than `bulk_update`, whose CASE is gone through anew for every row, and it can ask for a token.
    """
    connection = connections[DEFAULT_DB_ALIAS]  # Not its proxy, which looks it up again for every value.
    values, has = rows[0]
    names = [*values, *has]
    fields = [_field(model, name) for name in names]
    # Both databases name the columns of VALUES so. PostgreSQL wants to be told their types.
    given = [
        f"CAST(v.column{number} AS {field.db_type(connection)})" if connection.vendor == "postgresql"
        else f"v.column{number}"
        for number, field in enumerate(fields, start=1)
    ]  # fmt: skip
    columns = [field.column for field in fields]
    table = model._meta.db_table
    set_all = ", ".join(f"{column} = {value}" for column, value in zip(columns[: len(values)], given, strict=False))
    where = " AND ".join(
        f"{table}.{column} = {value}"
        for column, value in zip(columns[len(values) :], given[len(values) :], strict=True)
    )
    row = f"({', '.join(['%s'] * len(names))})"
    sql = (
        f"UPDATE {table} SET {set_all} FROM (VALUES {', '.join([row] * len(rows))}) AS v "  # noqa: S608 - own names.
        f"WHERE {where}{also}"
    )
    bound: list[Any] = [
        field.get_db_prep_save(value, connection)
        for values, has in rows
        for field, value in zip(fields, (*values.values(), *has.values()), strict=True)
    ]
    with connection.cursor() as cursor:
        cursor.execute(sql, bound + list(parameters))
        return int(cursor.rowcount)


def _field(model: type[Model], name: str) -> "Field[Any, Any]":
    return cast("Field[Any, Any]", model._meta.get_field(name))
