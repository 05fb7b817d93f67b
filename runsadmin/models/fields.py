"""Field types: cleaned text, text that sorts by byte, compact times, and metadata stored as JSON text."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from runsadmin import lenient_json
from runsadmin.metadata import Metadata, MetadataPatch
from runsadmin.text import clean


class _Clean(models.Field[Any, Any]):
    """Replaces characters that some databases cannot store with U+FFFD, in writes and in lookups."""

    def get_prep_value(self, value: Any) -> Any:
        prepared = super().get_prep_value(value)
        return clean(prepared) if isinstance(prepared, str) else prepared


class _PlainInMigrations(models.Field[Any, Any]):
    """Appears in migrations as Django's own field, since the column is the same."""

    def deconstruct(self) -> Any:
        name, _, args, options = super().deconstruct()
        return name, f"django.db.models.{self.get_internal_type()}", args, options


class CleanTextField(_Clean, _PlainInMigrations, models.TextField[Any, str]):
    pass


class CleanCharField(_Clean, _PlainInMigrations, models.CharField[Any, str]):
    pass


class ByteOrderedCharField(_Clean, models.CharField[Any, Any]):
    """Text that sorts by byte on every database, so that a prefix search can use an index.

    SQLite sorts by byte anyway; PostgreSQL needs its C collation.
    """

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        parameters: dict[str, Any] = super().db_parameters(connection)
        if connection.vendor == "postgresql":
            parameters["collation"] = "C"
        return parameters


class CompactDateTimeField(models.DateTimeField[Any, Any]):
    """A time, which SQLite stores as a number of microseconds: 8 bytes instead of 19 to 26 bytes of text.

    SQL can compare it with parameters and with other fields of this type, but not with those of Django's type.
    """

    EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

    def get_internal_type(self) -> str:
        return "CompactDateTimeField"

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "bigint" if connection.vendor == "sqlite" else "timestamp with time zone"

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        if connection.vendor != "sqlite":
            return super().get_db_prep_value(value, connection, prepared)
        if not prepared and not (isinstance(value, dt.datetime) and value.tzinfo is not None):
            value = self.get_prep_value(value)
        return (value - self.EPOCH) // _MICROSECOND if isinstance(value, dt.datetime) else value

    def from_db_value(self, value: Any, expression: object, connection: object) -> dt.datetime | None:
        return self.EPOCH + value * _MICROSECOND if isinstance(value, int) else value


class CompactDurationField(models.DurationField[Any, Any]):
    """A duration as a number of microseconds, as SQLite stores it anyway: 8 bytes instead of 16 on PostgreSQL."""

    def get_internal_type(self) -> str:
        return "CompactDurationField"

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "bigint"

    def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Any]:
        return [self.from_db_value]

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        return value // _MICROSECOND if isinstance(value, dt.timedelta) else value

    def from_db_value(self, value: Any, expression: object, connection: object) -> dt.timedelta | None:
        return None if value is None else value * _MICROSECOND


_MICROSECOND = dt.timedelta(microseconds=1)


class _JSONTextField[T](models.TextField[Any, Any]):
    """A value stored as JSON in a text column: jsonb rejects U+0000, which an upstream may send."""

    def from_db_value(self, value: str | None, expression: object, connection: object) -> T | None:
        return None if value is None else self.read(lenient_json.loads(value))

    def get_prep_value(self, value: T | None) -> str | None:
        return None if value is None else lenient_json.dumps(self.plain(value))

    def value_to_string(self, obj: models.Model) -> str:
        return self.get_prep_value(self.value_from_object(obj)) or ""

    def to_python(self, value: Any) -> Any:
        return self.read(lenient_json.loads(value)) if isinstance(value, str) else value

    read: Callable[[Any], T]
    plain: Callable[[T], Any]


class MetadataField(_JSONTextField[Metadata]):
    _pyi_private_set_type: Metadata  # type: ignore[assignment]
    _pyi_private_get_type: Metadata  # type: ignore[assignment]
    read = staticmethod(Metadata.read)

    @staticmethod
    def plain(value: Metadata) -> Any:
        return dict(value)


class MetadataPatchField(_JSONTextField[MetadataPatch]):
    _pyi_private_set_type: MetadataPatch  # type: ignore[assignment]
    _pyi_private_get_type: MetadataPatch  # type: ignore[assignment]

    @staticmethod
    def read(value: Any) -> MetadataPatch:
        return MetadataPatch(set=value["set"], remove=frozenset(value["remove"]))

    @staticmethod
    def plain(value: MetadataPatch) -> Any:
        return {"set": dict(value.set), "remove": sorted(value.remove)}
