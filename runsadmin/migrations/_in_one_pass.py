"""Changes several fields of a large table at once.

On SQLite, Django copies the whole table for each AlterField. With a million runs, each copy takes a minute.
"""

from collections.abc import Iterable
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import AddField, AlterField, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState, StateApps
from django.db.models import CharField, CompositePrimaryKey, Field, Max

from runsadmin.models.fields import CompactDateTimeField

TABLES = ("run", "metadatapair", "thread")


def in_one_pass(operations: Iterable[Operation]) -> list[Operation]:
    """The same operations, those on each of TABLES in one pass at the end."""
    operations = list(operations)
    of_table = {name: [each for each in operations if _model_name(each) == name] for name in TABLES}
    return [
        *(each for each in operations if _model_name(each) not in TABLES),
        *(ChangeTable(name, changes) for name, changes in of_table.items() if changes),
    ]


def compress_runs_later(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Has workers compress the runs that exist now."""
    last = apps.get_model("runsadmin", "Run").objects.aggregate(last=Max("pk"))["last"]
    if last is not None:
        apps.get_model("runsadmin", "CompressionState").objects.create(last=last)


def _model_name(operation: Operation) -> str:
    return str(getattr(operation, "model_name", "")).lower()


# On PostgreSQL. Django converts text with `::bytea`, which interprets backslashes, and neither shortens text nor converts
# intervals to numbers.
_CHANGES_OF_TYPE = {
    ("run", "digest"): "varchar(16) USING left(digest, 16)",
    ("run", "duration"): "bigint USING extract(epoch FROM duration) * 1000000",
    ("run", "raw"): "bytea USING convert_to(raw, 'UTF8')",
}


class ChangeTable(SeparateDatabaseAndState):
    reversible = False  # The older version cannot read what was stored since.

    def __init__(self, model_name: str, operations: list[Operation]) -> None:
        super().__init__(database_operations=operations, state_operations=operations)
        self.model_name = model_name

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        if schema_editor.connection.vendor == "sqlite":
            new_state = from_state.clone()
            self.state_forwards(app_label, new_state)
            old, new = (state.apps.get_model(app_label, self.model_name) for state in (from_state, new_state))
            _copy(schema_editor, old, new)
            return
        for operation in self.database_operations:
            new_state = from_state.clone()
            operation.state_forwards(app_label, new_state)
            table = from_state.apps.get_model(app_label, self.model_name)._meta.db_table
            if isinstance(operation, AlterField) and (change := _CHANGES_OF_TYPE.get((self.model_name, operation.name))):
                schema_editor.execute(f"ALTER TABLE {table} ALTER COLUMN {operation.name} TYPE {change}")
            elif isinstance(operation, AddField) and isinstance(operation.field, CompositePrimaryKey):
                model = new_state.apps.get_model(app_label, self.model_name)
                columns = ", ".join(field.column for field in model._meta.pk_fields)
                # Django cannot add a primary key. The former one was removed with its column.
                schema_editor.execute(
                    f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_pkey, ADD PRIMARY KEY ({columns})"
                )
            else:
                operation.database_forwards(app_label, schema_editor, from_state, new_state)
            from_state = new_state


def _copy(editor: Any, old: Any, new: Any) -> None:
    """Replaces a table of SQLite with one of a changed model. Its indexes are created when the migration ends."""
    table, temporary = old._meta.db_table, f"new__{old._meta.db_table}"
    columns = {field.column: field for field in old._meta.local_concrete_fields}
    values = {
        field.column: _converted(columns[field.column], field) if field.column in columns
        else editor.prepare_default(editor.effective_default(field))
        for field in new._meta.local_concrete_fields
    }  # fmt: skip
    new._meta.db_table = temporary
    editor.create_model(new)
    editor.execute(
        f'INSERT INTO "{temporary}" ({", ".join(values)}) SELECT {", ".join(values.values())} FROM "{table}" ORDER BY id',  # noqa: S608, E501
        params=None,
    )
    editor.delete_model(old, handle_autom2m=False)
    editor.alter_db_table(new, temporary, table)
    new._meta.db_table = table


def _converted(old: "Field[Any, Any]", new: "Field[Any, Any]") -> str:
    """The value of a column. Django stores a time as text, such as 2026-01-31 23:59:59.123456."""
    column = f'"{new.column}"'
    if isinstance(new, CharField) and (new.max_length or 0) < (old.max_length or 0):
        return f"substr({column}, 1, {new.max_length})"
    if isinstance(old, CompactDateTimeField) or not isinstance(new, CompactDateTimeField):
        return column
    seconds = f"CAST(strftime('%s', substr({column}, 1, 19)) AS INTEGER)"
    return f"{seconds} * 1000000 + CAST(substr({column} || '.000000', 21, 6) AS INTEGER)"
