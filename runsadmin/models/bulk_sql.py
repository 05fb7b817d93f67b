"""Statements that the ORM has no words for: many rows, each with values of its own, in one go."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Field, Model


def update_rows(
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
    table = model._meta.db_table
    values, has = rows[0]
    fields = [_field(model, name) for name in (*values, *has)]
    columns = list(zip(*((*values.values(), *has.values()) for values, has in rows), strict=True))
    # What is the same for all rows is said once. The rest is a list of VALUES, never an empty one, whose columns both
    # databases name so. PostgreSQL wants to be told their types.
    of_each = [
        number for number, column in enumerate(columns)
        if number == len(values) or any(value != column[0] for value in column)
    ]  # fmt: skip
    given = dict.fromkeys(range(len(fields)), "%s")
    for place, number in enumerate(of_each, start=1):
        given[number] = (
            f"CAST(v.column{place} AS {fields[number].db_type(connection)})" if connection.vendor == "postgresql"
            else f"v.column{place}"
        )  # fmt: skip
    terms = [f"{field.column} = {given[number]}" for number, field in enumerate(fields)]
    row = f"({', '.join(['%s'] * len(of_each))})"
    sql = (
        f"UPDATE {table} SET {', '.join(terms[: len(values)])} "  # noqa: S608 - own names.
        f"FROM (VALUES {', '.join([row] * len(rows))}) AS v "
        f"WHERE {' AND '.join(f'{table}.{term}' for term in terms[len(values) :])}{also}"
    )

    def prepared(number: int, value: object) -> Any:
        return fields[number].get_db_prep_save(value, connection)

    said_once = [prepared(number, column[0]) for number, column in enumerate(columns) if number not in of_each]
    set_once = sum(number < len(values) for number in range(len(fields)) if number not in of_each)
    said_of_each = [prepared(number, columns[number][index]) for index in range(len(rows)) for number in of_each]
    bound = [*said_once[:set_once], *said_of_each, *said_once[set_once:], *parameters]
    with connection.cursor() as cursor:
        cursor.execute(sql, bound)
        return int(cursor.rowcount)


def _field(model: type[Model], name: str) -> "Field[Any, Any]":
    return cast("Field[Any, Any]", model._meta.get_field(name))
