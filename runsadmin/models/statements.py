"""Statements that the ORM has no words for: many rows, each with values of its own, in one go."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from django.db import connection
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
    were changed. Quicker than `bulk_update`, whose CASE grows with the square of the rows, and it can ask for a token.
    """
    values, has = rows[0]
    set_all = ", ".join(f"{_field(model, name).column} = %s" for name in values)
    where = " AND ".join(f"{_field(model, name).column} = %s" for name in has)
    sql = f"UPDATE {model._meta.db_table} SET {set_all} WHERE {where}{also}"  # noqa: S608 - names of our own.
    fields = [(name, _field(model, name)) for name in values]
    keys = [(name, _field(model, name)) for name in has]
    bound: list[tuple[Any, ...]] = [
        (
            *(field.get_db_prep_save(values[name], connection) for name, field in fields),
            *(field.get_db_prep_value(has[name], connection) for name, field in keys),
            *parameters,
        )
        for values, has in rows
    ]
    with connection.cursor() as cursor:
        cursor.executemany(sql, bound)
        return int(cursor.rowcount)


def _field(model: type[Model], name: str) -> "Field[Any, Any]":
    return cast("Field[Any, Any]", model._meta.get_field(name))
